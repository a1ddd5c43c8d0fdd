"""Random tiles for products, the same on every machine: regimes of exponents and of integers.

A regime fills raw A, B and C of many tiles. Nothing but integer operations and single IEEE float64
operations in a fixed order is used, so a seed stands for the tiles on any machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.formats import Format
from attnprobe.layouts import Instruction

Array = npt.NDArray[Any]
Tiles = tuple[Array, Array, Array]

# format -> (exponent bits, mantissa bits, ignored low bits)
_FLOATS = {
    "f16": (5, 10, 0),
    "bf16": (8, 7, 0),
    "tf32": (8, 10, 13),
    "f32": (8, 23, 0),
    "e4m3": (4, 3, 0),
    "e5m2": (5, 2, 0),
    "f64": (11, 52, 0),
}


class Words:
    """A stream of random 64-bit words that depends on its label alone.

    Source: the finalizer of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number
    generators", 2014), applied to a counter.
    """

    def __init__(self, label: str) -> None:
        self._next = int.from_bytes(hashlib.sha256(label.encode()).digest()[:8], "little")

    def take(self, shape: tuple[int, ...]) -> npt.NDArray[np.uint64]:
        """Return the next words."""
        count = int(np.prod(shape))
        start = np.uint64(self._next)
        self._next = (self._next + count) % 2**64
        with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is meant
            z = (start + np.arange(count, dtype=np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            return (z ^ (z >> np.uint64(31))).reshape(shape)


@dataclass(frozen=True)
class Place:
    """Bits of a float format in one matrix: how to build numbers there."""

    form: Format

    @property
    def _layout(self) -> tuple[int, int, int]:
        return _FLOATS[self.form.ptx]

    @property
    def bias(self) -> int:
        """Exponent bias."""
        return int(2 ** (self._layout[0] - 1)) - 1

    @property
    def greatest(self) -> int:
        """Greatest exponent field of finite numbers that have any mantissa."""
        exponent_bits = self._layout[0]
        return int(2**exponent_bits) - 2

    def number(self, words: Array, fields: Array) -> Array:
        """Return raw numbers of random sign and mantissa with the given exponent fields."""
        exponent_bits, mantissa_bits, ignored = self._layout
        low = words & np.uint64(2 ** (mantissa_bits + ignored) - 1)
        sign = words >> np.uint64(63) << np.uint64(exponent_bits + mantissa_bits + ignored)
        field = fields.astype(np.uint64) << np.uint64(mantissa_bits + ignored)
        raw: Array = (sign | field | low).astype(self.form.storage)
        return raw

    def between(self, words: Array, low: int, high: int) -> Array:
        """Return exponent fields for exponents from ``low`` to ``high``, as far as there are."""
        chosen = _below(words, high - low + 1) + low + self.bias
        fields: Array = np.clip(chosen, 1, self.greatest)
        return fields

    def special(self, words: Array) -> Array:
        """Return infinities, NaN, zeros of either sign, greatest and least numbers."""
        exponent_bits, mantissa_bits, ignored = self._layout
        top = ((1 << exponent_bits) - 1) << mantissa_bits
        if self.form.ptx == "e4m3":
            kinds = [0x7F, 0, 0x7E, 1]
        else:
            kinds = [top, top | 1, top | 1 << (mantissa_bits - 1), 0, top - 1, 1, 0]
        table = np.array([kind << ignored for kind in kinds], np.uint64)
        sign = words >> np.uint64(63) << np.uint64(exponent_bits + mantissa_bits + ignored)
        return (table[_below(words, len(kinds))] | sign).astype(self.form.storage)

    def turned(self, raw: Array, words: Array) -> Array:
        """Return numbers of the other sign, every second one with its lowest bit turned."""
        exponent_bits, mantissa_bits, ignored = self._layout
        sign = 1 << (exponent_bits + mantissa_bits + ignored)
        low = (words >> np.uint64(40) & np.uint64(1)) << np.uint64(ignored)
        return (raw.astype(np.uint64) ^ np.uint64(sign) ^ low).astype(self.form.storage)


def _below(words: Array, count: int) -> Array:
    """Return int64 numbers 0 ... count - 1 from bits of ``words`` that mantissas do not use."""
    return ((words >> np.uint64(53) & np.uint64(0x3FF)) * np.uint64(count) >> np.uint64(10)).astype(
        np.int64
    )


Regime = Callable[[Instruction, Words, int], Tiles]
FLOAT_REGIMES: dict[str, Regime] = {}
INTEGER_REGIMES: dict[str, Regime] = {}


def _regime(table: dict[str, Regime]) -> Callable[[Regime], Regime]:
    def register(function: Regime) -> Regime:
        table[function.__name__] = function
        return function

    return register


def regimes(row: Instruction) -> dict[str, Regime]:
    """Return the regimes that fit the row's formats, by name."""
    return INTEGER_REGIMES if row["D"].format.ptx == "s32" else FLOAT_REGIMES


def make(row: Instruction, regime: str, chunk: int, count: int) -> Tiles:
    """Return raw A, B, C of ``count`` tiles: (tiles, rows, cols) each, in storage dtypes."""
    label = f"{row.ptx}|{regime}|{chunk}"
    return regimes(row)[regime](row, Words(label), count)


def _shapes(row: Instruction, count: int) -> list[tuple[Place, tuple[int, int, int]]]:
    return [
        (Place(row[name].format), (count, row[name].fragment.rows, row[name].fragment.cols))
        for name in "ABC"
    ]


def _spread(row: Instruction, words: Words, count: int, low: int, high: int) -> Tiles:
    a, b, c = (
        place.number(words.take(shape), place.between(words.take(shape), low, high))
        for place, shape in _shapes(row, count)
    )
    return a, b, c


@_regime(FLOAT_REGIMES)
def narrow(row: Instruction, words: Words, count: int) -> Tiles:
    """Exponents -1 ... 1."""
    return _spread(row, words, count, -1, 1)


@_regime(FLOAT_REGIMES)
def wide(row: Instruction, words: Words, count: int) -> Tiles:
    """Exponents -12 ... 8."""
    return _spread(row, words, count, -12, 8)


@_regime(FLOAT_REGIMES)
def very_wide(row: Instruction, words: Words, count: int) -> Tiles:
    """Every finite exponent of the format, subnormals among them."""
    a, b, c = (
        place.number(words.take(shape), _below(words.take(shape), place.greatest + 1))
        for place, shape in _shapes(row, count)
    )
    return a, b, c


@_regime(FLOAT_REGIMES)
def cancellation(row: Instruction, words: Words, count: int) -> Tiles:
    """Products in pairs that nearly cancel; in every second tile, C nearly cancels their sum."""
    a, b, c = _spread(row, words, count, -6, 6)
    place_a, place_c = Place(row["A"].format), Place(row["C"].format)
    a[:, :, 1::2] = place_a.turned(a[:, :, ::2], words.take(a[:, :, ::2].shape))
    b[:, 1::2] = b[:, ::2]
    total = _sum(row, a[1::2], b[1::2])
    c[1::2] = place_c.turned(
        place_c.form.encode(total).reshape(total.shape), words.take(total.shape)
    )
    return a, b, c


def _sum(row: Instruction, a: Array, b: Array) -> Array:
    """Return A B in float64, added in the order of k."""
    left, right = row["A"].format.decode(a), row["B"].format.decode(b)
    total = np.zeros((len(a), a.shape[1], b.shape[2]))
    for k in range(a.shape[2]):
        total = total + left[:, :, k, None] * right[:, None, k]
    return total


@_regime(FLOAT_REGIMES)
def subnormals(row: Instruction, words: Words, count: int) -> Tiles:
    """A and C subnormal, or just above, B from 2**-12 to 2**4; some of C at the size of A B."""
    (place_a, shape_a), (place_b, shape_b), (place_c, shape_c) = _shapes(row, count)
    a = place_a.number(words.take(shape_a), np.maximum(_below(words.take(shape_a), 8) - 3, 0))
    b = place_b.number(words.take(shape_b), place_b.between(words.take(shape_b), -12, 4))
    chosen = words.take(shape_c)
    tiny = np.maximum(_below(chosen, 16) - 7, 0)
    size = place_c.between(words.take(shape_c), -place_a.bias - 14, 4 - place_a.bias)
    fields = np.where(chosen & np.uint64(1), tiny, size)
    return a, b, place_c.number(words.take(shape_c), fields)


@_regime(FLOAT_REGIMES)
def specials(row: Instruction, words: Words, count: int) -> Tiles:
    """Every finite exponent; one number in 32 infinite, NaN, a zero or at an end of the range."""
    made = []
    for raw, (place, shape) in zip(very_wide(row, words, count), _shapes(row, count), strict=True):
        rare = words.take(shape) % np.uint64(32) == 0
        made.append(np.where(rare, place.special(words.take(shape)), raw))
    return made[0], made[1], made[2]


def _integers(row: Instruction, words: Words, count: int) -> Tiles:
    a, b, c = (_bits(place.form, words, shape) for place, shape in _shapes(row, count))
    return a, b, c


def _bits(form: Format, words: Words, shape: tuple[int, ...]) -> Array:
    """Return random integers of a format, cut out of as few words as there need be."""
    size = int(np.prod(shape))
    raw = words.take((-(-size * form.bits // 64),)).astype("<u8").view(np.uint8)
    if form.bits == 1:
        return np.unpackbits(raw)[:size].reshape(shape)
    if form.bits == 4:
        return (
            np.stack([raw & np.uint8(15), raw >> np.uint8(4)], axis=1)
            .reshape(-1)[:size]
            .reshape(shape)
        )
    return raw.view(form.storage)[:size].reshape(shape)


@_regime(INTEGER_REGIMES)
def uniform(row: Instruction, words: Words, count: int) -> Tiles:
    """Every bit random."""
    return _integers(row, words, count)


@_regime(INTEGER_REGIMES)
def extremes(row: Instruction, words: Words, count: int) -> Tiles:
    """A and B from the ends of their range, C any."""
    a, b, c = _integers(row, words, count)
    return _ends(row["A"].format, a), _ends(row["B"].format, b), c


def _ends(form: Format, raw: Array) -> Array:
    """Return the ends of the range, 0, and -1 or the greatest, by the low bits of ``raw``."""
    top = 2**form.bits - 1
    table = np.array([0, top, (top + 1) // 2, top // 2], form.storage)
    ends: Array = table[raw & (1 if form.bits == 1 else 3)]
    return ends


@_regime(INTEGER_REGIMES)
def limits(row: Instruction, words: Words, count: int) -> Tiles:
    """C within 2**16 of an end of s32, where sums wrap or stop."""
    a, b, c = extremes(row, words, count)
    near = c & np.uint32(0xFFFF)
    ends = np.where(
        c >> np.uint32(31) != 0, np.uint32(0x80000000) + near, np.uint32(0x7FFFFFFF) - near
    )
    return a, b, ends
