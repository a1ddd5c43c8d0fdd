"""Which tiles a kernel may have: what of its rows can be varied, and what follows from it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from math import log2
from typing import Any

from attnprobe.arch import Arch
from attnprobe.engine.problem import Problem
from attnprobe.engine.row_of_tile import ROWS as WARPGROUP_ROWS
from attnprobe.engine.row_of_tile import WARPS as WARPGROUP_WARPS
from attnprobe.engine.tuned import facts
from attnprobe.engine.variants import MMA_ENTRY, MmaVariant, Variant

WARP_ROWS = 16  # of an mma: queries that a warp has at least
WARP_KEYS = 16  # that a product takes at a time: of each share of a block
MOST_REGISTERS = 255  # of a thread, but for accumulators and P alone; Source: CUDA C++ Programming
# Guide, Technical Specifications
_SETMAXNREG = {1: 255, 2: 232, 3: 160, 4: 112}  # of a thread that computes, by warpgroups that do
_OTHER_REGISTERS = 24  # that a thread needs beside S, P and O


@dataclass(frozen=True)
class Space:
    """What may be varied of a kernel's rows.

    Attributes
    ----------
    entry : name of the kernel.
    values : field -> the values that it may have.
    following : the values chosen -> fields that follow from them.
    registers : a variant and a problem -> registers of S, P and O of a thread that computes, and
        how many it has.
    """

    entry: str
    values: Mapping[str, tuple[int, ...]]
    following: Callable[[Mapping[str, int]], Mapping[str, Any]]
    registers: Callable[[Variant, Problem], tuple[int, int]]


def _wgmma_registers(variant: Variant, problem: Problem) -> tuple[int, int]:
    """S and O of 64 rows lie in 128 threads; P is packed."""
    consumers = variant.block_m // WARPGROUP_ROWS
    needed = variant.block_n // 2 + variant.block_n // 4 + problem.v_head_dim // 2
    return needed, _SETMAXNREG.get(consumers, 0)


def _mma_registers(variant: Variant, problem: Problem) -> tuple[int, int]:
    """S and O of a warp's rows lie in 32 threads; P is packed, Q is read from shared memory.

    Of a block of keys in parts, S of two parts lies there.
    """
    rows = variant.block_m // variant.warps
    width = problem.v_head_dim // variant.v_parts
    parts = variant.parts if isinstance(variant, MmaVariant) else 1
    scores = variant.block_n // parts * (3 if parts == 1 else 5) // 2
    needed = rows * (scores + width) // 32
    held = 65536 // (32 * variant.warps * variant.blocks_per_sm)
    return needed, min(MOST_REGISTERS, held)


_WGMMA_VALUES = {
    "consumers": (1, 2, 3, 4),
    "block_n": (48, 64, 80, 96, 112, 128, 144, 160, 176, 192),
    "stages": (2, 3, 4),
    "q_stages": (1, 2),
    "turns": (False, True),
    "passes": (False, True),
}


def _of_consumers(values: Mapping[str, int]) -> Mapping[str, Any]:
    """Each warpgroup that computes has 64 queries, and one more loads."""
    return {
        "block_m": values["consumers"] * WARPGROUP_ROWS,
        "warps": (values["consumers"] + 1) * WARPGROUP_WARPS,
    }


SPACES: dict[str, Space] = {
    space.entry: space
    for space in (
        Space("attention_fwd_wgmma", _WGMMA_VALUES, _of_consumers, _wgmma_registers),
        Space(
            "attention_fwd_wgmma_fp8",
            {**_WGMMA_VALUES, "block_n": (64, 96, 128, 160, 192, 224), "vt_stages": (1, 2, 3)},
            _of_consumers,
            _wgmma_registers,
        ),
        Space(
            MMA_ENTRY,
            {
                "block_m": (64, 128, 192, 256),
                "block_n": (32, 64, 96, 128),
                "parts": (1, 2, 3, 4),
                "meets": (True, False),
                "warps": (4, 8),
                "blocks_per_sm": (1, 2, 3),
            },
            lambda v: {},
            _mma_registers,
        ),
        Space(
            "attention_decode_split",
            {
                "block_n": (16, 32, 64),
                "warps": (2, 4, 8),
                "stages": (2, 3, 4, 6),
                "blocks_per_sm": (1, 2, 3, 6),
            },
            lambda v: {
                "least_blocks": 0
            },  # a winner is kept for its shape class, whatever it fills
            lambda variant, problem: (0, MOST_REGISTERS),
        ),
    )
}


def candidates(problem: Problem, arch: Arch, base: Variant) -> Iterator[Variant]:
    """Yield the variants of a row's kernel that fit into the arch, each once, the nearest first.

    What spills although it fits is found out by compiling it.
    """
    yield base
    space = SPACES.get(base.entry)
    if space is None:
        return
    names = [name for name in space.values if hasattr(base, name)]
    seen = [facts(base)]
    chosen = [
        dict(zip(names, values, strict=True))
        for values in product(*(space.values[name] for name in names))
    ]
    for values in sorted(chosen, key=lambda values: _distance(values, base)):
        if all(getattr(base, name) == value for name, value in values.items()):
            continue
        changed: dict[str, Any] = {**values, **space.following(values)}
        variant = replace(base, **changed)
        if facts(variant) in seen or not _fits(variant, problem, arch, space):
            continue
        seen.append(facts(variant))
        yield variant


def _distance(values: Mapping[str, int], base: Variant) -> float:
    """Return how far a choice is from a row: a factor of two in a number, or a switch, counts 1."""
    return sum(
        float(value != getattr(base, name))
        if isinstance(value, bool)
        else abs(log2(value / getattr(base, name)))
        for name, value in values.items()
    )


def _fits(variant: Variant, problem: Problem, arch: Arch, space: Space) -> bool:
    if isinstance(variant, MmaVariant):
        shares = variant.parts * variant.sharers
        if variant.block_m % (WARP_ROWS * variant.warps):
            return False
        if not variant.bulk and not variant.meets:
            return False
        if variant.block_n % (WARP_KEYS * shares) or (variant.apart and variant.parts > 1):
            return False
    needed, held = space.registers(variant, problem)
    return needed + _OTHER_REGISTERS <= held and variant.refusal(problem, arch) is None


_SPILL = re.compile(r"(\d+) bytes spill")


def fault_of(log: str) -> str:
    """Return why ptxas's log rules a variant out, or ""."""
    spilled = max((int(number) for number in _SPILL.findall(log)), default=0)
    if spilled:
        return f"spills {spilled} bytes"
    return "wgmma is serialised" if "C7510" in log or "serialized" in log else ""


def shown(variant: Variant) -> str:
    """Return a tile in a few words."""
    words = [f"{variant.block_m}x{variant.block_n}", f"{variant.warps} warps"]
    if isinstance(variant, MmaVariant) and variant.parts > 1:
        words.append(f"{variant.parts} parts")
    if isinstance(variant, MmaVariant) and not variant.meets:
        words.append("warps drift")
    for name, unit in (("stages", "stages"), ("q_stages", "of Q"), ("blocks_per_sm", "blocks")):
        if hasattr(variant, name):
            words.append(f"{getattr(variant, name)} {unit}")
    for name, word in (("turns", "in turn"), ("passes", "blocks pass")):
        if getattr(variant, name, False):
            words.append(word)
    return ", ".join(words)
