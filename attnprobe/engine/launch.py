"""From a plan and arrays to a finished O and LSE: on the GPU through CuPy, or on the emulator.

Both paths take the same kernel text and the same ``AttentionParams``; only the last step differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from attnprobe import compile as compile_
from attnprobe.arch import EMULATED_ARCH, Arch, arch
from attnprobe.engine import kernels
from attnprobe.engine.extras import PLANES, extra_strides
from attnprobe.engine.one_kernel import strides
from attnprobe.engine.params import pack_params, params_offset
from attnprobe.engine.plan import Plan
from attnprobe.engine.prepared import Prepared, Struct
from attnprobe.engine.problem import Problem
from attnprobe.engine.step import Step
from attnprobe.engine.tensor_maps import mapped, tensor_map
from attnprobe.errors import DeviceError
from attnprobe.formats import FORMATS, Format
from attnprobe.frozen import dataclass
from attnprobe.layouts.tensor_map import TensorMap

# Axes of every array that have a stride field in AttentionParams, outermost first.
_AXES = ("batch", "row", "head")
_NAMES = ("Q", "K", "V", "O")


@dataclass(frozen=True)
class Launched:
    """What a call launched on a GPU.

    Attributes
    ----------
    launches : in their order, each taking the addresses of ``arrays``.
    arrays : by field of ``AttentionParams``; Q, K, V, O, LSE among them.
    scratch : those of ``arrays`` that only the launches see.
    device : number of the CUDA device.
    """

    launches: tuple[Prepared, ...]
    arrays: Mapping[str, Any]
    scratch: Mapping[str, Any]
    device: int

    def after(self, first: Launched, renamed: Mapping[str, str]) -> Launched:
        """Return ``first`` and then these launches.

        ``renamed`` says which of their arrays go by another name there, because ``first`` has
        something else under theirs, old -> new.
        """
        arrays = {renamed.get(name, name): array for name, array in self.arrays.items()}
        launches = tuple(each.renamed(renamed) for each in self.launches)
        return Launched(
            (*first.launches, *launches),
            {**arrays, **first.arrays},
            {**first.scratch, **self.scratch},
            self.device,
        )


def emulated_arch(problem: Problem | None = None) -> Arch:
    """Return the arch that the emulator pretends to be: what every GPU runs is what it shows.

    What only Hopper's own instructions can do, it shows with them.
    """
    emulated = arch(EMULATED_ARCH)
    return emulated if problem is not None and problem.by_tile else emulated.portable


@lru_cache(maxsize=64)
def gpu_arch(device: int) -> Arch:
    """Return the arch of CUDA device ``device``.

    Raises
    ------
    DeviceError
        If there is no such device.
    UnsupportedError
        If no kernel is made for it.
    """
    import cupy

    runtime = cupy.cuda.runtime
    try:
        capability = cupy.cuda.Device(device).compute_capability
        # All attributes at once would ask for clocks as well, which the driver takes long over.
        count = int(runtime.deviceGetAttribute(runtime.cudaDevAttrMultiProcessorCount, device))
    except runtime.CUDARuntimeError as error:
        raise DeviceError(f"CUDA device {device} cannot be used: {error}") from error
    return replace(arch(int(capability)), multiprocessors=count)


def run_emulator(
    plan: Plan,
    q: Any,
    k: Any,
    v: Any,
    o: Any,
    lse: Any,
    *,
    extras: Mapping[str, Any] | None = None,
    scratch: Mapping[str, Any] | None = None,
    source: compile_.Source | None = None,
    checked: bool | None = None,
    mma: str | None = None,
) -> Any:
    """Run ``plan`` on NumPy arrays, writing ``o`` and ``lse``; return the last launch's report.

    Parameters
    ----------
    extras : arrays of extras.py by field name.
    scratch : arrays of ``plan.scratch``, whatever they hold; None makes them.
    source : text of the variant's kernel instead of the plan's own: how a mutant runs.
    checked : look for races and uninitialised reads; None takes ``ATTNPROBE_CHECKED`` (off).
    mma : "fast", or "exact" for the bits of the hardware; None takes ``ATTNPROBE_MMA`` ("fast").

    Raises
    ------
    EmulatorError
        If the kernel does something wrong.
    """
    from attnprobe import ptx

    if checked is None:
        checked = _checked_by_default()
    memory = ptx.GlobalMemory()
    if scratch is None:
        shapes = plan.scratch.items()
        scratch = {name: np.empty(shape, dtype) for name, (shape, dtype) in shapes}
    arrays = {"Q": q, "K": k, "V": v, "O": o, "LSE": lse, **scratch, **(extras or {})}
    addresses = {
        name: memory.map(array, name=name, writable=name in ("O", "LSE", *scratch)).address
        for name, array in arrays.items()
        if array is not None
    }
    steps = {**stride_fields(q, k, v, o), **extra_strides(extras or {})}
    struct = pack_params({**plan.fields(), **steps, **addresses})
    report = None
    for step in plan.steps:
        own = step.source == plan.variant.source
        text = (source if own else None) or plan.source(step.source)
        maps = tensor_maps(plan, step, arrays, addresses)
        report = ptx.launch(
            ptx.load(compile_.ptx(text, plan.arch.cc, suffix=plan.variant.suffix)),
            step.entry,
            step.grid,
            step.block,
            [*maps.values(), struct],
            step.shared_bytes,
            checked=checked,
            dependent=step.dependent,
            mma=mma,
            memory=memory,
        )
    return report


def run_gpu(
    plan: Plan,
    q: Any,
    k: Any,
    v: Any,
    o: Any,
    lse: Any,
    *,
    extras: Mapping[str, Any] | None = None,
    source: compile_.Source | None = None,
) -> Launched:
    """Run ``plan`` on CuPy arrays of one device, on its current stream, writing ``o`` and ``lse``.

    ``extras`` and ``source`` are as in ``run_emulator``. Returns what was launched, to be repeated.

    Raises
    ------
    CompileError
        With NVRTC's log.
    """
    import cupy

    device = int(q.device.id)
    kernels_ = plan_kernels(plan, device, source)
    scratch = {name: cupy.empty(shape, dtype) for name, (shape, dtype) in plan.scratch.items()}
    taken = {"Q": q, "K": k, "V": v, "O": o, "LSE": lse, **scratch, **(extras or {})}
    arrays = {name: array for name, array in taken.items() if array is not None}
    steps = {**stride_fields(q, k, v, o), **extra_strides(extras or {})}
    params = pack_params({**plan.fields(), **steps})
    argument = Struct(params.tobytes(), {name: params_offset(name) for name in arrays})
    formats = _formats(plan)
    launches = tuple(
        Prepared(
            kernel,
            step.grid,
            step.block,
            step.shared_bytes,
            [
                *(
                    mapped(name, _boxed(name, arrays[name]), formats[name], rows)
                    for name, rows in step.boxes
                ),
                argument,
            ],
            tuple(arrays),
            dependent=step.dependent,
        )
        for step, kernel in zip(plan.steps, kernels_, strict=True)
    )
    addresses = tuple(array.data.ptr for array in arrays.values())
    stream = cupy.cuda.get_current_stream().ptr
    for launch in launches:
        launch(addresses, stream)
    return Launched(launches, arrays, scratch, device)


def plan_kernels(plan: Plan, device: int, source: compile_.Source | None = None) -> tuple[Any, ...]:
    """Return the kernel of each step of ``plan``, loaded on ``device``.

    ``source`` stands in for the text of the variant's kernel.

    Raises
    ------
    CompileError
        With NVRTC's log.
    """
    return tuple(
        kernels.load(
            (source if step.source == plan.variant.source else None) or plan.source(step.source),
            step.entry,
            device=device,
            shared_bytes=step.shared_bytes,
            suffix=plan.variant.suffix,
        )
        for step in plan.steps
    )


def tensor_maps(
    plan: Plan, step: Step, arrays: Mapping[str, Any], addresses: Mapping[str, int]
) -> dict[str, TensorMap]:
    """Return what a launch of ``plan`` reads through tensor maps, in the order of its arguments."""
    formats = _formats(plan)
    return {
        name: tensor_map(_boxed(name, arrays[name]), addresses[name], formats[name], rows)
        for name, rows in step.boxes
    }


def _formats(plan: Plan) -> Mapping[str, Format]:
    """Return the number formats of what a kernel may read through tensor maps."""
    problem = plan.problem
    formats = {"Q": problem.format, "K": problem.kv_format, "V": problem.kv_format}
    planes = {"bias": problem.bias or problem.format, "mask": FORMATS["u8"]}
    return {**formats, **planes}


def _boxed(name: str, array: Any) -> Any:
    """Return an array as tensor maps take it: rows before heads."""
    return array.transpose(0, 2, 1, 3) if name in PLANES else array


def stride_fields(q: Any, k: Any, v: Any, o: Any) -> Mapping[str, int]:
    """Return the stride fields of ``AttentionParams``, elements."""
    fields: dict[str, int] = {}
    for name, array in zip(_NAMES, (q, k, v, o), strict=True):
        fields.update(strides(name.lower(), array, _AXES))
    return fields


def _checked_by_default() -> bool:
    import os

    return os.environ.get("ATTNPROBE_CHECKED", "") not in ("", "0")


def empty_lse(plan: Plan, like: Any) -> Any:
    """Return an LSE to write: float32, of ``plan.lse_shape``, of ``like``'s library."""
    if isinstance(like, np.ndarray):
        return np.empty(plan.lse_shape, np.float32)
    import cupy

    return cupy.empty(plan.lse_shape, np.float32)
