"""Mutants of plan and launch: grid, shared memory, macros, lengths, formats."""

from __future__ import annotations

from functools import partial

from attnprobe.mutants.mutant import Argument, Blocks, Define, Mutant, SharedBytes

_mutant = partial(Mutant, family="plan")

PLANS: tuple[Mutant, ...] = (
    _mutant(
        "grid_one_short",
        "the grid has one block less: the last tile is never computed",
        (Blocks("blocks - 1", lambda plan: plan.grid[0] - 1),),
        ("heads",),
    ),
    _mutant(
        "grid_rounded_down",
        "the last queries are left out where they do not fill a tile",
        (
            Blocks(
                "seqlen_q // block_m tiles",
                lambda plan: (
                    plan.grid[0]
                    // -(-plan.problem.seqlen_q // plan.variant.block_m)
                    * (plan.problem.seqlen_q // plan.variant.block_m)
                ),
            ),
        ),
        ("plain",),
    ),
    _mutant(
        "grid_without_batch",
        "the grid covers the first batch entry only",
        (Blocks("blocks / batch", lambda plan: plan.grid[0] // plan.problem.batch),),
        ("heads",),
    ),
    _mutant(
        "shared_memory_short",
        "shared memory for one stage of K and V is asked for, and two are used",
        (SharedBytes("* 5/8", lambda plan: plan.shared_bytes * 5 // 8),),
        ("plain",),
    ),
    _mutant(
        "seqlen_k_one_less",
        "the kernel is told one key less than there are",
        (Argument("rows_k", "rows_k - 1", lambda f: f["rows_k"] - 1),),
        ("plain",),
    ),
    _mutant(
        "seqlen_k_one_more",
        "the kernel is told one key more than there are",
        (Argument("rows_k", "rows_k + 1", lambda f: f["rows_k"] + 1),),
        ("plain",),
    ),
    _mutant(
        "seqlen_k_to_the_tile",
        "the kernel is told a number of keys rounded up to whole tiles",
        (Argument("rows_k", "up to a multiple of 32", lambda f: -(-f["rows_k"] // 32) * 32),),
        ("plain",),
    ),
    _mutant(
        "seqlen_q_one_less",
        "the kernel is told one query less than there are",
        (Argument("rows_q", "rows_q - 1", lambda f: f["rows_q"] - 1),),
        ("plain",),
    ),
    _mutant(
        "heads_per_kv_head_one",
        "the kernel is told that every query head has a K/V head of its own",
        (Argument("heads_per_kv_head", "1", lambda f: 1),),
        ("heads",),
    ),
    _mutant(
        "window_right_one_more",
        "the right side of the window is one key longer",
        (Argument("window_right", "window_right + 1", lambda f: f["window_right"] + 1),),
        ("window", "causal"),
    ),
    _mutant(
        "format_mixed_up",
        "bfloat16 numbers are read as float16",
        (Define("ATTN_ELEMENT", "f16_t", lambda macros: "f16_t"),),
        ("bf16",),
    ),
    _mutant(
        "alignment_assumed",
        "copies of 16 bytes are used for rows that do not start at multiples of 16 bytes",
        (Define("ATTN_ALIGNED", "1", lambda macros: 1),),
        ("unaligned",),
    ),
    _mutant(
        "more_blocks_per_sm",
        "the compiler is told to expect more blocks on a multiprocessor",
        (
            Define(
                "ATTN_BLOCKS_PER_SM", "+ 1", lambda macros: int(macros["ATTN_BLOCKS_PER_SM"]) + 1
            ),
        ),
        ("plain",),
        (),
        equivalent="the number bounds the registers that the compiler may use: code is scheduled "
        "and spilled otherwise, and computes the same",
    ),
)
