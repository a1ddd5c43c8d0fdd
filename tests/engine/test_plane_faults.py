"""Faults planted in the tiles of bias and mask on mma.sync, and in what skips blocks, are seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import attnprobe
from attnprobe.engine.plan import Plan, plans_changed
from attnprobe.errors import AttnprobeError
from attnprobe.mutants.apply import mutated
from attnprobe.mutants.mutant import MAIN_KERNEL, Edit, Mutant
from attnprobe.mutants.scene import Tile
from attnprobe.numerics.error import check_attention

HEADS, ROWS, KEYS = 2, 70, 1104  # more blocks of 32 keys than a word has bits
MASK_KERNEL = "attention/mask_blocks.cu"

# What is planted -> the file, and what stands there for what.
FAULTS: dict[str, tuple[str, str, str]] = {
    "every row is the first": (MAIN_KERNEL, "source += kPassRows * plane.row_stride;", ""),
    "rows r + 8 are rows r": (
        MAIN_KERNEL,
        "m * 16 + r * 8 + lane_id() / 4,",
        "m * 16 + lane_id() / 4,",
    ),
    "copies the block that is there": (
        MAIN_KERNEL,
        "copy_planes(next_block);",
        "copy_planes(block);",
    ),
    "never commits the copies": (
        MAIN_KERNEL,
        "copy(shown, mask.mask, mask, query, key); cp_async_commit_group();",
        "copy(shown, mask.mask, mask, query, key);",
    ),
    "copies past the keys": (MAIN_KERNEL, "min(max(key_count, 0), kChunkKeys)", "kChunkKeys"),
    "copies past the queries": (MAIN_KERNEL, "row < rows ? bytes : 0", "bytes"),
    "the first block is lost": (
        MAIN_KERNEL,
        "begin = first * kBits + first_set(low);",
        "begin = first * kBits + first_set(low) + 1;",
    ),
    "the last block is lost": (MAIN_KERNEL, "+ last_set(bits) + 1;", "+ last_set(bits);"),
    "blocks out of order": (
        MAIN_KERNEL,
        "const int last = last_set(bits);",
        "const int last = first_set(bits);",
    ),
    "the words of the first tile": (MAIN_KERNEL, "+ tile.first_query / kBlockM;", ";"),
    "the words of the first head": (MAIN_KERNEL, "p.mask_head_stride == 0 ? 0 : tile.head,", "0,"),
    "half of the rows looked at": (
        MASK_KERNEL,
        "if (row >= rows) continue;",
        "if (row >= rows / 2) continue;",
    ),
    "a warp says nothing": (
        MASK_KERNEL,
        "if (lane_id() == 0) st_shared(",
        "if (threadIdx.x == 0) st_shared(",
    ),
    "every block is the first": (
        MASK_KERNEL,
        "(number * Blocks::kBits + warp_id()) * kBlockN;",
        "0;",
    ),
}


def shown() -> Any:
    """Return a mask for each head: few blocks, each with one key for one query, or all."""
    rng = np.random.default_rng(3)
    mask = np.zeros((HEADS, ROWS, KEYS), bool)
    for head in range(HEADS):
        for first in range(0, ROWS, 14):
            for key in rng.choice(KEYS // 16, 4, replace=False) * 16:
                mask[head, first + 13 : first + 14, key + 7] = True
        mask[head, :, 40 + 64 * head : 48 + 64 * head] = True
        mask[head, 66:, 1090:] = True
    return mask


def call(fault: str | None) -> None:
    rng = np.random.default_rng(1)
    shapes = ((1, ROWS, HEADS, 32), *[(1, KEYS, 1, 32)] * 2)
    q, k, v = (rng.standard_normal(shape).astype(np.float16) for shape in shapes)
    planes = {"mask": shown(), "bias": rng.standard_normal((HEADS, ROWS, KEYS)).astype(np.float16)}
    mutant = None
    if fault is not None:
        file, old, new = FAULTS[fault]
        mutant = Mutant(
            "planted", fault, (Edit(old, new),), ("planes",), ("normal",), "planes", kernel=file
        )

    def change(plan: Plan) -> Plan:
        plan = mutated(plan, mutant, Tile(64, 32, 2), MAIN_KERNEL)
        assert plan.defines["ATTN_BIAS_TILES"] == plan.defines["ATTN_MASK_TILES"] == 1
        variant: Any = plan.variant
        return replace(plan, variant=replace(variant, skips_from=0))

    with plans_changed(change):
        O, LSE = attnprobe.attention(q, k, v, return_lse=True, **planes)
    check_attention(O, LSE, q, k, v, **planes)


def test_the_sound_kernel_passes() -> None:
    call(None)


@pytest.mark.parametrize("fault", FAULTS)
def test_it_is_seen(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNPROBE_CHECKED", "1")
    with pytest.raises(AttnprobeError):
        call(fault)
