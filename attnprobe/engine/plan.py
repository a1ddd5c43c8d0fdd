"""Which kernel, tile, grid and shared memory serve a problem, and why not earlier rows. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import lru_cache

import numpy as np

from attnprobe import compile as compile_
from attnprobe.arch import Arch
from attnprobe.engine import dependent, mask_blocks, parts, tuned
from attnprobe.engine.features import FEATURES, exponent_scale
from attnprobe.engine.problem import Problem
from attnprobe.engine.rows import ROWS
from attnprobe.engine.step import Step
from attnprobe.engine.variants import Variant
from attnprobe.errors import UnsupportedError
from attnprobe.frozen import dataclass

WARP_SIZE = 32
MAX_BLOCKS = (
    2**31 - 1
)  # of a grid in x; Source: CUDA C++ Programming Guide, Technical Specifications


@dataclass(frozen=True)
class Plan:
    """A decided launch.

    Attributes
    ----------
    problem, arch : what it was made for.
    variant : the chosen row.
    features : names of the active features.
    passed_over : for each earlier row that serves these widths, why it was not taken.
    tuned : whether the variant is from the user's table (tuned.py), and not a row as it is.
    """

    problem: Problem
    arch: Arch
    variant: Variant
    features: tuple[str, ...]
    passed_over: tuple[str, ...]
    tuned: bool = False

    @property
    def grid(self) -> tuple[int, int, int]:
        """Blocks, all in x, in the order that the kernel's text says."""
        variant, blocks = self.variant, self.variant.blocks(self.problem, self.num_splits)
        if variant.persistent:
            blocks = min(blocks, self.arch.multiprocessors * variant.blocks_per_sm)
        return (blocks, 1, 1)

    @property
    def num_splits(self) -> int:
        """Parts of the keys that are computed apart and combined."""
        return self.variant.splits(self.problem, self.arch)

    @property
    def lse_shape(self) -> tuple[int, ...]:
        """Shape of LSE: (batch, num_heads, seqlen_q), or of packed sequences (num_heads, total)."""
        problem = self.problem
        shape = (problem.num_heads, problem.seqlen_q)
        return shape if problem.layout.varlen_q else (problem.batch, *shape)

    @property
    def block(self) -> tuple[int, int, int]:
        """Threads of one block."""
        return (self.variant.warps * WARP_SIZE, 1, 1)

    @property
    def shared_bytes(self) -> int:
        """Dynamic shared memory of one block, bytes."""
        return self.variant.shared_bytes(self.problem)

    @property
    def dependent(self) -> bool:
        """Whether the launch may begin while the one before it in the stream is under way."""
        return self.variant.dependent and self.arch.cc >= dependent.LEAST_CC

    @property
    def defines(self) -> Mapping[str, object]:
        """Macros that make the kernel text of this plan."""
        variant = self.variant
        macros: dict[str, object] = {
            "ATTN_HEAD_DIM": self.problem.head_dim,
            "ATTN_V_DIM": self.problem.v_head_dim // variant.v_parts,
            "ATTN_V_PARTS": variant.v_parts,
            "ATTN_BLOCK_M": variant.block_m,
            "ATTN_BLOCK_N": variant.block_n,
            "ATTN_WARPS": variant.warps,
            "ATTN_BLOCKS_PER_SM": variant.blocks_per_sm,
            "ATTN_ELEMENT": self.problem.format.c_type,
            "ATTN_OUT": self.problem.out_format.c_type,
            "ATTN_KV": self.problem.kv_format.c_type,
            "ATTN_SPLIT": int(self.num_splits > 1),
            "ATTN_BIAS_TILES": int("bias" in variant.tiled(self.problem)),
            "ATTN_MASK_TILES": int("mask" in variant.tiled(self.problem)),
            "ATTN_MASK_BLOCKS": int(variant.skips(self.problem)),
            "ATTN_DEPENDENT": int(self.dependent),
            **variant.macros(self.problem),
        }
        macros.update({row.define: int(row.name in self.features) for row in FEATURES})
        return macros

    @property
    def steps(self) -> tuple[Step, ...]:
        """The launches, in order; all take the same ``AttentionParams``."""
        variant = self.variant
        shape = (self.grid, self.block, self.shared_bytes)
        boxes = variant.boxes(self.problem)
        step = Step(variant.source, variant.entry, *shape, boxes, self.dependent)
        if not variant.skips(self.problem):
            return (step,)
        return (mask_blocks.step(self._mask_words), step)

    @property
    def _mask_words(self) -> tuple[int, ...]:
        """Shape of the words that say which key blocks a mask leaves."""
        return mask_blocks.shape(self.problem, self.variant.block_m, self.variant.block_n)

    @property
    def scratch(self) -> Mapping[str, tuple[tuple[int, ...], type]]:
        """Arrays that blocks write and read among themselves: field -> shape, dtype."""
        v_parts = self.variant.v_parts
        tiles = self.variant.blocks(self.problem, 1) // v_parts
        sizes = (self.lse_shape, self.problem.v_head_dim, tiles, v_parts)
        words = {"mask_blocks": (self._mask_words, np.uint32)}
        skips = self.variant.skips(self.problem)
        return {**parts.scratch(self.num_splits, *sizes), **(words if skips else {})}

    def source(self, file: str | None = None) -> compile_.Source:
        """Return the text of a kernel file, complete; of the variant's own where none is named."""
        return _source(file or self.variant.source, tuple(self.defines.items()))

    def fields(self) -> dict[str, float]:
        """Return the fields of ``AttentionParams`` that depend on the problem alone."""
        problem, packed = self.problem, self.problem.layout.varlen_q
        values: dict[str, float] = {
            "num_heads": problem.num_heads,
            "num_kv_heads": problem.num_kv_heads,
            "num_splits": self.num_splits,
            "split_stride": math.prod(self.lse_shape),
            "arrival_tag": parts.ARRIVAL_TAG,
            "heads_per_kv_head": problem.num_heads // max(1, problem.num_kv_heads),
            "batch": problem.batch,
            "rows_q": problem.seqlen_q,
            "rows_k": problem.seqlen_k,
            "plane_rows": problem.plane[0],
            "plane_cols": problem.plane[1],
            "lse_batch_stride": 0 if packed else problem.num_heads * problem.seqlen_q,
            "lse_head_stride": problem.seqlen_q,
            "diagonal": problem.diagonal or 0,
            "exponent_scale": exponent_scale(problem),
            **self.variant.fields(problem, self.arch),
        }
        for row in FEATURES:
            if row.name in self.features:
                values.update(row.fields(problem))
        return values


@lru_cache(maxsize=256)
def _source(name: str, defines: tuple[tuple[str, object], ...]) -> compile_.Source:
    return compile_.load_source(name, dict(defines))


_change: ContextVar[Callable[[Plan], Plan] | None] = ContextVar("plan_change", default=None)
# Returns what plans are being passed through, or None; no call may be taken for a known one then.
current_change = _change.get


@contextmanager
def plans_changed(change: Callable[[Plan], Plan]) -> Iterator[None]:
    """Pass every plan made within through ``change``: how a mutant runs through a public call."""
    token = _change.set(change)
    try:
        yield
    finally:
        _change.reset(token)


def on_kernel(entry: str, plan: Plan) -> Plan:
    """Return the plan with the first row of the kernel ``entry`` that serves its problem.

    Raises
    ------
    UnsupportedError
        If none does.
    """
    for variant in ROWS:
        if variant.entry == entry and variant.refusal(plan.problem, plan.arch) is None:
            return replace(plan, variant=variant)
    raise UnsupportedError(f"{entry} does not serve this problem")


def make_plan(problem: Problem, arch: Arch) -> Plan:
    """Return the plan: the first variant that serves ``problem`` on ``arch``.

    Raises
    ------
    UnsupportedError
        If none does; says why for each.
    """
    plan = _with_tuned(plan_of_rows(problem, arch))
    change = current_change()
    return plan if change is None else change(plan)


def _with_tuned(plan: Plan) -> Plan:
    """Return the plan with the tile that was tuned for its shape class, where there is one."""
    variant = tuned.variant_for(plan.problem, plan.arch)
    if variant is None:
        return plan
    row = plan.variant
    line = f"{row.entry} {row.block_m}x{row.block_n}: another was tuned for this shape class"
    passed = (*plan.passed_over, line)
    return _checked(replace(plan, variant=variant, passed_over=passed, tuned=True))


@lru_cache(maxsize=1024)
def plan_of_rows(problem: Problem, arch: Arch) -> Plan:
    """Return the plan that the rows make, whatever was tuned; raises as ``make_plan``."""
    passed: list[str] = []
    for variant in ROWS:
        reason = variant.refusal(problem, arch)
        if reason is None:
            features = tuple(row.name for row in FEATURES if row.active(problem))
            return _checked(Plan(problem, arch, variant, features, tuple(passed)))
        line = f"{variant.entry} {variant.block_m}x{variant.block_n}: {reason}"
        if variant.serves(problem) and line not in passed:
            passed.append(line)
    widths = f"head_dim {problem.head_dim} with V of {problem.v_head_dim}"
    listed = "; ".join(passed) or "none serves these widths; V past 256 must be a multiple of 32"
    raise UnsupportedError(f"no kernel for {widths} on {arch.sm}: {listed}")


def _checked(plan: Plan) -> Plan:
    blocks = plan.grid[0]
    if blocks > MAX_BLOCKS:
        raise UnsupportedError(
            f"{blocks} blocks are needed and a launch takes {MAX_BLOCKS}; split the batch"
        )
    return plan
