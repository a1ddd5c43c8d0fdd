"""Comparison "warpgroup": every bit of D that a wgmma probe wrote, as the row predicts it.

The row says where registers of A, D and E belong; the images in shared memory are read by element,
as the descriptor says. Fills are of small integers, so that every sum is exact in every type.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.layouts import Instruction, Operand
from attnprobe.probing import registers, warpgroup
from attnprobe.probing.compare import Asked, compare_bits, comparison, merge
from attnprobe.probing.definition import Question
from attnprobe.probing.report import Answer
from attnprobe.probing.signature import Signature, wgmma

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float64]


@comparison
def warpgroup_bits(row: Instruction, question: Question, asked: Mapping[str, Asked]) -> Answer:
    """D has the very bits of the exact product, in every block and written register."""
    d = row["D"]
    verdicts = []
    for item in asked.values():
        bits = registers.unpack(item.dump.arrays[0], d.format)
        expected = expected_bits(row, item.launch.inputs, bits.shape[-1])
        verdicts.append(compare_bits(d, bits, expected, item.fill.parts["about"]))
    return Answer((merge(verdicts),))


def expected_bits(row: Instruction, inputs: tuple[Array, ...], elements: int) -> Array:
    """Return the first raw elements of D that the row predicts: (blocks, lanes, elements)."""
    control, *held = inputs
    a, b, c, e = held
    of = wgmma(row.ptx)
    d = row["D"]
    left, right = _a(row, of, a), _b(of, b)
    initial = d.fragment.scatter(d.format.decode(registers.unpack(c, d.format)))
    numbers = control.astype(np.intp)
    expanded = _expanded(row, left[numbers[:, 0]], e[numbers[:, 3]], numbers[:, 4])
    at = d.fragment.coords()[:, :elements]
    columns = int(at[..., 1].max()) + 1  # of those beyond nothing was written
    sums = expanded @ right[numbers[:, 1], :, :columns] + initial[numbers[:, 2], :, :columns]
    bits: Array = d.format.encode(sums[:, at[..., 0], at[..., 1]])
    return bits


def _a(row: Instruction, of: Signature, held: Array) -> Float:
    """Return the stored elements of A (numbers, 64, stored), from registers or an image."""
    form = of.formats["A"]
    if "A" in row.by_name:
        return row["A"].fragment.scatter(form.decode(registers.unpack(held, form)))
    return form.decode(warpgroup.elements_of(held, of.shape[0], of.stored, form))


def _b(of: Signature, images: Array) -> Float:
    """Return B (numbers, k, n) from images."""
    _, n, k = of.shape
    form = of.formats["B"]
    return np.swapaxes(form.decode(warpgroup.elements_of(images, n, k, form)), -1, -2)


def _expanded(row: Instruction, stored: Float, e: Array, selectors: Array) -> Float:
    """Return A (blocks, 64, k) with zeros where the metadata store nothing."""
    if row.sparsity is None:
        return stored
    operand = row["E"]
    bits = registers.unpack(e[:, None, :], operand.format).reshape(len(e), -1)
    slots = np.stack([_slots_read(operand, selector) for selector in range(max(selectors) + 1)])
    raw = np.take_along_axis(bits, slots.reshape(len(slots), -1)[selectors], axis=1)
    return row.sparsity.expand(stored, raw.reshape(len(e), *slots.shape[1:]))


@lru_cache(maxsize=64)
def _slots_read(operand: Operand, selector: int) -> npt.NDArray[np.int64]:
    """Return the number of the slot of E that each index is read from: (m, indices of a row)."""
    flat, read = operand.fragment.flat_index(), operand.chosen(sp_sel=selector)
    slots = np.zeros(operand.fragment.rows * operand.fragment.cols, np.int64)
    slots[flat[read]] = np.flatnonzero(read)
    return slots.reshape(operand.fragment.rows, operand.fragment.cols)
