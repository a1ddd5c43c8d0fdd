"""Calls whose plan is known: CuPy arrays with shapes, strides, dtypes and arguments seen before.

The first such call is checked, planned and compiled; what it launched is kept, and a later one only
allocates its results and launches with new addresses. Nothing that a plan depends on is left out of
the key, alignment of the addresses and the device included. Where a result may be written depends
on the addresses themselves, and is checked at each call.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from attnprobe.engine.call import Done
from attnprobe.engine.launch import Launched
from attnprobe.engine.plan import are_changed
from attnprobe.engine.prepared import Prepared
from attnprobe.engine.spec import ALIGNMENT

Key = tuple[Any, ...]

MOST_CALLS = 4096  # kept; past that all are forgotten: a caller with ever new shapes gains nothing
_NUMBERS = (int, float, np.number)


class Found(NamedTuple):
    """What ``find`` says of a call.

    Attributes
    ----------
    key : to remember it by, or None where it cannot be known.
    call : what was remembered, or None.
    addresses : of the arrays among the arguments, in their order.
    """

    key: Key | None
    call: KnownCall | None
    addresses: list[int]


UNKNOWABLE = Found(None, None, [])
_calls: dict[Key, KnownCall] = {}


def find(kind: str, given: Sequence[Any], options: tuple[Any, ...]) -> Found:
    """Return what is known of a call.

    Parameters
    ----------
    kind : which of the public calls.
    given : the arguments that may be arrays, always in the same order; q first, ``out`` last.
    options : the others.
    """
    cupy = sys.modules.get("cupy")
    if cupy is None or type(given[0]) is not cupy.ndarray or are_changed():
        return UNKNOWABLE
    ndarray, addresses = cupy.ndarray, []
    parts: list[Any] = [kind, options]
    for array in given:
        if type(array) is ndarray:
            data = array.data
            address = data.ptr
            addresses.append(address)
            # Contiguous strides follow from the shape, and this is the quickest way to learn them.
            steps = array._c_contiguous or array.strides
            parts += (array.shape, steps, array.dtype.num, address % ALIGNMENT, data.device_id)
        else:
            parts.append(array)
    key = tuple(parts)
    try:
        return Found(key, _calls.get(key), addresses)
    except TypeError:  # a list among them
        return UNKNOWABLE


def remember(found: Found, fields: Sequence[str], given: Sequence[Any], done: Done) -> None:
    """Keep what a checked call launched, where the launch took the caller's arrays as they were.

    Parameters
    ----------
    fields : names of ``given`` among the arrays of the launch.
    """
    launched = done.launched
    if found.key is None or launched is None:
        return
    import cupy

    names = []
    for field, array in zip(fields, given, strict=True):
        if type(array) is not cupy.ndarray:
            if array is not None and not isinstance(array, _NUMBERS):
                return
            continue
        used = launched.arrays.get(field)
        # A scalar array was read on the host, and an array that was copied will be so again.
        if used is None or array.ndim == 0 or used.data.ptr != array.data.ptr:
            return
        names.append(field)
    if len(_calls) >= MOST_CALLS:
        _calls.clear()
    _calls[found.key] = KnownCall(launched, tuple(names), done)


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
        self._ndarray, self._alloc = cupy.ndarray, cupy.cuda.alloc
        self._get_device = cupy.cuda.runtime.getDevice
        self._get_stream = cupy.cuda.get_current_stream
        self._in_device = cupy.cuda.Device(launched.device)
        self._device = launched.device
        self._o = None if out is not None else (o.shape, o.dtype)
        self._lse = (lse.shape, lse.dtype)
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
        if self._o is not None:
            O = self._ndarray(*self._o)
            addresses.append(O.data.ptr)
        elif _meet(addresses, self._reaches):
            return None
        if return_lse:
            lse = self._ndarray(*self._lse)
            addresses.append(lse.data.ptr)
        else:
            addresses.append(0)
        scratch = [self._alloc(size) for size in self._scratch]  # held until all is queued
        addresses += [memory.ptr for memory in scratch]
        stream = self._get_stream().ptr
        for launch in self._launches:
            launch(addresses, stream)
        return O if lse is None else (O, lse)


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


def _meet(addresses: list[int], reaches: tuple[tuple[int, int], ...]) -> bool:
    """Return whether O, the last address, shares memory with one of the first three."""
    begin, end = (addresses[-1] + reach for reach in reaches[-1])
    return any(
        address + before < end and begin < address + behind
        for address, (before, behind) in zip(addresses[:3], reaches[:3], strict=True)
    )
