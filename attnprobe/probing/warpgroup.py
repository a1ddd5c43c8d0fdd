"""Launches of ``wgmma``: images of A and B in shared memory, registers of A, metadata.

Nothing here knows a fragment: registers are filled by slot, shared memory by element, since where
an element lies in shared memory is what the descriptor says. Every launch is made from the mnemonic
alone. Images are K-major without a swizzle: core matrices of 8 rows of m (or n) x 16 bytes of k,
128 bytes each, those side by side along k 128 bytes apart (leading offset), the next 8 rows behind
all of these (stride offset). Source: PTX ISA 9.1, 9.7.15.5.1.2 "Shared Memory Matrix Layout".

Sums come out right for every type since each number is a sum of small ones: with A = 1 and
B[k][n] = (n + k) // K, row by row, D[m][n] = n (Hermite's identity), and no term exceeds
255 / K + 1, which even e5m2 holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.formats import Format
from attnprobe.layouts import Instruction
from attnprobe.probing import fills, registers
from attnprobe.probing.definition import Fill
from attnprobe.probing.signature import Signature, wgmma

Array = npt.NDArray[Any]
LANES = 128
CORE_ROWS, CORE_BYTES = 8, 16
LEADING_BYTES = CORE_ROWS * CORE_BYTES

FIRST, LAST = 0x4, 0xE  # nibbles: the first half of each group is stored, or the last
PAIRS = (0x4, 0x8, 0xC, 0x9, 0xD, 0xE)  # every increasing pair of two-bit indices, low bits first


@dataclass
class Blocks:
    """The blocks of a launch, and the distinct arrays that they take.

    Attributes
    ----------
    a, b, c, e : distinct images, registers and metadata, by number.
    control : for each block the numbers of A, B, C, E, and the selector.
    written : registers of D that are written.
    """

    written: int
    a: list[Array] = field(default_factory=list)
    b: list[Array] = field(default_factory=list)
    c: list[Array] = field(default_factory=list)
    e: list[Array] = field(default_factory=list)
    control: list[list[int]] = field(default_factory=list)

    def add(self, a: Array, b: Array, c: Array, e: Array, selector: int = 0) -> None:
        """Add a block; an array that an earlier block has is not stored again."""
        numbers = [
            _numbered(kept, array)
            for kept, array in zip((self.a, self.b, self.c, self.e), (a, b, c, e), strict=True)
        ]
        self.control.append([*numbers, selector, self.written])

    def inputs(self) -> list[Array]:
        """Return the inputs of the kernel, control first."""
        stacked = [np.stack(kept) for kept in (self.a, self.b, self.c, self.e)]
        return [np.array(self.control, np.uint32), *stacked]


def _numbered(kept: list[Array], array: Array) -> int:
    for number, other in enumerate(kept):
        if other is array:
            return number
    kept.append(array)
    return len(kept) - 1


# --- shared memory --------------------------------------------------------------------------------


def image(elements: Array, form: Format) -> npt.NDArray[np.uint32]:
    """Return the words of shared memory that hold raw ``elements`` (rows of m or n, k) K-major."""
    rows, depth = elements.shape
    per_chunk = CORE_BYTES * 8 // form.bits
    cores = elements.reshape(rows // CORE_ROWS, CORE_ROWS, depth // per_chunk, per_chunk)
    in_order = np.ascontiguousarray(cores.transpose(0, 2, 1, 3)).reshape(-1)
    return form.pack(in_order)


def elements_of(words: npt.NDArray[np.uint32], rows: int, depth: int, form: Format) -> Array:
    """Return raw elements (..., rows, depth) of images (..., words): ``image`` undone."""
    per_chunk = CORE_BYTES * 8 // form.bits
    shape = (*words.shape[:-1], rows // CORE_ROWS, depth // per_chunk, CORE_ROWS, per_chunk)
    cores = np.swapaxes(form.unpack(words).reshape(shape), -3, -2)
    return cores.reshape(*words.shape[:-1], rows, depth)


def strides(depth: int, form: Format) -> int:
    """Return the bits of a descriptor that hold leading and stride offset, in units of 16 bytes."""
    chunks = depth * form.bits // (CORE_BYTES * 8)
    leading, stride = LEADING_BYTES >> 4, LEADING_BYTES * chunks >> 4
    return leading << 16 | stride << 32


# --- what blocks are made of ----------------------------------------------------------------------


@dataclass(frozen=True)
class Parts:
    """Fills of one signature, each made once."""

    of: Signature

    @property
    def a_in_registers(self) -> bool:
        """Whether A has registers."""
        return any(each.name == "A" for each in self.of.slots)

    @property
    def stored_of_k(self) -> npt.NDArray[np.int64]:
        """The number of the stored element that each k is, when its half of the group is stored."""
        k = np.arange(self.of.shape[2])
        return k // self.of.group * self.of.kept + k % self.of.group % self.of.kept

    @property
    def groups(self) -> int:
        """Groups of k that metadata nibbles speak of."""
        return self.of.shape[2] // self.of.group

    def registers_for(self, columns: int) -> int:
        """Return how many registers of D are looked at to see ``columns`` columns."""
        n = self.of.shape[1]
        slots = self.of["D"]
        count = slots.elements * slots.format.bits // 32
        return -(-count * min(n, columns) // n)

    def a(self, values: Array) -> Array:
        """Return A from values (64, stored) of elements, or (128, elements) of slots."""
        form = self.of.formats["A"]
        raw = form.encode(values)
        return registers.pack(raw, form) if self.a_in_registers else image(raw, form)

    def ones(self) -> Array:
        """Return A = 1."""
        return self.a(np.ones(self._a_shape))

    def zeros(self) -> Array:
        """Return A = 0."""
        return self.a(np.zeros(self._a_shape))

    @property
    def _a_shape(self) -> tuple[int, int]:
        if self.a_in_registers:
            return LANES, self.of["A"].elements
        return self.of.shape[0], self.of.stored

    def b(self, values: Array) -> Array:
        """Return the image of B from values (k, n)."""
        form = self.of.formats["B"]
        return image(form.encode(values.T), form)

    def spread(self, numbers: Array) -> npt.NDArray[np.int64]:
        """Return (stored, len(numbers)): columns that add up to ``numbers``."""
        stored = self.of.stored
        return (numbers[None, :] + np.arange(stored)[:, None]) // stored

    def c(self, values: Array | None = None) -> Array:
        """Return C from values (128, elements); zeros for None."""
        form, count = self.of.formats["D"], self.of["D"].elements
        return registers.pack(
            form.encode(np.zeros((LANES, count)) if values is None else values), form
        )

    def e(self, nibbles: Array | int = FIRST) -> Array:
        """Return metadata registers from nibbles (128, 8), or the same nibble everywhere."""
        each = np.broadcast_to(np.asarray(nibbles, np.uint32), (LANES, 8))
        words: Array = np.bitwise_or.reduce(each << np.arange(0, 32, 4, dtype=np.uint32), axis=1)
        return words

    def selectors(self) -> tuple[int, ...]:
        """Return the legal sparsity selectors: two where a pair of lanes gives all indices."""
        return (0,) if self.of.formats["A"].bits == 8 else (0, 1)

    def column_tiles(self, columns: int) -> range:
        """Return the first columns of the tiles of n in which ``columns`` are shown."""
        return range(0, columns, self.of.shape[1])


# --- fills ----------------------------------------------------------------------------------------

FILLS: dict[str, Callable[[Parts], Blocks]] = {}


def _fill(function: Callable[[Parts], Blocks]) -> Callable[[Parts], Blocks]:
    FILLS[function.__name__] = function
    return function


@_fill
def numbers(parts: Parts) -> Blocks:
    """D shows m (where A is in shared memory), then n, then C by element and by lane."""
    m, n, _ = parts.of.shape
    blocks = Blocks(parts.registers_for(n))
    ones, c, e = parts.ones(), parts.c(), parts.e()
    if not parts.a_in_registers:
        all_ones = parts.b(np.ones((parts.of.shape[2], n)))
        blocks.add(parts.a(parts.spread(np.arange(m)).T), all_ones, c, e)
    columns = parts.spread(np.arange(n))[parts.stored_of_k]
    b = parts.b(columns)
    blocks.add(ones, b, c, e)
    element, lane = np.arange(1, parts.of["D"].elements + 1), np.arange(1, LANES + 1)
    zeros, shape = parts.zeros(), (LANES, len(element))
    blocks.add(zeros, b, parts.c(np.broadcast_to(element, shape)), e)
    blocks.add(zeros, b, parts.c(np.broadcast_to(lane[:, None], shape)), e)
    return blocks


@_fill
def tags(parts: Parts) -> Blocks:
    """A holds the number of each register slot; column n of B shows stored element n + tile."""
    stored, form = parts.of.stored, parts.of.formats["A"]
    blocks = Blocks(parts.registers_for(stored))
    base, passes = tag_digits(parts.of)
    c, e = parts.c(), parts.e()
    shape = (LANES, parts.of["A"].elements)
    number = np.arange(shape[0] * shape[1]).reshape(shape)
    images = [
        parts.b(_picks(parts.stored_of_k, first, parts.of.shape[1]))
        for first in parts.column_tiles(stored)
    ]
    offset = 0 if form.bits == 1 else 1
    for digit in range(passes):
        a = parts.a((number // base**digit % base + offset).astype(np.float64))
        for b in images:
            blocks.add(a, b, c, e)
    return blocks


def tag_digits(of: Signature) -> tuple[int, int]:
    """Return base and count of the digits that number all slots of A: 0 ... base - 1 for b1."""
    base = min(fills.exact_integers(of.formats[name]) for name in "AD")
    base = 2 if of.formats["A"].bits == 1 else base
    slots, passes = LANES * of["A"].elements, 1
    while base**passes < slots:
        passes += 1
    return base, passes


def _picks(group_of_k: Array, first: int, n: int) -> Array:
    """Return B (k, n): 1 where k belongs to column n + first."""
    picked: Array = group_of_k[:, None] == np.arange(n)[None, :] + first
    return picked.astype(np.float64)


NIBBLE_BITS = 10  # bits that number the 128 * 8 nibbles of metadata


@_fill
def metadata(parts: Parts) -> Blocks:
    """Bit i of the number of each nibble of E is whether the last half of its group is stored.

    Column n of B is 1 in the last half of group n + tile, so D shows the bit of the nibble that
    steers row m there. A = 1. Every legal selector, every bit.
    """
    k = np.arange(parts.of.shape[2])
    blocks = Blocks(parts.registers_for(parts.groups))
    ones, c = parts.ones(), parts.c()
    last = k % parts.of.group >= parts.of.group // 2
    images = [
        parts.b(_picks(np.where(last, k // parts.of.group, -1), first, parts.of.shape[1]))
        for first in parts.column_tiles(parts.groups)
    ]
    number = np.arange(LANES * 8).reshape(LANES, 8)
    for bit in range(NIBBLE_BITS):
        e = parts.e(np.where(number >> bit & 1, LAST, FIRST))
        for selector in parts.selectors():
            for b in images:
                blocks.add(ones, b, c, e, selector)
    return blocks


@_fill
def indices(parts: Parts) -> Blocks:
    """Every legal value of a nibble, everywhere: B = 4 ** place, A = 1 and 2 by turns along k.

    Where A lies in registers it is the turns of the register slots.
    """
    k = np.arange(parts.of.shape[2])
    blocks = Blocks(parts.registers_for(parts.groups))
    elements = parts.of["A"].elements if parts.a_in_registers else parts.of.stored
    lanes = LANES if parts.a_in_registers else parts.of.shape[0]
    a = parts.a(np.broadcast_to(1.0 + np.arange(elements) % 2, (lanes, elements)))
    c = parts.c()
    place = 4.0 ** (k % parts.of.group)
    images = [
        parts.b(_picks(k // parts.of.group, first, parts.of.shape[1]) * place[:, None])
        for first in parts.column_tiles(parts.groups)
    ]
    for nibble in PAIRS if parts.of.group == 4 else (FIRST, LAST):
        e = parts.e(nibble)
        for b in images:
            blocks.add(a, b, c, e)
    return blocks


# --- recipe ---------------------------------------------------------------------------------------


def applies(row: Instruction) -> bool:
    """Return whether the kernel can ask about ``row``."""
    return row.mnemonic.startswith("wgmma.mma_async.")


def fits(fill: Fill, row: Instruction) -> bool:
    """Return whether a fill can be made: tags for A in registers, metadata for a sparse A."""
    of = wgmma(row.ptx)
    if fill.parts["blocks"] == "tags":
        return Parts(of).a_in_registers
    return fill.parts["blocks"] not in ("metadata", "indices") or of.group > 1


def arrays(row: Instruction, fill: Fill) -> tuple[list[Array], list[tuple[int, ...]]]:
    """Return inputs and the shape of D; both depend on the mnemonic alone."""
    inputs, written = _inputs(row.ptx, fill.parts["blocks"])
    return list(inputs), [(len(inputs[0]), written, LANES)]


@lru_cache(maxsize=8)
def _inputs(name: str, fill: str) -> tuple[tuple[Array, ...], int]:
    blocks = FILLS[fill](Parts(wgmma(name)))
    return tuple(blocks.inputs()), blocks.written


def macros(row: Instruction) -> dict[str, object]:
    """Return what the mnemonic defines in front of the kernel."""
    return dict(_macros(row.ptx))


@lru_cache(maxsize=8)
def _macros(name: str) -> dict[str, object]:
    of = wgmma(name)
    a, b = of.formats["A"], of.formats["B"]
    count = of["D"].elements * of["D"].format.bits // 32
    defined: dict[str, object] = {"D_REGISTERS": count}
    in_registers = Parts(of).a_in_registers
    if in_registers:
        defined["A_REGISTERS"] = of["A"].elements * a.bits // 32
    else:
        defined["A_WORDS"] = of.shape[0] * of.stored * a.bits // 32
        defined["A_STRIDES"] = f"{strides(of.stored, a):#x}ull"
    defined["B_WORDS"] = of.shape[1] * of.shape[2] * b.bits // 32
    defined["B_STRIDES"] = f"{strides(of.shape[2], b):#x}ull"
    asked = [_statement(of, count, selector) for selector in Parts(of).selectors()]
    if of.group == 1:
        text = f"(void)(e); {asked[0]}"
    else:
        text = " else ".join(f"if ((selector) == {i}u) {each};" for i, each in enumerate(asked))
    defined["PRODUCT(d, a, b, e, selector)"] = f"do {{ {text}; }} while (0)"
    return defined


# One statement from fence to wait: the compiler cannot put a use of the registers between.
BEFORE = "wgmma.fence.sync.aligned;"
AFTER = "wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;"


def _statement(of: Signature, count: int, selector: int) -> str:
    """Return the asm statement: D is read and written, every immediate is 1 but transposition."""
    d = ",".join(f"%{i}" for i in range(count))
    outputs = ", ".join(f'"+r"((d)[{i}])' for i in range(count))
    number = count
    if Parts(of).a_in_registers:
        held = of["A"].elements * of.formats["A"].bits // 32
        a = "{" + ",".join(f"%{number + i}" for i in range(held)) + "}"
        inputs = [f'"r"((a)[{i}])' for i in range(held)]
        number += held
    else:
        a, inputs, number = f"%{number}", ['"l"(a)'], number + 1
    text = f"{'.'.join(of.words)} {{{d}}}, {a}, %{number}"
    inputs.append('"l"(b)')
    if of.group > 1:
        text += f", %{number + 1}, {selector}"
        inputs.append('"r"(e)')
    text += f", {immediates(of)}"
    text = f"{BEFORE} {text}; {AFTER}"
    return f'asm volatile("{text}" : {outputs} : {", ".join(inputs)})'


def immediates(of: Signature) -> str:
    """Return scale-d, and what follows by type: imm-scale-a, -b, imm-trans-a, -b."""
    a = of.formats["A"]
    if a.kind == "int":
        return "1"
    if a.bits != 16:
        return "1, 1, 1"
    return "1, 1, 1, 0" if Parts(of).a_in_registers else "1, 1, 1, 0, 0"
