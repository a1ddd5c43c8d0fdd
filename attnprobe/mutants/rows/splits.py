"""Mutants of decode: packed rows, splits of the keys, merging of warps."""

from __future__ import annotations

from functools import partial

from attnprobe.mutants.mutant import DECODE_KERNEL, Argument, Blocks, Edit, Mutant

_decode = partial(Mutant, family="splits", kernel=DECODE_KERNEL)

_BEGIN = "part_begin(seen, split, p.num_splits);"
_END = "part_begin(seen, split + 1, p.num_splits);"
_HEAD = "kv_head * p.heads_per_kv_head + row - query * p.heads_per_kv_head};"
_QUERY = "const int query = static_cast<u32_t>(row) / static_cast<u32_t>(p.heads_per_kv_head);"
_WARPS = "for (int block = begin + warp_id() - kAhead; block < end; block += kWarps) {"
_FACTOR = "factor[w] = ex2_approx((stats[w].x - shift) * p.exponent_scale);"
_WARP_SUM = "sum = fma_rn(stats[w].y, factor[w], sum);"
_WAIT = "cp_async_wait_group<kStages - 2>();"
_SLOT = "slot = row - page_index(row) * page_size;"
_PAGE = "inside ? table + page_index(first_row + key) : table,"
_O_PART = "const i64_t part = split * p.split_stride + element;"
_LSE_PART = "p.LSE_split + (split * kVParts + v_part) * p.split_stride + element};"

SPLITS: tuple[Mutant, ...] = (
    _decode(
        "split_overlap",
        "the last tile of a split is the first of the next, too",
        (Edit(_END, f"min({_END.removesuffix(';')} + 1, seen);"),),
        ("decode",),
    ),
    _decode(
        "split_gap",
        "the last tile of every split is left out",
        (Edit(_END, f"{_END.removesuffix(';')} - 1;"),),
        ("decode",),
    ),
    _decode(
        "split_rounded_down",
        "splits have seen / num_splits tiles each: the rest is lost",
        (
            Edit(_BEGIN, "seen / p.num_splits * split;"),
            Edit(_END, "seen / p.num_splits * (split + 1);"),
        ),
        ("decode",),
    ),
    _decode(
        "split_number_of_neighbour",
        "the part of a split is stored in the place of the next",
        (
            Edit(_O_PART, _O_PART.replace("split *", "(split + 1) % p.num_splits *", 1)),
            Edit(_LSE_PART, _LSE_PART.replace("(split *", "((split + 1) % p.num_splits *")),
        ),
        ("decode",),
        (),
        equivalent="all parts are still stored, each with its own LSE, and combining does not "
        "depend on their order beyond rounding",
    ),
    _decode(
        "split_lse_of_neighbour",
        "the LSE of a split is stored in the place of the next, its O in its own",
        (Edit(_LSE_PART, _LSE_PART.replace("(split *", "((split + 1) % p.num_splits *")),),
        ("decode",),
    ),
    _decode(
        "split_part_overwritten",
        "every split stores its O in the place of the first",
        (Edit(_O_PART, "const i64_t part = element;"),),
        ("decode",),
    ),
    _decode(
        "group_rows_by_head",
        "rows of a tile are counted head by head: those past the last are taken for heads that do "
        "not exist",
        (
            Edit(_QUERY, "const int query = row % p.rows_q;"),
            Edit(_HEAD, "kv_head * p.heads_per_kv_head + row / p.rows_q};"),
        ),
        ("decode",),
    ),
    _decode(
        "group_head_wraps",
        "the head within a group is counted one too far",
        (Edit(_HEAD, _HEAD.replace("row - query", "row + 1 - query")),),
        ("decode",),
    ),
    _decode(
        "group_of_one",
        "rows of a tile are queries of one head: the other heads of the group are left out",
        (
            Edit(_QUERY, "const int query = row;"),
            Edit(_HEAD, "kv_head * p.heads_per_kv_head};"),
        ),
        ("decode",),
    ),
    _decode(
        "warps_step_missing",
        "every warp takes all tiles of a split after its first",
        (Edit(_WARPS, _WARPS.replace("block += kWarps", "++block")),),
        ("decode_whole",),
    ),
    _decode(
        "warp_factor_missing",
        "the shares of the warps are added as they are, each with a maximum of its own",
        (Edit(_FACTOR, "factor[w] = 1.0f;"),),
        ("decode_whole",),
    ),
    _decode(
        "warp_sum_of_first",
        "O is divided by the sum of the first warp alone",
        (Edit(_WARP_SUM, "if (w == 0) sum = stats[w].y * factor[w];"),),
        ("decode_whole",),
    ),
    _decode(
        "warp_max_of_first",
        "the merged maximum is that of the first warp",
        (
            Edit(
                "row_max = max_f32(row_max, stats[w].x);",
                "row_max = w == 0 ? stats[0].x : row_max;",
            ),
        ),
        ("decode_whole",),
        ("one_hot",),
    ),
    _decode(
        "warp_rows_swapped",
        "warps leave maximum and sum of row g + 8 in the place of row g",
        (
            Edit(
                "share.stats(lane_id() / 4 + r * 8) =",
                "share.stats(lane_id() / 4 + (1 - r) * 8) =",
            ),
        ),
        ("decode_whole",),
    ),
    _decode(
        "merge_barrier_missing",
        "warps are merged before all have left their share",
        (
            Edit(
                "O_acc, softmax, rows, sequence.seqlen_q); __syncthreads();",
                "O_acc, softmax, rows, sequence.seqlen_q);",
            ),
        ),
        ("decode_whole",),
    ),
    _decode(
        "queries_barrier_missing",
        "Q is read before all warps have written it",
        (Edit("__syncthreads();  // Q is there", ""),),
        ("decode",),
    ),
    _decode(
        "ring_wait_late",
        "the wait of the ring leaves one group more in flight: that of the tile that is needed",
        (Edit(_WAIT, "cp_async_wait_group<kStages - 1>();"),),
        ("decode",),
    ),
    _decode(
        "ring_stage_of_next",
        "the next tile is copied over the one that is read",
        (
            Edit(
                "ring.copy(stages + free, next * kBlockN);",
                "ring.copy(stages + (free + Ring::kStageBytes) % kRingBytes, next * kBlockN);",
            ),
        ),
        ("decode_whole",),
    ),
    _decode(
        "decode_page_slot",
        "the place within a page is that of the tile",
        (Edit(_SLOT, "slot = row % kRows % page_size;"),),
        ("decode_paged",),
    ),
    _decode(
        "decode_page_late",
        "pages are looked up one key too late",
        (Edit(_PAGE, _PAGE.replace("+ key)", "+ key + 1)")),),
        ("decode_paged",),
    ),
    _decode(
        "decode_page_stale",
        "pages are looked up for the first tiles alone",
        (
            Edit(
                "if (next + kAhead < end) ring.find(stages + earlier, (next + kAhead) * kBlockN);",
                "",
            ),
        ),
        ("decode_paged",),
        field="vLLM: stale block tables",
    ),
    _decode(
        "decode_page_stage",
        "page numbers are copied to the stage that the next keys go to",
        (
            Edit(
                "const u32_t earlier = (free == 0 ? kRingBytes : free) - Ring::kStageBytes;",
                "const u32_t earlier = free;",
            ),
        ),
        ("decode_paged",),
    ),
    _decode(
        "decode_page_not_awaited",
        "the first tiles are copied by page numbers that have not landed",
        (Edit("cp_async_commit_group(); cp_async_wait_group<0>();", ""),),
        ("decode_paged",),
    ),
    _decode(
        "split_count_of_grid",
        "the grid has the blocks of one split less",
        (
            Blocks(
                "blocks * (num_splits - 1) / num_splits",
                lambda plan: plan.grid[0] * (plan.num_splits - 1) // plan.num_splits,
            ),
        ),
        ("decode",),
    ),
    _decode(
        "split_stride_short",
        "parts of the splits are one row nearer to each other than they are long",
        (Argument("split_stride", "split_stride - 1", lambda f: f["split_stride"] - 1),),
        ("decode",),
    ),
)
