"""Two records beside each other: what got slower or faster by more than the noise."""

from __future__ import annotations

from dataclasses import dataclass

from attnprobe.bench.record import Record, Result

SIGMAS = 3.0  # of both samples together, that a shift of the medians must exceed
LEAST_SHIFT = 0.02  # of the old median, below which no shift counts however small the spread

SLOWER, FASTER, ALIKE = "slower", "faster", "alike"


@dataclass(frozen=True)
class Change:
    """One case on one engine in both records.

    Attributes
    ----------
    old, new : the results.
    """

    old: Result
    new: Result

    @property
    def shift_us(self) -> float:
        """How much longer the new median is."""
        return self.new.median_us - self.old.median_us

    @property
    def noise_us(self) -> float:
        """The least shift that counts."""
        spread = (self.old.sigma_us**2 + self.new.sigma_us**2) ** 0.5
        return max(SIGMAS * float(spread), LEAST_SHIFT * self.old.median_us)

    @property
    def verdict(self) -> str:
        """ "slower", "faster" or "alike"."""
        if abs(self.shift_us) <= self.noise_us:
            return ALIKE
        return SLOWER if self.shift_us > 0 else FASTER


@dataclass(frozen=True)
class Comparison:
    """What two records say of each other.

    Attributes
    ----------
    changes : of what both have, the greatest slow-down first.
    missing : (case, engine) that only the old record has.
    added : (case, engine) that only the new one has.
    elsewhere : facts of the environment that differ, as "name: old, new".
    """

    changes: tuple[Change, ...]
    missing: tuple[tuple[str, str], ...]
    added: tuple[tuple[str, str], ...]
    elsewhere: tuple[str, ...]

    def of(self, verdict: str) -> tuple[Change, ...]:
        """Return the changes of one verdict."""
        return tuple(change for change in self.changes if change.verdict == verdict)

    @property
    def exit_code(self) -> int:
        """1 where something got slower, else 0."""
        return int(bool(self.of(SLOWER)))


def compare(old: Record, new: Record) -> Comparison:
    """Return what changed from ``old`` to ``new``."""
    before = {(row.case, row.engine): row for row in old.results}
    after = {(row.case, row.engine): row for row in new.results}
    changes = [Change(before[key], after[key]) for key in before if key in after]
    changes.sort(key=lambda each: each.shift_us / each.old.median_us, reverse=True)
    facts = [name for name in (*old.environment, *new.environment) if name not in _OF_THE_RUN]
    elsewhere = (
        f"{name}: {old.environment.get(name, '-')}, {new.environment.get(name, '-')}"
        for name in dict.fromkeys(facts)
        if old.environment.get(name) != new.environment.get(name)
    )
    return Comparison(
        tuple(changes),
        tuple(key for key in before if key not in after),
        tuple(key for key in after if key not in before),
        tuple(elsewhere),
    )


_OF_THE_RUN = ("date", "command")
