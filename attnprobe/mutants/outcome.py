"""What one run of one mutant came to, and the letter that tables show for it."""

from __future__ import annotations

from dataclasses import dataclass

from attnprobe.mutants.scene import OLD_LIMIT

NO_RESULT = float("inf")

RACE, DEADLOCK, MEMORY, TRAP = "race", "deadlock", "memory", "trap"
CRASH, HANG, OUTSIDE = "crash", "hang", "outside"
KEPT = "kept"
# Letter -> what it says, the first that fits: faults of the run, then demands of the oracle.
LETTERS: dict[str, tuple[tuple[str, ...], str]] = {
    "R": ((RACE,), "race: no barrier orders two accesses of shared memory"),
    "M": ((MEMORY,), "memory: an access out of bounds, misaligned, or of what nothing wrote"),
    "D": ((DEADLOCK, HANG), "the kernel never ends"),
    "T": ((TRAP,), "trap, or a warp-wide instruction that only some lanes execute"),
    "C": ((CRASH,), "CUDA reports an error, or the process dies"),
    "W": ((OUTSIDE,), "memory beside O is written"),
    "K": ((KEPT,), "the cache does not hold what was to be appended, or something else is changed"),
    "O": (("bound",), "an element of O is beyond its bound"),
    "L": (("lse",), "O is within its bound, LSE is not"),
    "X": (("tensor", "hull", "exact", "equal columns"), "a demand beyond the bounds alone"),
}
SURVIVED, NOT_RUN = ".", "-"
GIVEN_UP = "given up"  # not run: the mutant has ended too many processes before


@dataclass(frozen=True)
class Outcome:
    """What one run came to.

    Attributes
    ----------
    refused_by : what refuses it: demands of the oracle ("bound", "lse", "exact", ...), faults of
        the run ("race", "memory", "deadlock", "trap", "crash", "hang"), "outside": memory beside
        O was written, or "kept": a cache that is appended to. Empty where nothing does.
    share : greatest error / bound of O and LSE; inf where there is no result or NaN stands wrong.
    max_abs : greatest |error| of O, which is all that a fixed limit looks at; inf likewise.
    """

    refused_by: tuple[str, ...]
    share: float
    max_abs: float

    @property
    def old_rule(self) -> bool:
        """Whether the fixed limit of the old test lets it pass."""
        return self.max_abs <= OLD_LIMIT

    @property
    def letter(self) -> str:
        """The letter that tables show."""
        if not self.refused_by:
            return SURVIVED
        if GIVEN_UP in self.refused_by:
            return NOT_RUN
        fits = (letter for letter, (names, _) in LETTERS.items() if {*names} & {*self.refused_by})
        return next(fits, "X")
