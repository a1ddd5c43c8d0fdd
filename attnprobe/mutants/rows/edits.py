"""Rows that exchange one piece of a kernel's text, written short."""

from __future__ import annotations

from dataclasses import dataclass

from attnprobe.mutants.mutant import Edit, Mutant


@dataclass(frozen=True)
class Edited:
    """Makes rows of one family and one kernel file."""

    family: str
    kernel: str

    def __call__(
        self,
        name: str,
        breaks: str,
        old: str,
        new: str,
        *seen_on: str,
        by: tuple[str, ...] = ("normal",),
        count: int = 1,
        equivalent: str = "",
        field: str = "",
        timing: bool = False,
    ) -> Mutant:
        """Return the row that replaces ``old``, which stands there ``count`` times, by ``new``.

        ``by`` names the fills that must refuse it; the others are fields of Mutant.
        """
        return Mutant(
            name,
            breaks,
            (Edit(old, new, count),),
            seen_on,
            () if equivalent else by,
            self.family,
            field,
            equivalent,
            kernel=self.kernel,
            timing=timing,
        )
