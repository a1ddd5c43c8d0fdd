"""Mutants of decode: packed rows, splits of the keys, merging of warps, combining of splits."""

from __future__ import annotations

from functools import partial

from attnprobe.mutants.mutant import DECODE_KERNEL, Argument, Blocks, Edit, Mutant

_decode = partial(Mutant, family="splits", kernel=DECODE_KERNEL)

_BEGIN = "part_begin(seen, split, p.num_splits);"
_END = "part_begin(seen, split + 1, p.num_splits);"
_HEAD = "kv_head * p.heads_per_kv_head + row - query * p.heads_per_kv_head};"
_QUERY = "const int query = row / p.heads_per_kv_head;"
_WARPS = "for (int block = begin + warp_id(); block < end; block += kWarps) {"
_FACTOR = "factor[w] = ex2_approx((stats[w].x - shift) * p.exponent_scale);"
_WARP_SUM = "sum = fma_rn(stats[w].y, factor[w], sum);"
_WAIT = "cp_async_wait_group<kStages - 2>();"
_SLOT = "slot = row - page_index(row) * page_size;"
_PAGE = "pages[i] = key < seqlen_k ? table[page_index(first_row + key)] : 0;"
_WEIGHT = "weight = ex2_approx((LSE - shift) * kLog2e);"
_MERGED = "const float merged = sum == 0.0f ? -infinity() : top + logf(sum);"
_SINK = "if (whole) sum += ex2_approx((p.sinks[row.head] - shift) * kLog2e);"
_READ = "if (inside && begin + i < count) {"
_O_PART = "const i64_t part = split * p.split_stride + element;"
_LSE_PART = "p.LSE_split + (split * kVParts + v_part) * p.split_stride + element};"
_LAST = "before == static_cast<u64_t>(expected - 1);"
_ADD = "atom.acq_rel.gpu.global.add.u64 %0"
_RANGE = "count = min(kParts, p.num_splits - first);"
_BASE_FIELD = "SGLang #40903: splits merged with LSE of another base"

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
                "write_share(WarpShare<kVDim>{own}, O_acc, softmax);\n    __syncthreads();",
                "write_share(WarpShare<kVDim>{own}, O_acc, softmax);",
            ),
        ),
        ("decode_whole",),
    ),
    _decode(
        "queries_barrier_missing",
        "Q is read before all warps have written it",
        (
            Edit(
                "sequence, kv_head, first_row);\n    __syncthreads();",
                "sequence, kv_head, first_row);",
            ),
        ),
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
                "ring.copy(stages + stage, next * kBlockN);",
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
        "the pages of the tile before are used again",
        (
            Edit(
                "next += kWarps;\n            ring.find(next * kBlockN, kAheadKeys);\n        }\n"
                "        cp_async_commit_group();\n        const int first_key",
                "next += kWarps;\n        }\n"
                "        cp_async_commit_group();\n        const int first_key",
            ),
        ),
        ("decode_paged",),
        field="vLLM: stale block tables",
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
    _decode(
        "combine_equal_weights",
        "splits are averaged as if each had the same share",
        (Edit(_WEIGHT, "weight = LSE == -infinity() ? 0.0f : 1.0f;"),),
        ("decode", "decode_causal"),
    ),
    _decode(
        "combine_base_2",
        "weights are 2^LSE, where LSE is natural",
        (Edit(_WEIGHT, _WEIGHT.replace(" * kLog2e", "")),),
        ("decode",),
        field=_BASE_FIELD,
    ),
    _decode(
        "combine_first_missing",
        "the first split does not count in O",
        (Edit(_READ, _READ.replace("inside", "inside && begin + i > 0")),),
        ("decode",),
    ),
    _decode(
        "combine_last_missing",
        "the last split does not count in O",
        (Edit(_READ, _READ.replace("count", "count - 1")),),
        ("decode",),
    ),
    _decode(
        "combine_sixteen",
        "of more than 16 splits, those past the first 16 do not count in O",
        (
            Edit(
                "for (int begin = 0; begin < count; begin += kAtOnce) {",
                "for (int begin = 0; begin < 1; begin += kAtOnce) {",
            ),
        ),
        ("decode_parts",),
    ),
    _decode(
        "combine_without_max",
        "weights are exp(LSE) without the greatest LSE taken off",
        (
            Edit(
                "const float shift = top == -infinity() ? 0.0f : top; weight",
                "const float shift = 0.0f; top = 0.0f; weight",
            ),
        ),
        ("decode",),
        ("scores_plus_1000", "scores_minus_100"),
    ),
    _decode(
        "combine_empty_guard",
        "where no split saw a key, -inf - -inf is computed",
        (
            Edit(
                "const float shift = top == -infinity() ? 0.0f : top; weight",
                "const float shift = top; weight",
            ),
        ),
        ("decode_no_keys",),
        field="flashinfer #4051: merging two empty states gave NaN",
    ),
    _decode(
        "combine_empty_divided",
        "where no split saw a key, 0 is divided by 0",
        (
            Edit(
                "const float factor = sum == 0.0f ? 0.0f : __frcp_rn(sum);",
                "const float factor = __frcp_rn(sum);",
            ),
        ),
        ("decode_no_keys",),
        field="flashinfer #4051: merging two empty states gave NaN",
    ),
    _decode(
        "combine_lse_of_greatest",
        "LSE is the greatest of the splits' own",
        (Edit(_MERGED, _MERGED.replace("top + logf(sum)", "top")),),
        ("decode",),
    ),
    _decode(
        "combine_sink_per_split",
        "the sink joins the sum once for each split",
        (Edit(_SINK, _SINK.replace("sum += ", "sum += p.num_splits * ")),),
        ("decode_sinks",),
    ),
    _decode(
        "combine_sink_missing",
        "the sink does not join the sum of the splits",
        (Edit(_SINK, ""),),
        ("decode_sinks",),
    ),
    _decode(
        "combine_sink_twice",
        "the sink joins the sum of each 32 splits and that of what comes out of them",
        (Edit(_SINK, _SINK.replace("if (whole) ", "")),),
        ("decode_parts",),
    ),
    _decode(
        "combine_further_overwritten",
        "what comes out of each 32 splits is stored in one place",
        (
            Edit(
                "first, count, p.num_splits + range);",
                "first, count, p.num_splits);",
            ),
        ),
        ("decode_parts",),
    ),
    _decode(
        "combine_range_too_long",
        "the last 32 splits are taken to be 32, whatever is left of them",
        (Edit(_RANGE, "count = kParts;"),),
        ("decode_parts",),
    ),
    _decode(
        "arrive_last_but_one",
        "the last block but one combines",
        (Edit(_LAST, _LAST.replace("- 1", "- 2")),),
        ("decode",),
    ),
    _decode(
        "arrive_one_too_many",
        "one arrival more than there are blocks is waited for: nobody combines",
        (Edit(_LAST, _LAST.replace("expected - 1", "expected")),),
        ("decode",),
    ),
    _decode(
        "arrive_unopened",
        "arrivals are counted from what the memory held",
        (Edit("if (threadIdx.x == 0) open_counts(p, parts, split);", ""),),
        ("decode",),
    ),
    _decode(
        "arrive_opened_again",
        "every block sets the count to 0 before it computes, also where others have arrived",
        (
            Edit(
                "if ((found ^ p.arrival_tag) >> kCountBits != 0) atom_cas_relaxed(word, found, "
                "p.arrival_tag);",
                "atom_cas_relaxed(word, found, p.arrival_tag);",
            ),
        ),
        ("decode_waves",),
    ),
    _decode(
        "arrive_relaxed",
        "arrivals are counted, and order nothing",
        (Edit(_ADD, _ADD.replace("acq_rel", "relaxed")),),
        ("decode",),
    ),
    _decode(
        "arrive_without_acquire",
        "the last block does not acquire what the others released",
        (Edit(_ADD, _ADD.replace("acq_rel", "release")),),
        ("decode",),
    ),
    _decode(
        "arrive_without_release",
        "blocks do not release what they wrote before they arrive",
        (Edit(_ADD, _ADD.replace("acq_rel", "acquire")),),
        ("decode",),
    ),
    _decode(
        "arrive_in_block",
        "arrivals have the scope of a block",
        (Edit(_ADD, _ADD.replace("gpu", "cta")),),
        ("decode",),
    ),
    _decode(
        "arrive_before_all_wrote",
        "a block arrives before all its warps have written",
        (Edit("__syncthreads();  // the block has written all that it leaves", ""),),
        ("decode",),
    ),
    _decode(
        "arrive_flag_early",
        "warps read whether theirs is the last block before it is written",
        (Edit("*flag = last; } __syncthreads();", "*flag = last; }"),),
        ("decode",),
    ),
)
