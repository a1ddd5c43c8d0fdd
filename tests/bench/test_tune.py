"""The search for a tile with made-up times: who wins, what is dropped, what the table keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from attnprobe.arch import arch
from attnprobe.bench import tune
from attnprobe.bench.cases import prefill
from attnprobe.bench.problems import problem_of
from attnprobe.bench.timing import Sampler
from attnprobe.engine import tuned
from attnprobe.engine.plan import Plan, plan_of_rows
from attnprobe.engine.wgmma import WgmmaVariant
from attnprobe.errors import ToleranceError
from attnprobe.render import text
from attnprobe.render import tune as documents

PLAN = plan_of_rows(problem_of(prefill(128, 4096, True)), arch(90))
NOISE = (1.0, 1.001, 0.999, 1.002, 0.998)
Tile = tuple[int, int, int, int, bool, bool]  # block_m, block_n, stages, of Q, turns, passes


def tile_of(tried: tune.Tried | Plan) -> Tile:
    variant = tried.variant
    assert isinstance(variant, WgmmaVariant)
    stages = (variant.stages, variant.q_stages)
    return (variant.block_m, variant.block_n, *stages, variant.turns, variant.passes)


OWN = tile_of(PLAN)
SHOWN = f"{OWN[0]}x{OWN[1]}"


@dataclass
class Made:
    """A sampler whose batches take a time of its own, with a little noise."""

    seconds: float
    method: str = "made up"
    batches: int = 0

    def batch(self) -> float:
        self.batches += 1
        return self.seconds * NOISE[self.batches % len(NOISE)]


@dataclass
class MadeUp:
    """A device on which a tile takes 1 ms, if it has no other time, no fault and no error."""

    times: dict[Tile, float] = field(default_factory=dict)
    faults: dict[Tile, str] = field(default_factory=dict)
    wrong: tuple[Tile, ...] = ()
    samplers: dict[Tile, Made] = field(default_factory=dict)

    def compile(self, plans: Sequence[Plan]) -> list[str]:
        return [self.faults.get(tile_of(plan), "") for plan in plans]

    def sampler(self, plan: Plan) -> Sampler:
        if tile_of(plan) in self.wrong:
            raise ToleranceError("wrong result: 3.5 of the bound")
        made = Made(self.times.get(tile_of(plan), 1e-3))
        self.samplers[tile_of(plan)] = made
        return made


def search(bench: MadeUp, most: int = 24) -> tune.Outcome:
    return tune.search(PLAN, bench, lambda line: None, most=most)


def others(count: int) -> list[Tile]:
    """Return the nearest tiles beside the plan's own."""
    bench = MadeUp()
    search(bench)
    return [each for each in bench.samplers if each != OWN][:count]


def test_the_fastest_tile_wins_and_the_entry_says_what_it_changes() -> None:
    fast, slow = others(2)
    outcome = search(MadeUp({OWN: 1e-3, fast: 0.8e-3, slow: 1.05e-3}))
    assert tile_of(outcome.winner) == fast
    entry = outcome.entry("a device, today")
    assert entry is not None
    assert entry.base == tuned.facts(PLAN.variant)
    own = tuned.facts(PLAN.variant)
    assert entry.changes
    assert all(own[name] != value for name, value in entry.changes.items())
    assert entry.note.startswith(f"1.25x of {SHOWN}")
    assert entry.note.endswith("a device, today")


@pytest.mark.parametrize("factor", [1.0, 0.99, 0.981])
def test_a_tile_that_is_no_faster_than_the_noise_does_not_win(factor: float) -> None:
    (near,) = others(1)
    outcome = search(MadeUp({OWN: 1e-3, near: factor * 1e-3}))
    assert outcome.winner is outcome.own
    assert outcome.entry("here") is None


def test_what_spills_is_never_timed_and_what_is_wrong_never_wins() -> None:
    spills, wrong, sound = others(3)
    bench = MadeUp(
        {spills: 0.1e-3, wrong: 0.1e-3, sound: 0.9e-3}, {spills: "spills 8 bytes"}, (wrong,)
    )
    outcome = search(bench)
    assert spills not in bench.samplers
    assert tile_of(outcome.winner) == sound
    reasons = {tile_of(each): each.dropped for each in outcome.tried}
    assert reasons[spills] == "spills 8 bytes"
    assert "3.5 of the bound" in reasons[wrong]


def test_the_plans_own_tile_is_timed_even_if_it_spills() -> None:
    (fast,) = others(1)
    outcome = search(MadeUp({OWN: 1e-3, fast: 0.5e-3}, {OWN: "spills 8 bytes"}))
    assert outcome.own.samples_us
    assert tile_of(outcome.winner) == fast


def test_the_hopeless_get_few_batches_and_the_plans_own_gets_all() -> None:
    fast, hopeless = others(2)
    bench = MadeUp({OWN: 2e-3, fast: 1e-3, hopeless: 5e-3})
    outcome = search(bench)
    assert bench.samplers[hopeless].batches == tune.FIRST_BATCHES
    assert bench.samplers[OWN].batches == tune.FIRST_BATCHES + tune.BATCHES
    dropped = {tile_of(each): each.dropped for each in outcome.tried}
    assert dropped[hopeless] == "slower"
    assert [each.dropped for each in outcome.tried[:2]] == ["", ""]


def test_no_more_tiles_are_tried_than_asked_for() -> None:
    assert len(search(MadeUp(), most=5).tried) == 5


def test_where_nothing_runs_the_plans_own_stays() -> None:
    every = tuple(others(23))
    outcome = search(MadeUp(wrong=(*every, OWN)))
    assert outcome.winner is outcome.own
    assert outcome.entry("here") is None
    assert "none is faster" in text.render(documents.document(outcome))


def test_the_table_names_the_winner_first_and_counts_what_was_dropped() -> None:
    fast, spills = others(2)
    outcome = search(MadeUp({fast: 0.5e-3}, {spills: "spills 8 bytes"}))
    shown = text.render(documents.document(outcome))
    lines = shown.splitlines()
    assert f"2.00x of {SHOWN}" in lines[2]
    assert f"{fast[0]}x{fast[1]}" in lines[5]
    assert "2.000x" in lines[5]
    assert "the plan's own" in shown
    assert "1 not timed: spills 8 bytes" in shown
