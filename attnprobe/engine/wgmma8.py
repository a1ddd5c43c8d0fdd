"""Variants of the Hopper kernel for Q, K and V of e4m3, fwd_wgmma_fp8.cu."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from attnprobe.arch import Arch
from attnprobe.engine.problem import Problem
from attnprobe.engine.row_of_tile import row_of_tile
from attnprobe.engine.variants import Variant, padded_bytes
from attnprobe.engine.wgmma import BARRIER_BYTES, Lacks, WgmmaVariant
from attnprobe.frozen import dataclass

COLUMNS = 32  # of V that are transposed together (kVtRows)
FORMAT = "e4m3"
TOTAL_BYTES = 2  # of an element of O that is added up in shared memory

_LACKS: Lacks = (
    (
        lambda p: p.layout.varlen_q or p.layout.lengths_vary,
        "takes 8-bit Q in whole sequences only: pad them, or give q in float16 or bfloat16",
    ),
    (
        lambda p: p.layout.page_size > 0,
        "takes no pages with 8-bit Q: give q in float16 or bfloat16",
    ),
    (lambda p: not p.mappable, "no tensor map describes Q, K and V: copy them to plain arrays"),
    (lambda p: p.mask or p.bias is not None, "takes no mask and no bias with 8-bit Q"),
    (lambda p: p.num_splits > 1, "does not split the keys"),
)


@dataclass(frozen=True)
class Wgmma8Variant(WgmmaVariant):
    """One tile of fwd_wgmma_fp8.cu.

    Attributes
    ----------
    promoted : whether O is summed in f32 from block to block, and in the tensor core's 14 bits
        within one only.
    total_blocks : blocks after which O is added to a total in shared memory, in bf16; 0 = never.
    vt_stages : tiles of transposed V in shared memory.
    turns : whether the warpgroups issue their products in turn.
    pairs : whether blocks are computed in pairs, in a loop that knows the stage of each.
    """

    promoted: bool = False
    total_blocks: int = 0
    vt_stages: int = 2
    turns: bool = False
    pairs: bool = False

    def macros(self, problem: Problem) -> Mapping[str, object]:
        """Return macros of the kernel text beside those that every kernel has."""
        return {
            **super().macros(problem),
            "ATTN_PROMOTED": int(self.promoted),
            "ATTN_TOTAL_BLOCKS": self.total_blocks,
            "ATTN_VT_STAGES": self.vt_stages,
            "ATTN_PAIRS": int(self.pairs),
        }

    def shared_bytes(self, problem: Problem) -> int:
        """Return the dynamic shared memory of one block, bytes."""
        qk, v = padded_bytes(problem.head_dim), padded_bytes(problem.v_head_dim)
        rows = -(-problem.v_head_dim // COLUMNS) * COLUMNS
        transposed = rows * padded_bytes(self.block_n)
        tiles = self.q_stages * self.block_m * qk + self.stages * self.block_n * (qk + v)
        if self.total_blocks:
            tiles += self.block_m * (problem.v_head_dim + 16) * TOTAL_BYTES
        # Full and empty of each ring; per stage what is told of V, per stage of V^T what was found.
        barriers = 2 * (self.q_stages + 2 * self.stages + self.vt_stages)
        told = self.stages + self.vt_stages
        return tiles + self.vt_stages * transposed + (barriers + told) * BARRIER_BYTES

    def serves(self, problem: Problem) -> bool:
        """Return whether Q, K and V are of widths and formats that the kernel can take."""
        alike = problem.kv_format == problem.format and problem.format.name == FORMAT
        return alike and self.serves_widths(problem)

    def refusal(self, problem: Problem, arch: Arch) -> str | None:
        """Return why this variant does not run ``problem`` on ``arch``, or None where it does."""
        if arch.cc != self.min_cc or arch.suffix != self.suffix:
            return (
                f"needs sm_{self.min_cc}{self.suffix}; elsewhere give q in float16 or bfloat16 "
                "(k and v may stay in e4m3), q_descale in softmax_scale"
            )
        return self.unfit(problem, _LACKS) or Variant.refusal(self, problem, arch)


_wgmma8 = partial(row_of_tile, Wgmma8Variant, "fwd_wgmma_fp8")

WGMMA8: tuple[Wgmma8Variant, ...] = (
    _wgmma8(
        (16, 64),
        (3, 160, 2, 1),
        "the longest blocks that leave room for O's total",
        plain_scores=True,
        total_blocks=8,
    ),
    _wgmma8((16, 64), (2, 128, 3, 2), "registers to transform scores", promoted=True),
    _wgmma8(
        (80, 128),
        (2, 128, 2, 2),
        "short tiles waste little at the diagonal",
        windowed=True,
        most_seqlen=2048,
        promoted=True,
        vt_stages=3,
    ),
    _wgmma8(
        (80, 128),
        (2, 128, 2, 2),
        "short tiles waste little at both edges of a window",
        windowed=True,
        most_window=2048,
        promoted=True,
        vt_stages=3,
    ),
    _wgmma8(
        (80, 128),
        (3, 96, 2, 1),
        "three warpgroups hide one another's softmax",
        plain_scores=True,
        total_blocks=16,
        pairs=True,
    ),
    _wgmma8(
        (80, 128),
        (2, 128, 2, 2),
        "registers to transform scores, and O in them twice",
        promoted=True,
        vt_stages=3,
    ),
    _wgmma8(
        (144, 256),
        (2, 96, 2, 1),
        "the longest blocks that do not spill",
        plain_scores=True,
        vt_stages=3,
        turns=True,
    ),
    _wgmma8((144, 256), (2, 64, 2, 1), "registers to transform scores", vt_stages=3),
)
