"""Launching a kernel of a loaded program on NumPy arrays."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from attnprobe.errors import UsageError
from attnprobe.layouts.tensor_map import TensorMap
from attnprobe.ptx import tensor_maps
from attnprobe.ptx.between import MOST_WARPS, Between
from attnprobe.ptx.ir import Variable
from attnprobe.ptx.launch_state import LaunchState, Triple
from attnprobe.ptx.machine import Machine
from attnprobe.ptx.memory import Buffer, GlobalMemory
from attnprobe.ptx.program import Code, Program
from attnprobe.ptx.values import Array

DEFAULT_CHUNK_LANES = 8192
CHUNK_SHARED_BYTES = 64 << 20  # shared memory of the blocks of one chunk, at most
MAX_THREADS = 1024
MMA_MODES = ("fast", "exact")
Argument = Buffer | TensorMap | np.generic | Array | bytes


@dataclass(frozen=True)
class LaunchReport:
    """What a launch did.

    Attributes
    ----------
    lane_instructions : instructions times lanes that executed them.
    seconds : wall-clock time.
    mode : ("checked" or "fast", mma mode).
    chunks : how many chunks of blocks ran, one after another.
    splits, merges : how often a group of warps parted at a branch, and how often groups met again.
    """

    lane_instructions: int
    seconds: float
    mode: tuple[str, str]
    chunks: int
    splits: int
    merges: int

    @property
    def rate(self) -> float:
        """Lane-instructions per second."""
        return self.lane_instructions / self.seconds if self.seconds else 0.0


def launch(
    program: Program,
    entry: str,
    grid: Sequence[int],
    block: Sequence[int],
    args: Sequence[Argument],
    shared_bytes: int = 0,
    *,
    memory: GlobalMemory | None = None,
    checked: bool = True,
    dependent: bool = False,
    mma: str | None = None,
    chunk_lanes: int | None = None,
) -> LaunchReport:
    """Run one kernel to its end. Mapped arrays are read and written in place.

    Parameters
    ----------
    grid, block : up to three extents.
    args : one for each parameter, in order: a Buffer for a pointer, a NumPy scalar for a scalar,
        bytes or a structured array of one element for a struct passed by value, a TensorMap for a
        CUtensorMap.
    shared_bytes : dynamic shared memory.
    memory : the address space that the buffers were mapped in; needed if there are any.
    checked : look for races, and let cp.async data land only at its wait.
    dependent : begin as a launch that need not wait for the one before it in the stream: then every
        thread has to, by griddepcontrol.wait, before it touches global memory (dependence.py).
    mma : how products are summed: "fast", float32 in the order of the matrix library, or "exact",
        with the bits of the hardware (ex2.approx too). None: ATTNPROBE_MMA, else "fast".
    chunk_lanes : about how many lanes to run at once. Results do not depend on it.

    Raises
    ------
    UsageError
        If the shape or the arguments do not fit the kernel.
    EmulatorError
        If the kernel does something wrong.
    """
    mma = mma or os.environ.get("ATTNPROBE_MMA") or "fast"
    if mma not in MMA_MODES:
        raise UsageError(f"mma={mma!r} is no mode; there are {', '.join(MMA_MODES)}")
    code = program.entry(entry, exact=mma == "exact")
    full_grid, full_block = _shape(grid, "grid"), _shape(block, "block")
    _check_threads(code, full_block)
    memory = memory if memory is not None else GlobalMemory()
    offset = code.static_shared
    if shared_bytes or any(place == ("dynamic", 0) for place in code.shared.symbols.values()):
        offset = -(-offset // code.shared_align) * code.shared_align
    state = LaunchState(
        program.module,
        code,
        full_grid,
        full_block,
        _parameters(code, args),
        memory,
        offset,
        shared_bytes,
        checked,
        dependent,
    )
    state.symbols = _globals(program, code, memory)
    state.between = _between(state)
    return _run(state, chunk_lanes or DEFAULT_CHUNK_LANES, mma)


def _between(state: LaunchState) -> Between | None:
    """Return what looks at accesses between blocks: in checked mode, where any can meet."""
    x, y, z = state.grid
    per_block = -(-state.threads // 32)
    wanted = state.checked and state.code.meets and 1 < x * y * z <= MOST_WARPS // per_block
    return Between(x * y * z * per_block, per_block) if wanted else None


def _run(state: LaunchState, chunk_lanes: int, mma: str) -> LaunchReport:
    total = state.grid[0] * state.grid[1] * state.grid[2]
    warps = -(-state.threads // 32)
    per_chunk = max(
        1, min(chunk_lanes // (32 * warps), CHUNK_SHARED_BYTES // max(state.shared_bytes, 1))
    )
    started = time.perf_counter()
    done = splits = merges = chunks = 0
    with np.errstate(all="ignore"):
        for first in range(0, total, per_chunk):
            machine = Machine(state, np.arange(first, min(first + per_chunk, total)))
            machine.run()
            done += machine.lane_instructions
            splits += machine.splits
            merges += machine.merges
            chunks += 1
    seconds = time.perf_counter() - started
    mode = ("checked" if state.checked else "fast", mma)
    return LaunchReport(done, seconds, mode, chunks, splits, merges)


def _shape(extents: Sequence[int], what: str) -> Triple:
    full = [*map(int, extents), 1, 1, 1][:3]
    if not 1 <= len(extents) <= 3 or min(full) < 1:
        raise UsageError(f"{what} has one to three extents of at least 1; got {tuple(extents)}")
    return full[0], full[1], full[2]


def _check_threads(code: Code, block: Triple) -> None:
    threads = block[0] * block[1] * block[2]
    limit = code.kernel.max_threads or MAX_THREADS
    if threads > min(limit, MAX_THREADS):
        raise UsageError(
            f"kernel {code.kernel.name} runs at most {min(limit, MAX_THREADS)} threads a block, "
            f"not {threads}"
        )


def _parameters(code: Code, args: Sequence[Argument]) -> Array:
    params = code.kernel.params
    if len(args) != len(params):
        raise UsageError(
            f"kernel {code.kernel.name} takes {len(params)} arguments, got {len(args)}"
        )
    end = max((param.offset + param.size for param in params), default=0)
    data = np.zeros(-(-end // 32) * 32 + 32, np.uint8)
    for number, (param, value) in enumerate(zip(params, args, strict=True)):
        raw = _raw(value)
        if len(raw) != param.size:
            raise UsageError(_wrong_size(code, number, param, value, len(raw)))
        data[param.offset : param.offset + param.size] = np.frombuffer(raw, np.uint8)
    return data


def _raw(value: Argument) -> bytes:
    if isinstance(value, Buffer):
        return value.address.to_bytes(8, "little")
    if isinstance(value, TensorMap):
        return tensor_maps.encoded(value)
    if isinstance(value, bytes):
        return value
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.size == 1):
        return value.tobytes()
    raise UsageError(
        "an argument is a ptx.Buffer, a ptx.TensorMap, a NumPy scalar, bytes or a structured array "
        f"of one element, not {type(value).__name__}"
    )


def _wrong_size(code: Code, number: int, param: Variable, value: Any, size: int) -> str:
    return (
        f"argument {number} of kernel {code.kernel.name} ({param.name}) has {param.size} bytes; "
        f"the {type(value).__name__} given has {size}"
    )


def _globals(program: Program, code: Code, memory: GlobalMemory) -> dict[str, int]:
    """Place the module's global and constant variables, fresh for each launch, and return their
    addresses.
    """
    placed: dict[str, tuple[Variable, Array, int]] = {}
    for variable in program.module.variables.values():
        if variable.space in ("global", "const"):
            data = np.zeros(max(variable.size, 1), np.uint8)
            data[: len(variable.data)] = np.frombuffer(variable.data, np.uint8)
            writable = variable.space == "global"
            buffer = memory.map(data, variable.name, writable=writable)
            placed[variable.name] = (variable, data, buffer.address)
    addresses = {name: address for name, (_, _, address) in placed.items()}
    for variable, data, _ in placed.values():
        for offset, name, addend in variable.references:
            data[offset : offset + 8] = np.frombuffer(
                (addresses[name] + addend).to_bytes(8, "little"), np.uint8
            )
    return addresses
