"""All layout rows, and how a person's words find one."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager

from attnprobe.errors import UsageError
from attnprobe.layouts import ldmatrix, mma_sync
from attnprobe.layouts.instruction import Instruction

_rows: dict[str, Instruction] = {row.ptx: row for module in (mma_sync, ldmatrix) for row in module.ROWS}


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
        If none or several fit; names the nearest.
    """
    whole = _rows.get(text)
    if whole is not None:
        return whole
    hits = search(text)
    if len(hits) == 1:
        return hits[0]
    if hits:
        listed = "\n  ".join(row.ptx for row in hits)
        raise UsageError(f"{text!r} fits {len(hits)} instructions; name one:\n  {listed}")
    close = difflib.get_close_matches(text, _rows, n=4, cutoff=0.0)
    listed = "\n  ".join(close)
    raise UsageError(f"no instruction fits {text!r}; the nearest:\n  {listed}")


def search(text: str) -> list[Instruction]:
    """Return the rows that ``text`` fits: as a substring, else by its words in any order."""
    hits = [row for row in _rows.values() if text in row.ptx]
    if hits:
        return hits
    words = text.replace(".", " ").split()
    by_word = [row for row in _rows.values() if set(words) <= set(row.ptx.split("."))]
    return by_word or [row for row in _rows.values() if all(word in row.ptx for word in words)]


@contextmanager
def added(row: Instruction) -> Iterator[None]:
    """Add ``row`` to the catalogue for the length of a ``with`` block: how a row is tried out."""
    if row.ptx in _rows:
        raise UsageError(f"{row.ptx} is in the catalogue already")
    _rows[row.ptx] = row
    try:
        yield
    finally:
        del _rows[row.ptx]
