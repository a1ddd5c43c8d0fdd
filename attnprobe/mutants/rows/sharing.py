"""Mutants of warps that share rows, of stages that they read apart, and of keys in parts."""

from __future__ import annotations

from attnprobe.mutants.mutant import MAIN_KERNEL, Edit, Mutant
from attnprobe.mutants.rows.edits import Edited

_row = Edited("sharing", MAIN_KERNEL)

_READ_K = "K_stages().read(stage);"
_FILL_V = "V_stages().filled(next);"
_WAIT_V = "V_stages().wait_full(stage, turn / kStages);"

SHARING: tuple[Mutant, ...] = (
    _row(
        "sharing_own_maxima",
        "of two warps that share rows each takes the maxima of its own keys",
        "maxima[m][r] = max_f32(maxima[m][r], other[m][r]);",
        "maxima[m][r] = maxima[m][r];",
        "pairs_together",
    ),
    _row(
        "sharing_own_sums",
        "of two warps that share rows each divides by the sum over its own keys",
        "sums[m][r] = lane_id() % 4 == 0 ? sums[m][r] + other[m][r] : 0.0f;",
        "sums[m][r] = lane_id() % 4 == 0 ? sums[m][r] : 0.0f;",
        "pairs_together",
    ),
    _row(
        "sharing_quad_sums",
        "every lane of a quad keeps the joined sum, and the quad adds them up once more",
        "sums[m][r] = lane_id() % 4 == 0 ? sums[m][r] + other[m][r] : 0.0f;",
        "sums[m][r] = sums[m][r] + other[m][r];",
        "pairs_together",
    ),
    _row(
        "sharing_maxima_early",
        "maxima and sums of the other warp are read before it has written them",
        "        sync();\n#pragma unroll\n",
        "#pragma unroll\n",
        "pairs_together",
    ),
    _row(
        "sharing_one_place_of_maxima",
        "both warps write their maxima and sums at the same place",
        "st_shared(lane_place + rank * kStatBytes + offset,",
        "st_shared(lane_place + offset,",
        "pairs_together",
    ),
    _row(
        "sharing_p_early",
        "P of the other warp is read before it has written it, where no maximum grew",
        "return bar_red_or(barrier, 2 * kWarpSize, predicate);",
        "return vote_any(predicate);",
        "pairs",
    ),
    _row(
        "sharing_p_of_next",
        "P of the next block is written over that which the other warp still reads",
        "result.P_tile += block % 2 * PTile::kBytes;",
        "result.P_tile += 0 * PTile::kBytes;",
        "pairs",
    ),
    _row(
        "sharing_one_place_of_p",
        "all pairs of warps exchange P at one place",
        "P_tile(smem + warp_id() / 2 * kBytes),",
        "P_tile(smem),",
        "pairs_together",
    ),
    _row(
        "sharing_own_p_twice",
        "a warp multiplies the V of the other's keys with its own P",
        "step + (rank ^ 1) * kSteps + k",
        "step + rank * kSteps + k",
        "pairs_together",
    ),
    _row(
        "sharing_v_of_own_keys",
        "a warp multiplies the other's P with the V of its own keys",
        "values(V_tile, part, sharers.rank ^ 1)",
        "values(V_tile, part, sharers.rank)",
        "pairs_together",
    ),
    _row(
        "sharing_keys_of_other",
        "both warps of a pair score the keys of the first",
        "KAddress(K_tile, part * kPartKeys + sharers.rank * kNTiles * 8);",
        "KAddress(K_tile, part * kPartKeys);",
        "pairs_together",
    ),
    _row(
        "sharing_key_numbers",
        "both warps of a pair mask their keys as if they were those of the first",
        "const int first_key = block * kBlockN + sharers.rank * kNTiles * 8 + lane_key;",
        "const int first_key = block * kBlockN + lane_key;",
        "pairs",
    ),
    _row(
        "sharing_columns",
        "the two warps of a pair store each other's columns of O",
        "return (d / 2 * kSharers + rank) * 16 + d % 2 * 8;",
        "return (d / 2 * kSharers + (rank ^ 1)) * 16 + d % 2 * 8;",
        "pairs_together",
    ),
    _row(
        "sharing_barriers_crossed",
        "the named barriers bring warps together that do not share rows",
        "barrier(1 + warp_id() / 2),",
        "barrier(1 + warp_id() % 2),",
        "pairs",
    ),
    _row(
        "apart_k_not_waited_for",
        "K is read before the copies of all threads have landed",
        "K_stages().wait_full(stage, use);",
        "",
        "pairs",
    ),
    _row(
        "apart_v_not_waited_for",
        "V is read before the copies of all threads have landed",
        _WAIT_V,
        "",
        "pairs",
    ),
    _row(
        "apart_k_copied_over",
        "K is copied over a stage that other warps still read",
        "if (turn > 0) K_stages().wait_free(next, (turn - 1) / kStages);",
        "",
        "pairs",
    ),
    _row(
        "apart_v_copied_over",
        "V is copied over a stage that other warps still read",
        "if (turn > 0) V_stages().wait_free(next, (turn - 1) / kStages);",
        "",
        "pairs",
    ),
    Mutant(
        "apart_each_lane_says_so",
        "every lane says of a stage that it has been read, where lane 0 says so for its warp",
        (
            Edit(
                "mbarrier_init(free(stage), kThreads / kWarpSize);",
                "mbarrier_init(free(stage), kThreads);",
            ),
            Edit(
                "warp_sync(); if (lane_id() == 0) mbarrier_arrive(free(stage));",
                "mbarrier_arrive(free(stage));",
            ),
        ),
        ("pairs",),
        (),
        "sharing",
        equivalent="the barrier waits for the lanes where it waited for warps whose lanes have met",
    ),
    _row(
        "apart_k_never_free",
        "nobody says that a stage of K is read: the copies wait for ever",
        _READ_K,
        "",
        "pairs",
    ),
    _row(
        "apart_v_never_full",
        "nobody says that a stage of V is copied: the readers wait for ever",
        _FILL_V,
        "",
        "pairs",
    ),
    _row(
        "apart_free_by_lane",
        "lane 0 gives a stage back while other lanes of its warp may still read it",
        "        warp_sync();\n        if (lane_id() == 0) mbarrier_arrive(free(stage));",
        "        if (lane_id() == 0) mbarrier_arrive(free(stage));",
        "pairs",
        equivalent="only ldmatrix reads a stage of K or V, for all lanes in one instruction, and "
        "lane 0 arrives after it",
    ),
    _row(
        "apart_turn_of_block",
        "a stage's turns are counted by blocks, not by its uses",
        "const u32_t use = turn / kStages;",
        "const u32_t use = turn;",
        "pairs",
    ),
    _row(
        "parts_first_keys",
        "the second part of a block takes the V of the first",
        "VAddress(V_tile, part * kPartKeys + rank * kSteps * 16)",
        "VAddress(V_tile, rank * kSteps * 16)",
        "key_parts",
    ),
    _row(
        "parts_scores_of_first",
        "the second part of a block is scored with the K of the first",
        "KAddress(K_tile, part * kPartKeys + sharers.rank * kNTiles * 8);",
        "KAddress(K_tile, sharers.rank * kNTiles * 8);",
        "key_parts",
    ),
    _row(
        "parts_masked_as_first",
        "the second part of a block is masked as if its keys were those of the first",
        "mask_scores(S_acc, rows, first_key + part * kPartKeys);",
        "mask_scores(S_acc, rows, first_key);",
        "key_parts",
    ),
    _row(
        "parts_done_twice",
        "a part that was added before the sums grew is added once more",
        "                    left = part;\n",
        "",
        "key_parts",
    ),
    _row(
        "parts_seen_by_first_row",
        "a part that only the warp's last rows see is left out",
        "begin < mask.end_key(warp_query + kMTiles * 16 - 1)",
        "begin < mask.end_key(warp_query)",
        "key_parts",
    ),
)
