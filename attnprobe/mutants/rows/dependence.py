"""Mutants of decode beside the launch before it: what is touched before that is over."""

from __future__ import annotations

from functools import partial

from attnprobe.mutants.mutant import DECODE_KERNEL, Edit, Mutant

_decode = partial(Mutant, family="dependence", kernel=DECODE_KERNEL, timing=True)

_WAIT_AT_ONCE = "if constexpr (ATTN_DEPENDENT && kLengthsRead) griddepcontrol_wait();"
_WAIT = "if constexpr (ATTN_DEPENDENT && !kLengthsRead) griddepcontrol_wait();"
_WITHOUT = Edit(_WAIT, "")
_QUERIES = (
    "copy_group_queries<kBlockM, kHeadDim, kThreads>(smem, p, sequence, kv_head, first_row); "
    "cp_async_commit_group();"
)
_LENGTHS = "|| ATTN_SEQUSED_K || ATTN_LEFTPAD_K;"

DEPENDENCE: tuple[Mutant, ...] = (
    _decode(
        "depend_never",
        "nobody waits for the launch before",
        (_WITHOUT,),
        ("decode",),
    ),
    _decode(
        "depend_never_lengths",
        "nobody waits for the launch before, where lengths are read from memory",
        (Edit(_WAIT_AT_ONCE, ""),),
        ("decode_paged",),
    ),
    _decode(
        "depend_one_warp",
        "one warp of a block waits for the launch before",
        (Edit(_WAIT, "if (warp_id() == 0) griddepcontrol_wait();"),),
        ("decode",),
    ),
    _decode(
        "depend_queries_early",
        "Q is asked for before the launch before is over",
        (_WITHOUT, Edit(_QUERIES, f"{_QUERIES} griddepcontrol_wait();")),
        ("decode",),
    ),
    _decode(
        "depend_lengths_early",
        "lengths are read before the launch before is over",
        (Edit(_LENGTHS, ";"),),
        ("decode_paged",),
    ),
    _decode(
        "depend_released_early",
        "the launch behind may begin before the launch before is over",
        (Edit(_WAIT, "griddepcontrol_launch_dependents(); griddepcontrol_wait();"),),
        ("decode",),
    ),
)
