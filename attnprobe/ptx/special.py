"""Special registers: which there are, their widths, and their values for a group of warps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from attnprobe.errors import UnknownOpcodeError
from attnprobe.ptx.ir import Instr
from attnprobe.ptx.values import LANES, Array, frozen

if TYPE_CHECKING:
    from attnprobe.ptx.machine import Machine

_AXES = ("x", "y", "z")
_THIRTY_TWO = (
    {f"{name}.{axis}" for name in ("tid", "ntid", "ctaid", "nctaid") for axis in _AXES}
    | {
        "laneid",
        "warpid",
        "nwarpid",
        "smid",
        "nsmid",
        "clock",
        "clock_hi",
        "dynamic_smem_size",
        "total_smem_size",
        "lanemask_eq",
        "lanemask_le",
        "lanemask_lt",
        "lanemask_ge",
        "lanemask_gt",
        "cluster_ctarank",
        "cluster_nctarank",
    }
    | {
        f"{name}.{axis}"
        for name in ("clusterid", "nclusterid", "cluster_ctaid", "cluster_nctaid")
        for axis in _AXES
    }
)
_SIXTY_FOUR = {"clock64", "globaltimer", "gridid"}


def special_code(name: str, instr: Instr) -> str:
    """Return the dtype code of special register ``name``.

    Raises
    ------
    UnknownOpcodeError
        If the emulator does not have it.
    """
    if name in _THIRTY_TWO:
        return "u4"
    if name in _SIXTY_FOUR:
        return "u8"
    raise UnknownOpcodeError(
        f"PTX line {instr.line}: {instr.name} reads %{name}, a special register that the emulator "
        f"does not have; "
        f"it has {', '.join(sorted(_THIRTY_TWO | _SIXTY_FOUR))}"
    )


def lane_table() -> dict[str, Array]:
    """Return the special registers that depend on the lane alone: uint32 (1, 32)."""
    lane = np.arange(LANES, dtype=np.uint64)[None, :]
    one = np.uint64(1)
    equal = one << lane
    below = equal - one
    full = np.uint64(0xFFFFFFFF)
    table = {
        "laneid": lane,
        "lanemask_eq": equal,
        "lanemask_lt": below,
        "lanemask_le": below | equal,
        "lanemask_gt": full & ~(below | equal),
        "lanemask_ge": full & ~below,
    }
    return {name: frozen(value.astype(np.uint32)) for name, value in table.items()}


def chunk_table(machine: Machine) -> dict[str, Array]:
    """Return the special registers of all warps of a chunk: uint32, broadcasting to (warps, 32)."""
    block, grid = machine.block_shape, machine.grid_shape
    warps = machine.warps_per_block
    table = dict(lane_table())
    thread = np.arange(warps * LANES)
    per_block = {
        "tid.x": thread % block[0],
        "tid.y": thread // block[0] % block[1],
        "tid.z": thread // (block[0] * block[1]),
    }
    for name, value in per_block.items():
        tiled = np.tile(value.reshape(warps, LANES), (machine.block_count, 1))
        table[name] = _narrow(tiled)
    number = np.repeat(machine.block_numbers, warps)[:, None]
    table["ctaid.x"] = _narrow(number % grid[0])
    table["ctaid.y"] = _narrow(number // grid[0] % grid[1])
    table["ctaid.z"] = _narrow(number // (grid[0] * grid[1]))
    table["warpid"] = _narrow(np.tile(np.arange(warps), machine.block_count)[:, None])
    for axis, extent in zip(_AXES, block, strict=True):
        table[f"ntid.{axis}"] = _narrow(np.full((1, 1), extent))
    for axis, extent in zip(_AXES, grid, strict=True):
        table[f"nctaid.{axis}"] = table[f"nclusterid.{axis}"] = _narrow(np.full((1, 1), extent))
    for axis in _AXES:  # every block is a cluster of its own
        table[f"clusterid.{axis}"] = table[f"ctaid.{axis}"]
        table[f"cluster_ctaid.{axis}"] = _narrow(np.zeros((1, 1)))
        table[f"cluster_nctaid.{axis}"] = _narrow(np.ones((1, 1)))
    single = {
        "nwarpid": warps,
        "cluster_ctarank": 0,
        "cluster_nctarank": 1,
        "smid": 0,
        "nsmid": 1,
        "dynamic_smem_size": machine.dynamic_shared_bytes,
        "total_smem_size": machine.shared_bytes,
    }
    for name, constant in single.items():
        table[name] = _narrow(np.full((1, 1), constant))
    return table


def _narrow(value: Array) -> Array:
    """Return ``value`` as uint32, with axes along which it is constant shrunk to one."""
    value = value.astype(np.uint32)
    for axis in (0, 1):
        if value.shape[axis] > 1 and (value == np.take(value, [0], axis=axis)).all():
            value = np.take(value, [0], axis=axis)
    return frozen(value)
