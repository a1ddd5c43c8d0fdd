"""Mutants of the Hopper kernel's turns, of V that is looked at before use, and of its tiles."""

from __future__ import annotations

from attnprobe.mutants.mutant import HOPPER_KERNEL, Mutant
from attnprobe.mutants.rows.edits import Edited

_row = Edited("pipeline", HOPPER_KERNEL)
_tile = Edited("schedule", HOPPER_KERNEL)

_PLACE = "turn % 2 ? gridDim.x - 1 - blockIdx.x : blockIdx.x;"
_FOUND = "if (looker == 0) st_shared(smem.found + stage * 4, found);"
_LOOKED = "fence_proxy_async_shared(); bar_sync(kLookersBarrier, kLookers);"

HOPPER_TILES: tuple[Mutant, ...] = (
    # turns
    _row(
        "turn_never_begins",
        "nobody gives the first warpgroup its first turn",
        "if (kTaken && warpgroup == kConsumers - 1) pass_on();",
        "",
        "hopper_turns",
    ),
    _row(
        "turn_not_passed_on",
        "a warpgroup keeps its turn after the products of a block",
        "turns.pass_on(); work.block = next_block;",
        "work.block = next_block;",
        "hopper_turns",
    ),
    _row(
        "turn_passed_to_itself",
        "a warpgroup passes the turn to itself",
        "warpgroup == kConsumers - 1 ? 0 : warpgroup + 1;",
        "warpgroup;",
        "hopper_turns",
    ),
    # V that is looked at
    _row(
        "look_found_forgotten",
        "that V holds NaN or infinity is not noted",
        _FOUND,
        _FOUND.replace(" found);", " 0);"),
        "hopper_window",
        by=("nan_in_v",),
    ),
    _row(
        "look_zeroes_nothing",
        "NaN and infinity of V stay where the tensor core reads them",
        "zero_nonfinite<Element, kVBytes, kLookers>(V_smem, looker);",
        "{}",
        "hopper_window",
        by=("nan_in_v",),
    ),
    _row(
        "look_not_added",
        "what was taken out of V is not added to the rows that see it",
        "if (kLookForNonfinite && left_out) add_left_out(work.tile);",
        "",
        "hopper_window",
        by=("nan_in_v",),
    ),
    _row(
        "look_added_rows",
        "rows r get what was left out once more, rows r + 8 never",
        "const int row = query + i / 2 * 8;",
        "const int row = query;",
        "hopper_window",
        by=("nan_in_v", "inf_in_v"),
    ),
    _row(
        "look_last_pass",
        "each looking thread remembers the last of its words alone",
        "fma_rn_x2<T>(words[i], 0, sum[i]);",
        "fma_rn_x2<T>(words[i], 0, 0);",
        "hopper_window",
        by=("nan_in_v", "inf_in_v"),
    ),
    _row(
        "look_unfenced",
        "the zeros in V are not shown to the tensor core",
        _LOOKED,
        _LOOKED.replace("fence_proxy_async_shared(); ", ""),
        "hopper_window",
        by=("nan_in_v",),
        timing=True,
    ),
    _row(
        "look_handed_on_early",
        "V is handed on before the second looking warp has done its part",
        _LOOKED,
        "fence_proxy_async_shared();",
        "hopper_window",
        by=("nan_in_v",),
        timing=True,
    ),
    _row(
        "look_before_it_landed",
        "V is looked at before it has landed",
        "mbarrier_wait(smem.v_landed + stage * 8, landed_phases >> stage & 1);",
        "",
        "hopper_window",
        timing=True,
    ),
    _row(
        "look_parity_kept",
        "the parity of the barrier of landed V is not toggled",
        "landed_phases ^= 1u << stage;",
        "",
        "hopper_window",
    ),
    _row(
        "look_past_it",
        "V at an edge goes to the warpgroups without being looked at, and the lookers wait",
        "const bool looked_at = kLookForNonfinite && blocks.may_hide(block);",
        "const bool looked_at = false;",
        "hopper_window",
    ),
    _row(
        "look_handed_on_by_all",
        "all looking threads hand V on, where one is expected",
        "if (looker == 0) mbarrier_arrive(V_ring.full());",
        "mbarrier_arrive(V_ring.full());",
        "hopper_window",
    ),
    # tiles
    _tile(
        "tile_forwards",
        "blocks take their tiles forwards in every round",
        _PLACE,
        "blockIdx.x;",
        "hopper_heads",
        equivalent="every tile is computed once, in another order",
    ),
    _tile(
        "tile_of_next_round",
        "every second tile of a block is one too far: tiles are dropped, others computed twice",
        _PLACE,
        _PLACE.replace("gridDim.x - 1 - blockIdx.x", "gridDim.x - blockIdx.x"),
        "hopper",
    ),
    _tile(
        "tile_of_first_batch",
        "the tiles of the first batch entry are all",
        "tiles(m_blocks * p.num_heads * p.batch)",
        "tiles(m_blocks * p.num_heads)",
        "hopper_heads",
    ),
    _tile(
        "tile_tail_dropped",
        "the last queries are left out where they do not fill a tile",
        "m_blocks((p.rows_q + kBlockM - 1) / kBlockM)",
        "m_blocks(p.rows_q / kBlockM)",
        "hopper",
    ),
    _tile(
        "tile_width_of_group",
        "the last group is taken to have as many heads as the others",
        "const int width = min(group, heads - first_head);",
        "const int width = group;",
        "hopper_causal",
    ),
    _tile(
        "tile_row_of_group",
        "the heads of a group are those of the first",
        "const int head = first_head + rest - row * width; const bool shortening",
        "const int head = rest - row * width; const bool shortening",
        "hopper_causal",
    ),
    _tile(
        "tile_never_shortening",
        "the tiles of every group get longer",
        "const int m = shortening ? m_blocks - 1 - row : row;",
        "const int m = row;",
        "hopper_causal",
        equivalent="every tile is computed once, in another order",
    ),
    _tile(
        "tile_head_of_all",
        "the head of a tile is counted over all batch entries",
        "return {batch, head - batch * num_heads,",
        "return {batch, head,",
        "hopper_heads",
    ),
    _tile(
        "tile_queries",
        "tiles of queries begin twice as far apart as they are long",
        "head - batch * num_heads, m * kBlockM};",
        "head - batch * num_heads, m * kBlockM * 2};",
        "hopper",
    ),
)
