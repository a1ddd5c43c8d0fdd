"""What a mnemonic alone says: shape, formats, how many elements a lane holds. No layout is known.

Discovery starts from this. ``blank`` makes a row of it whose fragments only count: row l, column i
stands for element i of lane l, so that the launches of a probe can be made and nothing else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from attnprobe.errors import UnsupportedError
from attnprobe.formats import FORMATS, Format
from attnprobe.layouts import Digit, Fragment, Instruction, Operand
from attnprobe.layouts.sparsity import Sparsity

_SHAPE = re.compile(r"m(\d+)n(\d+)k(\d+)$")
_TYPES = {form.ptx for form in FORMATS.values()}


@dataclass(frozen=True)
class Slots:
    """The registers of one operand: its name, format, and elements in each of ``lanes`` lanes."""

    name: str
    format: Format
    lanes: int
    elements: int


@dataclass(frozen=True)
class Signature:
    """A mnemonic taken apart.

    Attributes
    ----------
    name : the row's name: a mnemonic, and perhaps words behind a blank.
    family : as ``Instruction.family``.
    shape : (m, n, k), or () where the mnemonic has none.
    formats : operand name -> format, for operands in shared memory too.
    slots : operands in registers, in the order of PTX.
    group, kept : of structured sparsity, else 1 and 1.
    """

    name: str
    family: str
    shape: tuple[int, ...]
    formats: dict[str, Format]
    slots: tuple[Slots, ...]
    group: int = 1
    kept: int = 1

    @property
    def words(self) -> tuple[str, ...]:
        """The words of the mnemonic."""
        return tuple(self.name.partition(" ")[0].split("."))

    @property
    def stored(self) -> int:
        """Elements that are stored of a row of A."""
        return self.shape[2] // self.group * self.kept

    def __getitem__(self, name: str) -> Slots:
        return next(each for each in self.slots if each.name == name)


def types(name: str) -> list[str]:
    """Return the PTX types in a mnemonic, in order; ``.u8`` and so on, no modifiers."""
    return [word for word in name.partition(" ")[0].split(".") if word in _TYPES]


def shape(name: str) -> tuple[int, ...]:
    """Return (m, n, k) of a mnemonic, () where it has none."""
    for word in name.partition(" ")[0].split("."):
        found = _SHAPE.match(word)
        if found:
            return tuple(int(each) for each in found.groups())
    return ()


@lru_cache(maxsize=4096)
def wgmma(name: str) -> Signature:
    """Return the signature of a ``wgmma.mma_async`` row.

    Raises
    ------
    UnsupportedError
        For the mnemonic of another instruction.
    """
    words = name.partition(" ")[0].split(".")
    if words[:2] != ["wgmma", "mma_async"]:
        raise UnsupportedError(f"{name} is no wgmma.mma_async")
    sizes = shape(name)
    d, a, b = (FORMATS[each] for each in types(name))
    sparse = "sp" in words
    group, kept = ((2, 1) if a.bits == 32 else (4, 2)) if sparse else (1, 1)
    slots = [Slots("D", d, 128, sizes[0] * sizes[1] // 128)]
    if name.endswith("a in registers"):
        slots.append(Slots("A", a, 128, sizes[0] * sizes[2] // group * kept // 128))
    if sparse:
        slots.append(Slots("E", FORMATS["b8"], 128, 4))
    family = "wgmma.sp" if sparse else "wgmma"
    formats = {"D": d, "A": a, "B": b}
    return Signature(name, family, sizes, formats, tuple(slots), group, kept)


@lru_cache(maxsize=256)
def wmma_move(name: str) -> Signature:
    """Return the signature of a ``wmma.load`` or ``wmma.store``.

    PTX gives A and B of f16 sixteen elements in every shape, whatever their size; all others have
    as many as they need. Source: PTX ISA 9.1, 9.7.14.4.1 "Matrix Fragments for WMMA".

    Raises
    ------
    UnsupportedError
        For the mnemonic of another instruction.
    """
    words = name.split(".")
    if words[0] != "wmma" or words[1] not in ("load", "store"):
        raise UnsupportedError(f"{name} is no wmma.load or wmma.store")
    rows, cols = matrix_of(words[2], shape(name))
    form = FORMATS[words[-1]]
    fixed = words[2] in "ab" and form.name == "f16"
    operand = "D" if words[1] == "load" else "R"
    slots = Slots(operand, form, 32, 16 if fixed else rows * cols // 32)
    family = f"wmma.{words[1]}"
    return Signature(name, family, shape(name), {operand: form}, (slots,))


def matrix_of(letter: str, sizes: tuple[int, ...]) -> tuple[int, int]:
    """Return rows and columns of operand ``letter`` of a product of shape (m, n, k)."""
    m, n, k = sizes
    return {"a": (m, k), "b": (k, n)}.get(letter.lower(), (m, n))


def blank(signature: Signature) -> Instruction:
    """Return a row whose fragments count elements and say nothing of where they are."""
    return Instruction(
        signature.name,
        signature.family,
        (),
        tuple(_blank_operand(each) for each in signature.slots),
        "",
        0,
        "no layout: the registers of the mnemonic alone",
    )


def _blank_operand(slots: Slots) -> Operand:
    lane, elem = (Digit(slots.lanes, row=1),), (Digit(slots.elements, col=1),)
    fragment = Fragment(slots.lanes, slots.elements, lane, elem)
    return Operand(slots.name, fragment, slots.format, ("lane", "i"))


def sparsity(signature: Signature) -> Sparsity | None:
    """Return how the stored elements are spread over k; None for a dense A."""
    if signature.group == 1:
        return None
    if signature.group == 2:
        return Sparsity(2, 1, 1, codes=(0b0100, 0b1110))
    return Sparsity(signature.group, signature.kept, signature.group // 4)
