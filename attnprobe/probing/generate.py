"""From (layout row, question, fill) to a Launch: the kernel's macros and the operand buffers.

A kernel of ``kernels/probe/`` knows no instruction. This module writes the instruction as a macro,
with operand lists from the row's register counts, and fills the inputs. There is one *recipe* for
each kernel file: which rows it applies to, and its launch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe import layouts
from attnprobe.backends.base import Launch
from attnprobe.compile import Source, load_source
from attnprobe.errors import UsageError
from attnprobe.layouts import Instruction
from attnprobe.probing import fills, memory
from attnprobe.probing.definition import Fill, Question

Array = npt.NDArray[Any]
WORD = np.dtype(np.uint32)


@dataclass(frozen=True)
class Recipe:
    """How launches of one kernel file are made."""

    applies: Callable[[Instruction], bool]
    launch: Callable[[Instruction, Question, Fill], Launch]


def applies(question: Question, row: Instruction) -> bool:
    """Return whether ``question`` can be asked of ``row``."""
    return question.family == row.family and _recipe(question).applies(row)


def launch(row: Instruction, question: Question, fill: Fill) -> Launch:
    """Return the launch that asks ``question`` of ``row`` with ``fill``."""
    return _recipe(question).launch(row, question, fill)


def _recipe(question: Question) -> Recipe:
    if question.kernel not in RECIPES:
        known = ", ".join(RECIPES)
        raise UsageError(f"{question.name}: no recipe for {question.kernel!r}; there are {known}")
    return RECIPES[question.kernel]


# --- Macros ---------------------------------------------------------------------------------------


Arrays = Sequence[tuple[str, int]]  # (name, registers) of each operand


def statement(ptx: str, outputs: Arrays, inputs: Arrays) -> str:
    """Return an asm statement for ``ptx`` with operands (array name, registers) as brace lists."""
    number = 0
    lists: list[str] = []
    for _, count in (*outputs, *inputs):
        lists.append("{" + ",".join(f"%{number + i}" for i in range(count)) + "}")
        number += count
    written = ", ".join(f'"=r"(({name})[{i}])' for name, count in outputs for i in range(count))
    read = ", ".join(f'"r"(({name})[{i}])' for name, count in inputs for i in range(count))
    return f'asm volatile("{ptx} {", ".join(lists)};" : {written} : {read})'


def product_macros(row: Instruction) -> dict[str, object]:
    """Return the macros of a product: register counts, lanes, and PRODUCT(d, a, b, c)."""
    counts = {name: row[name].registers for name in "ABCD"}
    inputs = [(name.lower(), counts[name]) for name in "ABC"]
    macros: dict[str, object] = {f"{name}_REGISTERS": count for name, count in counts.items()}
    macros["LANES"] = row["D"].fragment.lanes
    macros["PRODUCT(d, a, b, c)"] = statement(row.ptx, [("d", counts["D"])], inputs)
    return macros


def load_macro(row: Instruction) -> dict[str, object]:
    """Return LOAD(r, address) of a matrix load."""
    count = row["D"].registers
    held = ",".join(f"%{i}" for i in range(count))
    written = ", ".join(f'"=r"((r)[{i}])' for i in range(count))
    text = f'"{row.ptx} {{{held}}}, [%{count}];" : {written} : "r"(address) : "memory"'
    return {"LOAD(r, address)": f"asm volatile({text})"}


def _source(kernel: str, macros: dict[str, object]) -> Source:
    return load_source(f"probe/{kernel}", macros)


def _assemble(
    row: Instruction,
    question: Question,
    fill: Fill,
    macros: dict[str, object],
    inputs: Sequence[Array],
    output_shapes: Sequence[tuple[int, ...]],
) -> Launch:
    blocks = inputs[0].shape[0]
    return Launch(
        source=_source(question.kernel, macros),
        entry=question.kernel.removesuffix(".cu"),
        grid=(blocks, 1, 1),
        block=(int(str(macros["LANES"])), 1, 1),
        inputs=tuple(np.ascontiguousarray(array) for array in inputs),
        outputs=tuple((shape, WORD) for shape in output_shapes),
        label=(row.ptx, question.name, fill.name),
    )


def crossed(arrays: Sequence[Array]) -> list[Array]:
    """Return the arrays with every block of each beside every block of the others."""
    counts = [array.shape[0] for array in arrays]
    index = np.indices(counts).reshape(len(arrays), -1)
    return [array[chosen] for array, chosen in zip(arrays, index, strict=True)]


# --- mma_sync.cu ----------------------------------------------------------------------------------


def _has_product(row: Instruction) -> bool:
    return {"A", "B", "C", "D"} <= set(row.by_name)


def _product_launch(row: Instruction, question: Question, fill: Fill) -> Launch:
    held = crossed([fills.build(fill.parts[name], row, row[name]) for name in "ABC"])
    d = row["D"]
    shape = (held[0].shape[0], d.registers, d.fragment.lanes)
    return _assemble(row, question, fill, product_macros(row), held, [shape])


# --- ldmatrix.cu ----------------------------------------------------------------------------------


def _load_launch(row: Instruction, question: Question, fill: Fill) -> Launch:
    d = row["D"]
    lanes = d.fragment.lanes
    stored = memory.tagged_rows(d)[None]
    offsets = memory.ADDRESSES[fill.parts["addresses"]](row)[None]
    macros: dict[str, object] = {
        "REGISTERS": d.registers,
        "LANES": lanes,
        "MEMORY_WORDS": stored.shape[1],
        **load_macro(row),
    }
    shape = (1, d.registers, lanes)
    return _assemble(row, question, fill, macros, [stored, offsets], [shape])


# --- ldmatrix_to_a.cu -----------------------------------------------------------------------------


def load_for_a(row: Instruction) -> Instruction | None:
    """Return the matrix load whose registers are as many as A's, or None where there is none."""
    a = row["A"]
    if a.format.bits != 16 or a.fragment.cols % 8 or a.fragment.rows % 8:
        return None
    loads = (item for item in layouts.rows() if item.family == "ldmatrix" and not item.transposed)
    fitting = (load for load in loads if load["D"].registers == a.registers)
    return next((load for load in fitting if load["D"].format.bits == 16), None)


def _a_is_loadable(row: Instruction) -> bool:
    return _has_product(row) and load_for_a(row) is not None


def _load_to_a_launch(row: Instruction, question: Question, fill: Fill) -> Launch:
    load = load_for_a(row)
    assert load is not None, "the recipe does not apply"
    a, d = row["A"], row["D"]
    lanes = d.fragment.lanes
    tile = memory.tile(row, a)
    offsets = memory.usual_offsets(a)
    stored, b = crossed([tile, fills.build(fill.parts["B"], row, row["B"])])
    blocks = stored.shape[0]
    macros = {**product_macros(row), **load_macro(load), "MEMORY_WORDS": stored.shape[1]}
    inputs = [stored, np.broadcast_to(offsets, (blocks, lanes)), b]
    shapes = [(blocks, a.registers, lanes), (blocks, d.registers, lanes)]
    return _assemble(row, question, fill, macros, inputs, shapes)


# --- d_is_next_a.cu -------------------------------------------------------------------------------

_PACKS = {  # two f32 values to one register; the first source operand goes to the high half
    "f16": "cvt.rn.f16x2.f32",
    "bf16": "cvt.rn.bf16x2.f32",
}


def tiles_for_a(row: Instruction) -> int:
    """Return how many D side by side along n are as wide as A is along k; 0 if none are."""
    width, n = row["A"].fragment.cols, row["D"].fragment.cols
    return width // n if width % n == 0 else 0


def _d_packs_to_a(row: Instruction) -> bool:
    if not _has_product(row) or not tiles_for_a(row):
        return False
    a, d = row["A"], row["D"]
    convertible = d.format.name == "f32" and a.format.name in _PACKS
    return convertible or (d.format == a.format and d.format.bits == 16)


def _pack_macro(row: Instruction) -> dict[str, object]:
    if row["D"].format.bits == 16:
        return {}
    text = (
        f'asm volatile("{_PACKS[row["A"].format.name]} %0, %1, %2;" : "=r"(packed) '
        ': "f"(__uint_as_float(high)), "f"(__uint_as_float(low)))'
    )
    return {"PACK(packed, low, high)": text}


def _next_a_launch(row: Instruction, question: Question, fill: Fill) -> Launch:
    a, b, d = row["A"], row["B"], row["D"]
    lanes, tiles = d.fragment.lanes, tiles_for_a(row)
    held = fills.build(fill.parts["A"], row, a)
    blocks = held.shape[0]
    selecting = fills.build(fill.parts["B"], row, b)
    macros = {**product_macros(row), **_pack_macro(row), "TILES": tiles}
    inputs = [held, np.broadcast_to(selecting, (blocks, tiles, b.registers, lanes))]
    shapes = [(blocks, a.registers, lanes), (blocks, tiles, d.registers, lanes)]
    return _assemble(row, question, fill, macros, inputs, shapes)


RECIPES: dict[str, Recipe] = {
    "mma_sync.cu": Recipe(_has_product, _product_launch),
    "ldmatrix.cu": Recipe(lambda row: "D" in row.by_name and row.addresses > 0, _load_launch),
    "ldmatrix_to_a.cu": Recipe(_a_is_loadable, _load_to_a_launch),
    "d_is_next_a.cu": Recipe(_d_packs_to_a, _next_a_launch),
}
