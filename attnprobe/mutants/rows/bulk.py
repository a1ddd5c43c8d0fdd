"""Mutants of blocks of keys that come to the mma.sync kernel by bulk copies."""

from __future__ import annotations

from attnprobe.mutants.mutant import MAIN_KERNEL, Mutant
from attnprobe.mutants.rows.edits import Edited

_row = Edited("bulk", MAIN_KERNEL)

_WAIT = "mbarrier_wait(full(stage), use & 1);"
_LAST = "mbarrier_pending_count(mbarrier_arrive_state(free(stage))) == 1;"

BULK: tuple[Mutant, ...] = (
    _row(
        "bulk_not_waited_for",
        "a block is read before its bytes are there",
        _WAIT,
        "",
        "bulk",
        "bulk_pairs",
    ),
    _row(
        "bulk_phase_of_block",
        "the phase of a stage is counted by blocks, not by its uses",
        _WAIT,
        _WAIT.replace("use", "turn"),
        "bulk",
        "bulk_pairs",
    ),
    _row(
        "bulk_bytes_of_k",
        "the barrier of a stage waits for the bytes of K alone",
        "full(stage), KTile::kBytes + VTile::kBytes);",
        "full(stage), KTile::kBytes);",
        "bulk",
    ),
    _row(
        "bulk_no_meeting",
        "a stage is filled again before all warps have read it",
        "if (kMeet && all_whole) { __syncthreads();",
        "if (kMeet && all_whole) {",
        "bulk",
    ),
    _row(
        "bulk_over_this_block",
        "the next block is copied over the one that is being read",
        "fill(turn % kStages ^ 1, block - 1);",
        "fill(turn % kStages, block - 1);",
        "bulk",
    ),
    _row(
        "bulk_block_again",
        "the block that is copied next is the one that is there",
        "fill(turn % kStages ^ 1, block - 1);",
        "fill(turn % kStages ^ 1, block);",
        "bulk",
    ),
    _row(
        "bulk_refill_with_next",
        "who read a stage last fills it with the block that stands in the other",
        "fill(stage, block - kStages);",
        "fill(stage, block - 1);",
        "bulk_pairs",
    ),
    _row(
        "bulk_refill_by_first",
        "the first warp that has read a stage fills it again",
        _LAST,
        _LAST.replace("== 1", "== kWarps") + " if (vote_any(last)) fill(stage, block - kStages);",
        "bulk_pairs",
    ),
    _row(
        "bulk_refill_unordered",
        "nothing orders what other warps have read before the copy that takes its place",
        "mbarrier_wait(free(stage), use & 1);",
        "",
        "bulk_pairs",
    ),
    _row(
        "bulk_refill_beyond",
        "blocks before the first one are copied, too, and nobody waits for them",
        "if (!vote_any(last) || block - kStages < begin_block) return;",
        "if (!vote_any(last)) return;",
        "bulk_pairs",
    ),
    _row(
        "bulk_last_but_one_refills",
        "the last warp but one fills a stage again, once the last has read it",
        _LAST,
        _LAST.replace("== 1", "== 2"),
        "bulk_pairs",
        equivalent="it waits until the barrier of the stage is complete: that is until the last "
        "warp has read it, too",
    ),
    _row(
        "bulk_first_panel_again",
        "every panel of K holds the first 64 columns",
        "full(stage), i * kPanelElements, row,",
        "full(stage), 0, row,",
        "bulk_panels",
    ),
    _row(
        "bulk_panels_in_one_place",
        "all panels of a tile of V are copied to the place of the first",
        "(V_tile + i * VTile::kPanelStep, *V_map,",
        "(V_tile, *V_map,",
        "bulk_panels",
    ),
    _row(
        "bulk_v_of_k",
        "V is copied through the tensor map of K",
        "(V_tile + i * VTile::kPanelStep, *V_map,",
        "(V_tile + i * VTile::kPanelStep, *K_map,",
        "bulk",
    ),
    _row(
        "bulk_rows_of_first_sequence",
        "the keys of every packed sequence are those of the first",
        "const int row = first_row + block * KTile::kRows;",
        "const int row = block * KTile::kRows;",
        "bulk_varlen",
    ),
    _row(
        "bulk_first_head",
        "every head reads the keys of the first",
        "row, kv_head, batch, kEvictLast);",
        "row, 0, batch, kEvictLast);",
        "bulk",
        count=2,
    ),
    _row(
        "bulk_first_batch",
        "every batch entry reads the keys of the first",
        "row, kv_head, batch, kEvictLast);",
        "row, kv_head, 0, kEvictLast);",
        "bulk",
        count=2,
    ),
    _row(
        "bulk_barriers_unknown",
        "bulk copies report to barriers that they need not know of yet",
        "} fence_mbarrier_init();",
        "}",
        "bulk",
    ),
    _row(
        "bulk_zeros_unknown",
        "a bulk copy may come before the zeros that took the place of NaN where it copies to",
        "if (found) fence_proxy_async_shared();",
        "",
        "bulk",
        by=("nan_in_v", "inf_in_v"),
    ),
    _row(
        "bulk_queries_not_there",
        "the barrier before the loop stands before the wait for Q",
        "cp_async_commit_group(); cp_async_wait_group<0>(); __syncthreads(); }",
        "cp_async_commit_group(); __syncthreads(); cp_async_wait_group<0>(); }",
        "bulk",
        "bulk_pairs",
    ),
)
