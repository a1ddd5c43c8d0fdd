"""Calls whose plan is known: CuPy arrays with shapes, strides, dtypes and arguments seen before.

The first such call is checked, planned and compiled; what it found is kept, and a later one only
allocates its results, fills in five addresses and launches. Nothing that a plan depends on is left
out of the key, alignment of the addresses and the device included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.engine import launch
from attnprobe.engine.params import params_dtype
from attnprobe.engine.plan import Plan
from attnprobe.engine.spec import ALIGNMENT

Key = tuple[Any, ...]

MOST_CALLS = 4096  # kept; past that all are forgotten: a caller with ever new shapes gains nothing
_ADDRESSES = ("Q", "K", "V", "O", "LSE")


@dataclass(frozen=True, eq=False)
class KnownCall:
    """All of a call but the addresses.

    Attributes
    ----------
    cupy : the module, so that a call need not look it up.
    kernel : loaded on ``device``.
    plan : what runs.
    template : ``AttentionParams`` without addresses, as one element of 64-bit words: CuPy takes
        six times as long to pass a struct of many fields.
    o_shape, o_dtype, lse_shape : of the results.
    device : number of the CUDA device.
    """

    cupy: Any
    kernel: Any
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_bytes: int
    template: npt.NDArray[np.void]
    o_shape: tuple[int, ...]
    o_dtype: Any
    lse_shape: tuple[int, ...]
    device: int

    def __call__(self, q: Any, k: Any, v: Any, return_lse: bool) -> Any:
        """Return O, or (O, LSE), on the current stream."""
        if self.cupy.cuda.runtime.getDevice() != self.device:
            with self.cupy.cuda.Device(self.device):
                return self(q, k, v, return_lse)
        O = self.cupy.empty(self.o_shape, self.o_dtype)
        lse = self.cupy.empty(self.lse_shape, np.float32) if return_lse else None
        struct = self.template.copy()
        struct["words"][0, : len(_ADDRESSES)] = (
            q.data.ptr,
            k.data.ptr,
            v.data.ptr,
            O.data.ptr,
            0 if lse is None else lse.data.ptr,
        )
        self.kernel(self.grid, self.block, (struct[0],), shared_mem=self.shared_bytes)
        return O if lse is None else (O, lse)


_calls: dict[Key, KnownCall] = {}


def key_of(q: Any, k: Any, v: Any, *arguments: Any) -> Key | None:
    """Return what a call is known by, or None where it cannot be: no CuPy arrays, odd arguments."""
    if not type(q) is type(k) is type(v) or type(q).__module__.partition(".")[0] != "cupy":
        return None
    arrays = (q, k, v)
    key = (
        *((a.shape, a.strides, a.dtype, a.data.ptr % ALIGNMENT, a.data.device_id) for a in arrays),
        *arguments,
    )
    try:
        hash(key)
    except TypeError:
        return None
    return key


def find(key: Key | None) -> KnownCall | None:
    """Return the call that was remembered under ``key``, or None."""
    return None if key is None else _calls.get(key)


def remember(key: Key | None, plan: Plan, q: Any, k: Any, v: Any, o: Any, lse: Any) -> None:
    """Keep what a checked call found. ``o`` and ``lse`` are the results that it allocated."""
    if key is None or plan.problem.empty or len(plan.steps) > 1:
        return
    import cupy

    offsets = [params_dtype().fields[name][1] for name in _ADDRESSES]  # type: ignore[index]
    assert offsets == [8 * i for i in range(len(_ADDRESSES))], "the addresses lead the struct"
    if len(_calls) >= MOST_CALLS:
        _calls.clear()
    device = int(q.device.id)
    _calls[key] = KnownCall(
        cupy,
        launch.plan_kernels(plan, device)[0],
        plan.grid,
        plan.block,
        plan.shared_bytes,
        _as_words(launch.gpu_params(plan, q, k, v, o)),
        tuple(o.shape),
        o.dtype,
        tuple(lse.shape),
        device,
    )


def _as_words(struct: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    words = np.dtype([("words", np.uint64, (struct.itemsize // 8,))])
    return struct.view(words)
