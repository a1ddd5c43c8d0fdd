"""Closed formulas of a fragment, both ways, read off its digits.

A digit of the lane or element number that moves along one axis is a link between the two: the digit
has a weight in the number and a step on the axis. Read one way the links of an axis give the
position, read the other way the links of a number give the holder:

    axis   = sum of step   * (number // weight % extent)
    number = sum of weight * (axis   // step   % extent)

The second line holds for every fragment that covers its operand evenly: position (0, 0) is reached
by the digits that do not move at all, so these are the copies; row 0 is reached by the digits that
do not move in row, so the others cover the rows once; likewise the columns. Hence no digit moves on
both axes, and the steps on an axis nest, which is what makes a step's quotient a digit again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Link:
    """One digit seen from both sides.

    Attributes
    ----------
    number : what the digit belongs to, "lane" or "i".
    weight : what one step of the digit adds to the number.
    axis : what the digit moves along, "row" or "k" or ...
    step : what one step of the digit adds on the axis.
    extent : number of values of the digit.
    """

    number: str
    weight: int
    axis: str
    step: int
    extent: int


def joined(links: Iterable[Link]) -> list[Link]:
    """Return the links with neighbours that continue each other made one, and idle ones dropped."""
    kept: list[Link] = []
    for link in links:
        if link.extent == 1 or link.step == 0:
            continue
        if kept and _continues(kept[-1], link):
            kept[-1] = replace(kept[-1], extent=kept[-1].extent * link.extent)
        else:
            kept.append(link)
    return kept


def _continues(low: Link, high: Link) -> bool:
    return (
        (low.number, low.axis) == (high.number, high.axis)
        and low.weight * low.extent == high.weight
        and low.step * low.extent == high.step
    )


def position(links: Sequence[Link], axis: str, sizes: dict[str, int]) -> str:
    """Return ``axis`` as a Python expression in the numbers. ``sizes`` bounds the numbers."""
    terms = [
        _term(link.number, link.weight, link.extent, sizes[link.number], link.step)
        for link in links
        if link.axis == axis
    ]
    return " + ".join(terms) or "0"


def holder(links: Sequence[Link], number: str, sizes: dict[str, int]) -> str:
    """Return ``number`` as a Python expression in the axes; the lowest where there are copies."""
    heaviest_first = sorted(links, key=lambda link: -link.weight)
    terms = [
        _term(link.axis, link.step, link.extent, sizes[link.axis], link.weight)
        for link in heaviest_first
        if link.number == number
    ]
    return " + ".join(terms) or "0"


def _term(variable: str, low: int, extent: int, size: int, factor: int) -> str:
    """Return ``factor * (variable // low % extent)`` without the parts that change nothing."""
    text = variable if low == 1 else f"{variable} // {low}"
    if low * extent != size:  # something stands above this digit and must be cut off
        text = f"{text} % {extent}"
    if factor == 1:
        return text
    return f"{factor} * {variable}" if text == variable else f"{factor} * ({text})"
