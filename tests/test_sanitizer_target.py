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
from attnprobe.arch import arch
from attnprobe.engine.plan import Plan, make_plan, on_kernel, plans_changed
from attnprobe.engine.rows import ROWS
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


def test_every_forward_kernel_has_a_case(target: ModuleType) -> None:
    entries = {plan_of(case).variant.entry for case in target.CASES}
    assert entries | {"attention_fwd_wgmma_fp8"} == {row.entry for row in ROWS}


def test_planes_are_copied_into_tiles(target: ModuleType) -> None:
    for name in ("bias in tiles", "mask in tiles"):
        plan = plan_of(next(case for case in target.CASES if case.name == name))
        assert plan.variant.entry == "attention_fwd_wgmma"
        assert getattr(plan.variant, "plane_stages", 0) > 0
