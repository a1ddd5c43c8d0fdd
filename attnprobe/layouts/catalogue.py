"""All layout rows, and how a person's words find one.

A family module gives names and, for each, what builds its row (``SPECS``). Rows are built when they
are asked for, so that the thousands of them cost a start-up nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from attnprobe.errors import UsageError
from attnprobe.layouts import (
    ldmatrix,
    mma_scaled,
    mma_sp,
    mma_sync,
    movmatrix,
    stmatrix,
    wgmma,
    wgmma_sp,
    wmma,
)
from attnprobe.layouts.instruction import Instruction

_MODULES = (mma_sync, mma_sp, mma_scaled, ldmatrix, stmatrix, movmatrix, wgmma, wgmma_sp, wmma)
_LISTED = 12  # candidates named in one message

Build = Callable[[], Instruction]


def _by_name(tables: Sequence[Mapping[str, Build]]) -> dict[str, Build]:
    named: dict[str, Build] = {}
    for table in tables:
        twice = named.keys() & table.keys()
        if twice:
            raise UsageError(f"{min(twice)} stands twice in the layout tables")
        named |= table
    return named


_specs: dict[str, Build] = _by_name([module.SPECS for module in _MODULES])
_built: dict[str, Instruction] = {}


def names() -> tuple[str, ...]:
    """Return the name of every row, in the order of the tables. Builds none."""
    return tuple(_specs)


def rows(*families: str) -> tuple[Instruction, ...]:
    """Return every row, or those of some families, in the order of the tables.

    The family is the mnemonic's beginning: rows of others are not built.
    """
    return tuple(row for row in map(_row, _specs) if not families or row.family in families)


def distinct(*families: str) -> tuple[Instruction, ...]:
    """Return one row for each arrangement of registers: the first of those that are alike.

    Two rows are alike if their operands have the same places in registers of the same widths.
    """
    found: dict[object, Instruction] = {}
    for row in rows(*families):
        places = tuple(
            (each.name, each.fragment, each.format.bits, each.matrix_rows, each.choices)
            for each in row.operands
        )
        found.setdefault((row.family, row.shape, places, row.addresses), row)
    return tuple(found.values())


def exact(ptx: str) -> Instruction | None:
    """Return the row whose name is ``ptx``, or None."""
    return _row(ptx) if ptx in _specs else None


def find(text: str) -> Instruction:
    """Return the row that ``text`` names: a whole mnemonic, or any part that only one has.

    Dots and blanks separate words; every word must occur in the mnemonic, whole words before parts.
    Of several that fit the plainest is meant: the one with the fewest words, if it is alone with
    so few. So ``m16n8k16 f32 f16`` is the dense product and not one of the sparse ones.

    Raises
    ------
    UsageError
        If none or several fit; names the candidates or the nearest.
    """
    if text in _specs:
        return _row(text)
    hits = _search(text)
    plainest = _plainest(hits)
    if len(plainest) == 1:
        return _row(plainest[0])
    if hits:
        raise UsageError(f"{text!r} fits {len(hits)} instructions; name one:{_listed(hits)}")
    raise no_such(text)


def search(text: str) -> list[Instruction]:
    """Return the rows that ``text`` fits: as a substring, else by its words in any order."""
    return [_row(name) for name in _search(text)]


def no_such(text: str) -> UsageError:
    """Return the error for a text that fits no row. It names the nearest rows."""
    return UsageError(f"no instruction fits {text!r}; the nearest:{_listed(_nearest(text, 4))}")


def nearest(text: str, count: int = 4) -> list[Instruction]:
    """Return the rows whose words are most alike to those of ``text``, the nearest first."""
    return [_row(name) for name in _nearest(text, count)]


def _row(name: str) -> Instruction:
    if name not in _built:
        _built[name] = _specs[name]()
    return _built[name]


def _search(text: str) -> list[str]:
    wanted = text.strip().lower()
    lower = {name: name.lower() for name in _specs}
    hits = [name for name, each in lower.items() if wanted in each]
    if hits:
        return hits
    words = _words(wanted)
    by_word = [name for name, each in lower.items() if set(words) <= set(_words(each))]
    return by_word or [name for name, each in lower.items() if all(word in each for word in words)]


def _plainest(hits: Sequence[str]) -> list[str]:
    counts = [len(set(_words(name))) for name in hits]
    return [name for name, count in zip(hits, counts, strict=True) if count == min(counts)]


def _nearest(text: str, count: int) -> list[str]:
    wanted = _words(text.lower()) or [""]
    vocabulary = {word for name in _specs for word in _words(name)}
    alike = {
        (word, known): difflib.SequenceMatcher(None, word, known).ratio()
        for word in wanted
        for known in vocabulary
    }

    def likeness(name: str) -> float:
        return sum(max(alike[word, known] for known in _words(name)) for word in wanted)

    return sorted(_specs, key=likeness, reverse=True)[:count]


def _words(text: str) -> list[str]:
    return text.replace(".", " ").split()


def _listed(found: Sequence[str]) -> str:
    shown = list(found[:_LISTED])
    if len(found) > _LISTED:
        shown.append(f"... and {len(found) - _LISTED} more")
    return "".join(f"\n  {name}" for name in shown)


@contextmanager
def added(row: Instruction) -> Iterator[None]:
    """Add ``row`` to the catalogue for the length of a ``with`` block: how a row is tried out.

    Raises
    ------
    UsageError
        If the catalogue has a row of this name.
    """
    if row.ptx in _specs:
        raise UsageError(f"{row.ptx} is in the catalogue already")
    _specs[row.ptx] = lambda: row
    try:
        yield
    finally:
        del _specs[row.ptx]
        _built.pop(row.ptx, None)
