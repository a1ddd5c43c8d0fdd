"""Probes of ``wmma.load`` and ``wmma.store``: numbered elements in memory, numbered registers.

A load moves bits, so each element of the matrix in memory is given its number from 1 on, raw, in as
many launches' blocks as its bits need; every slot then says which element it received. A store is
the same backwards: every place in memory says which slot came there. Launches are made from the
mnemonic alone. The distance of rows in memory (of columns, for ``.col``) is a multiple of what a
lane holds, as PTX asks; what lies between is numbered 0 and must not come.

Source: PTX ISA 9.1, 9.7.14.4.3 "wmma.load", 9.7.14.4.4 "wmma.store".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.layouts import Instruction, Operand
from attnprobe.probing import fills, registers
from attnprobe.probing.compare import Asked, comparison, verdict
from attnprobe.probing.definition import Fill, Question
from attnprobe.probing.report import Answer
from attnprobe.probing.signature import Signature, Slots, matrix_of, wmma_move

Array = npt.NDArray[Any]
Int = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Tile:
    """A matrix in shared memory.

    Attributes
    ----------
    rows, cols : its size.
    by_column : whether columns lie together.
    stride : elements from one row (column) to the next.
    bits : of an element.
    """

    rows: int
    cols: int
    by_column: bool
    stride: int
    bits: int

    @property
    def words(self) -> int:
        """32-bit words that it takes."""
        lines = self.cols if self.by_column else self.rows
        return lines * self.stride * self.bits // 32

    def places(self) -> Int:
        """Return the place in memory of every element: int64, (rows, cols)."""
        row, col = np.indices((self.rows, self.cols))
        return col * self.stride + row if self.by_column else row * self.stride + col


def slots_of(signature: Signature) -> Slots:
    """Return the registers of a load or store."""
    return signature.slots[0]


def tile(signature: Signature) -> Tile:
    """Return the matrix in memory; lines begin at multiples of what a lane holds."""
    words, slots = signature.words, slots_of(signature)
    rows, cols = matrix_of(words[2], signature.shape)
    by_column, bits = words[5] == "col", slots.format.bits
    line, held = (rows if by_column else cols) * bits, max(32, slots.elements * bits)
    return Tile(rows, cols, by_column, -(-line // held) * held // bits, bits)


def digits(count: int, bits: int) -> range:
    """Return the digits of base 2 ** bits that the numbers 1 ... count have."""
    return range(-(-int(count).bit_length() // bits))


def _digit(number: Array, digit: int, bits: int) -> Array:
    shifted: Array = number >> (digit * bits) & (2 ** min(bits, 32) - 1)
    return shifted


# --- wmma_load.cu ---------------------------------------------------------------------------------


def load_macros(row: Instruction) -> dict[str, object]:
    """Return WORDS, MEMORY_WORDS and LOAD(r, address)."""
    of = wmma_move(row.ptx)
    count, words = _counts(of)
    held = ",".join(f"%{i}" for i in range(count))
    text = f"{row.mnemonic} {{{held}}}, [%{count}], {tile(of).stride};"
    if words == count:
        outputs = ", ".join(f'"=r"((r)[{i}])' for i in range(count))
        made = f'asm volatile("{text}" : {outputs} : "r"(address) : "memory")'
    else:
        outputs = ", ".join(f'"=d"(wide[{i}])' for i in range(count))
        low = [f"(r)[{2 * i}] = __double2loint(wide[{i}]);" for i in range(count)]
        high = [f"(r)[{2 * i + 1}] = __double2hiint(wide[{i}]);" for i in range(count)]
        split = " ".join([*low, *high])
        asm = f'asm volatile("{text}" : {outputs} : "r"(address) : "memory");'
        made = f"do {{ double wide[{count}]; {asm} {split} }} while (0)"
    return {"WORDS": words, "MEMORY_WORDS": tile(of).words, "LOAD(r, address)": made}


def load_arrays(row: Instruction, fill: Fill) -> tuple[list[Array], list[tuple[int, ...]]]:
    """Return memory with numbered elements, a block for each digit; and the shape of registers."""
    of = wmma_move(row.ptx)
    place, form = tile(of), slots_of(of).format
    count = place.rows * place.cols
    number = np.zeros(place.words * 32 // place.bits, np.int64)
    number[place.places().reshape(-1)] = np.arange(count) + 1
    planes = [_digit(number, digit, form.bits) for digit in digits(count, form.bits)]
    memory = np.stack([form.pack(each.astype(form.storage)) for each in planes])
    return [memory], [(len(memory), _counts(of)[1], 32)]


def loaded(name: str, dump: Array) -> Int:
    """Return the number of the element that each slot received: int64, (lanes, elements).

    Numbers count row by row from 0; -1 stands for what lies between the elements.
    """
    form = slots_of(wmma_move(name)).format
    return _joined(registers.unpack(dump, form), form.bits) - 1


def _joined(planes: Array, bits: int) -> Int:
    parts = [planes[digit].astype(np.int64) << (digit * bits) for digit in range(len(planes))]
    joined: Int = np.bitwise_or.reduce(np.stack(parts))
    return joined


# --- wmma_store.cu --------------------------------------------------------------------------------


def store_macros(row: Instruction) -> dict[str, object]:
    """Return WORDS, MEMORY_WORDS and STORE(address, r)."""
    of = wmma_move(row.ptx)
    count, words = _counts(of)
    held = ",".join(f"%{i + 1}" for i in range(count))
    if words == count:
        inputs = ", ".join(f'"r"((r)[{i}])' for i in range(count))
    else:
        inputs = ", ".join(
            f'"d"(__hiloint2double((r)[{2 * i + 1}], (r)[{2 * i}]))' for i in range(count)
        )
    text = f"{row.mnemonic} [%0], {{{held}}}, {tile(of).stride};"
    made = f'asm volatile("{text}" : : "r"(address), {inputs} : "memory")'
    return {"WORDS": words, "MEMORY_WORDS": tile(of).words, "STORE(address, r)": made}


def store_arrays(row: Instruction, fill: Fill) -> tuple[list[Array], list[tuple[int, ...]]]:
    """Return registers with numbered slots, a block for each digit; and the shape of memory."""
    of = wmma_move(row.ptx)
    slots = slots_of(of)
    count = slots.lanes * slots.elements
    number = (np.arange(count) + 1).reshape(slots.lanes, slots.elements)
    bits = slots.format.bits
    planes = [_digit(number, digit, bits) for digit in digits(count, bits)]
    held = np.stack(
        [registers.pack(each.astype(slots.format.storage), slots.format) for each in planes]
    )
    return [held], [(len(held), tile(of).words)]


def stored(name: str, dump: Array) -> Int:
    """Return the number of the element where each slot went, -1 for nowhere: (lanes, elements)."""
    of = wmma_move(name)
    slots, place = slots_of(of), tile(of)
    numbers = _joined(slots.format.unpack(dump), slots.format.bits)
    came = numbers[place.places().reshape(-1)] - 1
    count = slots.lanes * slots.elements
    at = np.full(count, -1, np.int64)
    known = (came >= 0) & (came < count)
    at[came[known]] = np.flatnonzero(known)
    return at.reshape(slots.lanes, slots.elements)


def _counts(of: Signature) -> tuple[int, int]:
    """Return asm operands and 32-bit words of the registers of a lane."""
    slots = slots_of(of)
    words = slots.elements * slots.format.bits // 32
    return words // slots.format.words, words


# --- comparison -----------------------------------------------------------------------------------

READERS = {"wmma_load.cu": loaded, "wmma_store.cu": stored}


def positions(name: str, numbers: Int) -> Int:
    """Return (row, col) of element numbers of the matrix of a load or store: (..., 2)."""
    cols = tile(wmma_move(name)).cols
    return np.stack([numbers // cols, numbers % cols], axis=-1)


@comparison
def wmma_moved(row: Instruction, question: Question, asked: Mapping[str, Asked]) -> Answer:
    """Every slot received, or was stored to, the element that the row names."""
    (item,) = asked.values()
    operand = row.operands[0]
    numbers = READERS[question.kernel](row.ptx, item.dump.arrays[0])
    return Answer((_verdict(operand, numbers),))


def _verdict(operand: Operand, numbers: Int) -> Any:
    said = operand.fragment.flat_index()
    cols = operand.fragment.cols

    def describe(block: int, lane: int, element: int) -> tuple[str, str, None, None]:
        at = int(numbers[lane, element])
        holds = "no element" if at < 0 else registers.position(operand, *divmod(at, cols))
        wanted = divmod(int(said[lane, element]), cols)
        return holds, registers.position(operand, *wanted), None, None

    return verdict(operand, (numbers != said)[None], describe)


# --- fills of products ----------------------------------------------------------------------------


@fills.fill("matrix_integers")
def matrix_integers(row: Instruction, operand: Operand) -> Array:
    """A matrix of random integers as a load would give it: every copy of an element is alike.

    Integers 1 ... 4, of either sign where there are signs; of one bit 0 and 1.
    """
    rows, cols, form = operand.fragment.rows, operand.fragment.cols, operand.format
    words = fills.random_words(operand.name + form.name, rows * cols)
    signs = np.where(words & np.uint64(1), 1.0, -1.0)
    if form.bits == 1:
        values = (signs > 0).astype(np.float64)
    else:
        size = (words >> np.uint64(8)) % np.uint64(4) + np.uint64(1)
        values = (signs if form.signed else 1.0) * size.astype(np.float64)
    return operand.fragment.gather(values.reshape(1, rows, cols))
