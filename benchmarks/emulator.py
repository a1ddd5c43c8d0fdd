"""Time attention forward on the emulator: load, run, lane-instructions per second.

    python -m benchmarks.emulator                          # every shape, fast and checked
    python -m benchmarks.emulator --shapes 1,1,256,64 --modes exact --repeat 1

Shapes are batch, heads, seqlen, head_dim; masks are causal unless --full. One BLAS thread is best
(the matrices are tiny), so the benchmark sets OPENBLAS_NUM_THREADS and its kin to 1 before NumPy
loads, unless they are set already.
"""

from __future__ import annotations

import benchmarks._one_thread  # noqa: F401 - before NumPy loads

# isort: split
import argparse
import os
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from attnprobe import compile as compiler
from attnprobe import ptx
from attnprobe.engine import launch
from attnprobe.engine.arrays import take
from attnprobe.engine.plan import Plan, make_plan
from attnprobe.engine.problem import make_problem

SHAPES = ((1, 1, 256, 64), (1, 8, 512, 64), (1, 1, 1024, 128), (1, 8, 1024, 128))
MODES = ("fast", "checked", "exact")
# What a run of the last shape, causal, may take on two cores.
LIMITS = {("fast", (1, 8, 1024, 128)): 2.0, ("checked", (1, 8, 1024, 128)): 5.0}
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Prepared:
    """One case, ready to run: its plan and its arrays."""

    plan: Plan
    arrays: tuple[Any, ...]


def main(argv: list[str] | None = None) -> int:
    """Run and print a table; 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="*", default=[",".join(map(str, s)) for s in SHAPES])
    parser.add_argument("--modes", nargs="*", choices=MODES, default=list(MODES[:2]))
    parser.add_argument("--repeat", type=int, default=3, help="runs of which the best counts")
    parser.add_argument("--full", action="store_true", help="no causal mask")
    arguments = parser.parse_args(argv)
    missed = 0
    print(
        f"{'B, H, S, D':>18} {'mode':>8} {'compile':>8} {'load':>7} {'first':>7} {'best':>7}",
        end="",
    )
    print("  lane-instr.  per second   limit")
    for text in arguments.shapes:
        shape = tuple(int(part) for part in text.split(","))
        case = prepare(shape, causal=not arguments.full)
        for mode in arguments.modes:
            limit = None if arguments.full else LIMITS.get((mode, shape))
            missed += report(shape, case, mode, arguments.repeat, limit)
    return 1 if missed else 0


def prepare(shape: Shape, *, causal: bool) -> Prepared:
    """Return the plan and N(0, 1) float16 arrays of a shape (batch, heads, seqlen, head_dim)."""
    batch, heads, seqlen, head_dim = shape
    rng = np.random.default_rng(0)
    size = (batch, seqlen, heads, head_dim)
    q, k, v = (rng.standard_normal(size).astype(np.float16) for _ in range(3))
    specs = [take(name, array).spec(name) for name, array in (("q", q), ("k", k), ("v", v))]
    problem = make_problem(
        *specs, None, softmax_scale=None, causal=causal, window_size=(-1, -1), softcap=0.0
    )
    plan = make_plan(problem, launch.emulated_arch())
    return Prepared(plan, (q, k, v, np.empty_like(q), launch.empty_lse(plan, q)))


def report(shape: Shape, case: Prepared, mode: str, repeat: int, limit: float | None) -> bool:
    """Run one case in one mode, print its line, and return whether it missed its limit."""
    started = time.perf_counter()
    text = compiler.ptx(case.plan.source(), case.plan.arch.cc)
    compiled = time.perf_counter()
    ptx.load(text)
    loaded = time.perf_counter()
    reports = [run(case, mode) for _ in range(repeat)]
    best = min(reports, key=lambda one: one.seconds)
    shown = "" if limit is None else f"{limit:.1f} s {'missed' if best.seconds > limit else 'met'}"
    print(
        f"{', '.join(map(str, shape)):>18} {mode:>8} {compiled - started:7.2f}s "
        f"{loaded - compiled:6.2f}s {reports[0].seconds:6.2f}s {best.seconds:6.2f}s "
        f"{best.lane_instructions / 1e6:9.1f} M {best.rate / 1e6:8.0f} M/s   {shown}",
        flush=True,
    )
    return limit is not None and best.seconds > limit


def run(case: Prepared, mode: str) -> ptx.LaunchReport:
    """Run one case once and return the emulator's report."""
    os.environ["ATTNPROBE_MMA"] = "exact" if mode == "exact" else "fast"
    result: ptx.LaunchReport = launch.run_emulator(
        case.plan, *case.arrays, checked=mode == "checked"
    )
    return result


if __name__ == "__main__":
    raise SystemExit(main())
