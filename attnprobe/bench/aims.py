"""What is aimed at, and what a record reached of it: one row each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from attnprobe.bench import ceilings, host
from attnprobe.bench.cases import (
    DECODE,
    DECODE_LENGTHS,
    DECODE_SHAPES,
    HEAD_DIMS,
    LARGE,
    SEQLENS,
    decode,
    prefill,
)
from attnprobe.bench.engines import OURS, OURS_MMA, TORCH_FLASH
from attnprobe.bench.features import CASES as FEATURE_CASES
from attnprobe.bench.record import Record, Result

PARITY, LEAD, MMA_LEAD = 1.0, 1.1, 1.25  # of our speed over a peer's
DECODE_LEAD, READ_SHARE = 1.1, 0.95
FP8_LEAD = 1.4
KNOWN_US, COLD_US, WARM_US = 10.0, 2e6, 50e3
_FP8_SEQLEN = 16384


@dataclass(frozen=True)
class Figure:
    """What a record says to an aim.

    Attributes
    ----------
    value : the figure.
    note : beside whom, or over how many cases.
    """

    value: float
    note: str = ""


@dataclass(frozen=True)
class Aim:
    """One aim.

    Attributes
    ----------
    group, name : what is aimed at.
    wanted : the figure.
    figure : what a record reached; None where it does not have the cases.
    at_most : whether less is better.
    unit : of the figure: "x" for a factor of speed, "" for a share.
    """

    group: str
    name: str
    wanted: float
    figure: Callable[[Record], Figure | None]
    at_most: bool = False
    unit: str = "x"

    def reached(self, figure: Figure) -> bool:
        """Return whether ``figure`` is what is wanted."""
        return figure.value <= self.wanted if self.at_most else figure.value >= self.wanted


def peers_of(record: Record, case: str) -> list[Result]:
    """Return the results of everybody else's engines on a case."""
    return [r for r in record.results if r.case == case and r.engine not in (OURS, OURS_MMA)]


def fastest_peer(record: Record, case: str) -> Result | None:
    """Return the fastest result of everybody else's, or None."""
    return min(peers_of(record, case), key=lambda row: row.median_us, default=None)


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean of positive numbers."""
    return math.exp(sum(map(math.log, values)) / len(values))


def over_lengths(
    record: Record, head_dim: int, causal: bool, ours: str, peer: str = ""
) -> Figure | None:
    """Return the geometric mean over the lengths of ``ours`` against ``peer``, or the fastest."""
    factors, beside = [], set()
    for seqlen in SEQLENS:
        case = prefill(head_dim, seqlen, causal).name
        own = record.find(case, ours)
        other = record.find(case, peer) if peer else fastest_peer(record, case)
        if own is None or other is None:
            continue
        factors.append(other.median_us / own.median_us)
        beside.add(other.engine)
    if not factors:
        return None
    part = "" if len(factors) == len(SEQLENS) else f", {len(factors)} of {len(SEQLENS)} lengths"
    return Figure(geometric_mean(factors), f"{', '.join(sorted(beside))}{part}")


def _against_fastest(head_dim: int, causal: bool) -> Callable[[Record], Figure | None]:
    return lambda record: over_lengths(record, head_dim, causal, OURS)


def _mma_against_flash(head_dim: int, causal: bool) -> Callable[[Record], Figure | None]:
    return lambda record: over_lengths(record, head_dim, causal, OURS_MMA, TORCH_FLASH)


def _best_of_six(record: Record) -> Figure | None:
    found = {
        (d, causal): over_lengths(record, d, causal, OURS)
        for d in HEAD_DIMS
        for causal in (False, True)
    }
    known = {key: figure for key, figure in found.items() if figure is not None}
    if not known:
        return None
    (head_dim, causal), best = max(known.items(), key=lambda item: item[1].value)
    return Figure(best.value, f"head_dim {head_dim}{', causal' if causal else ''}")


def _against_best(case: str) -> Callable[[Record], Figure | None]:
    def figure(record: Record) -> Figure | None:
        own, other = record.find(case, OURS), fastest_peer(record, case)
        if own is None or other is None:
            return None
        return Figure(other.median_us / own.median_us, other.engine)

    return figure


def _read_share(case: str) -> Callable[[Record], Figure | None]:
    def figure(record: Record) -> Figure | None:
        own, rate = record.find(case, OURS), record.ceiling(ceilings.READ)
        if own is None or own.gbps is None or rate is None:
            return None
        return Figure(own.gbps * 1e9 / rate, f"{own.gbps:.0f} of {rate / 1e9:.0f} GB/s")

    return figure


def factor(record: Record, case: str, beside: str) -> Figure | None:
    """Return how many times as fast as ``beside`` a case of ours is."""
    own, other = record.find(case, OURS), record.find(beside, OURS)
    return Figure(other.median_us / own.median_us) if own and other else None


def _factor(case: str, beside: str) -> Callable[[Record], Figure | None]:
    return lambda record: factor(record, case, beside)


def _median(case: str, scale: float) -> Callable[[Record], Figure | None]:
    def figure(record: Record) -> Figure | None:
        own = record.find(case, OURS)
        return Figure(own.median_us / scale) if own else None

    return figure


def _rows() -> list[Aim]:
    masks = ((False, ""), (True, ", causal"))
    widths = [(d, causal, f"head_dim {d}{said}") for d in HEAD_DIMS for causal, said in masks]
    lengths = "prefill, geometric mean over 512 to 16k"
    rows = [
        Aim(f"{lengths}: {OURS} against the fastest peer", name, PARITY, _against_fastest(d, c))
        for d, c, name in widths
    ]
    group = rows[0].group
    rows.append(Aim(group, "the best of the six", LEAD, _best_of_six))
    rows += [
        Aim(
            f"{lengths}: {OURS_MMA} against {TORCH_FLASH}", name, MMA_LEAD, _mma_against_flash(d, c)
        )
        for d, c, name in widths
    ]
    full = prefill(128, _FP8_SEQLEN, False)
    fp8 = prefill(128, _FP8_SEQLEN, False, "e4m3")
    rows.append(
        Aim("prefill, e4m3 against our own float16", f"head_dim 128, {_FP8_SEQLEN} keys", FP8_LEAD,
            _factor(fp8.name, full.name))
    )  # fmt: skip
    for shape in DECODE_SHAPES:
        for length in DECODE_LENGTHS:
            case = decode(shape, length).name
            rows.append(Aim("decode against the best peer", case, DECODE_LEAD, _against_best(case)))
    for length in LARGE:
        case = decode(DECODE_SHAPES[0], length).name
        rows.append(
            Aim("decode, share of the memory's read rate", case, READ_SHARE, _read_share(case),
                unit="")
        )  # fmt: skip
    beside_plain = "decode against the same cache in one piece in 16 bits"
    for each in (each for each in DECODE if each.aim):
        rows.append(Aim(beside_plain, each.name, each.aim, _factor(each.name, each.beside)))
    for each in (each for each in FEATURE_CASES if each.aim):
        name = f"{each.feature}, as fast as {each.beside.removeprefix('feature ')}"
        rows.append(Aim("features", name, each.aim, _factor(each.name, each.beside)))
    known = Aim(
        "host", "call whose plan is known", KNOWN_US, _median("host attention", 1.0), True, " µs"
    )
    rows.append(known)
    for state, most, scale, unit in (
        (host.COLD, COLD_US, 1e6, " s"),
        (host.WARM, WARM_US, 1e3, " ms"),
    ):
        for head_dim in host.FIRST_HEAD_DIMS:
            case = f"first call d{head_dim} causal, {state}"
            rows.append(Aim("host", case, most / scale, _median(case, scale), True, unit))
    return rows


AIMS: tuple[Aim, ...] = tuple(_rows())


def shown(value: float, unit: str) -> str:
    """Return a figure with its unit."""
    return f"{value:.2f}{unit}" if unit in ("x", "", " s") else f"{value:.1f}{unit}"
