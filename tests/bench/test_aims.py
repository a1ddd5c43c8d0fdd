"""Aims: each figure worked out by hand, and what a record without the cases says."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from attnprobe.bench import aims
from attnprobe.bench.aims import AIMS
from attnprobe.bench.cases import DECODE, SEQLENS, decode, prefill
from attnprobe.bench.engines import OURS, OURS_MMA, TORCH_FLASH
from attnprobe.bench.record import Record
from tests.bench import made_up

RECORD = made_up.record()


def of_group(start: str) -> list[aims.Aim]:
    return [aim for aim in AIMS if aim.group.startswith(start)]


def median(case: str, engine: str) -> float:
    found = RECORD.find(case, engine)
    assert found is not None
    return found.median_us


def test_there_are_six_figures_of_each_kernel_and_twelve_of_decode() -> None:
    prefills = of_group("prefill, geometric mean")
    assert [aim.wanted for aim in prefills] == [1.0] * 6 + [1.1] + [1.25] * 6
    assert len(of_group("decode against the best peer")) == 12
    assert [aim.wanted for aim in of_group("decode, share")] == [0.95, 0.95]


def test_the_mean_over_the_lengths_is_against_whoever_is_fastest_at_each() -> None:
    peers = [name for name in made_up.SPEEDS if name not in (OURS, OURS_MMA)]
    factors = []
    for seqlen in SEQLENS:
        case = prefill(128, seqlen, True).name
        factors.append(min(median(case, peer) for peer in peers) / median(case, OURS))
    figure = aims.over_lengths(RECORD, 128, True, OURS)
    assert figure is not None
    assert figure.value == pytest.approx(math.prod(factors) ** (1 / 6))
    assert figure.note == "flash-attn 3, torch cuDNN"


def test_mma_sync_is_held_against_torch_flash_alone() -> None:
    figure = aims.over_lengths(RECORD, 64, False, OURS_MMA, TORCH_FLASH)
    assert figure is not None
    assert figure.note == TORCH_FLASH


def test_a_length_that_is_missing_is_said() -> None:
    part = made_up.record([prefill(64, 512, False), prefill(64, 1024, False)])
    figure = aims.over_lengths(part, 64, False, OURS)
    assert figure is not None
    assert figure.note.endswith("2 of 6 lengths")


def test_a_share_of_the_read_rate_is_bytes_over_time_over_rate() -> None:
    case = decode((128, 32, 8), (64, 4096))
    (aim,) = (aim for aim in of_group("decode, share") if aim.name == case.name)
    figure = aim.figure(RECORD)
    assert figure is not None
    assert figure.value == pytest.approx(
        case.cache_bytes / (median(case.name, OURS) * 1e-6) / 4.45e12
    )


def test_a_cache_of_bytes_is_held_against_the_plain_cell() -> None:
    case = next(case for case in DECODE if case.kv_format == "e4m3")
    figure = aims.factor(RECORD, case.name, case.beside)
    assert figure is not None
    assert figure.value == pytest.approx(median(case.beside, OURS) / median(case.name, OURS))


def test_less_is_better_of_what_the_host_does() -> None:
    found = {aim.name: (aim, aim.figure(RECORD)) for aim in of_group("host")}
    known, cold, warm = (
        found[name]
        for name in (
            "call whose plan is known",
            "first call d64 causal, cold",
            "first call d64 causal, warm",
        )
    )
    assert known[1] is not None
    assert known[1].value == 8.1
    assert known[0].reached(known[1])
    assert cold[1] is not None
    assert cold[1].value == pytest.approx(3.1155)
    assert not cold[0].reached(cold[1])
    assert warm[1] is not None
    assert warm[0].reached(warm[1])


def test_a_record_without_cases_has_no_figure() -> None:
    assert [aim.figure(Record()) for aim in AIMS] == [None] * len(AIMS)


def test_an_engine_that_is_slower_makes_the_figure_less() -> None:
    (aim,) = (aim for aim in AIMS if aim.name == "the best of the six")
    before, after = aim.figure(RECORD), aim.figure(made_up.record(slower=2.0))
    assert before is not None
    assert after is not None
    assert after.value == pytest.approx(before.value / 2)


def test_aims_without_peers_are_not_measured() -> None:
    alone = replace(RECORD, results=tuple(r for r in RECORD.results if r.engine == OURS))
    assert of_group("decode against the best peer")[0].figure(alone) is None
