"""Where a known call's O, LSE and scratch memory come from, and its stream: CuPy or torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from attnprobe.engine.arrays import in_kind
from attnprobe.engine.call import Done


class Results(Protocol):
    """Memory and stream of one library. The arrays' addresses are added to ``addresses``."""

    @property
    def stream(self) -> Callable[[], int]:
        """Current stream of the call's device, a cudaStream_t."""

    def new_o(self, addresses: list[int]) -> Any:
        """Return an O to write."""

    def new_lse(self, addresses: list[int]) -> Any:
        """Return an LSE to write."""

    def scratch(self, size: int) -> tuple[Any, int]:
        """Return ``size`` bytes of memory, held as long as the first is, and their address."""


class CupyResults:
    """CuPy's, on the device that is current."""

    def __init__(self, done: Done) -> None:
        import cupy

        self._alloc, self._get_stream = cupy.cuda.alloc, cupy.cuda.get_current_stream
        self._new = new_array(cupy)
        self._o = (done.o.nbytes, done.o.shape, _quick_dtype(done.o.dtype))
        self._lse = (done.lse.nbytes, done.lse.shape, _quick_dtype(done.lse.dtype))

    def stream(self) -> int:
        stream: int = self._get_stream().ptr
        return stream

    def new_o(self, addresses: list[int]) -> Any:
        size, shape, dtype = self._o
        memory = self._alloc(size)
        addresses.append(memory.ptr)
        return self._new(shape, dtype, memory)

    def new_lse(self, addresses: list[int]) -> Any:
        size, shape, dtype = self._lse
        memory = self._alloc(size)
        addresses.append(memory.ptr)
        return self._new(shape, dtype, memory)

    def scratch(self, size: int) -> tuple[Any, int]:
        memory = self._alloc(size)
        return memory, memory.ptr


class TorchResults:
    """torch's, whose allocator knows which stream uses what, and a graph's pool in a capture.

    torch is not imported here: it is what the caller's tensors come from.
    """

    def __init__(self, done: Done, device: int) -> None:
        import sys

        torch = sys.modules["torch"]
        o, lse = (in_kind(array, done.query) for array in (done.o, done.lse))
        on = o.device
        self._new_o = _new_tensor(torch, o)
        self._new_lse = _new_tensor(torch, lse)
        self._new_scratch = partial(torch.empty, dtype=torch.uint8, device=on)
        # What torch's own compiler calls for a stream; the public way makes an object, 3 us.
        raw = getattr(torch._C, "_cuda_getCurrentRawStream", None)
        if raw is None:
            current = torch.cuda.current_stream
            self.stream: Callable[[], int] = lambda: int(current(device).cuda_stream)
        else:
            self.stream = partial(raw, device)

    def new_o(self, addresses: list[int]) -> Any:
        tensor = self._new_o()
        addresses.append(tensor.data_ptr())
        return tensor

    def new_lse(self, addresses: list[int]) -> Any:
        tensor = self._new_lse()
        addresses.append(tensor.data_ptr())
        return tensor

    def scratch(self, size: int) -> tuple[Any, int]:
        tensor = self._new_scratch(size)
        return tensor, tensor.data_ptr()


def _new_tensor(torch: Any, like: Any) -> Callable[[], Any]:
    """Return a function that makes a contiguous tensor of ``like``'s shape, dtype and device.

    That device must be current when it is called. torch's own compiler makes tensors by a function
    that reads no keywords, in half the time; where a torch has none, ``empty`` does it.
    """
    shape = tuple(like.shape)
    guards = getattr(getattr(torch._C, "_dynamo", None), "guards", None)
    quick = getattr(guards, "_empty_strided_cuda", None)
    if quick is None:
        return partial(torch.empty, shape, dtype=like.dtype, device=like.device)
    steps = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    return partial(quick, shape, steps, like.dtype)


def new_array(cupy: Any) -> Callable[[tuple[int, ...], Any, Any], Any]:
    """Return a function that makes a ``cupy.ndarray`` of shape, dtype and memory.

    The class itself passes its arguments on twice in Python, for subclasses, which takes as long as
    all the rest; what it does for itself is called directly where it is there.
    """
    make = cupy.ndarray
    base = make.__mro__[1]
    new = base.__new__
    if not hasattr(base, "_init"):
        return make  # type: ignore[no-any-return]

    def quick(shape: tuple[int, ...], dtype: Any, memory: Any) -> Any:
        array = new(make)
        array._init(shape, dtype, memory)
        return array

    return quick


def _quick_dtype(dtype: Any) -> Any:
    """Return what makes CuPy look a dtype up the quickest: its letter, where it is NumPy's own."""
    return dtype.char if dtype.isbuiltin == 1 else dtype
