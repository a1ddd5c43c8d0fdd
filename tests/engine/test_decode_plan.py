"""Which problems the decode kernel serves, with how many splits, and what its compiler says."""

from __future__ import annotations

import dataclasses
import re

import pytest

from attnprobe import compile as compile_
from attnprobe.arch import ARCHES, Arch, arch
from attnprobe.engine.decode import DECODE, MOST_ROWS, DecodeVariant, best_splits
from attnprobe.engine.plan import Plan, make_plan
from attnprobe.engine.problem import Layout, Problem
from attnprobe.formats import FORMATS

SM_90 = arch(90)


def make(
    widths: tuple[int, int] = (128, 128),
    *,
    formats: tuple[str, str] = ("f16", "f16"),
    sizes: tuple[int, int, int] = (1, 1, 8192),
    heads: tuple[int, int] = (32, 8),
    **changes: object,
) -> Problem:
    """Return a problem of (batch, seqlen_q, seqlen_k)."""
    query, cache = (FORMATS[name] for name in formats)
    plain = Problem(
        *sizes, *heads, *widths, query, 0.125, (-1, -1), 0.0, True, cache, query,
        plane=sizes[1:],
    )  # fmt: skip
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def decodes(plan: Plan) -> bool:
    return plan.variant.entry == "attention_decode_split"


WIDTHS = [(w, w) for w in (16, 32, 64, 80, 96, 112, 128, 160, 192, 256, 512)]
WIDTHS += [(192, 128), (576, 512)]


@pytest.mark.parametrize("row", ARCHES, ids=lambda row: row.sm)
@pytest.mark.parametrize("cache", ["f16", "e4m3", "s8"])
def test_every_arch_has_a_kernel_for_every_width(row: Arch, cache: str) -> None:
    for widths in WIDTHS:
        plan = make_plan(make(widths, formats=("f16", cache)), row)
        assert decodes(plan)
        assert plan.shared_bytes <= row.smem_per_block
        assert plan.variant.serves(plan.problem)


def test_every_variant_is_reachable() -> None:
    chosen = {
        make_plan(make(widths, formats=("f16", cache), sizes=(batch, 1, 8192)), row).variant
        for widths in WIDTHS
        for row in ARCHES
        for cache in ("f16", "s8")
        for batch in (1, 64)
    }
    assert chosen == set(DECODE)


@pytest.mark.parametrize(("width", "warps", "most"), [(128, 8, 792), (64, 8, 660)])
def test_blocks_that_fit_on_the_device_at_once_are_small(width: int, warps: int, most: int) -> None:
    """Eight K/V heads a sequence, 132 multiprocessors: 396 blocks are 49.5 sequences."""
    few, least, last, many = (
        make_plan(make((width, width), sizes=(batch, 1, 4096)), SM_90)
        for batch in (49, 50, most // 8, most // 8 + 1)
    )
    assert least.variant == last.variant
    assert least.variant.warps == 2
    assert least.num_splits == 1
    assert few.variant.warps == many.variant.warps == warps
    assert f"392 blocks, it is for 396 to {most}" in few.passed_over[0]


def test_with_splits_given_the_tile_does_not_depend_on_the_batch() -> None:
    for splits in (1, 2, 5):
        tiles = {
            make_plan(make(sizes=(batch, 1, 4096), num_splits=splits), SM_90).variant
            for batch in (1, 16, 64, 300)
        }
        assert len(tiles) == 1


def test_many_queries_take_wide_tiles_and_the_plan_says_why() -> None:
    few = make_plan(make(sizes=(1, 16, 8192)), SM_90)
    many = make_plan(make(sizes=(1, 17, 8192)), SM_90)
    assert decodes(few)
    assert not decodes(many)
    assert f"68 rows share a K/V head, it is for up to {MOST_ROWS}" in many.passed_over[0]


def test_no_other_kernel_takes_eight_bits() -> None:
    for seqlen_q in (1, 17, 3000):
        assert decodes(make_plan(make(formats=("bf16", "s8"), sizes=(2, seqlen_q, 3000)), SM_90))


def test_splits_fill_the_device_and_no_more() -> None:
    """Eight K/V heads on 132 multiprocessors: 16 splits of a sequence leave four without work."""
    assert make_plan(make(sizes=(1, 1, 65536)), SM_90).num_splits == 16
    assert make_plan(make(sizes=(16, 1, 8192)), SM_90).num_splits == 1
    assert make_plan(make(sizes=(64, 1, 4096)), SM_90).num_splits == 1
    assert make_plan(make(sizes=(1, 1, 16)), SM_90).num_splits == 1
    half = dataclasses.replace(SM_90, multiprocessors=66)
    assert make_plan(make(sizes=(1, 1, 65536)), half).num_splits == 8


def test_a_window_is_split_by_what_it_shows() -> None:
    plan = make_plan(make(sizes=(1, 1, 1 << 20), window=(63, 0), diagonal=(1 << 20) - 1), SM_90)
    assert plan.num_splits <= 6


@pytest.mark.parametrize("tiles", [1, 2, 7, 500])
def test_best_splits_leave_no_part_without_a_tile(tiles: int) -> None:
    for blocks in (1, 8, 300, 5000):
        assert 1 <= best_splits(tiles, 8192, blocks, (132, 2)) <= tiles


def test_with_fixed_splits_the_kernel_does_not_depend_on_the_batch() -> None:
    for num_splits in (1, 3):
        for seqlen_q in (1, 12, 16, 17):
            chosen = {
                make_plan(make(sizes=(batch, seqlen_q, 900), num_splits=num_splits), SM_90).variant
                for batch in (1, 7, 500)
            }
            assert len(chosen) == 1
            assert make_plan(make(num_splits=num_splits), SM_90).num_splits == num_splits


def test_scratch_and_launches_follow_the_splits() -> None:
    one = make_plan(make(num_splits=1), SM_90)
    assert (len(one.steps), dict(one.scratch)) == (1, {})
    three = make_plan(make(num_splits=3), SM_90)
    assert [step.entry for step in three.steps] == ["attention_decode_split"]
    assert {name: shape for name, (shape, _) in three.scratch.items()} == {
        "O_split": (3, 32, 128),
        "LSE_split": (3, 1, 32),
        "arrivals": (8, 1, 1),
    }
    assert three.grid == (8 * 3, 1, 1)


def test_more_parts_than_one_block_combines_have_further_ones() -> None:
    scratch = make_plan(make(num_splits=129), SM_90).scratch
    assert scratch["O_split"][0] == (129 + 3, 32, 128)
    assert scratch["LSE_split"][0] == (129 + 3, 1, 32)
    assert scratch["arrivals"][0] == (8, 1, 3 + 1)
    assert make_plan(make(num_splits=64), SM_90).scratch["O_split"][0] == (64, 32, 128)


def test_blocks_that_share_the_columns_of_o_count_for_themselves() -> None:
    scratch = make_plan(make((576, 512), num_splits=2), SM_90).scratch
    assert scratch["LSE_split"][0] == (2, 2, 32)
    assert scratch["arrivals"][0] == (8, 2, 1)


def test_packed_queries_have_slots_for_any_lengths() -> None:
    layout = Layout(varlen_q=True, seqused_k=True)
    problem = make(sizes=(5, 40, 900), layout=layout, num_splits=2, diagonal=None)
    assert make_plan(problem, SM_90).grid == ((40 * 4 // 16 + 5) * 8 * 2, 1, 1)


# Registers depend on widths, tile and format; stages and warps hardly matter: one row of each.
TEXTS = {(row.head_dim, row.block_n, row.kv_bits): row for row in reversed(DECODE)}


@pytest.mark.parametrize("row", TEXTS.values(), ids=map(str, TEXTS))
def test_machine_code_has_no_spills(row: DecodeVariant) -> None:
    """Windowed bf16, with e4m3 where K and V have 8 bits: the text with the most in it."""
    formats = ("bf16", "e4m3" if row.kv_bits == 8 else "bf16")
    problem = make((row.head_dim, row.v_head_dim), formats=formats, window=(-1, 0))
    plan = dataclasses.replace(make_plan(problem, SM_90), variant=row)
    _, log = compile_.cubin(plan.source(), SM_90.sm)
    spills = [int(n) for n in re.findall(r"(\d+) bytes spill", log)]
    assert spills, log
    assert max(spills) == 0, log


@pytest.mark.parametrize("row", ARCHES, ids=lambda row: row.sm)
def test_ptx_for_every_arch(row: Arch) -> None:
    plan = make_plan(make(formats=("bf16", "e4m3"), num_splits=2), row)
    for step in plan.steps:
        assert f".target {row.sm}" in compile_.ptx(plan.source(step.source), row.cc)
