"""What ptxas reports of the mma.sync kernel: every tile of the plan on every arch, no spills."""

from __future__ import annotations

import dataclasses
import re

import pytest

from attnprobe import compile as compile_
from attnprobe.arch import ARCHES, Arch, arch
from attnprobe.engine.features import FEATURES
from attnprobe.engine.plan import Plan, make_plan, on_kernel
from attnprobe.engine.variants import MMA_ENTRY, VARIANTS, MmaVariant, Variant
from tests.engine.hopper import PLANES
from tests.engine.test_plan import make

_SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_REGISTERS = re.compile(r"Used (\d+) registers")
REGISTER_FILE = 65536  # of a multiprocessor; Source: CUDA C++ Programming Guide, Technical
# Specifications per Compute Capability

# Bytes that ptxas keeps in memory all the same, by head_dim and keys of a tile, then arch: mostly
# addresses, read once a block of keys.
ALLOWED = {
    (64, 128): {100: 8},
    (128, 64): {90: 40, 100: 56},
    (128, 48): {90: 8, 100: 40},
    (192, 48): {90: 8, 100: 32},
    (256, 64): {100: 8},
    (576, 32): {100: 16},
    (576, 16): {row.cc: 40 for row in ARCHES},
}


def plan_of(variant: Variant, row: Arch) -> Plan | None:
    plain = isinstance(variant, MmaVariant) and variant.plain
    bulk = isinstance(variant, MmaVariant) and variant.bulk
    problem = dataclasses.replace(
        make(variant.head_dim),
        v_head_dim=variant.v_head_dim,
        window=(-1, -1) if plain else (-1, 0),
        mappable=bulk,
    )
    if variant.refusal(problem, row) is not None:
        return None
    active = tuple(feature.name for feature in FEATURES if feature.active(problem))
    return Plan(problem, row, variant, active, ())


CASES = [
    pytest.param(plan, id=f"{row.sm}-{number}-{variant.head_dim}-{variant.block_n}")
    for row in ARCHES
    for number, variant in enumerate(VARIANTS)
    if (plan := plan_of(variant, row)) is not None
]


# Bias and mask: the architectures that differ in what a tile may take (sm_89 is as sm_120), and the
# arrays that take most, or other registers than those.
PLANE_ARCHES = (80, 90, 120)
WIDTHS = ((64, 64), (128, 128), (192, 128), (256, 256), (576, 512))
FORMS = (
    "bias in f32, mapped",
    "mask, mapped",
    "mask, unaligned",
    "both, mapped",
    "both, mapped, in f32",
    "both, any strides, with a softcap",
)


def plane_plans() -> dict[str, Plan]:
    """Return the plans of the mma.sync kernel, each text once."""
    plans: dict[str, Plan] = {}
    seen = set()
    for cc in PLANE_ARCHES:
        for head_dim, v_head_dim in WIDTHS:
            for form in FORMS:
                changes = {"v_head_dim": v_head_dim, "window": (-1, 0), **PLANES[form]}
                problem = make(head_dim, "bf16", **changes)
                plan = on_kernel(MMA_ENTRY, make_plan(problem, arch(cc).portable))
                key = (cc, plan.source().text)
                if key not in seen:
                    plans[f"sm_{cc}-{head_dim}-{v_head_dim}-{form}"] = plan
                seen.add(key)
    return plans


PLANE_PLANS = plane_plans()


PLANES_SPILL = {  # bytes
    "sm_90-192-128-mask, unaligned": 8,
    "sm_90-256-256-both, mapped, in f32": 8,
}


@pytest.mark.parametrize("name", PLANE_PLANS)
def test_no_tile_of_bias_and_mask_spills(name: str) -> None:
    check_resources(PLANE_PLANS[name], PLANES_SPILL.get(name, 0))


def test_plans_of_bias_and_mask_cover_every_tile() -> None:
    rows = [row for row in VARIANTS if isinstance(row, MmaVariant) and row.planes is not None]
    assert {plan.variant for plan in PLANE_PLANS.values()} == set(rows)


@pytest.mark.parametrize("plan", CASES)
def test_no_tile_spills(plan: Plan) -> None:
    by_arch = ALLOWED.get((plan.variant.head_dim, plan.variant.block_n), {})
    check_resources(plan, by_arch.get(plan.arch.cc, 0))


def check_resources(plan: Plan, allowed: int) -> None:
    """Check that ptxas spills no more than so many bytes, and that the tile's blocks fit."""
    _, log = compile_.cubin(plan.source(), compile_.device_target(plan.arch.cc))
    spills, registers = _SPILLS.search(log), _REGISTERS.search(log)
    assert spills is not None, log
    assert registers is not None, log
    assert max(map(int, spills.groups())) <= allowed, log
    threads = plan.variant.warps * 32 * plan.variant.blocks_per_sm
    assert int(registers[1]) * threads <= REGISTER_FILE
