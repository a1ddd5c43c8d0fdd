"""Kernel variants: a row for each kernel and tile; the first that fits a problem runs it."""

from __future__ import annotations

from dataclasses import dataclass

from attnprobe.arch import KIB, Arch
from attnprobe.engine.problem import Problem

ELEMENT_BYTES = 2
STAGES = 2  # K and V tiles in shared memory: one being read, one being filled (kStages)


@dataclass(frozen=True)
class Variant:
    """One kernel at one tile size.

    Attributes
    ----------
    source : kernel file below kernels/.
    entry : kernel name.
    min_cc : least compute capability.
    head_dim : the head_dim that it serves.
    block_m, block_n : queries and keys per tile (Br, Bc).
    warps : warps per block; each owns block_m / warps rows.
    blocks_per_sm : what registers and shared memory are budgeted for.
    why : where the tile comes from.
    """

    source: str
    entry: str
    min_cc: int
    head_dim: int
    block_m: int
    block_n: int
    warps: int
    blocks_per_sm: int
    why: str

    @property
    def shared_bytes(self) -> int:
        """Dynamic shared memory of one block, bytes."""
        return (self.block_m + 2 * STAGES * self.block_n) * self.head_dim * ELEMENT_BYTES

    def refusal(self, problem: Problem, arch: Arch) -> str | None:
        """Return why this variant does not serve ``problem`` on ``arch``, or None where it does."""
        if problem.head_dim != self.head_dim:
            return f"serves head_dim {self.head_dim}"
        if arch.cc < self.min_cc:
            return f"needs sm_{self.min_cc}"
        if self.shared_bytes > arch.smem_per_block:
            needs, has = self.shared_bytes // KIB, arch.smem_per_block // KIB
            return f"needs {needs} KiB of shared memory, a block on {arch.sm} gets {has}"
        # A KiB of each block's shared memory is the system's.
        if self.blocks_per_sm * (self.shared_bytes + KIB) > arch.smem_per_sm:
            return f"is for {self.blocks_per_sm} blocks a multiprocessor, {arch.sm} holds fewer"
        return None


def _mma(head_dim: int, tile: tuple[int, int], warps: int, blocks: int, why: str) -> Variant:
    source, entry = "attention/fwd_mma.cu", "attention_fwd_mma"
    return Variant(source, entry, 80, head_dim, *tile, warps, blocks, why)


VARIANTS: tuple[Variant, ...] = (
    _mma(64, (128, 128), 4, 2, "32 rows a warp: each K and V fragment feeds two products"),
    _mma(64, (128, 64), 4, 2, "fits twice into 100 KiB"),
    _mma(128, (128, 64), 4, 2, "32 rows a warp: each K and V fragment feeds two products"),
    _mma(128, (64, 32), 4, 2, "fits twice into 100 KiB"),
    _mma(256, (128, 64), 8, 1, "O of 16 rows is half of a lane's registers"),
    _mma(256, (128, 32), 8, 1, "fits into 163 KiB"),
    _mma(256, (64, 32), 4, 1, "fits into 99 KiB"),
)
