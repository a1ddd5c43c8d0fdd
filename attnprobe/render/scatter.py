"""Scatter plots as SVG that a page styles: points under and over a bound, on a logarithmic axis.

Colours come from the page's CSS (classes ``axis``, ``grid``, ``under``, ``over``, ``bound``,
``band``), so that they follow light and dark. Points over the bound are drawn as filled squares and
the others as rings: colour alone says nothing to who cannot see it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, isfinite, log10

Point = tuple[float, float]

_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 12, 40
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_LEAST = 1e-4  # shares below it are drawn at it


@dataclass(frozen=True)
class Axes:
    """What is written at a plot, and how large it is.

    Attributes
    ----------
    label : what the plot shows, for who cannot see it.
    x, y : what the axes are.
    width, height : pixels.
    bands : (first, last) stretches of x that are shaded: every second tile.
    names : where x is a number of something, the names of it.
    """

    label: str
    x: str
    y: str
    width: int = 520
    height: int = 260
    bands: tuple[tuple[float, float], ...] = ()
    names: tuple[str, ...] = ()


def scatter(points: Sequence[Point], axes: Axes, bound: float = 1.0) -> str:
    """Return the plot of ``points``; y is logarithmic, and a line stands at ``bound``."""
    drawn = [(x, max(y, _LEAST)) for x, y in points if isfinite(x) and isfinite(y)]
    scale = _Scale(drawn, axes, bound)
    parts = [
        f'<svg class="plot" viewBox="0 0 {axes.width} {scale.height}" role="img" '
        f'aria-label="{escape(axes.label)}">',
        *scale.bands(),
        *scale.grid(),
        f'<line class="bound" x1="{_LEFT}" x2="{axes.width - _RIGHT}" '
        f'y1="{scale.y(bound):.1f}" y2="{scale.y(bound):.1f}"/>',
        _rings(scale.place(p) for p in drawn if p[1] <= bound),
        _squares(scale.place(p) for p in drawn if p[1] > bound),
        "</svg>",
    ]
    return "\n".join(parts)


class _Scale:
    """From values to pixels."""

    def __init__(self, points: Sequence[Point], axes: Axes, bound: float) -> None:
        self.axes = axes
        self.height = axes.height + round(5.2 * max(map(len, axes.names), default=0))
        xs = [x for x, _ in points] or [0.0]
        ys = [y for _, y in points] or [bound]
        self.left, self.right = min(xs), max(xs)
        if axes.names:
            self.left, self.right = -0.5, len(axes.names) - 0.5
        if self.right == self.left:
            self.left, self.right = self.left - 1, self.right + 1
        self.low = floor(log10(min(*ys, bound / 10)))
        self.high = max(ceil(log10(max(*ys, bound * 2))), self.low + 1)

    def x(self, value: float) -> float:
        room = self.axes.width - _LEFT - _RIGHT - 12
        return _LEFT + 6 + room * (value - self.left) / (self.right - self.left)

    def y(self, value: float) -> float:
        room = self.axes.height - _TOP - _BOTTOM
        return _TOP + room * (self.high - log10(value)) / (self.high - self.low)

    def place(self, point: Point) -> Point:
        return self.x(point[0]), self.y(point[1])

    def bands(self) -> Iterable[str]:
        top, bottom = _TOP, self.axes.height - _BOTTOM
        for first, last in self.axes.bands:
            if first > self.right or last < self.left:
                continue
            x, end = self.x(max(first, self.left)), self.x(min(last, self.right))
            yield (
                f'<rect class="band" x="{x:.1f}" y="{top}" width="{end - x:.1f}" '
                f'height="{bottom - top}"/>'
            )

    def grid(self) -> Iterable[str]:
        axes, bottom = self.axes, self.axes.height - _BOTTOM
        step = max(1, ceil((self.high - self.low) / 6))
        for exponent in range(self.low, self.high + 1, step):
            y = self.y(10.0**exponent)
            text = f"{10**exponent:g}" if -3 <= exponent <= 3 else f"1e{exponent}"
            ends = f'x1="{_LEFT}" x2="{axes.width - _RIGHT}"'
            yield f'<line class="grid" {ends} y1="{y:.1f}" y2="{y:.1f}"/>'
            yield f'<text class="axis end" x="{_LEFT - 7}" y="{y + 3.5:.1f}">{text}</text>'
        if axes.names:
            for number, name in enumerate(axes.names):
                x = self.x(number)
                yield (
                    f'<text class="axis end" transform="translate({x + 3:.1f} {bottom + 12}) '
                    f'rotate(-55)">{escape(name)}</text>'
                )
        else:
            for value in _ticks(self.left, self.right):
                x = self.x(value)
                yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}"/>'
                yield f'<text class="axis" x="{x:.1f}" y="{bottom + 15}">{value:g}</text>'
        middle = (_LEFT + axes.width - _RIGHT) / 2
        yield f'<text class="axis" x="{middle:.0f}" y="{self.height - 6}">{escape(axes.x)}</text>'
        turned = f"translate(11 {(_TOP + bottom) / 2:.0f}) rotate(-90)"
        yield f'<text class="axis" transform="{turned}">{escape(axes.y)}</text>'


def _ticks(low: float, high: float) -> list[float]:
    """Return round values between ``low`` and ``high``, about six."""
    rough = (high - low) / 6
    power = 10.0 ** floor(log10(rough))
    step = next(power * each for each in _STEPS if power * each >= rough * 0.999)
    first = ceil(low / step)
    return [round(number * step, 10) for number in range(first, floor(high / step) + 1)]


def _rings(points: Iterable[Point]) -> str:
    body = "".join(f"M{x - 2:.1f} {y:.1f}a2 2 0 1 0 4 0a2 2 0 1 0 -4 0" for x, y in points)
    return f'<path class="under" d="{body}"/>' if body else ""


def _squares(points: Iterable[Point]) -> str:
    body = "".join(f"M{x - 2:.1f} {y - 2:.1f}h4v4h-4z" for x, y in points)
    return f'<path class="over" d="{body}"/>' if body else ""
