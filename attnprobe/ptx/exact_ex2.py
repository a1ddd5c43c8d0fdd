"""``ex2.approx.ftz.f32`` to the bit: a rule, and a table recorded from the hardware.

The argument becomes fixed point with 23 fraction bits, truncated; of a negative one the fraction is
complemented. The fraction chooses a value of [1, 2) from a table of 2**23; the whole part is added
to its exponent. The table is kept as what it differs by, in units in the last place, from correct
rounding: -1, 0 or 1.
"""

from __future__ import annotations

import lzma
from functools import cache
from math import isqrt
from pathlib import Path

import numpy as np
import numpy.typing as npt

from attnprobe import _paths
from attnprobe.arch import EMULATED_ARCH
from attnprobe.errors import UnsupportedError
from attnprobe.ptx.values import Array

FRACTION_BITS = 23
SIZE = 1 << FRACTION_BITS
FILE = "ex2.xz"

_HIGH_BITS, _LOW_BITS = 12, 11  # f = high * 2**11 + low
_PRECISION = 140  # fraction bits of the integers that the table is made from
_UNSURE = 16  # units of 2**-52: three roundings of float64 are less
_NAN = np.uint32(0x7FFFFFFF)
_ONE, _LEAST, _INFINITY = 0x3F800000, 0x00800000, 0x7F800000

_installed: dict[int, Array] = {}


def ex2_f32(x: Array) -> Array:
    """Return 2**x as the hardware gives it: float32; ``x`` has no subnormals."""
    fixed = fixed_point(x)
    whole = np.clip(fixed >> FRACTION_BITS, -300, 300)
    bits = table()[fixed & (SIZE - 1)] + (whole << FRACTION_BITS)
    bits = np.where(bits < _LEAST, 0, np.minimum(bits, _INFINITY)).astype(np.uint32)
    result: Array = np.where(np.isnan(x), _NAN, bits).view(np.float32)
    return result


def ex2_f32_subnormal(x: Array) -> Array:
    """Return 2**x without flushing: small arguments are halved and the result squared."""
    small = x < np.float32(-126)
    result = ex2_f32(np.where(small, x * np.float32(0.5), x))
    return np.where(small, result * result, result)


def fixed_point(x: Array) -> Array:
    """Return x * 2**23, truncated, as the table is looked up with: int64; 0 for NaN."""
    number = np.where(np.isnan(x), np.float32(0), x)
    steps = np.trunc(np.abs(number).astype(np.float64) * float(SIZE))
    fixed = np.minimum(steps, 2.0**40).astype(np.int64)
    negative = np.where(fixed & (SIZE - 1) == 0, -fixed, -fixed - 1)
    return np.where(x < 0, negative, fixed)


def table(cc: int = EMULATED_ARCH) -> Array:
    """Return the bits of the float32 that the hardware has for 2**(f / 2**23): int64, (2**23,).

    Raises
    ------
    UnsupportedError
        If no table of ``cc`` is recorded.
    """
    if cc not in _installed:
        install(differences(cc), cc)
    return _installed[cc]


def install(recorded: npt.NDArray[np.int8], cc: int = EMULATED_ARCH) -> None:
    """Take ``recorded``, the differences from correct rounding, as the table of ``cc``."""
    _installed[cc] = rounded().astype(np.int64) + recorded


def path(cc: int = EMULATED_ARCH) -> Path:
    """Return the file of the shipped table of ``cc``."""
    return _paths.data_dir("probes") / "recorded" / f"sm_{cc}" / "arithmetic" / FILE


def differences(cc: int = EMULATED_ARCH) -> npt.NDArray[np.int8]:
    """Return the recorded table of ``cc`` less correct rounding, in units in the last place.

    Raises
    ------
    UnsupportedError
        If none is recorded.
    """
    file = path(cc)
    if not file.is_file():
        raise UnsupportedError(
            f"exact mode needs the table of ex2.approx of sm_{cc}, and none is recorded; "
            "tools/record_arithmetic.py writes it on a GPU"
        )
    return unpack(file.read_bytes())


def pack(recorded: npt.NDArray[np.int8]) -> bytes:
    """Return differences as the bytes of a file: 0, 1, 2 for -1, 0, 1, compressed."""
    return lzma.compress((recorded + 1).astype(np.uint8).tobytes(), preset=9 | lzma.PRESET_EXTREME)


def unpack(data: bytes) -> npt.NDArray[np.int8]:
    """Return the differences that ``pack`` made ``data`` of."""
    return np.frombuffer(lzma.decompress(data), np.uint8).astype(np.int8) - np.int8(1)


@cache
def rounded() -> npt.NDArray[np.uint32]:
    """Return the bits of 2**(f / 2**23) rounded to nearest float32, for f = 0 ... 2**23 - 1.

    Each is a product of two float64 from tables that integers of 140 bits made; the few that come
    near the middle between two float32 are decided by the integers themselves.
    """
    high = _powers(_HIGH_BITS, 1 << _HIGH_BITS)
    low = _powers(FRACTION_BITS, 1 << _LOW_BITS)
    one = 1 << _PRECISION
    products = np.multiply.outer([x / one for x in high], [x / one for x in low]).reshape(-1)
    bits = products.astype(np.float32).view(np.uint32)
    rest = products.view(np.int64) & (1 << 29) - 1
    for f in np.flatnonzero(np.abs(rest - (1 << 28)) <= _UNSURE).tolist():
        exact = high[f >> _LOW_BITS] * low[f & (1 << _LOW_BITS) - 1]
        bits[f] = _ONE + _nearest(exact - (one << _PRECISION), 2 * _PRECISION - FRACTION_BITS)
    bits.setflags(write=False)
    return bits


def _powers(halvings: int, count: int) -> list[int]:
    """Return r**0 ... r**(count - 1) for r = 2**(1 / 2**halvings), times 2**140."""
    root = 2 << _PRECISION
    for _ in range(halvings):
        root = isqrt(root << _PRECISION)
    powers = [1 << _PRECISION]
    while len(powers) < count:
        powers.append(powers[-1] * root >> _PRECISION)
    return powers


def _nearest(exact: int, places: int) -> int:
    """Return exact / 2**places to the nearest integer, if it is more than 2**-60 off the middle."""
    whole, rest = exact >> places, exact & (1 << places) - 1
    distance = rest - (1 << places - 1)
    assert abs(distance) > 1 << places - 60, "the integers are too short to decide"
    return whole + (distance > 0)
