"""How D becomes the next operand: what is known by hand, of every width of an element."""

from __future__ import annotations

import numpy as np
import pytest

from attnprobe import layouts
from attnprobe.errors import UnsupportedError, UsageError
from attnprobe.layouts.questions import placement
from attnprobe.layouts.questions.repack import Repack, repack

M = "mma.sync.aligned."
F16 = M + "m16n8k16.row.col.f32.f16.f16.f32"
BF16 = M + "m16n8k16.row.col.f32.bf16.bf16.f32"
HALF = M + "m16n8k16.row.col.f16.f16.f16.f16"
F16_K8 = M + "m16n8k8.row.col.f32.f16.f16.f32"
FP8 = M + "m16n8k32.row.col.f32.e4m3.e4m3.f32"
S8 = M + "m16n8k32.row.col.s32.s8.s8.s32"
S4 = M + "m16n8k64.row.col.s32.s4.s4.s32"
TF32 = M + "m16n8k8.row.col.f32.tf32.tf32.f32"
F64 = M + "m16n8k8.row.col.f64.f64.f64.f64"
WGMMA = "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 with a in registers"
WGMMA_FP8 = "wgmma.mma_async.sync.aligned.m64n64k32.f32.e4m3.e4m3 with a in registers"


def packs(asked: Repack) -> list[str]:
    return [line for step in asked.recipe.steps for line in step.ptx]


@pytest.mark.parametrize(("ptx", "cvt"), [(F16, "cvt.rn.f16x2.f32"), (BF16, "cvt.rn.bf16x2.f32")])
def test_the_accumulators_of_two_n8_blocks_packed_in_order_are_the_16_bit_a(
    ptx: str, cvt: str
) -> None:
    """a0 = row g of block 0, a1 = row g + 8 of block 0, a2 and a3 the same of block 1."""
    asked = repack(ptx, ptx)
    assert packs(asked) == [
        f"{cvt} a[0][0], d[0][1], d[0][0]",  # cvt puts its first source in the high half
        f"{cvt} a[0][1], d[0][3], d[0][2]",
        f"{cvt} a[0][2], d[1][1], d[1][0]",
        f"{cvt} a[0][3], d[1][3], d[1][2]",
    ]
    assert asked.reordered is None
    assert asked.verdict == (
        "no value leaves its lane: the registers of D, packed in their order, are the operand"
    )


def test_16_bit_accumulators_are_the_a_operand_as_they_are() -> None:
    asked = repack(HALF, F16)
    assert asked.recipe.steps == ()
    assert asked.recipe.results == (
        ("a[0][0]", "d[0][0]"),
        ("a[0][1]", "d[0][1]"),
        ("a[0][2]", "d[1][0]"),
        ("a[0][3]", "d[1][1]"),
    )
    assert asked.verdict == "nothing is needed: the registers of D are those of the operand"


def test_one_accumulator_makes_two_a_of_k8() -> None:
    """m16n8k8 takes a D as wide as its k: a0 is row g, a1 row g + 8."""
    assert packs(repack(F16, F16_K8)) == [
        "cvt.rn.f16x2.f32 a[0][0], d[0][1], d[0][0]",
        "cvt.rn.f16x2.f32 a[0][1], d[0][3], d[0][2]",
    ]


def test_a_warpgroup_packs_each_pair_of_n8_blocks_into_one_a() -> None:
    asked = repack(WGMMA, WGMMA)
    assert (asked.placement.source_tiles, asked.placement.target_tiles) == (1, 4)
    expected = [
        f"cvt.rn.f16x2.f32 a[{tile}][{i}], d[0][{8 * tile + 2 * i + 1}], d[0][{8 * tile + 2 * i}]"
        for tile in range(4)
        for i in range(4)
    ]
    assert packs(asked) == expected


def test_fp8_needs_an_exchange_within_the_quad() -> None:
    """A lane holds 2 neighbours of a row in D and 4 in A: it takes two from each of two lanes."""
    asked = repack(FP8, FP8)
    counts = {kind: asked.recipe.count(kind) for kind in ("convert", "exchange", "permute")}
    assert counts == {"convert": 4, "exchange": 8, "permute": 4}
    givers = asked.placement.lane
    takers = np.arange(32)[None, :, None]
    assert (givers // 4 == takers // 4).all()
    assert (givers != takers).any()


@pytest.mark.parametrize("ptx", [FP8, S8])
def test_8_bit_k_can_be_ordered_so_that_no_value_leaves_its_lane(ptx: str) -> None:
    """Neighbouring n8 blocks give two columns each to a register of four: 0 1 8 9, 2 3 10 11."""
    asked = repack(ptx, ptx)
    assert asked.reordered is not None
    half = [0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15]
    assert list(asked.reordered.order) == half + [16 + k for k in half]
    assert asked.reordered.count("exchange") == asked.reordered.count("permute") == 0
    assert asked.reordered.count("convert") == 4
    values = [eval(asked.k_formula, {}, {"k": k}) for k in range(32)]
    assert values == list(asked.reordered.order)


def test_8_bit_accumulators_pack_from_the_top_with_cvt_pack() -> None:
    asked = repack(S8, S8)
    assert asked.reordered is not None
    first = asked.reordered.steps[0]
    assert first.ptx == (
        "cvt.pack.sat.s8.s32.b32 a[0][0], d[1][1], d[1][0], 0",
        "cvt.pack.sat.s8.s32.b32 a[0][0], d[0][1], d[0][0], a[0][0]",
    )


def test_a_warpgroup_of_fp8_orders_k_as_a_warp_does() -> None:
    asked = repack(WGMMA_FP8, WGMMA_FP8)
    assert asked.reordered is not None
    assert asked.reordered.order[:8] == (0, 1, 8, 9, 2, 3, 10, 11)
    assert asked.reordered.count("exchange") == 0


def test_4_bit_elements_take_four_lanes_together() -> None:
    asked = repack(S4, S4)
    assert asked.recipe.count("exchange") == 16
    assert asked.reordered is not None
    assert asked.reordered.order[:8] == (0, 1, 8, 9, 16, 17, 24, 25)


@pytest.mark.parametrize("ptx", [TF32, F64])
def test_whole_registers_are_ordered_by_even_and_odd_columns(ptx: str) -> None:
    """Lane t of a quad has columns 2t and 2t + 1 of D, and k = t and t + 4 of A."""
    asked = repack(ptx, ptx)
    assert asked.reordered is not None
    assert asked.reordered.order == (0, 2, 4, 6, 1, 3, 5, 7)
    assert asked.k_formula == "2 * (k % 4) + k // 4"


def test_d_as_b_crosses_lanes_and_d_transposed_as_b_does_not() -> None:
    """B holds pairs down k, D pairs along n: only the transposed one lies right."""
    assert repack(F16, F16, "B").recipe.count("exchange") == 4
    assert repack(F16, F16, "B", transposed=True).recipe.count("exchange") == 0


@pytest.mark.parametrize("operand", ["A", "B"])
@pytest.mark.parametrize("ptx", [F16, FP8, TF32, F64, S4])
def test_an_order_of_k_moves_whole_columns_and_keeps_lanes(ptx: str, operand: str) -> None:
    transposed = operand == "B"
    asked = repack(ptx, ptx, operand, transposed=transposed)
    if asked.reordered is None:
        assert ptx == F16
        return
    placed = placement.place(
        asked.placement.source, asked.operand, transposed, asked.reordered.order
    )
    assert sorted(asked.reordered.order) == list(range(len(asked.reordered.order)))
    assert (placed.lane == np.arange(32)[None, :, None]).all()


@pytest.mark.parametrize(
    ("source", "target", "operand", "error", "message"),
    [
        (F16, WGMMA, "A", UnsupportedError, "D is spread over 32 lanes, A over 128"),
        (S8, F16, "A", UnsupportedError, "no instruction turns s32 into f16; s32 becomes s8, u8"),
        (F16, F16, "C", UsageError, "C has no axis k"),
        (F16, F16, "X", UsageError, "has no operand 'X'; it has D, A, B, C"),
        ("ldmatrix.sync.aligned.m8n8.x4.shared.b16", F16, "A", UsageError, "is no product"),
        ("m16n8k61", F16, "A", UsageError, "no instruction fits 'm16n8k61'; the nearest"),
        (S4, S4, "B", UnsupportedError, "narrower than a byte"),
        (M + "m8n8k4.row.col.f32.f16.f16.f32",) * 2 + ("B", UnsupportedError, "several matrices"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(
    source: str, target: str, operand: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message.replace("(", r"\(")):
        repack(source, target, operand)


def test_sizes_that_do_not_fit_are_refused() -> None:
    n24 = "wgmma.mma_async.sync.aligned.m64n24k16.f32.f16.f16 with a in registers"
    with pytest.raises(UnsupportedError, match="neither 24 nor 16 is a multiple of the other"):
        repack(n24, n24)


def test_the_rows_of_these_tests_exist() -> None:
    assert layouts.exact(WGMMA) is not None
