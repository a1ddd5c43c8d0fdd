"""Every repack recipe, executed: the emulator's registers against the operand laid out anew.

The expected registers come from the two fragments; the recipe is not looked at. A recipe with one
wrong lane, byte or register is shown to be caught.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from attnprobe import compile as compiler
from attnprobe.backends.emulator import EmulatorBackend
from attnprobe.layouts.questions.repack import Repack, repack
from attnprobe.probing import repacks

M = "mma.sync.aligned."
F16 = M + "m16n8k16.row.col.f32.f16.f16.f32"
FP8 = M + "m16n8k32.row.col.f32.e4m3.e4m3.f32"
WGMMA = "wgmma.mma_async.sync.aligned.m64n{n}k{k}.f32.{ab}.{ab} with a in registers"
WGMMA_F16 = WGMMA.format(n=32, k=16, ab="f16")
WGMMA_FP8 = WGMMA.format(n=32, k=32, ab="e4m3")

PAIRS = [
    (F16, F16),
    (M + "m16n8k16.row.col.f16.f16.f16.f16", F16),
    (F16, M + "m16n8k8.row.col.f32.bf16.bf16.f32"),
    (FP8, FP8),
    (M + "m16n8k16.row.col.f32.e5m2.e5m2.f32",) * 2,
    (M + "m16n8k32.row.col.f16.e4m3.e4m3.f16", FP8),
    (F16, FP8),
    (M + "m16n8k32.row.col.s32.s8.s8.s32",) * 2,
    (M + "m8n8k16.row.col.s32.u8.u8.s32",) * 2,
    (M + "m16n8k64.row.col.s32.s4.s4.s32",) * 2,
    (M + "m8n8k32.row.col.s32.u4.u4.s32",) * 2,
    (M + "m16n8k8.row.col.f32.tf32.tf32.f32",) * 2,
    (M + "m16n8k16.row.col.f64.f64.f64.f64",) * 2,
    (M + "m8n8k4.row.col.f64.f64.f64.f64",) * 2,
]
WIDE = [(WGMMA_F16, WGMMA_F16, "A", False), (WGMMA_FP8, WGMMA_FP8, "A", False)]
FOUR_BITS = {"s4", "u4"}
CASES = WIDE + [
    (source, target, operand, transposed)
    for source, target in PAIRS
    for operand, transposed in (("A", False), ("B", True), ("B", False))
    # D as B, not transposed, would take 4-bit elements from two registers into one byte.
    if (operand, transposed) != ("B", False) or not FOUR_BITS & set(target.split("."))
]


@pytest.fixture(scope="module")
def emulator() -> EmulatorBackend:
    return EmulatorBackend()


def named(case: tuple[str, str, str, bool]) -> str:
    source, target, operand, transposed = case
    return f"{source[17:]} {target[17:]} {operand}{'-transposed' if transposed else ''}"


@pytest.mark.parametrize("case", CASES, ids=named)
def test_the_recipe_gives_the_operand_to_the_bit(
    case: tuple[str, str, str, bool], emulator: EmulatorBackend
) -> None:
    source, target, operand, transposed = case
    asked = repack(source, target, operand, transposed=transposed)
    for recipe in (asked.recipe, asked.reordered):
        if recipe is None:
            continue
        (got,) = emulator.run(repacks.launch(asked, recipe)).arrays
        expected = repacks.expected(asked.placement, recipe.order)
        assert got.shape == expected.shape
        assert np.array_equal(got, expected)


def broken(asked: Repack, old: str, new: str, emulator: EmulatorBackend) -> bool:
    """Return whether a recipe with ``old`` replaced by ``new`` gives other registers."""
    launch = repacks.launch(asked, asked.recipe)
    assert old in launch.source.text
    text = launch.source.text.replace(old, new, 1)
    wrong = replace(launch, source=compiler.Source(text, launch.source.name))
    (got,) = emulator.run(wrong).arrays
    return not np.array_equal(got, repacks.expected(asked.placement))


@pytest.mark.parametrize(
    ("source", "old", "new"),
    [
        (F16, "d[0][1]))", "d[0][2]))"),  # a register of D mistaken for its neighbour
        (F16, "%0, %2, %1", "%0, %1, %2"),  # the halves swapped
        (FP8, "0x5410", "0x5411"),  # one byte
        (FP8, "lane % 2", "lane / 2 % 2"),  # the other lanes of the quad
        (FP8, "lane & 2 ?", "lane & 1 ?"),  # the selector of the neighbour
    ],
)
def test_a_wrong_recipe_is_caught(
    source: str, old: str, new: str, emulator: EmulatorBackend
) -> None:
    assert broken(repack(source, source), old, new, emulator)


def test_numbers_of_all_elements_are_apart() -> None:
    asked = repack(FP8, FP8)
    digits = repacks.d_words(asked.placement)  # every word of an f32 D is one element
    assert len(np.unique(digits.reshape(len(digits), -1), axis=1).T) == 4 * 32 * 4


@pytest.mark.parametrize("source", [F16, FP8, WGMMA_FP8])
def test_the_kernel_compiles_for_the_gpu(source: str) -> None:
    asked = repack(source, source)
    target = "sm_90a" if source.startswith("wgmma") else "sm_90"
    binary, _ = compiler.cubin(repacks.launch(asked, asked.recipe).source, target)
    assert binary[:4] == b"\x7fELF"
