"""All layout rows, and how a person's words find one."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from attnprobe.errors import UsageError
from attnprobe.layouts import ldmatrix, mma_sync
from attnprobe.layouts.instruction import Instruction

_MODULES = (mma_sync, ldmatrix)
_LISTED = 12  # candidates named in one message


def _by_name(rows: Sequence[Instruction]) -> dict[str, Instruction]:
    named = {row.ptx: row for row in rows}
    if len(named) != len(rows):
        raise UsageError("an instruction stands twice in the layout tables")
    return named


_rows: dict[str, Instruction] = _by_name([row for module in _MODULES for row in module.ROWS])


def rows() -> tuple[Instruction, ...]:
    """Return every row, in the order of the tables."""
    return tuple(_rows.values())


def exact(ptx: str) -> Instruction | None:
    """Return the row whose mnemonic is ``ptx``, or None."""
    return _rows.get(ptx)


def find(text: str) -> Instruction:
    """Return the row that ``text`` names: a whole mnemonic, or any part that only one has.

    Dots and blanks separate words; every word must occur in the mnemonic, whole words before parts.

    Raises
    ------
    UsageError
        If none or several fit; names the candidates or the nearest.
    """
    whole = _rows.get(text)
    if whole is not None:
        return whole
    hits = search(text)
    if len(hits) == 1:
        return hits[0]
    if hits:
        raise UsageError(f"{text!r} fits {len(hits)} instructions; name one:{_listed(hits)}")
    raise no_such(text)


def search(text: str) -> list[Instruction]:
    """Return the rows that ``text`` fits: as a substring, else by its words in any order."""
    wanted = text.strip().lower()
    hits = [row for row in _rows.values() if wanted in row.ptx]
    if hits:
        return hits
    words = _words(wanted)
    by_word = [row for row in _rows.values() if set(words) <= set(_words(row.ptx))]
    return by_word or [row for row in _rows.values() if all(word in row.ptx for word in words)]


def no_such(text: str) -> UsageError:
    """Return the error for a text that fits no row. It names the nearest rows."""
    return UsageError(f"no instruction fits {text!r}; the nearest:{_listed(nearest(text))}")


def nearest(text: str, count: int = 4) -> list[Instruction]:
    """Return the rows whose words are most alike to those of ``text``, the nearest first."""
    wanted = _words(text.lower()) or [""]
    vocabulary = {word for name in _rows for word in _words(name)}
    alike = {
        (word, known): difflib.SequenceMatcher(None, word, known).ratio()
        for word in wanted
        for known in vocabulary
    }

    def likeness(row: Instruction) -> float:
        return sum(max(alike[word, known] for known in _words(row.ptx)) for word in wanted)

    return sorted(_rows.values(), key=likeness, reverse=True)[:count]


def _words(text: str) -> list[str]:
    return text.replace(".", " ").split()


def _listed(found: Sequence[Instruction]) -> str:
    names = [row.ptx for row in found[:_LISTED]]
    if len(found) > _LISTED:
        names.append(f"... and {len(found) - _LISTED} more")
    return "".join(f"\n  {name}" for name in names)


@contextmanager
def added(row: Instruction) -> Iterator[None]:
    """Add ``row`` to the catalogue for the length of a ``with`` block: how a row is tried out.

    Raises
    ------
    UsageError
        If the catalogue has a row of this name.
    """
    if row.ptx in _rows:
        raise UsageError(f"{row.ptx} is in the catalogue already")
    _rows[row.ptx] = row
    try:
        yield
    finally:
        del _rows[row.ptx]
