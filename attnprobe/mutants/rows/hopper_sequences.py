"""Mutants of the Hopper kernel's blocks that pass, of packed sequences, and of pages."""

from __future__ import annotations

from attnprobe.mutants.mutant import HOPPER_KERNEL, Mutant
from attnprobe.mutants.rows.edits import Edited

_pass = Edited("passing", HOPPER_KERNEL)
_row = Edited("hopper sequences", HOPPER_KERNEL)

_BETWEEN = "pass(work.blocks.begin - work.begin + next.end - next.blocks.end);"
_ROWS_OUTSIDE = "zero_rows_outside<kBlockN, kVBytes, kLookers>(V_smem, begin, end, looker);"

HOPPER_SEQUENCES: tuple[Mutant, ...] = (
    # blocks that pass
    _pass(
        "pass_without_turns",
        "a warpgroup takes no turn for a block that passes it by",
        "turns.wait(); turns.pass_on(); K_ring.wait_full();",
        "K_ring.wait_full();",
        "hopper_passes",
    ),
    _pass(
        "pass_k_not_given_back",
        "K of a block that passes is not given back",
        "K_ring.wait_full(); if (speaks) mbarrier_arrive(K_ring.empty());",
        "K_ring.wait_full();",
        "hopper_passes",
    ),
    _pass(
        "pass_v_not_given_back",
        "V of a block that passes is not given back",
        "V_ring.wait_full(); if (speaks) mbarrier_arrive(V_ring.empty());",
        "V_ring.wait_full();",
        "hopper_passes",
    ),
    _pass(
        "pass_one_too_few",
        "one block less passes before the first that is seen",
        "pass(work.end - work.blocks.end);",
        "pass(work.end - work.blocks.end - 1);",
        "hopper_passes",
    ),
    _pass(
        "pass_none_behind",
        "the blocks behind the last that is seen do not pass between two tiles",
        _BETWEEN,
        "pass(next.end - next.blocks.end);",
        "hopper_passes",
    ),
    _pass(
        "pass_none_before",
        "the blocks before the first that is seen do not pass between two tiles",
        _BETWEEN,
        "pass(work.blocks.begin - work.begin);",
        "hopper_passes",
    ),
    _pass(
        "pass_none_at_the_end",
        "the blocks behind the last tile's last do not pass",
        "finish_tile(work); pass(work.blocks.begin - work.begin);",
        "finish_tile(work);",
        "hopper_passes",
    ),
    _pass(
        "pass_while_it_holds_v",
        "blocks pass while the warpgroup holds the last V of its tile",
        "finish_tile(work); " + _BETWEEN,
        _BETWEEN + " finish_tile(work);",
        "hopper_passes",
    ),
    _pass(
        "pass_by_first_warpgroup",
        "every warpgroup takes the blocks of the first for its own",
        "tile.first_query + warpgroup * 64, 64);",
        "tile.first_query, 64);",
        "hopper_passes",
    ),
    _pass(
        "pass_begin_of_no_query",
        "a warpgroup without queries takes block 0 for one of the tile's",
        "blocks.begin = max(blocks.begin, begin);",
        "",
        "hopper_passes",
    ),
    _pass(
        "pass_end_of_no_query",
        "a warpgroup without queries gets no block of the tile",
        "blocks.end = max(blocks.end, begin + 1);",
        "",
        "hopper_passes",
    ),
    # packed sequences
    _row(
        "told_before_it_is_said",
        "warps read the next tile before it is there",
        "told.ring.wait_full();",
        "",
        "hopper_packed",
        timing=True,
    ),
    _row(
        "told_over_what_is_read",
        "the next tile is written over one that some warp has not read",
        "told.ring.wait_empty();",
        "",
        "hopper_packed",
        timing=True,
    ),
    _row(
        "told_never_given_back",
        "no warp says that it has read its tile",
        "if (lane_id() == 0) mbarrier_arrive(told.ring.empty());",
        "",
        "hopper_packed",
    ),
    _row(
        "told_one_warp_more",
        "one warp more than there are must have read a tile",
        "kToldWarps = kConsumers * 4 + 1",
        "kToldWarps = kConsumers * 4 + 2",
        "hopper_packed",
    ),
    _row(
        "packed_tile_of_level",
        "the tile of a level is the next one of its sequence",
        "shfl_idx(bundle.count - above - end, lane) + number;",
        "shfl_idx(bundle.count - above - end, lane) + number + 1;",
        "hopper_packed",
    ),
    _row(
        "packed_sum_of_lanes",
        "the tiles of the sequences before a lane's leave out the one right before",
        "end += other; } const int lane",
        "end = other; } const int lane",
        "hopper_packed",
    ),
    _row(
        "packed_lane_of_tile",
        "the first tile of a sequence in a level is given to the sequence before",
        "ballot(end > number)",
        "ballot(end >= number)",
        "hopper_packed",
    ),
    _row(
        "packed_always_falling",
        "the tiles of every group go from the most keys to the fewest",
        "falling ? row : bundle.rows - 1 - row",
        "row",
        "hopper_packed",
        equivalent="every tile is computed once, in another order",
    ),
    _row(
        "packed_copies_q",
        "every packed sequence is given the first rows of Q",
        "static_cast<int>(sequence.q_row) + tile.first_query",
        "tile.first_query",
        "hopper_packed",
    ),
    _row(
        "packed_copies_k",
        "every packed sequence is given the first rows of K and V",
        "first(static_cast<int>(sequence.k_row)), kv_head(kv_head)",
        "first(0), kv_head(kv_head)",
        "hopper_packed",
    ),
    _row(
        "packed_foreign_rows",
        "nobody thinks of rows of V behind a sequence's own, which its last block copies",
        "kForeignRows = ATTN_VARLEN_K || ATTN_SEQUSED_K || ATTN_PAGED;",
        "kForeignRows = false;",
        "hopper_paged",
    ),
    _row(
        "packed_rows_kept",
        "rows of V that are no keys stay where they are finite",
        _ROWS_OUTSIDE,
        "{}",
        "hopper_packed",
        equivalent="P is 0 there, and 0 times a number is 0; what is none is found and taken out "
        "as in any other block, and no row sees it",
    ),
    _row(
        "packed_last_key",
        "the last key of a sequence is taken for a row behind it",
        "row < begin || row >= end)",
        "row < begin || row >= end - 1)",
        "hopper_packed",
    ),
    # pages
    _row(
        "paged_first_page",
        "all boxes of a block come from the page of the first",
        "box_page = shfl_idx(number, box)",
        "box_page = shfl_idx(number, 0)",
        "hopper_paged",
    ),
    _row(
        "paged_first_row",
        "all boxes of a block begin at the row of the first",
        "box_row = shfl_idx(row, box)",
        "box_row = shfl_idx(row, 0)",
        "hopper_paged",
    ),
    _row(
        "paged_k_block",
        "the boxes of K are those of the block before",
        "K_gmem.find(next);",
        "K_gmem.find(block);",
        "hopper_paged",
    ),
    _row(
        "paged_v_block",
        "the boxes of V are those of the block before",
        "V_gmem.find(next);",
        "V_gmem.find(block);",
        "hopper_paged",
    ),
    _row(
        "paged_box_place",
        "boxes of a block overlap in shared memory",
        "(i * kBlockN + box * kBoxRows) * kPanelRowBytes",
        "(i * kBlockN + box * kBoxRows / 2) * kPanelRowBytes",
        "hopper_paged",
    ),
    _row(
        "paged_row_in_page",
        "rows are counted from the beginning of the sequence and not of the page",
        "row = number - index * p.page_size;",
        "row = number;",
        "hopper_paged",
    ),
    _row(
        "paged_table_of_first",
        "every sequence takes the pages of the first",
        "p.block_table[batch * p.block_table_batch_stride + index]",
        "p.block_table[index]",
        "hopper_paged",
    ),
)
