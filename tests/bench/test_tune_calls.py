"""The calls of a search on the emulator: every layout runs on the plan that is asked for."""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import pytest

from attnprobe.bench import tune_space
from attnprobe.bench.tune_gpu import GpuBench, described
from attnprobe.cli import build_parser
from attnprobe.commands.shape_options import Sequences, problem_of
from attnprobe.commands.tune import _options
from attnprobe.engine import launch
from attnprobe.engine.plan import Plan, plan_of_rows
from attnprobe.errors import ToleranceError

SHAPES = {
    "causal": "--seqlen 70 --causal",
    "window": "--seqlen 90 --window 20,0",
    "softcap": "--seqlen 40 --softcap 8 --softmax-scale 0.3",
    "wider keys": "--seqlen 40 --v-head-dim 32",
    "packed": "--seqlen 50 --batch 3 --packed --causal",
    "decode": "--seqlen 96 --seqlen-q 1 --batch 2",
    "pages": "--seqlen 96 --seqlen-q 1 --batch 2 --page-size 16",
    "split": "--seqlen 96 --seqlen-q 1 --num-splits 3",
    "e4m3 cache": "--seqlen 96 --seqlen-q 1 --kv-format e4m3",
    "int8 cache": "--seqlen 96 --seqlen-q 1 --kv-format int8 --page-size 16",
}


def parsed(name: str) -> argparse.Namespace:
    words = f"tune --head-dim 64 --heads 4 --kv-heads 2 {SHAPES[name]}".split()
    return build_parser().parse_args(words)


def bench_and_plan(name: str) -> tuple[GpuBench, Plan]:
    args = parsed(name)
    queries = args.seqlen if args.seqlen_q is None else args.seqlen_q
    rows = Sequences(queries, args.seqlen, args.packed, args.page_size)
    problem = described(problem_of(args, rows))
    bench = GpuBench(problem, _options(args), np)
    return bench, plan_of_rows(problem, launch.emulated_arch())


@pytest.mark.parametrize("name", SHAPES)
def test_a_call_runs_on_its_plan_and_a_wrong_result_is_seen(name: str) -> None:
    bench, plan = bench_and_plan(name)
    seen = []
    changed = replace(plan, variant=replace(plan.variant, why="the one that is asked for"))

    class Noting(type(changed)):  # type: ignore[misc]
        """The plan, which notes that it is launched."""

        def fields(self) -> dict[str, float]:
            seen.append(self.variant.why)
            return dict(super().fields())

    (call,) = bench.calls(Noting(**vars(changed)))
    O = call()
    assert seen == ["the one that is asked for"]
    bench.check(O)
    wrong = np.array(O)
    wrong[..., -1, 5] += np.float16(0.5)
    with pytest.raises(ToleranceError, match=r"wrong result: .* of the bound"):
        bench.check(wrong)


@pytest.mark.parametrize("name", ["causal", "decode"])
def test_other_tiles_of_the_kernel_compute_the_same(name: str) -> None:
    bench, plan = bench_and_plan(name)
    variants = list(tune_space.candidates(plan.problem, plan.arch, plan.variant))[1:4]
    assert len(variants) == 3
    for variant in variants:
        for call in bench.calls(replace(plan, variant=variant)):
            bench.check(call())


def test_what_does_not_compile_and_what_does_are_told_apart() -> None:
    bench, plan = bench_and_plan("decode")
    broken = replace(plan, variant=replace(plan.variant, block_n=-16))
    faults = bench.compile([plan, broken])
    assert faults[0] == ""
    assert faults[1].startswith("does not compile: ")
