"""Two records beside each other: noise is no change, and a change is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attnprobe.bench.cases import PREFILL
from attnprobe.bench.compare import ALIKE, FASTER, SLOWER, Change, compare
from attnprobe.bench.engines import OURS
from attnprobe.bench.record import Result
from attnprobe.render import bench, text
from tests.bench import made_up

FEW = PREFILL[:4]


def result(*samples_us: float) -> Result:
    return Result("case", "prefill", OURS, samples_us=samples_us)


def test_a_record_is_like_itself() -> None:
    found = compare(made_up.record(), made_up.record())
    assert {change.verdict for change in found.changes} == {ALIKE}
    assert (found.exit_code, found.missing, found.added, found.elsewhere) == (0, (), (), ())


def test_ten_percent_more_are_slower_and_the_other_way_round_faster() -> None:
    old, new = made_up.record(FEW), made_up.record(FEW, slower=1.1)
    found = compare(old, new)
    assert found.exit_code == 1
    assert {(each.old.case, each.old.engine) for each in found.of(SLOWER)} == {
        (case.name, OURS) for case in FEW
    }
    assert found.of(FASTER) == ()
    back = compare(new, old)
    assert back.exit_code == 0
    assert len(back.of(FASTER)) == len(FEW)


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        ((100.0, 100.0, 100.0), (101.9, 101.9, 101.9), ALIKE),  # below 2 %
        ((100.0, 100.0, 100.0), (102.1, 102.1, 102.1), SLOWER),
        ((100.0, 100.0, 100.0), (97.9, 97.9, 97.9), FASTER),
        # Spread 1.4826 * 2 in both: three of it are 12.6 together.
        ((98.0, 100.0, 102.0), (110.0, 112.0, 114.0), ALIKE),
        ((98.0, 100.0, 102.0), (111.0, 113.0, 115.0), SLOWER),
        # One sample gone astray moves neither the median nor the spread.
        ((100.0, 100.0, 100.0, 100.0, 900.0), (103.0,) * 5, SLOWER),
    ],
)
def test_the_noise_is_what_the_samples_say_and_two_percent_at_least(
    old: tuple[float, ...], new: tuple[float, ...], verdict: str
) -> None:
    assert Change(result(*old), result(*new)).verdict == verdict


def test_what_is_missing_and_what_is_new_is_said() -> None:
    old, new = made_up.record(FEW[:3]), made_up.record(FEW[1:])
    found = compare(old, new)
    assert {case for case, _ in found.missing} == {FEW[0].name}
    assert {case for case, _ in found.added} == {FEW[3].name}
    shown = text.render(bench.comparison(found))
    assert f"{FEW[0].name}: {OURS}" in shown.partition("Missing in the new record")[2]


def test_another_device_is_said_and_another_date_is_not() -> None:
    old = made_up.record(FEW)
    there = replace(old, environment={**old.environment, "device": "Other", "date": "2031-01-01"})
    assert compare(old, there).elsewhere == ("device: NVIDIA Made-Up, Other",)


def test_the_slowest_comes_first() -> None:
    old, new = made_up.record(FEW), made_up.record(FEW, slower=1.1)
    worst = replace(new.results[0], samples_us=tuple(2 * s for s in new.results[0].samples_us))
    found = compare(old, replace(new, results=(*new.results[1:], worst)))
    assert found.changes[0].new is worst
    lines = text.render(bench.comparison(found)).splitlines()
    assert "+120.0%" in lines[lines.index("Slower") + 3]
