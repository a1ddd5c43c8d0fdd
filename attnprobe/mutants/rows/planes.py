"""Mutants of how bias and mask are read and applied, in the kernels of many queries."""

from __future__ import annotations

from attnprobe.mutants.mutant import HOPPER_KERNEL, MAIN_KERNEL, Mutant
from attnprobe.mutants.rows.edits import Edited

_row = Edited("planes", MAIN_KERNEL)
_hopper = Edited("planes", HOPPER_KERNEL)

PLANES: tuple[Mutant, ...] = (
    _row(
        "planes_pair_swapped",
        "two neighbouring keys get each other's bias",
        "i == 0 ? bits : bits >> 16",
        "i == 0 ? bits >> 16 : bits",
        "bias",
    ),
    _row(
        "planes_pair_of_block_before",
        "pairs of keys are read one block of eight keys too far left",
        "return Pair<T>::at(first + 8 * n);",
        "return Pair<T>::at(first + 8 * (n > 0 ? n - 1 : 0));",
        "bias",
    ),
    _row(
        "planes_right_of_pair",
        "read one by one, both keys of a pair get the bias of the left one",
        "return Pair<T>::of(left[0], left[step]);",
        "return Pair<T>::of(left[0], left[0]);",
        "bias_odd",
    ),
    _row(
        "planes_last_of_odd",
        "where keys are odd in number the last one gets no bias",
        "pairs[n] = Pair<T>::of(first[8 * n * step], T{});",
        "pairs[n] = Pair<T>::zeros();",
        "bias_odd",
    ),
    _row(
        "planes_rows_of_lane",
        "both rows of a lane get the bias of the first",
        "planes[m][r].read(rows.mask(m, r), rows.query(m, r), first_key);",
        "planes[m][r].read(rows.mask(m, r), rows.query(m, 0), first_key);",
        "bias",
    ),
    _row(
        "planes_nan_stays",
        "a bias of -inf is only added: a score of NaN, which it hides, comes through",
        "if (!vote_any(unordered)) return;",
        "return;",
        "bias",
        by=("nan_in_k",),
    ),
    _row(
        "planes_mask_forgotten",
        "a mask beside a bias is read and not applied",
        "if (shown.pairs[n].hides(i)) S[4 * n + 2 * r + i] = -infinity();",
        "",
        "planes_both",
    ),
    _row(
        "planes_v_not_looked_at",
        "V is looked at in the blocks alone that a window or the end cuts: NaN where the mask "
        "hides a key comes through as 0 * NaN",
        "= kPlanes ? 0 : mask.end_key(block_query) / kBlockN;",
        "= mask.end_key(block_query) / kBlockN;",
        "mask_whole",
        by=("nan_in_v",),
    ),
    _hopper(
        "planes_wgmma_last_block",
        "scores get the bias of the block before",
        "read_planes(work.tile, next_block);",
        "read_planes(work.tile, work.block);",
        "hopper_bias",
    ),
    _hopper(
        "planes_wgmma_not_read",
        "the first block of a tile gets the bias of the tile before",
        "read_planes(work.tile, work.block); Q_ring.wait_full();",
        "Q_ring.wait_full();",
        "hopper_bias",
    ),
    _hopper(
        "planes_wgmma_rows",
        "rows r + 8 get the bias of rows r",
        "rows[r].read(mask, query + r * 8, key);",
        "rows[r].read(mask, query, key);",
        "hopper_bias",
    ),
    _hopper(
        "planes_wgmma_warp_row",
        "every warp gets the bias of the first queries of the tile",
        "tile.first_query + warp_row, block * kBlockN + lane_key);",
        "tile.first_query + lane_id() / 4, block * kBlockN + lane_key);",
        "hopper_bias",
    ),
    _hopper(
        "planes_tile_not_awaited",
        "the tile of bias is read before it has landed",
        "if constexpr (kPlaneTiles) plane_ring.wait_full(); transform_scores(",
        "transform_scores(",
        "hopper_bias_tile",
        timing=True,
    ),
    _hopper(
        "planes_tile_overwritten",
        "the next tile of bias is copied while this one may still be read",
        "plane_ring.wait_empty();",
        "",
        "hopper_bias_tile",
        timing=True,
    ),
    _hopper(
        "planes_tile_half_expected",
        "half of a tile of bias counts as all of it",
        "mbarrier_arrive_expect_tx(barrier, kPlaneBytes);",
        "mbarrier_arrive_expect_tx(barrier, kPlaneBytes / 2);",
        "hopper_bias_tile",
        timing=True,
    ),
    _hopper(
        "planes_tile_rows",
        "rows r + 8 take their bias from rows r of the tile",
        "plane_tile + kBiasBytes, row + r * 8, S, r,",
        "plane_tile + kBiasBytes, row, S, r,",
        "hopper_bias_tile",
    ),
    _hopper(
        "planes_tile_not_swizzled",
        "a tile of bias is read as if its chunks stood in order",
        "lane_id() % 4 * 2 * sizeof(T) ^ row % 8 * 16;",
        "lane_id() % 4 * 2 * sizeof(T);",
        "hopper_bias_tile",
    ),
    _hopper(
        "planes_tile_of_first_keys",
        "every block gets the bias of the first",
        "block * kBlockN + i * kPlanePanel<T>,",
        "i * kPlanePanel<T>,",
        "hopper_bias_tile",
    ),
    _hopper(
        "planes_tile_of_first_head",
        "every head gets the tiles of the first",
        "head_stride == 0 ? 0 : queries.head",
        "0",
        "hopper_bias_tile",
    ),
    _hopper(
        "planes_wgmma_no_lookers",
        "nobody looks at V where nothing but a mask hides keys: 0 * NaN comes through",
        "(ATTN_WINDOW || kForeignRows || kPlanes) &&",
        "(ATTN_WINDOW || kForeignRows) &&",
        "hopper_mask",
        by=("nan_in_v",),
    ),
    _hopper(
        "planes_wgmma_edges_looked_at",
        "V is looked at in the blocks alone that a window or the end cuts",
        "return kPlanes || at_edge(block);",
        "return at_edge(block);",
        "hopper_mask",
        by=("nan_in_v",),
    ),
)
