"""Calls whose plan is known: CuPy arrays with shapes, strides, dtypes and arguments seen before.

The first such call is checked, planned and compiled; what it launched is kept, and a later one only
allocates its results and launches with new addresses. Nothing that a plan depends on is left out of
the key, alignment of the addresses and the device included. Where a result may be written depends
on the addresses themselves, and is checked at each call.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from attnprobe.engine.call import Done
from attnprobe.engine.launch import Launched
from attnprobe.engine.plan import are_changed
from attnprobe.engine.prepared import Prepared
from attnprobe.engine.spec import ALIGNMENT

Key = tuple[Any, ...]

MOST_CALLS = 4096  # kept; past that all are forgotten: a caller with ever new shapes gains nothing
_NUMBERS = (int, float, np.number)


# What ``find`` says of a call: the key to remember it by, or None where it cannot be known; what
# was remembered, or None; the addresses of the arrays among the arguments, in their order.
Found = tuple[Key | None, "KnownCall | None", list[int]]

UNKNOWABLE: Found = (None, None, [])
_calls: dict[Key, KnownCall] = {}
_ndarray: Any = None  # CuPy's class, once CuPy is imported


def find(
    kind: str, q: Any, k: Any, v: Any, others: tuple[Any, ...], options: tuple[Any, ...]
) -> Found:
    """Return what is known of a call. Written out and not in loops: it is part of every call.

    Parameters
    ----------
    kind : which of the public calls.
    others : the arguments beside q, k and v that may be arrays, always in the same order.
    options : the other arguments.
    """
    if type(q) is not _ndarray or are_changed():
        return UNKNOWABLE if _ndarray is not None else _find_later(kind, q, k, v, others, options)
    if not type(k) is type(v) is _ndarray:
        return UNKNOWABLE
    q_data, k_data, v_data = q.data, k.data, v.data
    addresses = [q_data.ptr, k_data.ptr, v_data.ptr]
    for array in others:
        if array is not None:
            others = _signatures(others, addresses)
            break
    # Contiguous strides follow from the shape, and asking for them is the quickest.
    key = (
        *(kind, options, others),
        *(q.shape, q._c_contiguous or q.strides, q.dtype.num, q_data.device_id),
        *(k.shape, k._c_contiguous or k.strides, k.dtype.num, k_data.device_id),
        *(v.shape, v._c_contiguous or v.strides, v.dtype.num, v_data.device_id),
        (addresses[0] | addresses[1] | addresses[2]) % ALIGNMENT,
    )
    try:
        return key, _calls.get(key), addresses
    except TypeError:  # a list among them
        return UNKNOWABLE


def _find_later(*arguments: Any) -> Found:
    """Answer as ``find`` does, where CuPy was not imported when it was last asked."""
    global _ndarray
    cupy = sys.modules.get("cupy")
    if cupy is None or are_changed():
        return UNKNOWABLE
    _ndarray = cupy.ndarray
    return find(*arguments)


def _signatures(others: tuple[Any, ...], addresses: list[int]) -> tuple[Any, ...]:
    """Return what a plan depends on of arguments that may be arrays; their addresses are added."""
    parts = []
    for array in others:
        if type(array) is not _ndarray:
            parts.append(array)
            continue
        data = array.data
        address = data.ptr
        addresses.append(address)
        steps = array._c_contiguous or array.strides
        parts.append((array.shape, steps, array.dtype.num, address % ALIGNMENT, data.device_id))
    return tuple(parts)


def remember(key: Key | None, fields: Sequence[str], given: Sequence[Any], done: Done) -> None:
    """Keep what a checked call launched, where the launch took the caller's arrays as they were.

    Parameters
    ----------
    key : of ``find``.
    given : q, k, v and the others of ``find``; ``out`` the last of them.
    fields : their names among the arrays of the launch.
    """
    launched = done.launched
    if key is None or launched is None:
        return
    names = []
    for field, array in zip(fields, given, strict=True):
        if type(array) is not _ndarray:
            # A number for all heads became an array, which a repeated call would not make again.
            made = isinstance(array, _NUMBERS) and field in launched.arrays
            if array is not None and (made or not isinstance(array, _NUMBERS)):
                return
            continue
        used = launched.arrays.get(field)
        # A scalar array was read on the host, and an array that was copied will be so again.
        if used is None or array.ndim == 0 or used.data.ptr != array.data.ptr:
            return
        names.append(field)
    if len(_calls) >= MOST_CALLS:
        _calls.clear()
    _calls[key] = KnownCall(launched, tuple(names), done)


class KnownCall:
    """All of a call but the addresses; any number of threads may make it at once.

    Parameters
    ----------
    launched, done : of the call that is to be repeated.
    names : of the arrays whose addresses will come, ``O`` the last where it is given.
    """

    def __init__(self, launched: Launched, names: tuple[str, ...], done: Done) -> None:
        import cupy

        o, lse, out = done.o, done.lse, done.out
        self._alloc = cupy.cuda.alloc
        self._get_device = cupy.cuda.runtime.getDevice
        self._get_stream = cupy.cuda.get_current_stream
        self._in_device = cupy.cuda.Device(launched.device)
        self._device = launched.device
        self._new_o = partial(cupy.ndarray, o.shape, _quick_dtype(o.dtype))
        self._new_lse = partial(cupy.ndarray, lse.shape, _quick_dtype(lse.dtype))
        self._scratch = [array.nbytes for array in launched.scratch.values()]
        self._reaches = _reaches(launched, names) if out is not None else ()
        places = (*names, *(() if out is not None else ("O",)), "LSE", *launched.scratch)
        self._launches: tuple[Prepared, ...] = tuple(
            each.ordered(places) for each in launched.launches
        )

    def __call__(self, addresses: list[int], out: Any, return_lse: bool) -> Any:
        """Return O, or (O, LSE), on the current stream; None where ``out`` lies over an input.

        ``addresses`` are those of the arrays in ``names``.
        """
        if self._get_device() != self._device:
            with self._in_device:
                return self(addresses, out, return_lse)
        O, lse = out, None
        if out is None:
            O = self._new_o()
            addresses.append(O.data.ptr)
        elif self._meet(addresses):
            return None
        if return_lse:
            lse = self._new_lse()
            addresses.append(lse.data.ptr)
        else:
            addresses.append(0)
        scratch = [self._alloc(size) for size in self._scratch]  # held until all is queued
        if scratch:
            addresses += [memory.ptr for memory in scratch]
        stream = self._get_stream().ptr
        for launch in self._launches:
            launch(addresses, stream)
        return O if lse is None else (O, lse)

    def _meet(self, addresses: list[int]) -> bool:
        """Return whether O, the last address, shares memory with one of the first three."""
        (q0, q1), (k0, k1), (v0, v1), (begin, end) = self._reaches
        q, k, v, O = addresses[0], addresses[1], addresses[2], addresses[-1]
        begin, end = begin + O, end + O
        return (
            (q + q0 < end and begin < q + q1)
            or (k + k0 < end and begin < k + k1)
            or (v + v0 < end and begin < v + v1)
        )


def _quick_dtype(dtype: Any) -> Any:
    """Return what makes CuPy look a dtype up the quickest: its letter, where it is NumPy's own."""
    return dtype.char if dtype.isbuiltin == 1 else dtype


def _reaches(launched: Launched, names: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """Return how far Q, K, V and O reach before and behind their addresses, bytes; O last."""
    found = []
    for name in ("Q", "K", "V", "O"):
        array = launched.arrays[name]
        steps = [
            (extent - 1) * step for extent, step in zip(array.shape, array.strides, strict=True)
        ]
        before = sum(step for step in steps if step < 0)
        behind = sum(step for step in steps if step > 0) + array.dtype.itemsize
        found.append((before, behind) if array.size else (0, 0))
    assert names[:3] == ("Q", "K", "V")
    assert names[-1] == "O"
    return tuple(found)
