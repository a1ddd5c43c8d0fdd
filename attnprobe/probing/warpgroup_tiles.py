"""Launches of ``wgmma_tiles``: products of matrices behind every kind of descriptor.

In each block one operand is asked about: its image numbers all elements of a stretch of shared
memory, digit by digit, and a descriptor lays a matrix into it. The other picks: it is 1 where k is
the row (of A) or column (of B), and lies K-major without a swizzle. Images know no descriptor.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.formats import Format
from attnprobe.layouts import Instruction
from attnprobe.layouts.shared_matrix import Descriptor, chunks
from attnprobe.layouts.swizzle import CHUNK, SWIZZLES
from attnprobe.probing import fills, warpgroup
from attnprobe.probing.definition import Fill
from attnprobe.probing.signature import Signature, wgmma

Array = npt.NDArray[Any]
LANES = warpgroup.LANES
COLUMNS = 128  # of D: N of the rows that are asked
A_BYTES, B_BYTES = 16 << 10, 32 << 10
CONTROL = np.dtype(
    [
        *((name, "<u4") for name in ("a", "b", "a_start", "b_start")),
        *((name, "<u4") for name in ("form", "registers", "lanes", "unused")),
        *((name, "<u8") for name in ("a_layout", "b_layout")),
    ]
)


@dataclass(frozen=True)
class Case:
    """A matrix in an image.

    Attributes
    ----------
    operand : "A" or "B".
    transposed : MN-major.
    start : bytes at which it begins.
    leading, stride, swizzle : of its descriptor.
    """

    operand: str
    transposed: bool
    swizzle: str
    leading: int
    stride: int
    start: int = 0

    def chunk_places(self, outer: int, depth: int, bits: int) -> npt.NDArray[np.int64]:
        """Return the byte of the image at which each 16-byte chunk begins, as ``chunks``."""
        plain = chunks(outer, depth, bits, self.transposed, self.leading, self.stride, self.swizzle)
        return SWIZZLES[self.swizzle].apply(plain + self.start)

    def layout(self) -> int:
        """Return the bits of the descriptor but those of the address."""
        return Descriptor(0, self.leading, self.stride, self.swizzle).encode()


def cases(operand: str, outer: int, form: Format) -> Iterator[Case]:
    """Yield the matrices that are asked about: dense ones, spread ones, and starts within rows."""
    for swizzle, mode in SWIZZLES.items():
        atom = mode.repeat
        if not mode.bits:
            yield Case(operand, False, swizzle, atom, 2 * atom)
            yield Case(operand, False, swizzle, outer // 8 * atom, atom)
            yield Case(operand, False, swizzle, 3 * atom, 7 * atom, start=5 * CHUNK)
        else:
            yield Case(operand, False, swizzle, 0, atom)
            yield Case(operand, False, swizzle, 16 * 7, 2048)
            for start in range(32, mode.span, 32):
                yield Case(operand, False, swizzle, CHUNK, atom, start=start)
        if form.bits != 16:  # wider and narrower types are K-major only
            continue
        across = max(1, outer * 2 // mode.span)
        if not mode.bits:
            yield Case(operand, True, swizzle, across * atom, atom)
            yield Case(operand, True, swizzle, atom, 2 * atom)
            yield Case(operand, True, swizzle, 5 * atom, 6 * atom, start=3 * CHUNK)
        else:
            yield Case(operand, True, swizzle, 2 * atom, atom)
            yield Case(operand, True, swizzle, atom, across * atom)
            yield Case(operand, True, swizzle, 3 * atom, 4096, start=2 * atom)


def applies(row: Instruction) -> bool:
    """Return whether ``row`` is asked: one row of each type of A and B, A in shared memory."""
    if not row.mnemonic.startswith("wgmma.mma_async.sync") or row.shape[1] != COLUMNS:
        return False
    formats = wgmma(row.ptx).formats
    alike = formats["A"] == formats["B"] and formats["A"].bits >= 8
    wide = formats["D"].bits == 32 and "satfinite" not in row.ptx
    return alike and wide and "A" not in row.by_name


@dataclass(frozen=True)
class Blocks:
    """The blocks of a launch: what is asked in each, and the arrays."""

    asked: tuple[Case, ...]
    control: Array
    a: Array
    b: Array

    @property
    def out_words(self) -> int:
        """Words that a block writes."""
        return int((self.control["registers"] * self.control["lanes"]).max())


@lru_cache(maxsize=8)
def blocks(name: str) -> Blocks:
    """Return the blocks of the row ``name``."""
    of = wgmma(name)
    m, n, k = of.shape
    form = of.formats["A"]
    picks = {
        "A": _padded(warpgroup.image(form.encode(np.eye(m, k)), form), A_BYTES),
        "B": _padded(warpgroup.image(form.encode(np.eye(n, k)), form), B_BYTES),
    }
    numbers = {"A": _numbered(A_BYTES, form), "B": _numbered(B_BYTES, form)}
    asked, control = [], []
    for operand, outer in (("A", m), ("B", n)):
        for case in cases(operand, outer, form):
            places = case.chunk_places(outer, k, form.bits)
            assert places.max() + CHUNK <= {"A": A_BYTES, "B": B_BYTES}[operand], case
            for digit in range(len(numbers[operand])):
                asked.append(case)
                control.append(_control(of.shape, form, case, digit + 1))
    return Blocks(
        tuple(asked),
        np.array(control, CONTROL),
        np.stack([picks["A"], *numbers["A"]]),
        np.stack([picks["B"], *numbers["B"]]),
    )


def _control(shape: tuple[int, ...], form: Format, case: Case, image: int) -> tuple[int, ...]:
    """Return a row of control: the image that is asked about, and the picking one beside it."""
    n, k = shape[1:]
    pick = warpgroup.strides(k, form)
    elements = COLUMNS * 64 // LANES
    if case.operand == "A":  # D[m][k]: the columns of n below k
        start, layouts = (case.start, 0), (case.layout(), pick)
        images, registers, lanes = (image, 0), elements * k // n, LANES
    else:  # D[k][n]: the rows below k
        start, layouts = (0, case.start), (pick, case.layout())
        images, registers, lanes = (0, image), elements, LANES * max(k, 16) // 64
    form_number = int(case.transposed) << (case.operand == "B")
    return (*images, *start, form_number, registers, lanes, 0, *layouts)


def digit_base(form: Format) -> int:
    """Return the base of the digits that number elements: all of them are exact in ``form``."""
    return fills.exact_integers(form) + 1 if form.is_integer else fills.exact_integers(form)


def _numbered(size: int, form: Format) -> list[Array]:
    """Return an image for each digit of the number of each element, lowest digit first."""
    number, base = np.arange(size * 8 // form.bits), digit_base(form)
    images = []
    while True:
        images.append(form.pack(form.encode((number % base).astype(np.float64))))
        number = number // base
        if not number.any():
            return images


def _padded(words: Array, size: int) -> Array:
    out = np.zeros(size // 4, np.uint32)
    out[: len(words)] = words
    return out


# --- recipe ---------------------------------------------------------------------------------------


def arrays(row: Instruction, fill: Fill) -> tuple[list[Array], list[tuple[int, ...]]]:
    """Return inputs and the shape of D; both depend on the mnemonic alone."""
    made = blocks(row.ptx)
    words = np.ascontiguousarray(made.control).view(np.uint32).reshape(len(made.control), -1)
    return [words, made.a, made.b], [(len(words), made.out_words)]


def macros(row: Instruction) -> dict[str, object]:
    """Return what the mnemonic defines in front of the kernel."""
    of = wgmma(row.ptx)
    count = of["D"].elements * of["D"].format.bits // 32
    return {
        "D_REGISTERS": count,
        "A_WORDS": A_BYTES // 4,
        "B_WORDS": B_BYTES // 4,
        "OUT_WORDS": blocks(row.ptx).out_words,
        "PRODUCT(d, a, b, form)": _product(of, count),
    }


def _product(of: Signature, count: int) -> str:
    if of.formats["A"].bits != 16:
        return f"do {{ (void)(form); {_statement(of, count)}; }} while (0)"
    each = (
        f"if ((form) == {number}u) {_statement(of, count, number & 1, number >> 1)};"
        for number in range(3)
    )
    return f"do {{ {' else '.join(each)} }} while (0)"


def _statement(of: Signature, count: int, transpose_a: int = 0, transpose_b: int = 0) -> str:
    """Return the asm statement of a dense product whose A and B lie in shared memory."""
    d = ",".join(f"%{i}" for i in range(count))
    outputs = ", ".join(f'"+r"((d)[{i}])' for i in range(count))
    constants = warpgroup.immediates(of)
    if of.formats["A"].bits == 16:
        constants = f"1, 1, 1, {transpose_a}, {transpose_b}"
    text = f"{'.'.join(of.words)} {{{d}}}, %{count}, %{count + 1}, {constants}"
    return (
        f'asm volatile("{warpgroup.BEFORE} {text}; {warpgroup.AFTER}" : {outputs} : "l"(a), "l"(b))'
    )


def shared_bytes(row: Instruction) -> int:
    """Return the dynamic shared memory of a block."""
    return A_BYTES + B_BYTES
