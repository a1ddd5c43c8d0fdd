"""Kernel variants for few queries against many keys, and into how many parts the keys are split.

A tile has 16 rows: the query heads that share a K/V head, packed. Every 16 rows read all K and V
again, mostly from the L2 cache, so more of them soon cost more than the prefill kernel's wide
tiles. Which is the faster is worked out from a count of what each does per multiprocessor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from attnprobe.arch import KIB, Arch
from attnprobe.engine import parts
from attnprobe.engine.checks import MAX_SPLITS
from attnprobe.engine.problem import Problem
from attnprobe.engine.variants import Variant, padded_bytes
from attnprobe.frozen import dataclass

ROWS = 16  # of a tile: of one mma
STAGE_PAGES = 128  # bytes: page numbers of the keys of a stage (key_ring.cuh)
SHARE_EXTRA = 128  # bytes: maximum and sum of 16 rows (group_store.cuh)
MAX_ROWS = 2**30  # queries times heads that share a K/V head: the kernel counts them in 32 bits

MOST_ROWS = 64  # of 16-bit K and V: from there on wide tiles win wherever they fill the device

# Cost of 16 rows against one key and value, in clocks of a multiprocessor, per byte of them: what
# L2 delivers to one (decode), and the mma.sync kernel's share of 128 rows. Source: model; measured
# rates are in docs/design/decode.md.
DECODE_CLOCKS = 0.04
PREFILL_CLOCKS = 0.072
PREFILL_ROWS = 128

# Latencies, in bytes of K and V that one multiprocessor's share of the memory rate would have moved
# meanwhile (about 32 KiB a microsecond on an H200): of a wave of blocks until its first keys are
# there, of each time that splits are combined, and of each split in it; and by which share blocks
# take longer of which some multiprocessors hold one more than others, over the blocks that they
# hold. Source: fitted to measurements on an H200, docs/design/decode.md.
WAVE_BYTES = 48 * KIB
COMBINE_BYTES, COMBINE_SPLIT_BYTES = 64 * KIB, KIB
UNEVEN = 0.08


@dataclass(frozen=True)
class DecodeVariant(Variant):
    """One tile of the decode kernel.

    Attributes
    ----------
    kv_bits : width of an element of K and V that it serves.
    stages : key tiles of one warp in shared memory: one being read, the others being filled.
    least_blocks : blocks of an unsplit launch for each multiprocessor, from which on it serves, as
        long as all of them are on the device at once; 0 where it serves any number.
    """

    kv_bits: int = 16
    stages: int = 2
    least_blocks: int = 0

    @property
    def row_name(self) -> str:
        """What a row of a tile is."""
        return "rows (query, head)"

    def shared_bytes(self, problem: Problem) -> int:
        """Return the dynamic shared memory of one block, bytes."""
        size, v_width = self.kv_bits // 8, problem.v_head_dim // self.v_parts
        row = padded_bytes(problem.head_dim * size) + padded_bytes(v_width * size)
        pages = STAGE_PAGES if problem.layout.page_size else 0
        share = ROWS * v_width * 4 + SHARE_EXTRA
        warp = max(self.stages * (self.block_n * row + pages), share)
        return ROWS * padded_bytes(problem.head_dim * 2) + self.warps * warp

    def macros(self, problem: Problem) -> Mapping[str, object]:
        """Return macros of the kernel text beside those that every kernel has."""
        return {"ATTN_STAGES": self.stages}

    def serves(self, problem: Problem) -> bool:
        """Return whether Q, K and V are of widths and formats that the kernel can take."""
        formats = problem.kv_format.bits == self.kv_bits and problem.format.bits == 16
        return formats and self.serves_widths(problem)

    def refusal(self, problem: Problem, arch: Arch) -> str | None:
        """Return why this variant does not run ``problem`` on ``arch``, or None where it does."""
        # No other kernel takes 8-bit K and V.
        reason = many_rows(problem, arch) if problem.kv_format.bits == 16 else None
        return reason or self.other_number(problem, arch) or super().refusal(problem, arch)

    def other_number(self, problem: Problem, arch: Arch) -> str | None:
        """Return why the launch has too few or too many blocks for this tile, or None.

        With ``num_splits`` given the tile must not depend on the batch, so none that asks for a
        number of blocks serves.
        """
        if not self.least_blocks:
            return None
        if problem.num_splits:
            return "num_splits is given: the tile may not depend on the batch"
        blocks = self.blocks(problem, 1)
        least, most = (n * arch.multiprocessors for n in (self.least_blocks, self.blocks_per_sm))
        if least <= blocks <= most:
            return None
        return f"{blocks} blocks, it is for {least} to {most}, which are on the device at once"

    def blocks(self, problem: Problem, num_splits: int) -> int:
        """Return the blocks of a launch."""
        return base_blocks(problem) * num_splits * self.v_parts

    def splits(self, problem: Problem, arch: Arch) -> int:
        """Return the parts of the keys: the caller's number, or what fills ``arch`` best."""
        if problem.num_splits:
            return problem.num_splits
        size = self.kv_bits // 8
        row = (problem.head_dim + problem.v_head_dim // self.v_parts) * size
        blocks = base_blocks(problem) * self.v_parts
        tiles = -(-visible_keys(problem) // self.block_n)
        device = (arch.multiprocessors, self.blocks_per_sm)
        return best_splits(tiles, self.block_n * row, blocks, device)


def group(problem: Problem) -> int:
    """Return the query heads that share a K/V head."""
    return problem.num_heads // max(1, problem.num_kv_heads)


def rows(problem: Problem) -> int:
    """Return the rows that share a K/V head in one sequence; of packed ones, in the mean one."""
    queries = problem.seqlen_q
    if problem.layout.varlen_q:
        queries = -(-queries // max(1, problem.batch))
    return queries * group(problem)


def base_blocks(problem: Problem) -> int:
    """Return the blocks of an unsplit launch, parts of V aside."""
    if problem.layout.varlen_q:
        # Enough for any lengths: each sequence has at most one tile that is not full.
        tiles = problem.seqlen_q * group(problem) // ROWS + problem.batch
    else:
        tiles = -(-problem.seqlen_q * group(problem) // ROWS) * problem.batch
    return tiles * problem.num_kv_heads


def visible_keys(problem: Problem) -> int:
    """Return the most keys that the rows of one tile can see."""
    left, right = problem.window
    if left < 0 or right < 0:
        return problem.seqlen_k
    return min(problem.seqlen_k, left + right + ROWS)


def many_rows(problem: Problem, arch: Arch) -> str | None:
    """Return why the rows are too many for the decode kernel, or None where they are not.

    With ``num_splits`` given, the answer depends on a sequence's own sizes alone, never on the
    batch: a sequence's bits must not.
    """
    if rows(problem) > MAX_ROWS:
        return f"{rows(problem)} rows share a K/V head, up to 2^30 are supported"
    if problem.num_splits and problem.layout.varlen_q:
        return None if problem.num_splits > 1 else "packed queries in one piece: prefill's tiles"
    if rows(problem) > MOST_ROWS:
        return f"{rows(problem)} rows share a K/V head, it is for up to {MOST_ROWS}"
    if problem.num_splits:
        return None
    per_sm = arch.multiprocessors
    decode = DECODE_CLOCKS * base_blocks(problem) / per_sm
    tiles = -(-problem.seqlen_q // PREFILL_ROWS) * (1 if problem.layout.varlen_q else problem.batch)
    prefill = PREFILL_CLOCKS * -(-tiles * problem.num_heads // per_sm)
    if decode <= prefill:
        return None
    return f"{rows(problem)} rows share a K/V head: wide tiles read K and V fewer times"


def best_splits(tiles: int, tile_bytes: int, blocks: int, device: tuple[int, int]) -> int:
    """Return the number of splits that takes least time.

    One block on every multiprocessor is enough to use the whole memory rate, and blocks that are on
    the device together share it evenly. So a wave that fills the device takes as long as its bytes
    do, and one that leaves multiprocessors empty as long as each of its blocks alone.

    Parameters
    ----------
    tiles : key tiles of the longest sequence.
    tile_bytes : bytes of K and V in a key tile.
    blocks : blocks of an unsplit launch.
    device : multiprocessors, and blocks that one of them holds.
    """
    multiprocessors, held = device

    def cost(splits: int) -> float:
        work = -(-tiles // splits) * tile_bytes
        full, rest = divmod(blocks * splits, multiprocessors * held)
        time: float = full * (held * work + WAVE_BYTES)
        if rest:
            share = rest / multiprocessors
            uneven = UNEVEN / math.ceil(share) if share > 1.0 and rest % multiprocessors else 0.0
            time += max(share, 1.0) * work * (1.0 + uneven) + WAVE_BYTES
        if splits == 1:
            return time
        times = 1 if splits <= parts.AT_ONCE else 2
        return time + COMBINE_BYTES * times + COMBINE_SPLIT_BYTES * splits

    return min(range(1, max(1, min(tiles, MAX_SPLITS)) + 1), key=cost)


def _decode(
    widths: tuple[int, int],
    tile: tuple[int, int, int],
    blocks: int,
    why: str,
    *,
    kv_bits: int = 16,
    parts: int = 1,
    least_blocks: int = 0,
) -> DecodeVariant:
    """Return the row of one tile: (keys, warps, stages)."""
    block_n, warps, stages = tile
    return DecodeVariant(
        source="attention/decode_split.cu",
        entry="attention_decode_split",
        min_cc=80,
        head_dim=widths[0],
        v_head_dim=widths[1],
        block_m=ROWS,
        block_n=block_n,
        warps=warps,
        blocks_per_sm=blocks,
        v_parts=parts,
        why=why,
        kv_bits=kv_bits,
        stages=stages,
        dependent=True,
        least_blocks=least_blocks,
    )


_AT_ONCE = "all blocks are on the device at once: no last wave"
DECODE: tuple[DecodeVariant, ...] = (
    _decode((64, 64), (32, 2, 2), 5, _AT_ONCE, least_blocks=3),
    _decode((64, 64), (32, 8, 3), 1, "128 KiB of K and V under way in eight warps"),
    _decode((64, 64), (16, 4, 3), 1, "fits into 99 KiB"),
    _decode((128, 128), (16, 2, 2), 6, _AT_ONCE, least_blocks=3),
    _decode((128, 128), (16, 8, 3), 1, "128 KiB of K and V under way in eight warps"),
    _decode((128, 128), (16, 4, 3), 1, "fits into 163 KiB"),
    _decode((128, 128), (16, 4, 2), 1, "fits into 99 KiB"),
    _decode((256, 256), (16, 4, 3), 1, "128 KiB of K and V under way"),
    _decode((256, 256), (16, 4, 2), 1, "fits into 163 KiB"),
    _decode((256, 256), (16, 2, 2), 1, "fits into 99 KiB"),
    _decode((576, 512), (16, 2, 3), 1, "two blocks share the columns of O", parts=2),
    _decode((576, 512), (16, 2, 2), 1, "fits into 163 KiB", parts=2),
    _decode((576, 512), (16, 1, 3), 1, "fits into 99 KiB", parts=2),
    _decode((128, 128), (32, 8, 3), 1, "128 KiB of K and V under way in eight warps", kv_bits=8),
    _decode((128, 128), (32, 4, 3), 1, "fits into 163 KiB", kv_bits=8),
    _decode((128, 128), (32, 4, 2), 1, "fits into 99 KiB", kv_bits=8),
    _decode((256, 256), (16, 4, 4), 1, "96 KiB of K and V under way", kv_bits=8),
    _decode((256, 256), (16, 4, 2), 1, "fits into 99 KiB", kv_bits=8),
    _decode((576, 512), (16, 2, 4), 1, "two blocks share the columns of O", kv_bits=8, parts=2),
    _decode((576, 512), (16, 2, 2), 1, "fits into 99 KiB", kv_bits=8, parts=2),
)
