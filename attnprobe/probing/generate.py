"""From (layout row, question, fill) to a Launch: the kernel's macros and the operand buffers.

A kernel of ``kernels/probe/`` knows no instruction. This module gives it the instruction as a macro
(``macros``) and fills the inputs. There is one *recipe* for each kernel file: which rows it applies
to, its macros, and its arrays.
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
from attnprobe.probing import fills, macros, memory, registers, warpgroup, warpgroup_tiles, wmma
from attnprobe.probing.definition import Fill, Question

Array = npt.NDArray[Any]
WORD = np.dtype(np.uint32)


Macros = dict[str, object]
Arrays = tuple[list[Array], list[tuple[int, ...]]]  # inputs, and the shapes of the outputs


@dataclass(frozen=True)
class Recipe:
    """How launches of one kernel file are made.

    Attributes
    ----------
    applies : whether the kernel can ask about a row.
    macros : what the row defines in front of the kernel.
    arrays : inputs and shapes of outputs for a row and a fill; the first axis is the block.
    shared_bytes : dynamic shared memory of a block.
    """

    applies: Callable[[Instruction], bool]
    macros: Callable[[Instruction], Macros]
    arrays: Callable[[Instruction, Fill], Arrays]
    shared_bytes: Callable[[Instruction], int] = lambda row: 0


def applies(question: Question, row: Instruction) -> bool:
    """Return whether ``question`` can be asked of ``row``: family, kernel and fills allow it."""
    if row.family not in question.families or not _recipe(question).applies(row):
        return False
    if question.kernel == "wgmma.cu":
        return all(warpgroup.fits(fill, row) for fill in question.fills)
    parts = [(fill.parts[name], name) for fill in question.fills for name in fill.parts]
    return all(fills.fits(fill, row, row[name]) for fill, name in parts if name in row.by_name)


def source(row: Instruction, question: Question) -> Source:
    """Return the text of the kernel that asks ``question`` of ``row``."""
    return load_source(f"probe/{question.kernel}", _recipe(question).macros(row))


def target(row: Instruction) -> str:
    """Return the target that the text must be compiled for where not every later GPU takes it."""
    return row.only_on[0] if row.only_on else ""


def launch(row: Instruction, question: Question, fill: Fill) -> Launch:
    """Return the launch that asks ``question`` of ``row`` with ``fill``."""
    inputs, shapes = _recipe(question).arrays(row, fill)
    return Launch(
        source=source(row, question),
        entry=question.kernel.removesuffix(".cu"),
        grid=(inputs[0].shape[0], 1, 1),
        block=(row.lanes, 1, 1),
        inputs=tuple(np.ascontiguousarray(array) for array in inputs),
        outputs=tuple((shape, WORD) for shape in shapes),
        label=(row.ptx, question.name, fill.name),
        shared_bytes=_recipe(question).shared_bytes(row),
        target=target(row),
    )


def _recipe(question: Question) -> Recipe:
    if question.kernel not in RECIPES:
        known = ", ".join(RECIPES)
        raise UsageError(f"{question.name}: no recipe for {question.kernel!r}; there are {known}")
    return RECIPES[question.kernel]


def crossed(arrays: Sequence[Array]) -> list[Array]:
    """Return the arrays with every block of each beside every block of the others."""
    counts = [array.shape[0] for array in arrays]
    index = np.indices(counts).reshape(len(arrays), -1)
    return [array[chosen] for array, chosen in zip(arrays, index, strict=True)]


def _words(row: Instruction, name: str) -> tuple[int, int]:
    return registers.words(row[name]), row[name].fragment.lanes


# --- mma_sync.cu ----------------------------------------------------------------------------------


def _has_product(row: Instruction) -> bool:
    return {"A", "B", "C", "D"} <= set(row.by_name)


def _is_plain_product(row: Instruction) -> bool:
    return _has_product(row) and not macros.extras(row)


def _product(row: Instruction, fill: Fill) -> Arrays:
    held = crossed([fills.build(fill.parts[name], row, row[name]) for name in "ABC"])
    return held, [(held[0].shape[0], *_words(row, "D"))]


# --- mma_steered.cu -------------------------------------------------------------------------------


def _is_sparse(row: Instruction) -> bool:
    return _has_product(row) and macros.extras(row) == ("E",)


def _steered(row: Instruction, fill: Fill) -> Arrays:
    """A, B, C, the metadata E and the number of the variant: all of it, or the first alone."""
    held = [fills.build(fill.parts[name], row, row[name]) for name in "ABCE"]
    count = len(macros.variants(row)) if fill.parts["variant"] == "every" else 1
    a, b, c, e, variant = crossed([*held, np.arange(count, dtype=np.uint32)[:, None]])
    return [a, b, c, e, variant], [(a.shape[0], *_words(row, "D"))]


# --- ldmatrix.cu, stmatrix.cu, movmatrix.cu -------------------------------------------------------


def _moves_words(row: Instruction) -> bool:
    """Whether the elements in memory are those in registers, and can be numbered."""
    return not row.memory and row.operands[0].format.bits == 16


def _load_macros(row: Instruction) -> Macros:
    d = row["D"]
    return {
        "REGISTERS": d.registers,
        "LANES": d.fragment.lanes,
        "MEMORY_WORDS": d.fragment.lanes * memory.ROW_BYTES // 4,
        **macros.load_macro(row),
    }


def _load(row: Instruction, fill: Fill) -> Arrays:
    offsets = memory.ADDRESSES[fill.parts["addresses"]](row)[None]
    return [memory.tagged_rows(row["D"])[None], offsets], [(1, *_words(row, "D"))]


def _store_macros(row: Instruction) -> Macros:
    operand = row.operands[0]
    return {
        "REGISTERS": operand.registers,
        "LANES": operand.fragment.lanes,
        "MEMORY_WORDS": operand.fragment.lanes * memory.ROW_BYTES // 4,
        **macros.store_macro(row),
    }


def _store(row: Instruction, fill: Fill) -> Arrays:
    operand = row.operands[0]
    held = registers.pack(memory.numbered(operand)[None], operand.format)
    offsets = memory.ADDRESSES[fill.parts["addresses"]](row)[None]
    words = operand.fragment.lanes * memory.ROW_BYTES // 4
    return [held, offsets], [(1, words)]


def _move_macros(row: Instruction) -> Macros:
    d, a = row.operands
    text = macros.statement(row, {d.name: "(d)", a.name: "(a)"}, {})
    counts = {"A_REGISTERS": a.registers, "D_REGISTERS": d.registers}
    return {**counts, "LANES": d.fragment.lanes, "MOVE(d, a)": text}


def _move(row: Instruction, fill: Fill) -> Arrays:
    d, a = row.operands
    held = registers.pack(memory.numbered(a)[None], a.format)
    return [held], [(1, *_words(row, d.name))]


# --- ldmatrix_to_a.cu -----------------------------------------------------------------------------


def load_for_a(row: Instruction) -> Instruction | None:
    """Return the matrix load whose registers are as many as A's, or None where there is none."""
    a = row["A"]
    if a.format.bits != 16 or a.fragment.cols % 8 or a.fragment.rows % 8:
        return None
    loads = (item for item in layouts.rows("ldmatrix") if not item.transposed)
    fitting = (load for load in loads if load["D"].registers == a.registers)
    return next((load for load in fitting if load["D"].format.bits == 16), None)


def _a_is_loadable(row: Instruction) -> bool:
    return _is_plain_product(row) and load_for_a(row) is not None


def _load_to_a_macros(row: Instruction) -> Macros:
    load = load_for_a(row)
    assert load is not None, "the recipe does not apply"
    words = memory.tile(row, row["A"]).shape[1]
    return {
        **macros.product_macros(row), **macros.load_macro(load), "MEMORY_WORDS": words
    }  # fmt: skip


def _load_to_a(row: Instruction, fill: Fill) -> Arrays:
    a = row["A"]
    offsets = memory.usual_offsets(a)
    stored, b = crossed([memory.tile(row, a), fills.build(fill.parts["B"], row, row["B"])])
    blocks = stored.shape[0]
    inputs = [stored, np.broadcast_to(offsets, (blocks, a.fragment.lanes)), b]
    return inputs, [(blocks, *_words(row, "A")), (blocks, *_words(row, "D"))]


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
    if not _is_plain_product(row) or not tiles_for_a(row):
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


def _next_a_macros(row: Instruction) -> Macros:
    return {**macros.product_macros(row), **_pack_macro(row), "TILES": tiles_for_a(row)}


def _next_a(row: Instruction, fill: Fill) -> Arrays:
    tiles = tiles_for_a(row)
    held = fills.build(fill.parts["A"], row, row["A"])
    blocks = held.shape[0]
    selecting = fills.build(fill.parts["B"], row, row["B"])
    inputs = [held, np.broadcast_to(selecting, (blocks, tiles, *_words(row, "B")))]
    return inputs, [(blocks, *_words(row, "A")), (blocks, tiles, *_words(row, "D"))]


RECIPES: dict[str, Recipe] = {
    "mma_sync.cu": Recipe(_is_plain_product, macros.product_macros, _product),
    "mma_steered.cu": Recipe(_is_sparse, macros.product_macros, _steered),
    "ldmatrix.cu": Recipe(_moves_words, _load_macros, _load),
    "stmatrix.cu": Recipe(_moves_words, _store_macros, _store),
    "movmatrix.cu": Recipe(_moves_words, _move_macros, _move),
    "ldmatrix_to_a.cu": Recipe(_a_is_loadable, _load_to_a_macros, _load_to_a),
    "d_is_next_a.cu": Recipe(_d_packs_to_a, _next_a_macros, _next_a),
    "wmma_load.cu": Recipe(lambda row: True, wmma.load_macros, wmma.load_arrays),
    "wmma_store.cu": Recipe(lambda row: True, wmma.store_macros, wmma.store_arrays),
    "wgmma.cu": Recipe(warpgroup.applies, warpgroup.macros, warpgroup.arrays),
    "wgmma_tiles.cu": Recipe(
        warpgroup_tiles.applies,
        warpgroup_tiles.macros,
        warpgroup_tiles.arrays,
        warpgroup_tiles.shared_bytes,
    ),
}
