"""Mutants of the Hopper kernel's waits, fences, rings and copies.

Most of these are faults of timing. On a GPU they show when the timing is bad; checked emulation
finds them by the order that nothing guarantees.
"""

from __future__ import annotations

from attnprobe.mutants.mutant import HOPPER_KERNEL, Mutant
from attnprobe.mutants.rows.edits import Edited

_row = Edited("pipeline", HOPPER_KERNEL)

_S_COMPLETE = "wgmma_wait_group<1>(); registers_change(S);"
_TILE_COMPLETE = "wgmma_wait_group<0>(); if constexpr (kPassesBlocks) {"
_LAST = "wgmma_wait_group<0>(); finish_tile(work); pass(work.blocks.begin - work.begin);"
_PV_LANDED = "V_ring.wait_full(); issue_pv(accumulate);"
_BYTES = "mbarrier_arrive_expect_tx(barrier, kRows * kPanels * kPanelRowBytes);"
_K_READERS = "Ring<kStages>::init(smem.k_ring, kConsumers * 4);"
_ARRIVED = "if (speaks) mbarrier_arrive({}_ring.empty());"
_GIVE_BACK = "const auto give_back_k = [&](const Work &work) { "

PIPELINE: tuple[Mutant, ...] = (
    # products
    _row(
        "wgmma_fence_of_s",
        "no wgmma.fence between the softmax's use of S and the next product that writes it",
        "registers_change(S); wgmma_fence();",
        "registers_change(S);",
        "hopper",
        timing=True,
    ),
    _row(
        "wgmma_fence_of_o",
        "no wgmma.fence between P and a rescaled O and the product that uses them",
        "registers_change(O); wgmma_fence();",
        "registers_change(O);",
        "hopper",
        timing=True,
    ),
    _row(
        "wgmma_commit_of_s",
        "the products of S are not committed: no wait covers them",
        "K_ring.stage * kKBytes); wgmma_commit_group();",
        "K_ring.stage * kKBytes);",
        "hopper",
        timing=True,
    ),
    _row(
        "wgmma_commit_of_o",
        "the products of O are not committed",
        "V_ring.stage * kVBytes, accumulate); wgmma_commit_group();",
        "V_ring.stage * kVBytes, accumulate);",
        "hopper",
        timing=True,
    ),
    _row(
        "wgmma_s_not_waited_for",
        "the scores are used before their product is complete",
        _S_COMPLETE,
        "registers_change(S);",
        "hopper",
        timing=True,
    ),
    _row(
        "wgmma_wait_leaves_both",
        "the wait for the scores leaves two groups in flight, one of them theirs",
        _S_COMPLETE,
        _S_COMPLETE.replace("<1>", "<2>"),
        "hopper",
        timing=True,
    ),
    _row(
        "wgmma_waits_for_both",
        "the wait for the scores waits for O as well",
        _S_COMPLETE,
        _S_COMPLETE.replace("<1>", "<0>"),
        "hopper",
        equivalent="it waits for more than it must: the softmax no longer runs under the product",
    ),
    _row(
        "wgmma_tile_not_waited_for",
        "O of a tile is stored while its last product runs",
        _TILE_COMPLETE,
        _TILE_COMPLETE.replace("<0>", "<1>"),
        "hopper",
        timing=True,
    ),
    _row(
        "wgmma_last_not_waited_for",
        "O of the last tile is stored while its last product runs",
        _LAST,
        _LAST.replace("<0>", "<1>"),
        "hopper",
        timing=True,
    ),
    # rings
    _row(
        "ring_k_not_awaited",
        "K is multiplied before it has landed",
        "K_ring.wait_full(); turns.wait(); issue_qk(warpgroup); V_ring.wait_full();",
        "turns.wait(); issue_qk(warpgroup); V_ring.wait_full();",
        "hopper",
        timing=True,
    ),
    _row(
        "ring_v_not_awaited",
        "V is multiplied before it has landed",
        _PV_LANDED,
        "issue_pv(accumulate);",
        "hopper",
        timing=True,
    ),
    _row(
        "ring_q_not_awaited",
        "Q of the next tile is multiplied before it has landed",
        "Q_ring.wait_full();",
        "",
        "hopper",
        timing=True,
    ),
    _row(
        "ring_k_not_given_back",
        "nobody gives K back",
        _GIVE_BACK + _ARRIVED.format("K"),
        _GIVE_BACK,
        "hopper",
    ),
    _row(
        "ring_q_not_given_back",
        "nobody gives Q back",
        _ARRIVED.format("Q"),
        "",
        "hopper",
    ),
    _row(
        "ring_v_not_given_back",
        "nobody gives V back",
        "V_ring.stage * 4); " + _ARRIVED.format("V"),
        "V_ring.stage * 4);",
        "hopper",
    ),
    _row(
        "ring_given_back_by_all",
        "all lanes give K back, where one of each warp is expected",
        _GIVE_BACK + _ARRIVED.format("K"),
        _GIVE_BACK + "mbarrier_arrive(K_ring.empty());",
        "hopper",
    ),
    _row(
        "ring_one_reader_less",
        "K counts as given back before the last warp has done so",
        _K_READERS,
        _K_READERS.replace("* 4", "* 4 - 1"),
        "hopper",
        timing=True,
    ),
    _row(
        "ring_one_reader_more",
        "K is given back by one warp more than there are",
        _K_READERS,
        _K_READERS.replace("* 4", "* 4 + 1"),
        "hopper",
    ),
    _row(
        "ring_two_fillers",
        "a stage is full when two threads have said so",
        "mbarrier_init(barriers + i * 8, writers);",
        "mbarrier_init(barriers + i * 8, writers + 1);",
        "hopper",
    ),
    _row(
        "ring_k_overwritten",
        "K is loaded before its stage is given back",
        "K_ring.wait_empty();",
        "",
        "hopper",
        timing=True,
    ),
    _row(
        "ring_v_overwritten",
        "V is loaded before its stage is given back",
        "V_ring.wait_empty();",
        "",
        "hopper",
        timing=True,
    ),
    _row(
        "ring_q_overwritten",
        "Q of the next tile is loaded before its stage is given back",
        "Q_ring.wait_empty();",
        "",
        "hopper",
        timing=True,
    ),
    _row(
        "ring_parity_of_full",
        "the wait for a full stage is for the other parity",
        "mbarrier_wait(full(), phase);",
        "mbarrier_wait(full(), phase ^ 1);",
        "hopper",
    ),
    _row(
        "ring_parity_of_empty",
        "the wait for an empty stage is for the other parity",
        "mbarrier_wait_asleep(empty(), phase ^ 1);",
        "mbarrier_wait_asleep(empty(), phase);",
        "hopper",
    ),
    _row(
        "ring_parity_kept",
        "the parity of a ring is not toggled when it has gone round",
        "stage = 0; phase ^= 1;",
        "stage = 0;",
        "hopper",
    ),
    _row(
        "ring_last_stage_unused",
        "rings go round one stage early",
        "++stage == kStages)",
        "++stage == kStages - 1)",
        "hopper_turns",
        equivalent="both sides of a ring of two or more stages do so: it is a ring with one less",
    ),
    _row(
        "ring_half_of_the_bytes",
        "a stage counts as full when half of its bytes have landed",
        _BYTES,
        _BYTES.replace("Bytes);", "Bytes / 2);"),
        "hopper",
        timing=True,
    ),
    _row(
        "ring_bytes_twice",
        "twice the bytes that are copied are waited for",
        _BYTES,
        _BYTES.replace("Bytes);", "Bytes * 2);"),
        "hopper",
    ),
    _row(
        "ring_init_not_shown",
        "copies do not see that the barriers are made",
        "fence_mbarrier_init();",
        "",
        "hopper",
        timing=True,
    ),
    _row(
        "ring_init_not_awaited",
        "barriers are used before they are made",
        "__syncthreads(); if (warp_id() < 4) {",
        "if (warp_id() < 4) {",
        "hopper",
        timing=True,
    ),
    _row(
        "load_first_column",
        "every panel is loaded with the first columns",
        "i * kPanel, row, head, batch, policy",
        "0, row, head, batch, policy",
        "hopper_panels",
    ),
    _row(
        "load_panel_place",
        "panels stand 64 rows apart, whatever their rows",
        "tile + i * kRows * kPanelRowBytes",
        "tile + i * kPanel * kPanelRowBytes",
        "hopper_panels",
    ),
    _row(
        "load_kv_head",
        "K and V are loaded from the head of the queries' number",
        "p, sequence, tile.head / p.heads_per_kv_head)",
        "p, sequence, tile.head)",
        "hopper_heads",
        count=2,
    ),
    _row(
        "load_first_batch",
        "K and V are those of the first batch entry",
        "batch(ATTN_VARLEN_K ? 0 : sequence.batch)",
        "batch(0)",
        "hopper_heads",
    ),
    _row(
        "load_first_head",
        "Q is that of the first head",
        "tile.head, ATTN_VARLEN_Q ? 0 : tile.batch, kEvictFirst",
        "0, ATTN_VARLEN_Q ? 0 : tile.batch, kEvictFirst",
        "hopper_heads",
    ),
    _row(
        "load_q_last",
        "Q is loaded behind all K blocks of its tile, for which there is no room",
        "if (block != blocks.end - 1) continue;",
        "if (block != blocks.begin) continue;",
        "hopper",
    ),
    _row(
        "load_policy",
        "K and V are marked to leave L2 first",
        "kv_head, batch, kEvictLast",
        "kv_head, batch, kEvictFirst",
        "hopper",
        equivalent="a hint to the cache changes when data arrive, and not which",
    ),
    _row(
        "registers_of_compute",
        "the warpgroups that compute ask for eight registers less",
        "setmaxnreg_inc<kComputeRegisters>();",
        "setmaxnreg_inc<kComputeRegisters - 8>();",
        "hopper",
        equivalent="the compiler spills what does not fit, and computes the same",
    ),
)
