"""Where a known call's O, LSE and scratch memory come from, and its stream: CuPy or torch.

Written as functions made for one call, with all that they need at hand: each is part of every call.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from attnprobe.engine.arrays import in_kind
from attnprobe.engine.call import Done


class Results(NamedTuple):
    """Memory and stream of one library, for one call, on the call's device, which is current.

    Attributes
    ----------
    new_o, new_lse : return an array to write; its address is added to the list that they are given.
    scratch : size -> so many bytes of memory, held as long as the first is, and their address.
    stream : returns the current stream, a cudaStream_t.
    """

    new_o: Callable[[list[int]], Any]
    new_lse: Callable[[list[int]], Any]
    scratch: Callable[[int], tuple[Any, int]]
    stream: Callable[[], int]


def cupy_results(done: Done) -> Results:
    """Return CuPy's."""
    import cupy

    alloc, current = cupy.cuda.alloc, cupy.cuda.get_current_stream

    def scratch(size: int) -> tuple[Any, int]:
        memory = alloc(size)
        return memory, memory.ptr

    def stream() -> int:
        number: int = current().ptr
        return number

    return Results(_new_array(cupy, done.o), _new_array(cupy, done.lse), scratch, stream)


def _new_array(cupy: Any, like: Any) -> Callable[[list[int]], Any]:
    """Return a function that makes a contiguous ``cupy.ndarray`` of ``like``'s shape and dtype.

    The class itself passes its arguments on twice in Python, for subclasses, which takes as long as
    all the rest; what it does for itself is called directly where it is there.
    """
    alloc, kind, base = cupy.cuda.alloc, cupy.ndarray, cupy.ndarray.__mro__[1]
    blank = base.__new__
    size, shape = like.nbytes, like.shape
    # What CuPy looks a dtype up by the quickest is its letter, where it is NumPy's own.
    dtype = like.dtype.char if like.dtype.isbuiltin == 1 else like.dtype

    def quick(addresses: list[int]) -> Any:
        memory = alloc(size)
        addresses.append(memory.ptr)
        array = blank(kind)
        array._init(shape, dtype, memory)
        return array

    def plain(addresses: list[int]) -> Any:
        memory = alloc(size)
        addresses.append(memory.ptr)
        return kind(shape, dtype, memory)

    return quick if hasattr(base, "_init") else plain


def torch_results(done: Done, device: int) -> Results:
    """Return torch's, whose allocator knows which stream uses what, and a capture's own pool.

    torch is not imported here: it is what the caller's tensors come from.
    """
    torch = sys.modules["torch"]
    o, lse = (in_kind(array, done.query) for array in (done.o, done.lse))
    new_bytes = partial(torch.empty, dtype=torch.uint8, device=o.device)

    def scratch(size: int) -> tuple[Any, int]:
        tensor = new_bytes(size)
        return tensor, tensor.data_ptr()

    # What torch's own compiler calls for a stream; the public way makes an object, 3 us.
    raw = getattr(torch._C, "_cuda_getCurrentRawStream", None)
    current = torch.cuda.current_stream
    stream = partial(raw, device) if raw else lambda: int(current(device).cuda_stream)
    return Results(_new_tensor(torch, o), _new_tensor(torch, lse), scratch, stream)


def _new_tensor(torch: Any, like: Any) -> Callable[[list[int]], Any]:
    """Return a function that makes a contiguous tensor of ``like``'s shape, dtype and device.

    torch's own compiler makes tensors on the current device by a function that reads no keywords,
    in half the time; where a torch has none, ``empty`` does it.
    """
    shape = tuple(like.shape)
    guards = getattr(getattr(torch._C, "_dynamo", None), "guards", None)
    quick = getattr(guards, "_empty_strided_cuda", None)
    steps = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    make = (
        partial(quick, shape, steps, like.dtype)
        if quick
        else partial(torch.empty, shape, dtype=like.dtype, device=like.device)
    )

    def new(addresses: list[int]) -> Any:
        tensor = make()
        addresses.append(tensor.data_ptr())
        return tensor

    return new
