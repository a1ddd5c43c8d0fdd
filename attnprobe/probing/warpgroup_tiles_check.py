"""Comparison "tiles_by_descriptor": D shows which elements of the images the tensor core has read.

Where the matrices lie is predicted by ``attnprobe.layouts.shared_matrix``; the layout of D is the
row's, which ``wgmma_layout`` proves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.layouts import Instruction
from attnprobe.layouts.shared_matrix import Descriptor
from attnprobe.layouts.swizzle import CHUNK
from attnprobe.probing import registers, warpgroup_tiles
from attnprobe.probing.compare import Asked, compare_bits, comparison, merge
from attnprobe.probing.definition import Question
from attnprobe.probing.report import Answer
from attnprobe.probing.signature import wgmma
from attnprobe.probing.warpgroup_tiles import Case

Array = npt.NDArray[Any]


@comparison
def tiles_by_descriptor(row: Instruction, question: Question, asked: Mapping[str, Asked]) -> Answer:
    """D has the very bits of the product of the elements that the descriptors name."""
    verdicts, findings = [], []
    for item in asked.values():
        written = item.dump.arrays[0]
        expected = expected_words(row)
        for case, pair in by_case(row, written, expected).items():
            found = compare_bits(row["D"], *pair, item.fill.parts["about"])
            verdicts.append(found)
            if found.differing:
                findings.append(f"{case}: {found.differing} values differ")
    return Answer((merge(verdicts),), tuple(findings))


def by_case(row: Instruction, written: Array, expected: Array) -> dict[Case, tuple[Array, Array]]:
    """Return raw elements (digits, lanes, elements) found and expected of each case.

    Registers and lanes that are not written count as equal.
    """
    made = warpgroup_tiles.blocks(row.ptx)
    d = row["D"]
    found: dict[Case, list[Array]] = {}
    for case, use, got, wanted in zip(made.asked, made.control, written, expected, strict=True):
        count, lanes = int(use["registers"]), int(use["lanes"])
        held = np.zeros((2, d.registers, warpgroup_tiles.LANES), np.uint32)
        for number, words in enumerate((got, wanted)):
            held[number, :count, :lanes] = words[: count * lanes].reshape(count, lanes)
        found.setdefault(case, []).append(registers.unpack(held, d.format))
    return {case: (np.stack(pairs)[:, 0], np.stack(pairs)[:, 1]) for case, pairs in found.items()}


def expected_words(row: Instruction) -> Array:
    """Return what every block writes, as the row and the descriptors predict: (blocks, words)."""
    made = warpgroup_tiles.blocks(row.ptx)
    out = np.zeros((len(made.control), made.out_words), np.uint32)
    d = row["D"]
    for number, use in enumerate(made.control):
        a = _matrix(row, "A", made.a[use["a"]], int(use["a_layout"]), int(use["a_start"]),
                    bool(use["form"] & 1))  # fmt: skip
        b = _matrix(row, "B", made.b[use["b"]], int(use["b_layout"]), int(use["b_start"]),
                    bool(use["form"] >> 1))  # fmt: skip
        product = d.format.encode(a @ b.T)
        held = registers.pack(d.fragment.gather(product), d.format)
        count, lanes = int(use["registers"]), int(use["lanes"])
        out[number, : count * lanes] = held[:count, :lanes].reshape(-1)
    return out


def _matrix(
    row: Instruction, operand: str, image: Array, layout: int, start: int, transposed: bool
) -> npt.NDArray[np.float64]:
    """Return the matrix (outer, k) that a descriptor finds in an image."""
    of = wgmma(row.ptx)
    m, n, k = of.shape
    form, outer = of.formats[operand], m if operand == "A" else n
    told = Descriptor.decode(layout)
    case = Case(operand, transposed, told.swizzle, told.leading, told.stride, start)
    places = case.chunk_places(outer, k, form.bits)
    words = image.reshape(-1, CHUNK // 4)[places // CHUNK]
    values = form.decode(form.unpack(words.reshape(len(places), -1)))
    return values.T if transposed else values
