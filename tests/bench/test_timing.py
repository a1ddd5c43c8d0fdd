"""Timing without a clock: turns, how often, and what stays of a sample."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise, permutations

import pytest

from attnprobe.bench import timing


@dataclass
class Counting:
    """A sampler whose batches take 1, 2, 3, ... seconds, and that notes the order."""

    name: str
    order: list[str]
    method: str = "made up"
    taken: list[float] = field(default_factory=list)

    def batch(self) -> float:
        self.order.append(self.name)
        self.taken.append(float(len(self.taken) + 1))
        return self.taken[-1]


def test_engines_take_turns_and_the_order_turns_too() -> None:
    order: list[str] = []
    samplers = {name: Counting(name, order) for name in "abc"}
    samples = timing.in_turn(samplers, 4)
    assert "".join(order) == "abc" + "bca" + "cab" + "cba"
    assert samples == dict.fromkeys("abc", (1.0, 2.0, 3.0, 4.0))


@pytest.mark.parametrize("count", range(2, 10))
def test_each_engine_follows_each_other_one_equally_often(count: int) -> None:
    rounds = count * (1 + count % 2)
    followed = Counter(
        pair for number in range(rounds) for pair in pairwise(timing.balanced_order(count, number))
    )
    assert set(followed) == set(permutations(range(count), 2))
    assert len(set(followed.values())) == 1


def test_nobody_to_time_takes_no_time() -> None:
    assert timing.in_turn({}, 3) == {}


def test_a_batch_is_as_long_as_wanted_and_never_empty() -> None:
    assert timing.launches(0.001, 0.01) == 10
    assert timing.launches(1.0, 0.01) == 1
    assert timing.launches(0.0, 1.0) == 1 << 16
    assert timing.launches(1e-6, 1.0, 256) == 256


def test_calls_on_the_host_clock_run_in_turn_and_are_waited_for() -> None:
    called: list[str] = []
    waited: list[str] = []

    def call(name: str) -> str:
        called.append(name)
        return name

    calls = [lambda: call("a"), lambda: call("b")]
    sampler = timing.OnHostClock(calls, 5, waited.append)
    assert sampler.batch() > 0
    assert called == ["a", "b", "a", "b", "a"]
    assert waited == ["a"]
