"""Fills: what the lanes' registers of one operand hold, as blocks of one launch.

A fill is a function from (instruction, operand) to registers: uint32, shape (blocks, words,
lanes). Most number the register slots and never look at the row's fragment, so that a dump made
with them is evidence for or against any row; the ones that need the row say so. Values are integers
that the operand's format holds exactly, or come from integer arithmetic: the same bits everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.errors import UsageError
from attnprobe.formats import Format
from attnprobe.layouts import Instruction, Operand
from attnprobe.probing import registers

Array = npt.NDArray[Any]
Fill = Callable[[Instruction, Operand], Array]
Fits = Callable[[Instruction, Operand], bool]

FILLS: dict[str, Fill] = {}
RAW: dict[str, Fill] = {}  # these return raw slots
FITS: dict[str, Fits] = {}
RANDOM_BLOCKS = 2  # of each operand; every block of one meets every block of the others
MOST_BLOCKS = 1024  # of a launch with one_hot; larger products are asked with planes


def fill(name: str, fits: Fits | None = None) -> Callable[[Fill], Fill]:
    """Register a function that returns *values* (blocks, lanes, elements) as the fill ``name``.

    ``fits`` says for which operands the fill can be made and means what it says.
    """

    def register(function: Fill) -> Fill:
        FILLS[name] = function
        if fits is not None:
            FITS[name] = fits
        return function

    return register


def raw(name: str) -> Callable[[Fill], Fill]:
    """Register a function that returns raw slots (blocks, lanes, elements) as the fill ``name``."""

    def register(function: Fill) -> Fill:
        RAW[name] = function
        return function

    return register


def fits(name: str, row: Instruction, operand: Operand) -> bool:
    """Return whether fill ``name`` can be made for ``operand``."""
    return name not in FITS or FITS[name](row, operand)


def build(name: str, row: Instruction, operand: Operand) -> registers.Registers:
    """Return fill ``name`` of ``operand``: uint32, (blocks, words, lanes).

    Raises
    ------
    UsageError
        For a fill that does not exist.
    """
    if name in RAW:
        return registers.pack(RAW[name](row, operand), operand.format)
    if name not in FILLS:
        known = ", ".join(sorted({*FILLS, *RAW}))
        raise UsageError(f"no fill {name!r}; there are {known}")
    values = FILLS[name](row, operand)
    return registers.pack(operand.format.encode(values), operand.format)


@cache
def exact_integers(form: Format) -> int:
    """Return the largest n such that ``form`` holds every integer 0 ... n exactly.

    Of the unsigned types half of that, what the signed ones hold: so both are given the same bits.
    """
    if form.kind == "float":
        return _exact_in_float(form)
    return int(2 ** (form.bits - 1) - 1) if form.bits > 1 else 1


def _exact_in_float(form: Format) -> int:
    for bits in range(1, 53):
        probe = np.array([2.0**bits + 1])
        if form.decode(form.encode(probe))[0] != probe[0]:
            return int(2**bits)
    return 2**52


def tag_base(row: Instruction, operand: Operand) -> int:
    """Return how many tags 1 ... base both ``operand`` and the result hold exactly."""
    return min(exact_integers(operand.format), exact_integers(row["D"].format))


def tag_passes(row: Instruction, operand: Operand) -> int:
    """Return how many digits of base ``tag_base`` number all slots of ``operand``."""
    base, passes = tag_base(row, operand), 1
    while base**passes < registers.slots(operand):
        passes += 1
    return passes


def read_tags(row: Instruction, operand: Operand, values: Array) -> npt.NDArray[np.int64]:
    """Return the slots that tag ``values`` (passes, ...) name: int64; -1 for 0, -2 for no tag."""
    base = tag_base(row, operand)
    number = np.zeros(values.shape[1:], np.int64)
    readable = np.ones(values.shape[1:], bool)
    for digit in reversed(range(values.shape[0])):
        value = np.nan_to_num(values[digit], nan=-1.0)
        readable &= (value >= 1) & (value <= base) & (value == np.floor(value))
        number = number * base + np.where(readable, value, 1).astype(np.int64) - 1
    readable &= number < registers.slots(operand)
    empty = (values == 0).all(axis=0)
    return np.where(empty, -1, np.where(readable, number, -2))


def _shape(operand: Operand) -> tuple[int, int]:
    return operand.fragment.lanes, operand.fragment.elements


@fill("zeros")
def zeros(row: Instruction, operand: Operand) -> Array:
    """0 everywhere."""
    return np.zeros((1, *_shape(operand)))


@fill("ones")
def ones(row: Instruction, operand: Operand) -> Array:
    """1 everywhere."""
    return np.ones((1, *_shape(operand)))


def _has_tags(row: Instruction, operand: Operand) -> bool:
    return tag_base(row, operand) > 1


@fill("tags", _has_tags)
def tags(row: Instruction, operand: Operand) -> Array:
    """The number of each slot from 1 on; a block for each digit where one value cannot hold it."""
    base, passes = tag_base(row, operand), tag_passes(row, operand)
    number = np.arange(registers.slots(operand)).reshape(_shape(operand))
    return np.stack([number // base**digit % base + 1.0 for digit in range(passes)])


def is_popc(row: Instruction) -> bool:
    """Return whether a product counts equal or differing bits rather than multiplies."""
    return row.mnemonic.endswith(".popc")


def few_enough(row: Instruction) -> bool:
    """Return whether each slot of B can have a block of its own for each digit of A's tags."""
    if is_popc(row) or row.sparsity is not None or not _has_tags(row, row["A"]):
        return False
    return registers.slots(row["B"]) * tag_passes(row, row["A"]) <= MOST_BLOCKS


@fill("one_hot", lambda row, operand: few_enough(row))
def one_hot(row: Instruction, operand: Operand) -> Array:
    """1 in one slot and 0 elsewhere: a block for each slot, in order."""
    count = registers.slots(operand)
    return np.eye(count).reshape(count, *_shape(operand))


@fill("planes", lambda row, operand: not few_enough(row))
def planes(row: Instruction, operand: Operand) -> Array:
    """1 everywhere, then a block for each bit of the slots' numbers: that bit."""
    number = np.arange(registers.slots(operand)).reshape(_shape(operand))
    bits = range(int(number.max()).bit_length())
    return np.stack([np.ones(_shape(operand)), *(number >> bit & 1 for bit in bits)])


def _holds_rows(row: Instruction, operand: Operand) -> bool:
    return exact_integers(operand.format) >= operand.fragment.rows - 1


def _holds_cols(row: Instruction, operand: Operand) -> bool:
    return exact_integers(operand.format) >= operand.fragment.cols - 1


@fill("rows", _holds_rows)
def rows(row: Instruction, operand: Operand) -> Array:
    """The row number that the layout row gives each slot."""
    return operand.fragment.coords()[None, ..., 0].astype(np.float64)


@fill("cols", _holds_cols)
def cols(row: Instruction, operand: Operand) -> Array:
    """The column number that the layout row gives each slot."""
    return operand.fragment.coords()[None, ..., 1].astype(np.float64)


@fill("selector")
def selector(row: Instruction, operand: Operand) -> Array:
    """1 where k = other + j * size, block j for each stretch of k: shows the other operand in D.

    For B (k x n) block j takes columns j * n ... of A; by the layout row.
    """
    k_axis = operand.axes.index("k")
    coords = operand.fragment.coords()
    other_size = (operand.fragment.rows, operand.fragment.cols)[1 - k_axis]
    k_size = (operand.fragment.rows, operand.fragment.cols)[k_axis]
    blocks = np.arange(-(-k_size // other_size))[:, None, None]
    chosen = coords[..., k_axis] == coords[..., 1 - k_axis] + blocks * other_size
    selected: Array = chosen.astype(np.float64)
    return selected


@fill("integers")
def integers(row: Instruction, operand: Operand) -> Array:
    """Random integers 1 ... 4, of either sign where there are signs; of one bit 0 and 1."""
    words = random_words(operand.name, RANDOM_BLOCKS * registers.slots(operand))
    signs = np.where(words & np.uint64(1), 1.0, -1.0)
    if operand.format.bits == 1:
        return (signs > 0).astype(np.float64).reshape(RANDOM_BLOCKS, *_shape(operand))
    magnitude = (words >> np.uint64(8)) % np.uint64(4) + np.uint64(1)
    values = (signs if operand.format.signed else 1.0) * magnitude.astype(np.float64)
    return values.reshape(RANDOM_BLOCKS, *_shape(operand))


@fill("one_block")
def one_block(row: Instruction, operand: Operand) -> Array:
    """The first block of the random integers alone."""
    return integers(row, operand)[:1]


def _is_integer(row: Instruction, operand: Operand) -> bool:
    return operand.format.is_integer


@fill("whole_range", _is_integer)
def whole_range(row: Instruction, operand: Operand) -> Array:
    """Random integers of the whole range of the format; of 32 bits a 256th of it."""
    words = random_words(f"{operand.name} all", RANDOM_BLOCKS * registers.slots(operand))
    low, high = operand.format.limits
    low, high = (low // 256, high // 256) if operand.format.bits == 32 else (low, high)
    values = low + (words >> np.uint64(11)).astype(np.float64) % (high - low + 1.0)
    return values.reshape(RANDOM_BLOCKS, *_shape(operand))


@fill("integer_ones", _is_integer)
def integer_ones(row: Instruction, operand: Operand) -> Array:
    """1 everywhere, in an integer format."""
    return ones(row, operand)


@fill("almost_full", _is_integer)
def almost_full(row: Instruction, operand: Operand) -> Array:
    """The largest integer less a random one below 256: a sum goes beyond, or does not."""
    words = random_words(f"{operand.name} full", registers.slots(operand))
    below = (words >> np.uint64(11)) % np.uint64(256)
    values = operand.format.limits[1] - below.astype(np.float64)
    return values.reshape(1, *_shape(operand))


def _is_narrow_float(row: Instruction, operand: Operand) -> bool:
    return operand.format.kind == "float" and operand.format.bits < 64


@fill("outliers", _is_narrow_float)
def outliers(row: Instruction, operand: Operand) -> Array:
    """Bell-shaped values (the sum of twelve uniform ones, less 6), one in 32 of them times 64."""
    count = RANDOM_BLOCKS * registers.slots(operand)
    words = random_words(operand.name, 13 * count).reshape(13, count)
    uniform = (words[:12] >> np.uint64(40)).astype(np.float64) / 2.0**24  # exact in float64
    values = uniform.sum(axis=0) - 6.0
    rare = words[12] % np.uint64(32) == 0
    result: Array = np.where(rare, 64.0 * values, values)
    return result.reshape(RANDOM_BLOCKS, *_shape(operand))


# --- Sparsity metadata ----------------------------------------------------------------------------

# Nibbles that mean something for every format: two indices of 2 bits, or one of 4 (tf32).
FIRST, LAST, SPREAD = 0x4, 0xE, 0xC  # indices 0 and 1 (tf32: 0), 2 and 3 (tf32: 1), 0 and 3


def _nibbles(operand: Operand, values: Array) -> Array:
    """Return nibbles (blocks, lanes, nibbles) as raw slots (blocks, lanes, elements)."""
    per = 4 // operand.format.bits
    mask = 2**operand.format.bits - 1
    parts = values[..., None] >> (operand.format.bits * np.arange(per)) & mask
    slots: Array = parts.reshape(*values.shape[:-1], -1).astype(np.uint8)
    return slots


def _uniform(operand: Operand, value: int) -> Array:
    lanes, elements = _shape(operand)
    return np.full((1, lanes, elements * operand.format.bits // 4), value)


def one_changed(operand: Operand, base: int, other: int) -> Array:
    """Return raw slots: ``base`` in every nibble, then a block for each with ``other`` there."""
    start = _uniform(operand, base)
    blocks = np.repeat(start, start.size + 1, axis=0).reshape(start.size + 1, -1)
    blocks[np.arange(start.size) + 1, np.arange(start.size)] = other
    return _nibbles(operand, blocks.reshape(-1, *start.shape[1:]))


@raw("first_places")
def first_places(row: Instruction, operand: Operand) -> Array:
    """Each group of A has its elements in the first places."""
    return _nibbles(operand, _uniform(operand, FIRST))


@raw("last_places")
def last_places(row: Instruction, operand: Operand) -> Array:
    """Each group of A has its elements in the last places."""
    return _nibbles(operand, _uniform(operand, LAST))


@raw("one_later")
def one_later(row: Instruction, operand: Operand) -> Array:
    """The first places; in each block but the first one nibble has its last index the last."""
    return one_changed(operand, FIRST, SPREAD if operand.format.bits == 2 else LAST)


@raw("one_earlier")
def one_earlier(row: Instruction, operand: Operand) -> Array:
    """The last places; in each block but the first one nibble has its first index the first."""
    return one_changed(operand, LAST, SPREAD if operand.format.bits == 2 else FIRST)


@raw("random_places")
def random_places(row: Instruction, operand: Operand) -> Array:
    """A random legal nibble in each place: indices that increase."""
    legal = [0x4, 0x8, 0xC, 0x9, 0xD, 0xE] if operand.format.bits == 2 else [FIRST, LAST]
    words = random_words(operand.name, _uniform(operand, 0).size)
    chosen = np.array(legal)[((words >> np.uint64(9)) % np.uint64(len(legal))).astype(np.int64)]
    return _nibbles(operand, chosen.reshape(_uniform(operand, 0).shape))


# --- Random words ---------------------------------------------------------------------------------


def random_words(seed: str, count: int) -> npt.NDArray[np.uint64]:
    """Return ``count`` random 64-bit words that depend on ``seed`` alone: the same in every NumPy.

    Source: the finalizer of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number
    generators", 2014), applied to a counter.
    """
    start = np.uint64(int.from_bytes(seed.encode()[:6], "little"))
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is meant
        z = (start + np.arange(1, count + 1, dtype=np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
