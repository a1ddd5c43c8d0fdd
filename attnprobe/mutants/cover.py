"""The smallest set of fills that kills every mutant that some fill kills: an exact set cover."""

from __future__ import annotations

from collections.abc import Collection, Mapping

Name = str


def smallest_cover(killers: Mapping[Name, Collection[Name]]) -> tuple[Name, ...]:
    """Return a smallest set of fills of which every mutant meets a killer.

    Parameters
    ----------
    killers : mutant -> the fills that kill it; mutants that nothing kills are left out.

    The answer is exact: sizes are tried from one up, and for each the search branches over the
    killers of the mutant that has the fewest left. Of several smallest sets it returns the first in
    the order of the fills' names.
    """
    needs = _essential({frozenset(fills) for fills in killers.values() if fills})
    for size in range(len(needs) + 1):
        found = _search(needs, size)
        if found is not None:
            return tuple(sorted(found))
    raise AssertionError("one killer for each mutant is a cover")


def _essential(needs: set[frozenset[Name]]) -> list[frozenset[Name]]:
    """Drop what is met wherever another is: a superset of its killers."""
    return sorted(
        (need for need in needs if not any(other < need for other in needs)),
        key=lambda need: (len(need), sorted(need)),
    )


def _search(needs: list[frozenset[Name]], size: int) -> set[Name] | None:
    if not needs:
        return set()
    if size == 0:
        return None
    for fill in sorted(needs[0]):
        found = _search([need for need in needs if fill not in need], size - 1)
        if found is not None:
            return found | {fill}
    return None
