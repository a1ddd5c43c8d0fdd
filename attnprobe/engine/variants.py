"""Kernel variants: a row for each kernel and tile; the first that fits a problem runs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attnprobe.arch import KIB, Arch
from attnprobe.engine.checks import WIDTH_STEP
from attnprobe.engine.problem import Problem
from attnprobe.frozen import dataclass

ELEMENT_BYTES = 2
CHUNK = 16  # bytes that one cp.async moves
PANEL = 128  # bytes: rows in shared memory are whole panels (tile.cuh)
STAT_BYTES = 4  # of a maximum or a sum of a row
STAGES = 2  # K and V tiles in shared memory: one being read, one being filled (kStages)


@dataclass(frozen=True)
class Variant:
    """One kernel at one tile size.

    Attributes
    ----------
    source : kernel file below kernels/.
    entry : kernel name.
    min_cc : least compute capability.
    head_dim, v_head_dim : the widest Q, K and V that it serves.
    block_m, block_n : queries and keys per tile (Br, Bc).
    warps : warps per block; each owns block_m / warps rows.
    blocks_per_sm : what registers and shared memory are budgeted for.
    v_parts : blocks that share the columns of O, where O of all columns does not fit in registers.
    why : where the tile comes from.
    suffix : "a" where the kernel needs the instructions of one arch alone: it compiles for sm_90a.
    persistent : whether no more blocks are launched than run at once.
    skips_from : scores from which on key blocks that a mask hides whole are looked for; None: the
        kernel skips none.
    dependent : whether the kernel waits for the launch before it itself, where the arch has the
        instruction for it (dependent.py).
    """

    source: str
    entry: str
    min_cc: int
    head_dim: int
    v_head_dim: int
    block_m: int
    block_n: int
    warps: int
    blocks_per_sm: int
    v_parts: int
    why: str
    suffix: str = ""
    persistent: bool = False
    skips_from: int | None = None
    dependent: bool = False

    @property
    def row_name(self) -> str:
        """What a row of a tile is."""
        return "queries"

    def shared_bytes(self, problem: Problem) -> int:
        """Return the dynamic shared memory of one block, bytes."""
        qk = padded_bytes(problem.head_dim * ELEMENT_BYTES)
        v = padded_bytes(problem.v_head_dim // self.v_parts * ELEMENT_BYTES)
        return self.block_m * qk + STAGES * self.block_n * (qk + v)

    def blocks(self, problem: Problem, num_splits: int) -> int:
        """Return the blocks of a launch."""
        if problem.layout.varlen_q:
            # Enough for any lengths: each sequence has at most one tile that is not full.
            tiles = problem.seqlen_q // self.block_m + problem.batch
        else:
            tiles = -(-problem.seqlen_q // self.block_m) * problem.batch
        return tiles * problem.num_heads * self.v_parts

    def splits(self, problem: Problem, arch: Arch) -> int:
        """Return into how many parts the keys are split: wide tiles take them whole."""
        return 1

    def macros(self, problem: Problem) -> Mapping[str, object]:
        """Return macros of the kernel text beside those that every kernel has."""
        return {}

    def fields(self, problem: Problem, arch: Arch) -> Mapping[str, float]:
        """Return fields of ``AttentionParams`` beside those that every kernel has."""
        return {}

    def boxes(self, problem: Problem) -> tuple[tuple[str, int], ...]:
        """Arrays that the kernel reads through tensor maps, its first arguments: name, rows."""
        return ()

    def tiled(self, problem: Problem) -> tuple[str, ...]:
        """Return which of bias and mask come in tiles in shared memory; lanes read the others."""
        return ()

    def skips(self, problem: Problem) -> bool:
        """Return whether key blocks that a mask hides whole are looked for and skipped."""
        least = self.skips_from
        return least is not None and problem.mask and scores(problem) >= least

    def serves(self, problem: Problem) -> bool:
        """Return whether Q, K and V are of widths and formats that the kernel can take."""
        alike = problem.kv_format == problem.format and problem.format.bits == 8 * ELEMENT_BYTES
        return alike and self.serves_widths(problem)

    def serves_widths(self, problem: Problem) -> bool:
        """Return whether Q, K and V are of widths that the kernel can take, on any arch."""
        fits = problem.head_dim <= self.head_dim and problem.v_head_dim <= self.v_head_dim
        return fits and problem.v_head_dim % (self.v_parts * WIDTH_STEP) == 0

    def refusal(self, problem: Problem, arch: Arch) -> str | None:
        """Return why this variant does not run ``problem`` on ``arch``, or None where it does."""
        if not self.serves(problem):
            return f"serves head_dim up to {self.head_dim} and V of up to {self.v_head_dim}"
        if arch.cc < self.min_cc:
            return f"needs sm_{self.min_cc}"
        bytes_ = self.shared_bytes(problem)
        if bytes_ > arch.smem_per_block:
            needs, has = bytes_ // KIB, arch.smem_per_block // KIB
            return f"needs {needs} KiB of shared memory, a block on {arch.sm} gets {has}"
        # A KiB of each block's shared memory is the system's.
        if self.blocks_per_sm * (bytes_ + KIB) > arch.smem_per_sm:
            return f"is for {self.blocks_per_sm} blocks a multiprocessor, {arch.sm} holds fewer"
        return None


def padded_bytes(row: int) -> int:
    """Return the bytes that a row of ``row`` bytes takes in shared memory."""
    return -(-row // PANEL) * PANEL


# The launch that looks for them takes 5 microseconds, 2 % of what so many scores take on an H200.
# Source: measured, docs/design/performance-log.md.
SKIPS_FROM = 2**27

BARRIERS = 64  # bytes: full and free of two stages of K and of V (key_stages.cuh)


MMA_ENTRY = "attention_fwd_mma"  # the kernel that every arch has


@dataclass(frozen=True)
class MmaVariant(Variant):
    """One tile of fwd_mma.cu.

    Attributes
    ----------
    parts : parts of a block of keys that are computed one after the other.
    sharers : warps that share rows, keys and columns dealt out (warp_pair.cuh).
    apart : whether warps go through the blocks of keys without waiting for each other.
    plain : whether it is for scores that nothing changes and no window cuts, alone.
    planes : how bias and mask come, in "tiles" or by the "lanes"; it is for those alone. None: it
        is for problems without.
    plane_bytes : the most of an element of bias and mask, together, that there is room for.
    bulk : whether blocks of keys come by bulk copies (TMA), through tensor maps.
    meets : whether all warps meet at each of those, or drift apart.
    """

    parts: int = 1
    sharers: int = 1
    apart: bool = False
    plain: bool = False
    planes: str | None = None
    plane_bytes: int = 0
    skips_from: int | None = SKIPS_FROM
    bulk: bool = False
    meets: bool = True

    def shared_bytes(self, problem: Problem) -> int:
        """Return the dynamic shared memory of one block, bytes."""
        told = 0
        if self.sharers > 1:
            # Of each row two tiles of P, and from each warp a maximum or sum.
            row = 2 * padded_bytes(self.block_n * ELEMENT_BYTES) + self.sharers * STAT_BYTES
            told = self.block_m * row
        return (
            super().shared_bytes(problem)
            + told
            + BARRIERS * (self.apart or self.bulk)
            + self._tiles(problem)
        )

    def _tiles(self, problem: Problem) -> int:
        """Return the bytes of bias and mask in tiles (PaddedPlane)."""
        total = 0
        for name in self.tiled(problem):
            size = element_bytes(problem)[name]
            unit = CHUNK * max(1, size // 2)
            row = self.block_n // self.sharers * size
            total += self.block_m * self.sharers * (row // unit | 1) * unit
        return total

    def tiled(self, problem: Problem) -> tuple[str, ...]:
        """Return which of bias and mask come in tiles in shared memory; lanes read the others."""
        return mappable_planes(problem) if self.planes == "tiles" else ()

    def serves_widths(self, problem: Problem) -> bool:
        """Return whether Q, K and V are of widths that the kernel can take, on any arch."""
        step = self.v_parts * self.sharers * WIDTH_STEP
        return super().serves_widths(problem) and problem.v_head_dim % step == 0

    def macros(self, problem: Problem) -> Mapping[str, object]:
        """Return macros of the kernel text beside those that every kernel has."""
        return {
            "ATTN_PARTS": self.parts,
            "ATTN_SHARERS": self.sharers,
            "ATTN_APART": int(self.apart),
            "ATTN_TMA": int(self.bulk),
            "ATTN_MEET": int(self.meets),
        }

    def boxes(self, problem: Problem) -> tuple[tuple[str, int], ...]:
        """Arrays that the kernel reads through tensor maps, its first arguments: name, rows."""
        return (("K", self.block_n), ("V", self.block_n)) if self.bulk else ()

    def refusal(self, problem: Problem, arch: Arch) -> str | None:
        """Return why this variant does not run ``problem`` on ``arch``, or None where it does."""
        if self.plain and (problem.windowed or changes_scores(problem)):
            return "is for plain scores without a window"
        if has_planes(problem) != (self.planes is not None):
            return f"is for problems with{'' if self.planes else 'out'} bias or mask"
        if self.planes == "tiles" and first_plane(problem) not in self.tiled(problem):
            return "is for a bias or mask whose rows begin at multiples of 16 bytes"
        if self.bulk and arch.cc >= self.min_cc:
            if problem.layout.page_size:
                return "copies blocks of keys that lie in one piece, not in pages"
            if not problem.mappable:
                return "no tensor map describes Q, K and V"
        if self.planes is not None and self.plane_bytes < sum(element_bytes(problem).values()):
            return "has no registers left for such a bias or mask"
        return super().refusal(problem, arch)


def transforms(problem: Problem) -> bool:
    """Return whether scores are changed before the softmax."""
    negated = problem.softmax_scale < 0
    return negated or problem.softcap > 0 or problem.alibi or problem.head_scales


def has_planes(problem: Problem) -> bool:
    """Return whether there is something to read for every score."""
    return problem.bias is not None or problem.mask


def scores(problem: Problem) -> int:
    """Return the elements of S, as if no window cut it; of packed keys as many as a mask has."""
    queries = problem.seqlen_q * (1 if problem.layout.varlen_q else problem.batch)
    return queries * problem.num_heads * min(problem.seqlen_k, problem.plane[1])


def element_bytes(problem: Problem) -> Mapping[str, int]:
    """Return the bytes of an element of the bias, and of the mask, as far as there are such."""
    bias = {} if problem.bias is None else {"bias": problem.bias.bits // 8}
    return {**bias, **({"mask": 1} if problem.mask else {})}


def first_plane(problem: Problem) -> str:
    """Return which of bias and mask is read first."""
    return "mask" if problem.bias is None else "bias"


def mappable_planes(problem: Problem) -> tuple[str, ...]:
    """Return which of bias and mask lie in rows that begin at multiples of 16 bytes."""
    mappable = {"bias": problem.bias_mappable, "mask": problem.mask_mappable}
    return tuple(name for name in element_bytes(problem) if mappable[name])


def changes_scores(problem: Problem) -> bool:
    """Return whether scores are changed or hidden one by one before the softmax."""
    return transforms(problem) or has_planes(problem)


def _mma(
    widths: tuple[int, int], tile: tuple[int, int, int], blocks: int, why: str, **more: Any
) -> MmaVariant:
    """Return a row: (block_m, block_n, warps); ``more`` are other fields."""
    fields = {"min_cc": 80, "v_parts": 1, **more}
    return MmaVariant(
        source="attention/fwd_mma.cu",
        entry=MMA_ENTRY,
        head_dim=widths[0],
        v_head_dim=widths[1],
        block_m=tile[0],
        block_n=tile[1],
        warps=tile[2],
        blocks_per_sm=blocks,
        why=why,
        **fields,
    )


# A pair of warps waits at mbarriers in a way that sm_90 brought.
_PAIR: Mapping[str, Any] = {"sharers": 2, "apart": True, "min_cc": 90}

# Bias and mask in tiles of their own in shared memory, or read by the lanes; of both together an
# element has up to 5 bytes.
_TILES: Mapping[str, Any] = {"planes": "tiles", "plane_bytes": 5}
_LANES: Mapping[str, Any] = {"planes": "lanes", "plane_bytes": 5}

# K and V by bulk copies; and warps drift apart, where that was measured to be faster
# (docs/design/performance-log.md).
_BULK: Mapping[str, Any] = {"bulk": True, "min_cc": 90}
_DRIFT: Mapping[str, Any] = {"meets": False, **_BULK}

VARIANTS: tuple[Variant, ...] = (
    _mma((64, 64), (128, 128, 4), 2, "long blocks, scores of 32 keys at a time", parts=4, **_BULK),
    _mma((64, 64), (128, 64, 4), 2, "fits twice into 100 KiB", parts=2, **_BULK),
    _mma((64, 64), (128, 128, 4), 2, "a barrier for 128 keys, scores of 32 at a time", parts=4),
    _mma((64, 64), (128, 64, 4), 2, "fits twice into 100 KiB", parts=2),
    _mma((64, 64), (128, 64, 4), 2, "bias and mask in tiles", **_TILES),
    _mma((64, 64), (128, 32, 4), 2, "small tiles of bias and mask", **_TILES),
    _mma((64, 64), (128, 64, 4), 2, "fits twice into 100 KiB", planes="lanes", plane_bytes=3),
    _mma((64, 64), (128, 32, 4), 2, "registers for all rows of bias and mask", **_LANES),
    _mma((128, 128), (128, 64, 4), 2, "32 rows a warp: a fragment feeds two", plain=True, **_DRIFT),
    _mma((128, 128), (128, 64, 4), 2, "what changes scores needs registers", parts=2, **_BULK),
    _mma((128, 128), (64, 32, 4), 2, "fits twice into 100 KiB", **_BULK),
    _mma((128, 128), (128, 64, 4), 2, "32 rows a warp: each fragment feeds two", plain=True),
    _mma((128, 128), (128, 64, 4), 2, "what changes scores needs registers", parts=2),
    _mma((128, 128), (128, 48, 4), 2, "fits twice into 164 KiB and does not spill"),
    _mma((128, 128), (64, 32, 4), 2, "fits twice into 100 KiB"),
    _mma((128, 128), (128, 48, 4), 2, "a bias or a mask in tiles", planes="tiles", plane_bytes=2),
    _mma((128, 128), (128, 32, 4), 2, "small tiles of bias and mask", **_TILES),
    _mma((128, 128), (128, 32, 8), 1, "bias and mask beside K and V in 99 KiB", **_TILES),
    _mma((128, 128), (128, 32, 4), 2, "registers for all rows of bias and mask", **_LANES),
    _mma((128, 128), (64, 32, 4), 2, "fits twice into 100 KiB", **_LANES),
    _mma((192, 128), (128, 48, 4), 2, "O as for head_dim 128", **_DRIFT),
    _mma((192, 128), (128, 48, 4), 2, "O as for head_dim 128"),
    _mma((192, 128), (128, 32, 4), 2, "small tiles of bias and mask", **_TILES),
    _mma((192, 128), (128, 32, 4), 2, "registers for all rows of bias and mask", **_LANES),
    _mma((256, 256), (128, 64, 8), 1, "two warps share 32 rows", sharers=2, **_DRIFT),
    _mma((256, 256), (128, 32, 8), 1, "fits into 163 KiB", **_BULK),
    _mma((256, 256), (64, 32, 4), 1, "fits into 99 KiB", **_BULK),
    _mma((256, 256), (128, 64, 8), 1, "two warps share 32 rows", **_PAIR),
    _mma((256, 256), (128, 64, 8), 1, "O of 16 rows is half of a lane's registers"),
    _mma((256, 256), (128, 32, 8), 1, "fits into 163 KiB"),
    _mma((256, 256), (64, 32, 4), 1, "fits into 99 KiB"),
    _mma(
        (256, 256),
        (128, 64, 8),
        1,
        "longer blocks are worth more than tiles",
        planes="lanes",
        plane_bytes=2,
        **_PAIR,
    ),
    _mma((256, 256), (128, 32, 8), 1, "two warps share 32 rows, and tiles", **_TILES, **_PAIR),
    _mma((256, 256), (128, 32, 8), 1, "small tiles of bias and mask", **_TILES),
    _mma((256, 256), (128, 32, 8), 1, "two warps share 32 rows", **_LANES, **_PAIR),
    _mma((256, 256), (128, 32, 8), 1, "fits into 163 KiB", **_LANES),
    _mma((256, 256), (64, 32, 4), 1, "fits into 99 KiB", **_LANES),
    _mma((576, 512), (64, 32, 8), 1, "two warps share 16 rows", sharers=2, **_DRIFT),
    _mma((576, 512), (32, 16, 2), 1, "fits into 99 KiB", v_parts=2, **_BULK),
    _mma((576, 512), (64, 32, 8), 1, "two warps share 16 rows: S is computed once", **_PAIR),
    _mma((576, 512), (64, 16, 4), 1, "two blocks share the columns of O", v_parts=2),
    _mma((576, 512), (32, 16, 2), 1, "fits into 99 KiB; 32 keys of 576 would spill", v_parts=2),
    _mma((576, 512), (64, 32, 8), 1, "two warps share 16 rows", **_LANES, **_PAIR),
    _mma((576, 512), (64, 16, 4), 1, "two blocks share the columns of O", v_parts=2, **_LANES),
    _mma((576, 512), (32, 16, 2), 1, "fits into 99 KiB", v_parts=2, **_LANES),
)
