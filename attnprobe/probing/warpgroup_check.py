"""Comparison "warpgroup": every bit of D that a wgmma probe wrote, as the row predicts it.

The row says where registers of A, D and E belong; the images in shared memory are read by element,
as the descriptor says. Fills are of small integers, so that every sum is exact in every type.
"""

from __future__ import annotations

from collections.abc import Mapping
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
        written = item.dump.arrays[0].shape[1]
        bits = registers.unpack(item.dump.arrays[0], d.format)
        expected = expected_bits(row, item.launch.inputs)[..., : bits.shape[-1]]
        assert bits.shape == expected.shape, f"{written} registers do not fit {d.format.name}"
        verdicts.append(compare_bits(d, bits, expected, item.fill.parts["about"]))
    return Answer((merge(verdicts),))


def expected_bits(row: Instruction, inputs: tuple[Array, ...]) -> Array:
    """Return raw elements of D (blocks, lanes, elements) that the row predicts."""
    control, *held = inputs
    a, b, c, e = held
    of = wgmma(row.ptx)
    d = row["D"]
    left, right = _a(row, of, a), _b(of, b)
    initial = d.fragment.scatter(d.format.decode(registers.unpack(c, d.format)))
    cache: dict[tuple[int, ...], Array] = {}
    blocks = []
    for a_number, b_number, c_number, e_number, selector, _ in control.tolist():
        key = (a_number, e_number, selector)
        if key not in cache:
            cache[key] = _expanded(row, left[a_number], e[e_number], selector)
        blocks.append(cache[key] @ right[b_number] + initial[c_number])
    bits: Array = d.fragment.gather(d.format.encode(np.stack(blocks)))
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


def _expanded(row: Instruction, stored: Float, e: Array, selector: int) -> Float:
    """Return A (64, k) with zeros where the metadata store nothing."""
    if row.sparsity is None:
        return stored
    return row.sparsity.expand(stored, metadata_matrix(row["E"], e, selector))


def metadata_matrix(operand: Operand, words: Array, selector: int) -> Array:
    """Return raw indices (m, indices of a row) that E holds in the lanes that are read."""
    bits = registers.unpack(words[None, :], operand.format)
    coords = operand.fragment.coords()
    read = operand.chosen(sp_sel=selector)
    matrix = np.zeros((operand.fragment.rows, operand.fragment.cols), bits.dtype)
    matrix[coords[read][:, 0], coords[read][:, 1]] = bits[read]
    return matrix
