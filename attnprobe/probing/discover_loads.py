"""Discovery of what moves through memory: ldmatrix, stmatrix, movmatrix, wmma.load, wmma.store.

Nothing is hidden here: every element in memory, or every slot, has a number of its own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe import layouts
from attnprobe.errors import LayoutError
from attnprobe.layouts import Instruction, Operand
from attnprobe.layouts import wmma as names
from attnprobe.probing import memory, registers, wmma
from attnprobe.probing.compare import Asked, product_bits
from attnprobe.probing.discovery import Asker, Finding, found_operand, method, shipped, stripped
from attnprobe.probing.signature import blank, wmma_move

Array = npt.NDArray[Any]
Int = npt.NDArray[np.int64]

MATRIX_ROWS = 8  # of the m8n8 that shapes name; the mnemonic says so
_BY_LOADS = (
    "PTX says that a product takes the fragments of wmma.load and wmma.store: these were found in "
    "memory, and the product of matrices that lie so is D to the bit"
)
_EXACT = "every element in memory has a number of its own: nothing is left open"


@method("ldmatrix")
def _ldmatrix(row: Instruction, ask: Asker) -> Finding:
    """Row l of what was loaded is the row at the address of lane l, wherever it lay."""
    (d,) = row.operands
    found = [_loaded(d, ask("ldmatrix_layout", fill)) for fill in ("tags", "scattered")]
    return _by_rows(d, found)


def _loaded(d: Operand, item: Asked) -> Int:
    """Return (row, col) of every slot; rows count by the lane whose address led there."""
    numbers = registers.unpack(item.dump.arrays[0][0], d.format).astype(np.int64) - 1
    return _owned(d, numbers, item.launch.inputs[1][0])


def _owned(operand: Operand, places: Int, offsets: Array) -> Int:
    """Return (lane whose address it is, column) of places in memory."""
    width = memory.row_elements(operand)
    owner = np.full(int(offsets.max()) // memory.ROW_BYTES + 1, -1, np.int64)
    owner[offsets.astype(np.int64) // memory.ROW_BYTES] = np.arange(len(offsets))
    line = places // width
    if (places < 0).any() or (line >= len(owner)).any() or (owner[line] < 0).any():
        raise LayoutError("some slot has no element of memory")
    return np.stack([owner[line], places % width], axis=-1)


def _by_rows(operand: Operand, found: list[Int]) -> Finding:
    if any((each != found[0]).any() for each in found):
        raise LayoutError("rows that lie scattered come to other slots: the addresses do not count")
    rows = int(found[0][..., 0].max()) + 1
    width = memory.row_elements(operand)
    count = rows // MATRIX_ROWS
    at = found[0]
    if count > 1:
        matrix, inner = np.divmod(at[..., 0], MATRIX_ROWS)
        at = np.stack([matrix, inner, at[..., 1]], axis=-1)
    axes = ("row", "col")
    whole = found_operand(operand, at, rows // count, width, axes, count)
    said = (_EXACT, f"the addresses of lanes 0 to {rows - 1} count")
    return Finding((replace(whole, matrix_rows=MATRIX_ROWS),), (), said)


@method("stmatrix")
def _stmatrix(row: Instruction, ask: Asker) -> Finding:
    """As ldmatrix: where in memory the number of each slot was found."""
    (r,) = row.operands
    found = [_stored(r, ask("stmatrix_layout", fill)) for fill in ("tags", "scattered")]
    return _by_rows(r, found)


def _stored(r: Operand, item: Asked) -> Int:
    elements = item.dump.arrays[0][0].view(r.format.storage).astype(np.int64)
    place = np.full(registers.slots(r) + 1, -1, np.int64)
    known = (elements > 0) & (elements < len(place))
    place[elements[known]] = np.flatnonzero(known)
    shape = r.fragment.lanes, r.fragment.elements
    return _owned(r, place[1:].reshape(shape), item.launch.inputs[1][0])


@method("movmatrix")
def _movmatrix(row: Instruction, ask: Asker) -> Finding:
    """A is what ldmatrix puts there from a row-major matrix; D holds its elements elsewhere."""
    d, a = row.operands
    load = layouts.find("ldmatrix.sync.aligned.m8n8.x1.shared.b16")
    loaded = stripped(load)
    at = _loaded(loaded.operands[0], ask("ldmatrix_layout", "tags", loaded))
    moved = ask("movmatrix_layout", "tags")
    numbers = registers.unpack(moved.dump.arrays[0][0], d.format).astype(np.int64) - 1
    of_d = at.reshape(-1, 2)[numbers]
    width = memory.row_elements(a)
    axes = ("row", "col")
    operands = tuple(
        found_operand(each, positions, width, width, axes)
        for each, positions in ((d, of_d), (a, at))
    )
    said = "A is taken as what ldmatrix x1 loads of a row-major matrix; D follows from A"
    return Finding(operands, (), (said,))


@method("wmma.load", "wmma.store")
def _wmma(row: Instruction, ask: Asker) -> Finding:
    """The number of an element in memory says which it is."""
    (operand,) = row.operands
    question = row.family.replace(".", "_")
    item = ask(question, "numbers")
    numbers = wmma.READERS[f"{question}.cu"](row.ptx, item.dump.arrays[0])
    if (numbers < 0).any():
        raise LayoutError("some slot has no element of the matrix")
    tile = wmma.tile(wmma_move(row.ptx))
    letter = row.mnemonic.split(".")[2]
    axes = {"a": ("m", "k"), "b": ("k", "n")}.get(letter, ("m", "n"))
    at = wmma.positions(row.ptx, numbers)
    return Finding((found_operand(operand, at, tile.rows, tile.cols, axes),), (), (_EXACT,))


@method("wmma.mma")
def _wmma_product(row: Instruction, ask: Asker) -> Finding:
    """The fragments of the loads and of the store, if the product of what they hold is D.

    Raises
    ------
    LayoutError
        If D is not that product.
    """
    moves = names.fragments_of(names.products()[row.ptx])
    operands = []
    for operand in row.operands:
        name = moves[operand.name]
        bare = blank(wmma_move(name))
        (found,) = _wmma(bare, replace(ask, row=bare)).operands
        operands.append(replace(found, name=operand.name, format=operand.format))
    whole = replace(row, operands=tuple(operands))
    item = ask("wmma_products", "integers", whole)
    answer = product_bits(whole, shipped("wmma_products"), {"integers": item})
    if any(each.differing for each in answer.operands):
        raise LayoutError("D is not the product of what wmma.load puts into A, B and C")
    return Finding(tuple(operands), (), (_BY_LOADS,))
