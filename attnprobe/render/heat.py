"""Shares of a bound as colours: a map of a whole head as a PNG, a fragment lane by lane as SVG."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from attnprobe.layouts.catalogue import find
from attnprobe.layouts.lookup import operand
from attnprobe.numerics.place import ACCUMULATOR
from attnprobe.render import palette
from attnprobe.render.picture import picture, short_slot

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_LEVELS = 256
_WIDE, _HIGH, _LEFT, _TOP = 58, 30, 52, 34  # of the fragment's cells, its margins


def colour(level: int) -> str:
    """Return the colour of a level above the bound, 1 to 255, readable on white and on black."""
    far = min(1.0, level / 160)
    return palette.srgb(0.82 - 0.26 * far, 0.13 + 0.08 * far, 85 - 65 * far)


def level(share: float) -> int:
    """Return the level of a share: 0 within the bound; ``explain.levels`` has the same scale."""
    from math import log10

    from attnprobe.rig.explain import LEVELS_PER_DECADE

    return 0 if share <= 1 else min(255, int(1 + LEVELS_PER_DECADE * log10(share)))


def png(levels: npt.NDArray[np.uint8]) -> bytes:
    """Return levels as a PNG with a palette; what is within the bound is transparent."""
    height, width = levels.shape
    rows = b"".join(b"\0" + levels[row].tobytes() for row in range(height))
    colours = b"".join(bytes.fromhex(colour(number)[1:]) for number in range(_LEVELS))
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", colours),
        (b"tRNS", b"\0" + b"\xff" * (_LEVELS - 1)),
        (b"IDAT", zlib.compress(rows, 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def map_image(levels: npt.NDArray[np.uint8], label: str, step: Sequence[int]) -> str:
    """Return the map as an image element: queries go down, columns go right."""
    height, width = levels.shape
    data = base64.b64encode(png(levels)).decode()
    scale = max(1, min(7, 450 // max(height, 1), 450 // max(width, 1)))
    pooled = "" if tuple(step) == (1, 1) else f", the worst of each {step[0]} × {step[1]}"
    return (
        f'<img class="map" alt="{escape(label + pooled)}" width="{width * scale}" '
        f'height="{height * scale}" src="data:image/png;base64,{data}">'
    )


def fragment(found: dict[str, Any], worst: tuple[int, int]) -> str:
    """Return the picture of one 16 x 8 accumulator: who holds each element, and its share.

    Parameters
    ----------
    found : "fragment" of a diagnosis.
    worst : query and column of the worst element, which is framed.
    """
    row = find(ACCUMULATOR)
    (panel,) = picture(row, (operand(row, "D"),)).panels
    (grid,) = panel.grids
    first, column = found["first_query"], found["first_column"]
    body, frame = [], ""
    for col in range(len(grid.rows[0])):
        x = _LEFT + (col + 0.5) * _WIDE
        body.append(f'<text class="axis" x="{x:g}" y="{_TOP - 8}">d {column + col}</text>')
    for line, cells in enumerate(grid.rows):
        y = _TOP + line * _HIGH
        body.append(f'<text class="axis end" x="{_LEFT - 7}" y="{y + 19}">q {first + line}</text>')
        for cell in cells:
            share = found["share"][line][cell.col]
            who = (cell.lane, short_slot(panel.operand, cell.holders[0][1]))
            x = _LEFT + cell.col * _WIDE
            body.append(_cell(x, y, who, share))
            if (first + line, column + cell.col) == worst:
                frame = f'<rect class="frame" x="{x}" y="{y}" width="{_WIDE}" height="{_HIGH}"/>'
    width, height = _LEFT + 8 * _WIDE + 4, _TOP + 16 * _HIGH + 4
    return (
        f'<svg class="fragment" viewBox="0 0 {width} {height}" width="{width}" role="img" '
        f'aria-label="error of one accumulator fragment, lane by lane">{"".join(body)}{frame}</svg>'
    )


def _cell(x: float, y: float, who: tuple[int, str], share: float | None) -> str:
    lane, slot = who
    said = "not judged" if share is None else f"{share:.3g} of its bound"
    number = 0 if share is None else level(share)
    fill = f' style="fill:{colour(number)}"' if number else ""
    text = "" if share is None else _digits(share)
    return (
        f'<g class="{"cell hot" if number else "cell"}">'
        f"<title>lane {lane}, register {slot}: {said}</title>"
        f'<rect x="{x}" y="{y}" width="{_WIDE}" height="{_HIGH}"{fill}/>'
        f'<text class="who" x="{x + 5}" y="{y + 12}">{lane}:{slot}</text>'
        f'<text class="share" x="{x + _WIDE - 5}" y="{y + 25}">{text}</text></g>'
    )


def _digits(share: float) -> str:
    if share >= 1e5:
        return "inf" if share >= 1e9 else f"{share:.0e}".replace("e+0", "e")
    return f"{share:.0f}" if share >= 100 else f"{share:.2g}"
