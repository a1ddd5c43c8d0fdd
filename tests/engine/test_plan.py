"""The plan: the right kernel for each arch, and a text that the arch's compiler accepts."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import replace

import pytest

from attnprobe import compile as compile_
from attnprobe.arch import ARCHES, Arch, arch
from attnprobe.engine.features import FEATURES, exponent_scale
from attnprobe.engine.plan import make_plan
from attnprobe.engine.problem import Problem
from attnprobe.engine.variants import VARIANTS, MmaVariant
from attnprobe.errors import UnsupportedError
from attnprobe.formats import FORMATS
from tests.engine.hopper import PLANES


def make(head_dim: int = 128, format_name: str = "f16", **changes: object) -> Problem:
    sizes = (2, 300, 500, 8, 2, head_dim, min(head_dim, 512))
    format_ = FORMATS[format_name]
    plain = Problem(*sizes, format_, 0.125, (-1, -1), 0.0, True, format_, format_)
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


WINDOWS = ((-1, -1), (-1, 0))
HEAD_DIMS = (16, 32, 64, 80, 96, 112, 128, 160, 192, 256, 512, 576)


@pytest.mark.parametrize("row", ARCHES, ids=lambda row: row.sm)
@pytest.mark.parametrize("head_dim", HEAD_DIMS)
def test_every_arch_has_a_kernel_that_fits(row: Arch, head_dim: int) -> None:
    plan = make_plan(make(head_dim), row)
    assert plan.shared_bytes <= plan.arch.smem_per_block
    assert plan.variant.serves(plan.problem)


def test_every_variant_is_reachable() -> None:
    problems = [make(head_dim, window=window) for head_dim in HEAD_DIMS for window in WINDOWS]
    # V narrower than K, and of a width that two warps cannot share.
    problems += [make(192, v_head_dim=128), make(208)]
    problems += [replace(problem, **planes) for problem in problems for planes in PLANES.values()]
    problems += [replace(problem, mappable=True) for problem in problems]
    arches = [row.portable for row in ARCHES]
    chosen = {make_plan(problem, row).variant for problem in problems for row in arches}
    assert chosen == set(VARIANTS)


def test_keys_come_by_bulk_copies_where_a_tensor_map_describes_them() -> None:
    problem = make(mappable=True)
    plan = make_plan(problem, arch(90).portable)
    assert plan.defines["ATTN_TMA"] == 1
    assert plan.steps[0].boxes == (("K", 64), ("V", 64))
    pages = replace(problem.layout, page_size=64)
    for changes, cc, reason in (
        ({"mappable": False}, 90, "no tensor map describes Q, K and V"),
        ({"layout": pages}, 90, "copies blocks of keys that lie in one piece, not in pages"),
        ({}, 89, "needs sm_90"),
    ):
        other = make_plan(replace(problem, **changes), arch(cc).portable)  # type: ignore[arg-type]
        assert other.defines["ATTN_TMA"] == 0
        assert other.steps[0].boxes == ()
        assert f"attention_fwd_mma 128x64: {reason}" in other.passed_over


def test_plan_says_why_earlier_variants_were_passed_over() -> None:
    plan = make_plan(make(256), arch(89))
    assert plan.variant.block_m == 64
    few, hopper, _hopper_for_biases, *wide = plan.passed_over
    assert few == "attention_decode_split 16x16: 1200 rows share a K/V head, it is for up to 64"
    assert hopper == "attention_fwd_wgmma 128x64: needs sm_90a"
    assert [line.split(": ")[1].split(",")[0] for line in wide] == [
        *["needs sm_90"] * 3,
        "needs 192 KiB of shared memory",
        "needs 128 KiB of shared memory",
    ]
    assert "a block on sm_89 gets 99" in wide[3]


def test_old_arch_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="sm_75"):
        arch(75)


def test_unknown_minor_takes_the_nearest_older_row() -> None:
    assert arch(103).cc == 100
    assert arch(121).cc == 120


def test_grid_covers_every_query_of_every_head() -> None:
    plan = make_plan(make(), arch(90))
    assert plan.variant.block_m == 128
    assert plan.grid == (3 * 8 * 2, 1, 1)


def test_wide_v_must_split_into_steps() -> None:
    with pytest.raises(UnsupportedError, match="multiple of 32"):
        make_plan(make(512, v_head_dim=272), arch(90))


def test_two_blocks_share_the_columns_of_a_wide_o() -> None:
    plan = make_plan(make(576), arch(80))
    assert plan.defines["ATTN_V_DIM"] == 256
    assert plan.grid == (5 * 8 * 2 * 2, 1, 1)


def test_or_two_warps_do_where_there_is_room_for_p() -> None:
    plan = make_plan(make(576), arch(90))
    assert plan.defines["ATTN_V_DIM"] == 512
    assert plan.defines["ATTN_SHARERS"] == 2
    assert plan.grid == (5 * 8 * 2, 1, 1)


def test_a_tile_for_plain_scores_is_for_nothing_else() -> None:
    changes = [{"window": (-1, 0)}, {"softcap": 30.0}]
    assert make_plan(make(), arch(90)).variant.macros(make())["ATTN_PARTS"] == 1
    for change in changes:
        plan = make_plan(make(**change), arch(90))  # type: ignore[arg-type]
        assert (plan.variant.block_n, plan.defines["ATTN_PARTS"]) == (64, 2)
        assert any("is for plain scores" in line for line in plan.passed_over)


@pytest.mark.parametrize(
    ("head_dim", "planes", "cc", "block_n", "tiled"),
    [
        (64, "bias, mapped", 90, 64, 1),
        (64, "both, mapped, in f32", 80, 32, 1),
        (64, "both, mapped, in f32", 120, 32, 0),
        (64, "bias", 90, 64, 0),
        (64, "bias in f32", 90, 32, 0),
        (128, "mask, mapped", 90, 48, 1),
        (128, "both, mapped, in f32", 90, 32, 1),
        (128, "mask, unaligned", 90, 32, 0),
    ],
)
def test_tiles_of_bias_and_mask_where_they_lie_so_and_fit(
    head_dim: int, planes: str, cc: int, block_n: int, tiled: int
) -> None:
    plan = make_plan(make(head_dim, **PLANES[planes]), arch(cc))
    assert (plan.variant.block_n, plan.defines["ATTN_PARTS"]) == (block_n, 1)
    assert plan.defines["ATTN_BIAS_TILES"] | plan.defines["ATTN_MASK_TILES"] == tiled


def test_a_grid_that_no_launch_takes_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="split the batch"):
        make_plan(make(batch=2**28), arch(90))


def test_features_switch_their_macros() -> None:
    def on(problem: Problem) -> set[str]:
        macros = make_plan(problem, arch(90)).defines
        return {row.name for row in FEATURES if macros[row.define]}

    assert on(make()) == {"aligned"}
    together = make(window=(3, 0), softcap=5.0, softmax_scale=-0.1, aligned=False)
    assert on(together) == {"window", "window_left", "negated", "scaled", "softcap"}
    arrays = make(head_scales=True, alibi=True, mask=True, sinks=True, bias=FORMATS["f32"])
    others = {"head_scale", "alibi", "bias", "bias_f32", "mask", "sinks"}
    assert on(arrays) == {"aligned", "scaled", *others}


@pytest.mark.parametrize("diagonal", [200, 0, -150])
def test_open_sides_of_a_window_reach_over_everything(diagonal: int) -> None:
    fields = make_plan(make(window=(-1, -1), diagonal=diagonal), arch(90)).fields()
    assert "window_left" not in fields
    left = make_plan(make(window=(-1, 0), diagonal=diagonal), arch(90)).fields()
    right = make_plan(make(window=(0, -1), diagonal=diagonal), arch(90)).fields()
    assert (left["window_right"], right["window_left"]) == (0, 0)
    assert 299 + diagonal - left["window_left"] <= 0  # the last query sees the first key
    assert 0 + diagonal + right["window_right"] >= 499  # the first query sees the last key


def test_zero_scale_still_masks() -> None:
    assert exponent_scale(make(softmax_scale=0.0)) > 0


# Every variant once, and each head_dim on the oldest, the recorded and the newest arch.
COMPILED = [
    *(
        (make(head_dim, "bf16", window=(-1, 0)), cc)
        for head_dim in (64, 128, 256, 576)
        for cc in (80, 90, 120)
    ),
    (make(112, "bf16"), 90),
    (make(192, "bf16", v_head_dim=128, window=(-1, 0)), 90),
    (make(208, "bf16", window=(-1, 0)), 90),
    *(
        (make(head_dim, "bf16", window=(-1, 0), mappable=True), cc)
        for head_dim in (64, 128, 192, 256, 576)
        for cc in (90, 120)
    ),
    (make(112, "bf16", mappable=True), 90),
    (make(192, "bf16", v_head_dim=128, window=(-1, 0), mappable=True), 90),
]


@pytest.mark.parametrize(("problem", "cc"), COMPILED)
def test_machine_code_has_few_spills(problem: Problem, cc: int) -> None:
    """bf16, mostly with a window, the text with most in it: at most 40 registers go to memory."""
    plan = make_plan(problem, arch(cc).portable)
    cubin, log = compile_.cubin(plan.source(), arch(cc).sm)
    assert cubin[:4] == b"\x7fELF"
    spills = [int(n) for n in re.findall(r"(\d+) bytes spill", log)]
    assert spills, log
    assert max(spills) <= 160, log


def test_compiled_pairs_cover_every_variant() -> None:
    """Those of bias and mask: test_resources.py."""
    covered = {make_plan(problem, arch(cc).portable).variant for problem, cc in COMPILED}
    rows = [row for row in VARIANTS if isinstance(row, MmaVariant)]
    assert covered == {row for row in rows if row.planes is None}


@pytest.mark.parametrize("row", ARCHES, ids=lambda row: row.sm)
def test_ptx_for_every_arch(row: Arch) -> None:
    plan = make_plan(make(128, "bf16", window=(-1, 0)), row)
    assert f".target {row.sm}" in compile_.ptx(plan.source(), row.cc)


@pytest.mark.parametrize(
    "changes",
    [
        {"aligned": False},
        {"softcap": 30.0},
        {"softmax_scale": -1.0},
        {"window": (5, 5), "softcap": 30.0, "softmax_scale": -1.0, "aligned": False},
    ],
    ids=["unaligned", "softcap", "negated", "all"],
)
def test_every_feature_compiles(changes: dict[str, object]) -> None:
    plan = make_plan(make(64, **changes), arch(90))
    assert f".entry {plan.variant.entry}" in compile_.ptx(plan.source(), 90)


def test_compile_leaves_no_fma_to_the_assembler() -> None:
    """With -fmad=false every mul and add carries .rn, which ptxas does not fuse."""
    text = compile_.ptx(make_plan(make(softcap=5.0, window=(-1, 0)), arch(90)).source(), 90)
    fusable = re.findall(r"^\s*(?:mul|add|sub)\.(?:ftz\.)?f32\b.*$", text, re.MULTILINE)
    assert fusable == []
