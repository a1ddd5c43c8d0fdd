"""Fills: what the lanes' registers of one operand hold, as blocks of one launch.

A fill is a function from (instruction, operand) to registers: uint32, shape (blocks, registers,
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

FILLS: dict[str, Fill] = {}
RANDOM_BLOCKS = 2  # of each operand; every block of one meets every block of the others


def fill(name: str) -> Callable[[Fill], Fill]:
    """Register a function that returns *values* (blocks, lanes, elements) as the fill ``name``."""

    def register(function: Fill) -> Fill:
        FILLS[name] = function
        return function

    return register


def build(name: str, row: Instruction, operand: Operand) -> registers.Registers:
    """Return fill ``name`` of ``operand``: uint32, (blocks, registers, lanes).

    Raises
    ------
    UsageError
        For a fill that does not exist.
    """
    if name not in FILLS:
        raise UsageError(f"no fill {name!r}; there are {', '.join(sorted(FILLS))}")
    values = FILLS[name](row, operand)
    return registers.pack(operand.format.encode(values), operand.format)


@cache
def exact_integers(form: Format) -> int:
    """Return the largest n such that ``form`` holds every integer 0 ... n exactly."""
    if not np.issubdtype(form.dtype, np.integer):
        for bits in range(1, 53):
            probe = np.array([2.0**bits + 1])
            if form.decode(form.encode(probe))[0] != probe[0]:
                return int(2**bits)
    return int(2 ** min(form.bits, 52) - 1)


def tag_base(row: Instruction, operand: Operand) -> int:
    """Return how many tags 1 ... base both ``operand`` and the accumulator hold exactly."""
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
        value = values[digit]
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


@fill("tags")
def tags(row: Instruction, operand: Operand) -> Array:
    """The number of each slot from 1 on; a block for each digit where one value cannot hold it."""
    base, passes = tag_base(row, operand), tag_passes(row, operand)
    number = np.arange(registers.slots(operand)).reshape(_shape(operand))
    return np.stack([number // base**digit % base + 1.0 for digit in range(passes)])


@fill("one_hot")
def one_hot(row: Instruction, operand: Operand) -> Array:
    """1 in one slot and 0 elsewhere: a block for each slot, in order."""
    count = registers.slots(operand)
    return np.eye(count).reshape(count, *_shape(operand))


@fill("rows")
def rows(row: Instruction, operand: Operand) -> Array:
    """The row number that the layout row gives each slot."""
    return operand.fragment.coords()[None, ..., 0].astype(np.float64)


@fill("cols")
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
    """Random integers 1 ... 4 of either sign."""
    words = random_words(operand.name, RANDOM_BLOCKS * registers.slots(operand))
    magnitude = (words >> np.uint64(8)) % np.uint64(4) + np.uint64(1)
    values = np.where(words & np.uint64(1), 1.0, -1.0) * magnitude.astype(np.float64)
    return values.reshape(RANDOM_BLOCKS, *_shape(operand))


@fill("outliers")
def outliers(row: Instruction, operand: Operand) -> Array:
    """Bell-shaped values (the sum of twelve uniform ones, less 6), one in 32 of them times 64."""
    count = RANDOM_BLOCKS * registers.slots(operand)
    words = random_words(operand.name, 13 * count).reshape(13, count)
    uniform = (words[:12] >> np.uint64(40)).astype(np.float64) / 2.0**24  # exact in float64
    values = uniform.sum(axis=0) - 6.0
    rare = words[12] % np.uint64(32) == 0
    result: Array = np.where(rare, 64.0 * values, values)
    return result.reshape(RANDOM_BLOCKS, *_shape(operand))


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
