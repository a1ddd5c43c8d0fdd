"""What compute-sanitizer runs: every kernel, and which cases racecheck cannot follow."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import attnprobe
from attnprobe import compile as compiler
from attnprobe import ptx
from attnprobe.arch import arch
from attnprobe.compile import Source
from attnprobe.engine.plan import Plan, make_plan, on_kernel, plans_changed
from attnprobe.engine.rows import ROWS
from attnprobe.errors import DeadlockError, RaceError
from attnprobe.mutants.apply import edited
from attnprobe.mutants.mutant import Edit
from attnprobe.numerics.cases import Case
from attnprobe.numerics.fills import FILLS

HOPPER = arch(90)
ROOT = Path(__file__).resolve().parents[1]


class Planned(Exception):
    """What was to be known is known: nothing is to be computed."""


@pytest.fixture(scope="module")
def target() -> ModuleType:
    pytest.importorskip("cupy", reason="comes with the extras cuda12x and cuda13x")
    spec = importlib.util.spec_from_file_location(
        "sanitizer_target", ROOT / "tools" / "sanitizer_target.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["sanitizer_target"] = module
    spec.loader.exec_module(module)
    return module


def plan_of(case: Case, kernel: str = "") -> Plan:
    """Return the plan that an H100 or H200 makes of a case."""
    seen: list[Plan] = []

    def change(plan: Plan) -> Any:
        with plans_changed(lambda same: same):
            planned = make_plan(plan.problem, HOPPER)
        seen.append(on_kernel(kernel, planned) if kernel else planned)
        raise Planned

    call = case.call(FILLS["normal"], 1, np.nan)
    with plans_changed(change), pytest.raises(Planned):
        getattr(attnprobe, call.entry)(**call.arguments())
    return seen[0]


def test_the_cases_whose_copies_arrive_at_a_barrier_are_named(target: ModuleType) -> None:
    plans = {case.name: plan_of(case) for case in target.CASES}
    for case in target.CASES[:7]:
        plans[f"{case.name}, mma.sync"] = plan_of(case, "attention_fwd_mma")
    arriving = {name for name, plan in plans.items() if getattr(plan.variant, "apart", False)}
    assert arriving == set(target.ARRIVING)


@pytest.mark.parametrize("which", ["one lane", "each lane"])
def test_both_controls_are_in_order(target: ModuleType, which: str) -> None:
    """What racecheck says of one of them it says of a kernel without a race."""
    given, out = run_control(target.control_source(which), target.ROUNDS)
    assert (out == given[:, ::-1, 0].sum(0)).all()


@pytest.mark.parametrize("which", ["one lane", "each lane"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("if (round > 0) stages.wait_free(next, (round - 1) / Stages::kCount);", ""),
        ("stages.wait_full(stage, round / Stages::kCount);", ""),
        ("stages.read(stage);\n    }", "}"),
    ],
)
def test_controls_out_of_order_are_refused(
    target: ModuleType, which: str, old: str, new: str
) -> None:
    source = edited(target.control_source(which), Edit(old, new))
    with pytest.raises((RaceError, DeadlockError)):
        run_control(source, target.ROUNDS)


def run_control(source: Source, rounds: int) -> tuple[Any, Any]:
    """Return what a control was given and what it wrote, on the emulator."""
    given = np.random.default_rng(7).integers(0, 1000, (rounds, 64, 4)).astype(np.float32)
    out, memory = np.full(64, np.nan, np.float32), ptx.GlobalMemory()
    buffers = [memory.map(array, name=name) for name, array in (("from", given), ("to", out))]
    program = ptx.load(compiler.ptx(source, 90))
    ptx.launch(program, "stages_control", (1,), (64,), [*buffers, np.int32(rounds)], memory=memory)
    return given, out


def test_every_forward_kernel_has_a_case(target: ModuleType) -> None:
    entries = {plan_of(case).variant.entry for case in target.CASES}
    assert entries | {"attention_fwd_wgmma_fp8"} == {row.entry for row in ROWS}


def test_planes_are_copied_into_tiles(target: ModuleType) -> None:
    for name in ("bias in tiles", "mask in tiles"):
        plan = plan_of(next(case for case in target.CASES if case.name == name))
        assert plan.variant.entry == "attention_fwd_wgmma"
        assert getattr(plan.variant, "plane_stages", 0) > 0
