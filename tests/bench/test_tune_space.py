"""Tiles that may be tried: within the limits of the arch, each once, and what a log rules out."""

from __future__ import annotations

import pytest

from attnprobe.arch import arch
from attnprobe.bench import tune_space
from attnprobe.bench.cases import DECODE, DECODE_LENGTHS, Case, decode, prefill
from attnprobe.bench.problems import problem_of
from attnprobe.engine.plan import Plan, plan_of_rows
from attnprobe.engine.row_of_tile import ROWS, WARPS
from attnprobe.engine.tuned import facts
from attnprobe.engine.wgmma import WgmmaVariant

CASES = {
    "wgmma": (prefill(128, 4096, True), 90),
    "wide wgmma": (prefill(256, 4096, False), 90),
    "mma.sync": (prefill(64, 4096, False), 80),
    "small shared memory": (prefill(128, 4096, False), 120),
    "decode": (DECODE[3], 90),
}


def of(name: str) -> Plan:
    case, cc = CASES[name]
    return plan_of_rows(problem_of(case), arch(cc))


@pytest.mark.parametrize("name", CASES)
def test_every_tile_serves_fits_and_is_there_once_the_plans_own_first(name: str) -> None:
    plan = of(name)
    found = list(tune_space.candidates(plan.problem, plan.arch, plan.variant))
    assert found[0] == plan.variant
    listed = [facts(variant) for variant in found]
    assert all(listed.count(each) == 1 for each in listed)
    for variant in found:
        assert variant.refusal(plan.problem, plan.arch) is None
        assert variant.shared_bytes(plan.problem) <= plan.arch.smem_per_block
        assert variant.entry == plan.variant.entry


@pytest.mark.parametrize(("name", "least"), [("wgmma", 20), ("mma.sync", 10), ("decode", 10)])
def test_there_is_something_to_search(name: str, least: int) -> None:
    plan = of(name)
    assert len(list(tune_space.candidates(plan.problem, plan.arch, plan.variant))) >= least


def test_what_follows_from_a_choice_follows() -> None:
    plan = of("wgmma")
    for variant in tune_space.candidates(plan.problem, plan.arch, plan.variant):
        assert isinstance(variant, WgmmaVariant)
        assert variant.block_m == variant.consumers * ROWS
        assert variant.warps == (variant.consumers + 1) * WARPS


def test_the_nearest_tiles_come_first() -> None:
    plan = of("wgmma")
    found = list(tune_space.candidates(plan.problem, plan.arch, plan.variant))
    own = facts(plan.variant)
    changed = [sum(facts(each)[name] != own[name] for name in own) for each in found]
    assert changed[0] == 0
    assert changed[1] == 1  # one field, by the least factor
    assert max(changed[:4]) <= max(changed)


def test_more_shared_memory_allows_more_tiles() -> None:
    problem = problem_of(prefill(64, 4096, False))
    counts = []
    for cc in (80, 89):
        plan = plan_of_rows(problem, arch(cc))
        counts.append(len(list(tune_space.candidates(problem, plan.arch, plan.variant))))
    assert counts[0] > counts[1] >= 1


@pytest.mark.parametrize("case", [decode((256, 16, 4), length) for length in DECODE_LENGTHS])
def test_every_decode_cell_has_its_own_row_among_the_tiles(case: Case) -> None:
    plan = plan_of_rows(problem_of(case), arch(90))
    found = list(tune_space.candidates(plan.problem, plan.arch, plan.variant))
    assert plan.variant in found


@pytest.mark.parametrize(
    ("log", "fault"),
    [
        ("0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads", ""),
        ("16 bytes stack frame, 8 bytes spill stores, 24 bytes spill loads", "spills 24 bytes"),
        ("0 bytes spill stores\n(C7510) Potential Performance Loss: wgmma.mma_async instructions "
         "are serialized due to ...", "wgmma is serialised"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_log_rules_a_tile_out(log: str, fault: str) -> None:
    assert tune_space.fault_of(log) == fault
