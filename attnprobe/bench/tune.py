"""The search for the fastest tile of a shape class: compile, drop, check, time in turn, keep."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from attnprobe.bench import tune_space
from attnprobe.bench.timing import Sampler, in_turn
from attnprobe.engine import tuned
from attnprobe.engine.plan import Plan
from attnprobe.engine.variants import Variant

FIRST_BATCHES, BATCHES = 3, 9
HOPELESS = 1.10  # times as slow as the fastest after the first batches
LEAST_GAIN = 1.02  # by which a tile must be faster than the rows' own, and than the noise

Show = Callable[[str], None]


class Bench(Protocol):
    """What the search asks of a device; the tests have one without a GPU."""

    def compile(self, plans: Sequence[Plan]) -> list[str]:
        """Compile plans and return for each why it is ruled out, or ""."""

    def sampler(self, plan: Plan) -> Sampler:
        """Return the warm sampler of a plan.

        Raises
        ------
        ToleranceError
            If its result is wrong.
        """


@dataclass(frozen=True)
class Tried:
    """One tile.

    Attributes
    ----------
    variant : the tile.
    samples_us : microseconds of a call, one for each batch; () where it was not timed.
    dropped : why not, or why no longer.
    """

    variant: Variant
    samples_us: tuple[float, ...] = ()
    dropped: str = ""

    @property
    def median_us(self) -> float:
        """The figure that counts."""
        return statistics.median(self.samples_us)


@dataclass(frozen=True)
class Outcome:
    """What a search found.

    Attributes
    ----------
    shape_class : what it was for.
    base : the tile of the plan without a table.
    tried : every candidate, the fastest first, those without a time last.
    """

    shape_class: str
    base: Variant
    tried: tuple[Tried, ...]

    @property
    def own(self) -> Tried:
        """The tile that is taken without a table."""
        return next(each for each in self.tried if each.variant == self.base)

    @property
    def winner(self) -> Tried:
        """The fastest; the plan's own tile where none is faster by more than the noise."""
        best = self.tried[0]
        if not best.samples_us or not self.own.samples_us:
            return self.own
        gain = self.own.median_us / best.median_us
        apart = max(best.samples_us) < min(self.own.samples_us)
        return best if gain >= LEAST_GAIN and apart else self.own

    def entry(self, where: str) -> tuned.Entry | None:
        """Return what the table keeps; None where the plan's own tile is the fastest.

        Parameters
        ----------
        where : device and date.
        """
        won, own = self.winner, self.own
        if won is own:
            return None
        before, after = tuned.facts(self.base), tuned.facts(won.variant)
        changes = {name: value for name, value in after.items() if before[name] != value}
        gain = own.median_us / won.median_us
        note = f"{gain:.2f}x of {tune_space.shown(self.base)}, {where}"
        return tuned.Entry(self.shape_class, before, changes, tuned.text_of(self.base.source), note)


def search(plan: Plan, bench: Bench, show: Show, *, most: int = 0) -> Outcome:
    """Return what was found for the shape class of ``plan``, which is one without a table.

    Parameters
    ----------
    most : candidates that are tried at most, the plan's own tile among them; 0 is all.
    """
    problem, arch, base = plan.problem, plan.arch, plan.variant
    variants = list(tune_space.candidates(problem, arch, base))
    variants = variants[:most] if most else variants
    plans = [_with(plan, variant) for variant in variants]
    show(f"{len(plans)} tiles of {base.entry}: compiling")
    faults = bench.compile(plans)
    tried = {
        variant: Tried(variant, dropped=fault)
        for variant, fault in zip(variants, faults, strict=True)
    }
    samplers: dict[str, Sampler] = {}
    names: dict[str, Variant] = {}
    # The plan's own tile is timed even if it spills: it is what the others are held against.
    sound = [each for each in plans if each.variant == base or not tried[each.variant].dropped]
    show(f"{sum(not fault for fault in faults)} compile without spills: timing")
    for each in sound:
        try:
            sampler = bench.sampler(each)
        except Exception as error:  # a tile that does not run is one that does not win
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:80]
            tried[each.variant] = Tried(each.variant, dropped=reason)
            continue
        name = str(len(names))
        names[name], samplers[name] = each.variant, sampler
    for name, (samples, reason) in _timed(samplers).items():
        tried[names[name]] = Tried(names[name], samples, reason)
    ranked = sorted(tried.values(), key=_place)
    return Outcome(tuned.shape_class(problem, arch), base, tuple(ranked))


def _timed(samplers: Mapping[str, Sampler]) -> dict[str, tuple[tuple[float, ...], str]]:
    """Return (samples in microseconds, why dropped) of each: few batches of all, more of the best.

    The samples of those that stay are of the later batches alone, which they took together.
    """
    if not samplers:
        return {}
    first = in_turn(samplers, FIRST_BATCHES)
    medians = {name: statistics.median(samples) for name, samples in first.items()}
    limit = HOPELESS * min(medians.values())
    own = next(iter(samplers))  # the plan's own tile stays in, for what the others are held against
    staying = {name: each for name, each in samplers.items() if medians[name] <= limit}
    staying[own] = samplers[own]
    found = {name: (_us(samples), "slower") for name, samples in first.items()}
    later = in_turn(staying, BATCHES)
    found.update({name: (_us(samples), "") for name, samples in later.items()})
    return found


def _us(samples_s: Sequence[float]) -> tuple[float, ...]:
    return tuple(1e6 * each for each in samples_s)


def _place(tried: Tried) -> tuple[bool, bool, float]:
    """Order: those timed to the end by their median, those given up on, those never timed."""
    if not tried.samples_us:
        return (True, True, 0.0)
    return (False, bool(tried.dropped), tried.median_us)


def _with(plan: Plan, variant: Variant) -> Plan:
    return replace(plan, variant=variant)
