"""The Hopper kernel on packed and paged sequences: each is what it is alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import attnprobe
from attnprobe import compile as compile_
from attnprobe import ptx
from attnprobe.engine.params import pack_params
from attnprobe.engine.plan import Plan, make_plan
from attnprobe.engine.problem import Layout
from attnprobe.engine.wgmma import WGMMA, WgmmaVariant
from attnprobe.errors import EmulatorError
from attnprobe.numerics import calls
from attnprobe.numerics.calls import Call, Pages
from attnprobe.numerics.reference import Features
from tests.engine.hopper import HOPPER, PLANES, hopper_plans, make

HEADS, KV_HEADS, HEAD_DIM = 2, 1, 64
Array = Any
Tile = tuple[int, int, int]  # sequence, head, first query

LINE = """
extern "C" __global__ void line(const __grid_constant__ AttentionParams p, int *tiles, int most) {
    __shared__ __align__(16) unsigned char smem[TileRing::kBytes];
    const u32_t ring = smem_address(smem);
    if (lane_id() == 0) Ring<TileRing::kStages>::init(ring, 1);
    __syncwarp();
    PackedSchedule<ATTN_BLOCK_M> schedule(p, ring);
    ToldSchedule told(ring);
    for (int turn = 0; turn < most; ++turn) {
        const bool found = schedule.next(), heard = told.next();
        const QueryTile tile = told.tile();
        int *words = tiles + (blockIdx.x * most + turn) * 3;
        words[0] = found == heard ? tile.batch : -2;
        words[1] = tile.head;
        words[2] = tile.first_query;
        if (!found) return;
    }
}
"""


def line_of(
    queries: Sequence[int],
    keys: Sequence[int],
    heads: int,
    window: tuple[int, int],
    blocks: int,
) -> tuple[list[list[Tile]], int]:
    """Return the tiles that each block of the schedule takes, in order, and a tile's queries."""
    problem = make(
        batch=len(queries),
        seqlen_q=sum(queries),
        seqlen_k=sum(keys),
        num_heads=heads,
        num_kv_heads=heads,
        window=window,
        diagonal=None,
        layout=Layout(varlen_q=True, varlen_k=True),
    )
    plan = make_plan(problem, replace(HOPPER, multiprocessors=blocks))
    assert plan.variant in WGMMA
    most = sum(-(-count // plan.variant.block_m) for count in queries) * heads // blocks + 3
    header = compile_.load_source("attention/packed_schedule.cuh", dict(plan.defines)).text
    program = ptx.load(compile_.ptx(compile_.Source(header + LINE, "line.cu"), 90))
    tiles = np.full((blocks, most, 3), -3, np.int32)
    bounds = [np.concatenate([[0], np.cumsum(part)]).astype(np.int32) for part in (queries, keys)]
    memory = ptx.GlobalMemory()
    names = ("cu_seqlens_q", "cu_seqlens_k")
    places = {
        name: memory.map(array, name=name, writable=False).address
        for name, array in zip(names, bounds, strict=True)
    }
    arguments = [
        pack_params({**plan.fields(), **places}),
        memory.map(tiles, name="tiles"),
        np.int32(most),
    ]
    ptx.launch(program, "line", (blocks, 1, 1), (32, 1, 1), arguments, memory=memory)
    rows = []
    for block in tiles.tolist():
        end = [batch for batch, _, _ in block].index(-1)
        rows.append([tuple(tile) for tile in block[:end]])
    return rows, plan.variant.block_m


def keys_seen(lengths: Sequence[int], tile: Tile, window: tuple[int, int], block_m: int) -> int:
    """Return the keys of a tile of sequences with as many queries as keys."""
    length = lengths[tile[0]]
    return length if window[1] < 0 else min(tile[2] + block_m, length)


@dataclass(frozen=True)
class Case:
    """Sequences and what is asked of them.

    Attributes
    ----------
    lengths : queries and keys of each.
    features : of the scores.
    pages : of K and V; None where they are packed. Pages(0) is a cache in one piece.
    leftpad : rows of the cache before key 0 of each sequence.
    """

    lengths: tuple[tuple[int, int], ...]
    features: Features
    pages: Pages | None = None
    leftpad: tuple[int, ...] = ()
    dtype: Any = np.float16


# Lengths around the edges of tiles of queries and keys, and sequences without some of them.
PACKED = ((0, 5), (127, 129), (129, 128), (70, 0), (1, 257), (0, 0), (65, 64))
SEVERAL = ((70, 140), (70, 0), (70, 65))  # of as many queries each: a batch
CAUSAL, WINDOW = Features(causal=True), Features(window_size=(30, 9))
TOP_LEFT = Features(causal=True, causal_alignment="top-left")
# fmt: off
CASES: dict[str, Case] = {
    "packed": Case(((191, 127), (193, 1), (0, 0), (5, 130)), Features(), dtype=ml_dtypes.bfloat16),
    "packed, causal": Case(PACKED, CAUSAL),
    "packed, top-left": Case(PACKED, TOP_LEFT),
    "packed, window, softcap": Case(PACKED, Features(window_size=(30, 9), softcap=5.0)),
    "more sequences than lanes": Case(((3, 5), (0, 9), (20, 30)) * 12, CAUSAL),
    "pages of 8": Case(PACKED, CAUSAL, Pages(8)),
    "pages of 16": Case(SEVERAL, Features(), Pages(16), dtype=ml_dtypes.bfloat16),
    "pages of 24": Case(SEVERAL, CAUSAL, Pages(24)),
    "pages of 64, window": Case(PACKED, WINDOW, Pages(64)),
    "pages of 128, top-left": Case(SEVERAL, TOP_LEFT, Pages(128)),
    "pages of 256": Case(((130, 257), (1, 255), (64, 256)), CAUSAL, Pages(256)),
    "left padding, pages of 16": Case(SEVERAL, Features(), Pages(16), (3, 16, 61)),
    "left padding, pages of 64": Case(PACKED, CAUSAL, Pages(64), (0, 1, 64, 3, 63, 5, 130)),
    "left padding, pages of 256": Case(((70, 100), (70, 140)), WINDOW, Pages(256), (200, 129)),
    "left padding, in one piece": Case(SEVERAL, CAUSAL, Pages(0), (5, 0, 100)),
    "keys in use, in one piece": Case(SEVERAL, Features(), Pages(0)),
}
# fmt: on


def sequences(case: Case, head_dim: int = HEAD_DIM) -> list[tuple[Array, Array, Array]]:
    rng = np.random.default_rng(len(case.lengths))

    def normal(rows: int, heads: int) -> Array:
        return rng.standard_normal((1, rows, heads, head_dim)).astype(case.dtype)

    return [
        (normal(queries, HEADS), normal(keys, KV_HEADS), normal(keys, KV_HEADS))
        for queries, keys in case.lengths
    ]


def call_of(case: Case, inputs: list[tuple[Array, Array, Array]], garbage: float) -> Call:
    """Return the call, ``garbage`` wherever nobody may look."""
    if case.pages is None:
        return calls.varlen(inputs, case.features, ("bound",), garbage)
    return calls.paged(inputs, case.features, ("bound",), case.pages, garbage, leftpad=case.leftpad)


def run(call: Call, blocks: int = 2) -> tuple[Array, Array]:
    with hopper_plans(blocks):
        function = getattr(attnprobe, call.entry)
        O, LSE = function(**call.arrays, **call.options, return_lse=True)
    return O, LSE


@pytest.mark.parametrize("name", CASES)
def test_sequences_are_what_float64_gives_and_nothing_else_changes_a_bit(name: str) -> None:
    case = CASES[name]
    inputs = sequences(case)
    dirty = call_of(case, inputs, np.nan)
    O, LSE = run(dirty)
    verdict = dirty.judge(O, LSE, diagnose=False)
    assert verdict.ok, str(verdict)
    for mine, other in zip((O, LSE), run(call_of(case, inputs, 3.0), 3), strict=True):
        assert mine.tobytes() == other.tobytes()


@pytest.mark.parametrize("head_dim", [128, 192, 256])
def test_wider_heads(head_dim: int) -> None:
    for case in (
        Case(((64, 97), (1, 0), (130, 70)), CAUSAL),
        Case(((64, 100), (64, 181)), Features(), Pages(16), (0, 5)),
    ):
        call = call_of(case, sequences(case, head_dim), np.nan)
        verdict = call.judge(*run(call), diagnose=False)
        assert verdict.ok, str(verdict)


def test_a_sequence_without_keys_gives_zeros_and_minus_infinity() -> None:
    case = CASES["packed, causal"]
    call = call_of(case, sequences(case), np.inf)
    O, LSE = run(call)
    rows = slice(call.parts[3].first, call.parts[3].stop)
    assert rows.stop - rows.start == 70
    assert not O[rows].any()
    assert (LSE[:, rows] == -np.inf).all()


@pytest.mark.parametrize("pages", [None, Pages(16)])
def test_a_nan_stays_in_the_rows_that_see_it(pages: Pages | None) -> None:
    case = Case(((70, 90), (66, 66)), CAUSAL, pages)
    inputs = sequences(case)
    before = run(call_of(case, inputs, np.nan))[0]
    q, k, v = (array.copy() for array in inputs[0])
    v[0, 80, 0, 7] = np.nan  # seen by query 60 and later ones
    q[0, 69, 1] = np.nan  # the row before the next sequence's first
    after = run(call_of(case, [(q, k, v), inputs[1]], np.nan))[0]
    assert np.isnan(after[60:70, :, 7]).all()
    assert np.isnan(after[69, 1]).all()
    after[60:70, :, 7], after[69, 1] = before[60:70, :, 7], before[69, 1]
    assert after.tobytes() == before.tobytes()


def test_the_bits_of_a_sequence_do_not_depend_on_its_neighbours() -> None:
    case = CASES["packed, causal"]
    inputs = sequences(case)
    call = calls.varlen(inputs, case.features, (), np.nan)
    call.options["num_splits"] = 1
    O, LSE = run(call)
    for number in (1, 4, 6):
        alone = calls.varlen([inputs[number]], case.features, (), np.nan)
        alone.options["num_splits"] = 1
        mine = call.result_of(call.parts[number], O, LSE)
        for packed, other in zip(mine, alone.result_of(alone.parts[0], *run(alone)), strict=True):
            np.testing.assert_array_equal(packed, other)


# fmt: off
# A case that shows it, text of the kernel, and what stands there instead.
MISTAKES: dict[str, tuple[str, str, str]] = {
    "keys of the next sequence count": (
        "packed",
        "end_whole = mask.end_key(first_query) / kBlockN;",
        "end_whole = (mask.end_key(first_query) + kBlockN - 1) / kBlockN;"),
    "values of the next sequence are not looked at": (
        "packed", "kForeignRows = ATTN_VARLEN_K || ATTN_SEQUSED_K || ATTN_PAGED;",
        "kForeignRows = false;"),
    "packed keys are looked for in their own batch entry": (
        "packed, causal", "batch(ATTN_VARLEN_K ? 0 : sequence.batch)", "batch(sequence.batch)"),
    "queries of the first sequence stand in for all": (
        "packed, causal", "static_cast<int>(sequence.q_row) + tile.first_query, tile.head,",
        "tile.first_query, tile.head,"),
    "a copy takes the first keys of its page": (
        "pages of 256", "row = number - index * p.page_size;", "row = 0;"),
    "page numbers are off by one": (
        "pages of 16", "p.block_table_batch_stride + index]",
        "p.block_table_batch_stride + max(index - 1, 0)]"),
    "what stands before the first key is seen": (
        "left padding, pages of 16", "first_key(int) const { return lowest; }",
        "first_key(int) const { return 0; }"),
    "the diagonal is counted from the first key": (
        "left padding, pages of 64", "    result.diagonal += result.first_key;\n", ""),
}
# fmt: on


@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_shows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case, old, new = CASES[MISTAKES[name][0]], *MISTAKES[name][1:]
    text = Plan.source

    def planted(plan: Plan, file: str | None = None) -> compile_.Source:
        source = text(plan, file)
        assert old in source.text
        return source.replaced(old, new)

    monkeypatch.setattr(Plan, "source", planted)
    call = call_of(case, sequences(case), np.nan)
    try:
        results = run(call)
    except EmulatorError:
        return
    assert not call.judge(*results, diagnose=False).ok


LINES: dict[str, tuple[list[int], list[int], int]] = {
    "one": ([3000], [3000], 16),
    "alike": ([512] * 12, [512] * 12, 16),
    "three bundles": ([*range(0, 700, 10)], [*range(0, 700, 10)], 5),
    "other keys": ([130, 0, 700, 1], [0, 50, 2000, 900], 3),
}


@pytest.mark.parametrize("window", [(-1, 0), (-1, -1), (40, 0)])
@pytest.mark.parametrize("name", LINES)
def test_each_tile_is_dealt_out_once(name: str, window: tuple[int, int]) -> None:
    queries, keys, heads = LINES[name]
    rows, block_m = line_of(queries, keys, heads, window, 7)
    dealt = [tile for row in rows for tile in row]
    tiles = [
        (batch, head, first)
        for batch, count in enumerate(queries)
        for head in range(heads)
        for first in range(0, count, block_m)
    ]
    assert sorted(dealt) == tiles


@pytest.mark.parametrize("window", [(-1, 0), (-1, -1)])
def test_blocks_get_like_sums_of_keys(window: tuple[int, int]) -> None:
    lengths = [int(length) for length in np.random.default_rng(1).integers(64, 2000, 40)]
    rows, block_m = line_of(lengths, lengths, 8, window, 33)
    sums = [sum(keys_seen(lengths, tile, window, block_m) for tile in row) for row in rows]
    assert max(sums) <= 1.1 * sum(sums) / len(sums)


LAYOUTS: dict[str, Callable[[], Layout]] = {
    "packed": lambda: Layout(varlen_q=True, varlen_k=True, seqused_k=True),
    "paged": lambda: Layout(varlen_q=True, seqused_k=True, page_size=16, num_pages=1000),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "row", WGMMA, ids=lambda row: f"{row.head_dim}-{row.block_m}x{row.block_n}-{row.stages}"
)
def test_machine_code_neither_spills_nor_serialises(row: WgmmaVariant, layout: str) -> None:
    """ptxas says C75xx where it cannot keep products asynchronous."""
    lies = LAYOUTS[layout]()
    problems = [
        make(head_dim, window=window, seqlen_k=seqlen, diagonal=None, layout=lies, batch=1, **more)
        for head_dim in (64, 96, 128, 192, 256)
        for window in ((-1, 0), (-1, -1), (1024, 0))
        for seqlen in (512, 1 << 20)
        for more in ({}, *PLANES.values())
    ]
    plans = [make_plan(problem, HOPPER) for problem in problems]
    mine = [plan for plan in plans if plan.variant == row]
    if not mine:
        reasons = {str(row.refusal(problem, HOPPER)) for problem in problems}
        assert any("registers" in reason for reason in reasons) or ("None" in reasons)
        return
    _, log = compile_.cubin(mine[0].source(), "sm_90a")
    # Two addresses beside the tiles of bias and mask; with three warpgroups at head_dim 64, where a
    # thread has 128 registers, five of bias and mask together.
    allowed = 44 if row.head_dim == 64 else 8 if row.plane_stages else 0
    assert max(map(int, re.findall(r"(\d+) bytes spill", log))) <= allowed, log
    assert not re.findall(r"C75\d\d.*", log), log
