"""Variants of the Hopper kernel, fwd_wgmma.cu: what each serves, and its order of tiles."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

from attnprobe.arch import Arch
from attnprobe.engine.checks import MAX_SIZE
from attnprobe.engine.problem import Problem
from attnprobe.engine.row_of_tile import ROWS, row_of_tile
from attnprobe.engine.variants import (
    ELEMENT_BYTES,
    SKIPS_FROM,
    Variant,
    changes_scores,
    element_bytes,
    first_plane,
    has_planes,
    mappable_planes,
    padded_bytes,
)
from attnprobe.frozen import dataclass

SWIZZLE_ROWS = 8  # after which the swizzle of a tile repeats: a box has whole groups of them
BARRIER_BYTES = 8
TILE_RING_BYTES = 80  # what tells the warps the tiles of packed sequences (packed_schedule.cuh)
# With more the warps that load have 32 registers each: too few to look up pages, or with four to
# find the tiles of packed sequences.
MOST_CONSUMERS_OF_PAGES, MOST_CONSUMERS_OF_PACKED = 2, 3
MAX_TILES = 2**30  # so that the number of the next tile fits in 32 bits
# Tiles per block in a group of heads. With fewer the blocks' sums differ, with more the K and V of
# a group are too much for L2.
LEAST_ROUNDS = 1.9

# What a kernel does not do: whether a problem wants it, and what the plan says then.
Lacks = tuple[tuple[Callable[[Problem], bool], str], ...]
_LACKS: Lacks = (
    (lambda p: not p.mappable, "no tensor map describes Q, K and V"),
    (
        lambda p: p.layout.page_size % SWIZZLE_ROWS > 0,
        f"copies {SWIZZLE_ROWS} keys of a page at a time: page_size must be a multiple",
    ),
    (
        lambda p: has_planes(p) and p.layout.page_size > 0 and p.layout.leftpad_k,
        "takes no mask and no bias with left padding in pages",
    ),
    (lambda p: p.k_descale or p.v_descale, "takes no descale"),
    (lambda p: p.num_splits > 1, "does not split the keys"),
    (
        lambda p: p.seqlen_q < ROWS and not p.layout.varlen_q,
        f"is for {ROWS} queries and more",
    ),
)


@dataclass(frozen=True)
class WgmmaVariant(Variant):
    """One tile of fwd_wgmma.cu.

    Attributes
    ----------
    least_head_dim : the least width of Q and K, or of V, whichever is wider, that it is for.
    consumers : warpgroups that compute, 64 queries each.
    stages, q_stages : tiles of K and V, and of Q, in shared memory.
    windowed : whether it is for problems with a window (causal ones), for those without, or None.
    most_seqlen : keys up to which it is for; of packed sequences, in the mean one.
    most_window : the sides of a window, together, up to which it is for; None: no window needed.
    plain_scores : whether it is only for scores that go into the softmax as they are.
    plane_stages : tiles of bias and mask in shared memory; 0: lanes read them.
    plane_bytes : the most of an element that there are registers for, where lanes read them; of
        tiles, of bias and mask together, and 0 is any.
    turns : whether the warpgroups issue their products in turn.
    passes : whether a warpgroup lets those blocks of a tile pass that none of its own queries sees.
    whole_pages : whether it is only for pages that its key blocks hold whole or cut evenly.
    padded : whether it is only for sequences that are neither packed nor in pages.
    """

    least_head_dim: int = 0
    consumers: int = 2
    stages: int = 2
    q_stages: int = 1
    windowed: bool | None = None
    most_seqlen: int = MAX_SIZE
    most_window: int | None = None
    plain_scores: bool = False
    plane_stages: int = 0
    plane_bytes: int = 0
    turns: bool = True
    passes: bool = False
    whole_pages: bool = False
    padded: bool = False
    skips_from: int | None = SKIPS_FROM

    def shared_bytes(self, problem: Problem) -> int:
        """Return the dynamic shared memory of one block, bytes."""
        qk = padded_bytes(problem.head_dim * ELEMENT_BYTES)
        v = padded_bytes(problem.v_head_dim * ELEMENT_BYTES)
        tiles = self.q_stages * self.block_m * qk + self.stages * self.block_n * (qk + v)
        sizes = element_bytes(problem)
        rows = sum(padded_bytes(self.block_n * sizes[name]) for name in self.tiled(problem))
        tiles += self.plane_stages * self.block_m * rows
        # Full and empty of each ring; per stage a barrier and two words for V that is looked at.
        barriers = 2 * (self.q_stages + 2 * self.stages + self.plane_stages) + 2 * self.stages
        told = TILE_RING_BYTES if problem.layout.varlen_q else 0
        return tiles + barriers * BARRIER_BYTES + told

    def serves_widths(self, problem: Problem) -> bool:
        """Return whether Q, K and V are of widths that the kernel can take, on any arch."""
        wider = max(problem.head_dim, problem.v_head_dim)
        return super().serves_widths(problem) and wider >= self.least_head_dim

    def unfit(self, problem: Problem, lacks: Lacks) -> str | None:
        """Return why the kernel, which lacks some things, or this tile is not for ``problem``."""
        for wanted, reason in lacks:
            if wanted(problem):
                return reason
        if self.plain_scores and changes_scores(problem):
            return "has no registers left to transform scores"
        if self.plane_stages and first_plane(problem) not in self.tiled(problem):
            return "is for a bias or mask that a tensor map describes"
        limited = self.plane_bytes or not self.plane_stages
        bytes_ = sum(element_bytes(problem).values()) if self.plane_stages else plane_bytes(problem)
        if limited and self.plane_bytes < bytes_:
            return "has no registers left for such a bias or mask"
        if self.blocks(problem, 1) > MAX_TILES:
            return "counts its tiles in 32 bits"
        if self.windowed is not None and problem.windowed != self.windowed:
            return f"is for problems {'with' if self.windowed else 'without'} a window"
        if _mean_keys(problem) > self.most_seqlen:
            return f"is for up to {self.most_seqlen} keys"
        if self.most_window is not None:
            reach = problem.window_reach
            if reach is None or reach > self.most_window:
                return f"is for windows of up to {self.most_window} keys"
        return None

    def refusal(self, problem: Problem, arch: Arch) -> str | None:
        """Return why this variant does not run ``problem`` on ``arch``, or None where it does."""
        if arch.cc != self.min_cc or arch.suffix != self.suffix:
            return f"needs sm_{self.min_cc}{self.suffix}"
        reason = self.unfit(problem, _LACKS)
        if reason is not None:
            return reason
        page_size = problem.layout.page_size
        if self.padded and (page_size or problem.layout.varlen_q):
            return "has no registers left for packed sequences and pages"
        if page_size and self.consumers > MOST_CONSUMERS_OF_PAGES:
            return "leaves the warps that load no registers to look up pages"
        if problem.layout.varlen_q and self.consumers > MOST_CONSUMERS_OF_PACKED:
            return "leaves the warps that load no registers to find packed tiles"
        if self.whole_pages and self.box_keys(problem) < min(page_size, self.block_n):
            return f"would copy pages of {page_size} keys {self.box_keys(problem)} at a time"
        return super().refusal(problem, arch)

    def macros(self, problem: Problem) -> Mapping[str, object]:
        """Return macros of the kernel text beside those that every kernel has."""
        return {
            "ATTN_PAGE_ROWS": self.box_keys(problem) if problem.layout.page_size else 0,
            "ATTN_CONSUMERS": self.consumers,
            "ATTN_STAGES": self.stages,
            "ATTN_Q_STAGES": self.q_stages,
            "ATTN_PLANE_STAGES": self.plane_stages,
            "ATTN_TURNS": int(self.turns),
            # What is skipped does not pass: a warpgroup would have to count it.
            "ATTN_PASSES": int(self.passes and problem.windowed and not self.skips(problem)),
        }

    def fields(self, problem: Problem, arch: Arch) -> Mapping[str, float]:
        """Return the size of a group of heads; see schedule.cuh and packed_schedule.cuh."""
        least = LEAST_ROUNDS * arch.multiprocessors * self.blocks_per_sm
        if problem.layout.varlen_q:
            return {"head_group": math.ceil(least)}
        if not problem.windowed:
            return {"head_group": 1}
        tiles = -(-problem.seqlen_q // self.block_m)
        heads = problem.batch * problem.num_heads
        groups = max(1, round(heads / max(1.0, least / tiles)))
        return {"head_group": -(-heads // groups)}

    def boxes(self, problem: Problem) -> tuple[tuple[str, int], ...]:
        """Arrays that the kernel reads through tensor maps, its first arguments: name, rows."""
        keys = self.box_keys(problem)
        planes = tuple((name, self.block_m) for name in self.tiled(problem))
        return (("Q", self.block_m), ("K", keys), ("V", keys), *planes)

    def tiled(self, problem: Problem) -> tuple[str, ...]:
        """Return which of bias and mask come in tiles in shared memory; lanes read the others."""
        return mappable_planes(problem) if self.plane_stages else ()

    def box_keys(self, problem: Problem) -> int:
        """Return the keys of one copy: a block in one piece, or what of it is in one page.

        Pages and blocks both begin at multiples of it, so that no copy leaves its page.
        """
        return math.gcd(problem.layout.page_size, self.block_n)


def _mean_keys(problem: Problem) -> int:
    """Return the keys of a sequence; with ``num_splits`` given nothing that depends on others."""
    if not problem.layout.varlen_k:
        return problem.seqlen_k
    return MAX_SIZE if problem.num_splits else problem.seqlen_k // max(1, problem.batch)


def plane_bytes(problem: Problem) -> int:
    """Return the bytes of an element of the bias, or of the mask where there is none, or 0."""
    return element_bytes(problem).get(first_plane(problem), 0)


_wgmma = partial(row_of_tile, WgmmaVariant, "fwd_wgmma")

WGMMA: tuple[WgmmaVariant, ...] = (
    # Bias and mask in tiles; without them, or where they do not lie so, the rows below.
    _wgmma(
        (64, 64),
        (3, 112, 2, 1),
        "two tiles of bias or mask",
        plane_stages=2,
        turns=False,
        passes=True,
    ),
    _wgmma((64, 64), (2, 128, 2, 1), "a tile of a bias in f32", plane_stages=1),
    _wgmma((80, 128), (2, 128, 2, 1), "two tiles of bias or mask", plane_stages=2, turns=False),
    _wgmma((80, 128), (3, 64, 2, 1), "two tiles of a bias in f32", plane_stages=2, turns=False),
    _wgmma((80, 128), (2, 64, 2, 1), "two of it and a mask", plane_stages=2, turns=False),
    _wgmma((144, 192), (2, 96, 2, 1), "a tile of bias or mask", plane_stages=1, turns=False),
    _wgmma((144, 192), (2, 80, 2, 1), "or of both, or of f32", plane_stages=1, turns=False),
    _wgmma((144, 192), (2, 64, 2, 1), "f32 and a mask", plane_stages=1, turns=False),
    _wgmma((208, 256), (2, 64, 2, 1), "two tiles of bias or mask", plane_stages=2, turns=False),
    _wgmma((208, 256), (2, 64, 2, 1), "one of both", plane_stages=1, plane_bytes=3, turns=False),
    _wgmma((208, 256), (2, 48, 2, 1), "a tile of a bias in f32", plane_stages=1),
    _wgmma(
        (64, 64),
        (4, 64, 4, 1),
        "small blocks waste least at the diagonal",
        windowed=True,
        most_seqlen=2048,
        plain_scores=True,
        turns=False,
        passes=True,
    ),
    _wgmma(
        (64, 64),
        (2, 128, 4, 2),
        "short tiles waste little at the diagonal",
        windowed=True,
        most_seqlen=1024,
        plane_bytes=4,
    ),
    _wgmma(
        (64, 64),
        (4, 64, 4, 1),
        "small blocks waste least at both edges of a window",
        windowed=True,
        most_window=1024,
        plain_scores=True,
        turns=False,
        passes=True,
    ),
    _wgmma(
        (64, 64),
        (3, 128, 3, 2),
        "S, P and O take 128 of 160 registers",
        windowed=True,
        plain_scores=True,
        passes=True,
    ),
    _wgmma(
        (64, 64),
        (3, 128, 3, 2),
        "S, P and O take 128 of 160 registers",
        windowed=False,
        plain_scores=True,
        turns=False,
    ),
    _wgmma((64, 64), (2, 128, 3, 2), "fewer warpgroups with more registers each", plane_bytes=4),
    _wgmma(
        (80, 128),
        (2, 128, 2, 2),
        "few blocks waste least in the last",
        windowed=False,
        most_seqlen=4096,
        turns=False,
    ),
    _wgmma(
        (80, 128),
        (3, 64, 3, 2),
        "small blocks waste least at both edges of a window",
        windowed=True,
        most_window=2048,
        plain_scores=True,
        turns=False,
        passes=True,
    ),
    _wgmma(
        (80, 128),
        (2, 128, 2, 2),
        "short tiles waste little at the diagonal",
        windowed=True,
        most_seqlen=2048,
        turns=False,
    ),
    _wgmma(
        (80, 96),
        (3, 112, 2, 1),
        "the longest blocks with which three warpgroups do not spill",
        plain_scores=True,
        turns=False,
        passes=True,
    ),
    _wgmma(
        (112, 128),
        (2, 128, 2, 2),
        "without a search for maxima two warpgroups with longer blocks do most",
        plain_scores=True,
        turns=False,
        passes=True,
    ),
    _wgmma(
        (80, 128),
        (2, 176, 2, 1),
        "the longest blocks that fit",
        windowed=False,
        plain_scores=True,
        turns=False,
        whole_pages=True,
    ),
    _wgmma(
        (80, 128),
        (2, 128, 2, 2),
        "square tiles: half a block is masked for nothing",
        plane_bytes=2,
    ),
    _wgmma((80, 128), (2, 112, 2, 2), "registers for a bias in f32", plane_bytes=4),
    _wgmma(
        (144, 192),
        (2, 96, 2, 1),
        "the longest blocks that do not spill",
        windowed=True,
        plain_scores=True,
        passes=True,
    ),
    _wgmma((144, 192), (2, 96, 2, 1), "the longest blocks that do not spill", plane_bytes=2),
    _wgmma((144, 192), (2, 80, 2, 1), "registers for a bias in f32", plane_bytes=4),
    _wgmma(
        (208, 256),
        (2, 64, 2, 1),
        "the longest blocks that do not spill",
        windowed=True,
        plain_scores=True,
        passes=True,
        padded=True,
    ),
    _wgmma((208, 256), (2, 64, 2, 1), "the longest blocks that do not spill", plane_bytes=2),
    _wgmma((208, 256), (2, 48, 2, 1), "registers for a bias in f32", plane_bytes=4),
)
