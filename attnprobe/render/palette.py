"""The colours of the pictures: a hue for each quad of lanes, a tint for each lane of the quad.

Colours are chosen in OKLCH, where equal steps look equal, and written as sRGB, which every viewer
knows. Nothing is told by colour alone: every cell names its lane.
"""

from __future__ import annotations

from functools import cache
from math import cos, radians, sin

QUADS, MEMBERS = 8, 4
_HUES = (25, 62, 100, 148, 195, 240, 290, 338)
# Lightness and chroma of the first lane of a quad, and their steps to the next.
_TINTS = {"light": (0.945, -0.036, 0.038, 0.017), "dark": (0.315, 0.042, 0.045, 0.011)}


def shade(lane: int) -> tuple[int, int]:
    """Return (quad, member) of a lane: which hue and which tint it has."""
    return lane // MEMBERS % QUADS, lane % MEMBERS


@cache
def colour(quad: int, member: int, theme: str) -> str:
    """Return the background of a lane's cells, ``#rrggbb``, in "light" or "dark"."""
    lightness, lighter, chroma, stronger = _TINTS[theme]
    return srgb(lightness + lighter * member, chroma + stronger * member, _HUES[quad])


def srgb(lightness: float, chroma: float, hue: float) -> str:
    """Return an OKLCH colour as ``#rrggbb``, clipped to what sRGB can show.

    Source: Bjorn Ottosson, "A perceptual color space for image processing" (OKLab).
    """
    a, b = chroma * cos(radians(hue)), chroma * sin(radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )
    return "#" + "".join(f"{_encoded(each):02x}" for each in linear)


def _encoded(linear: float) -> int:
    clipped = min(max(linear, 0.0), 1.0)
    curve = 12.92 * clipped if clipped <= 0.0031308 else 1.055 * clipped ** (1 / 2.4) - 0.055
    return round(255 * curve)
