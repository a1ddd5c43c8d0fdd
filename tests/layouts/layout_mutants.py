"""Wrong layout rows that look right: they cover their operands once, with two digits exchanged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from attnprobe.layouts import Digit, Fragment, Instruction


def swapped(digits: tuple[Digit, ...]) -> Iterator[tuple[Digit, ...]]:
    """Yield the digits with each two of them exchanged that differ and that do move."""
    for high in range(len(digits)):
        for low in range(high):
            if digits[low] != digits[high] and 1 not in (digits[low].extent, digits[high].extent):
                other = list(digits)
                other[low], other[high] = other[high], other[low]
                yield tuple(other)


def mutants(fragment: Fragment) -> Iterator[Fragment]:
    """Yield the fragments that cover the operand too, but with two digits exchanged."""
    for lane in swapped(fragment.lane):
        yield replace(fragment, lane=lane)
    for elem in swapped(fragment.elem):
        yield replace(fragment, elem=elem)
    for i, low in enumerate(fragment.lane):
        for j, high in enumerate(fragment.elem):
            if low.extent == high.extent and low != high:
                lane = (*fragment.lane[:i], high, *fragment.lane[i + 1 :])
                elem = (*fragment.elem[:j], low, *fragment.elem[j + 1 :])
                yield replace(fragment, lane=lane, elem=elem)


def mutant_rows(row: Instruction) -> Iterator[Instruction]:
    """Yield the row with one operand's fragment replaced by each of its mutants."""
    for place, operand in enumerate(row.operands):
        for fragment in mutants(operand.fragment):
            changed = replace(operand, fragment=fragment)
            operands = (*row.operands[:place], changed, *row.operands[place + 1 :])
            yield replace(row, operands=operands)
