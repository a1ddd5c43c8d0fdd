"""Closed formulas for a table of numbers: sums of digits where there are any, else choices by bit.

The texts are C++ and, but for the division sign and the choice, Python: ``lane / 4 % 2``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attnprobe.layouts import formula


def digits(values: Sequence[int], number: str) -> str | None:
    """Return ``values[number]`` as a sum of digits of ``number``, or None if it is none.

    ``values`` has an entry for each value of the number; their count must be a power of two.
    """
    links = _links(values, number)
    if links is None:
        return None
    sizes = {number: len(values), "value": max(values) + 1}
    text = formula.position(formula.joined(links), "value", sizes)
    if values[0]:
        text = str(values[0]) if text == "0" else f"{text} + {values[0]}"
    return text


def _links(values: Sequence[int], number: str) -> list[formula.Link] | None:
    """Return one link for each bit of the number, if the bits add up to every value."""
    bits = (len(values) - 1).bit_length()
    if len(values) != 1 << bits:
        return None
    steps = [values[1 << bit] - values[0] for bit in range(bits)]
    if any(step < 0 for step in steps):
        return None
    for index, value in enumerate(values):
        if value != values[0] + sum(step for bit, step in enumerate(steps) if index >> bit & 1):
            return None
    return [formula.Link(number, 1 << bit, "value", step, 2) for bit, step in enumerate(steps)]


def completed(known: Mapping[int, int], count: int) -> tuple[int, ...] | None:
    """Return ``count`` values, a sum of digits, that agree with ``known``; None if none do."""
    first = min(known)
    steps = {}
    for bit in range((count - 1).bit_length()):
        pairs = [number for number in known if not number >> bit & 1 and number | 1 << bit in known]
        steps[bit] = known[pairs[0] | 1 << bit] - known[pairs[0]] if pairs else 0
    base = known[first] - sum(step for bit, step in steps.items() if first >> bit & 1)
    values = tuple(
        base + sum(step for bit, step in steps.items() if number >> bit & 1)
        for number in range(count)
    )
    agrees = all(values[number] == value for number, value in known.items())
    return values if agrees and min(values) >= 0 else None


def extended(known: Mapping[int, int], count: int) -> tuple[int, ...]:
    """Return ``count`` numbers, all below ``count``, that agree with ``known``.

    A sum of digits where one fits; else the other numbers are themselves.
    """
    values = completed(known, count)
    if values is not None and max(values) < count:
        return values
    return tuple(known.get(number, number) for number in range(count))


def in_c(text: str) -> str:
    """Return a formula as C++ writes it, for numbers that are not negative."""
    return text.replace("//", "/")


def in_cpp(values: Sequence[int], number: str, *, hexadecimal: bool = False) -> str:
    """Return ``values[number]`` in C++: a sum of digits, else a choice by bits."""
    if len(set(values)) == 1:
        return hex(values[0]) if hexadecimal else str(values[0])
    text = None if hexadecimal else digits(values, number)
    if text is not None:
        return in_c(text)
    return _choice(values, number, hexadecimal)


def _choice(values: Sequence[int], number: str, hexadecimal: bool) -> str:
    """Return a tree of ``?:`` that asks for as few bits as it can, the lowest first."""
    if len(set(values)) == 1:
        return hex(values[0]) if hexadecimal else str(values[0])
    bits = (len(values) - 1).bit_length()
    telling = [bit for bit in range(bits) if len({*map(tuple, _halves(values, bit))}) == 2]
    best = min(telling, key=lambda bit: _untidy(values, bit))
    unset, is_set = _halves(values, best)
    mask = 1 << best
    high, low = (_choice(half, number, hexadecimal) for half in (is_set, unset))
    return f"({number} & {mask} ? {high} : {low})"


def _halves(values: Sequence[int], bit: int) -> tuple[list[int], list[int]]:
    """Return the values as they are where ``bit`` is 0 and where it is 1, each for every number."""
    indices = range(len(values))
    without = [values[index & ~(1 << bit)] for index in indices]
    return without, [values[index | 1 << bit] for index in indices]


def _untidy(values: Sequence[int], bit: int) -> int:
    return sum(len(set(half)) for half in _halves(values, bit))
