"""Calls whose plan is known: arrays with shapes, strides, dtypes and arguments seen before.

The first such call is checked, planned and compiled; what it launched is kept, and a later one only
allocates its results and launches with new addresses. Nothing that a plan depends on is left out of
the key, alignment of the addresses and the device included. Where a result may be written depends
on the addresses themselves, and is checked at each call.

Known are calls with CuPy arrays, and with torch tensors, whose attributes say all that is needed:
taking them in by DLPack would cost more than the rest (docs/design/call-cost.md).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from attnprobe.engine.call import Done
from attnprobe.engine.known_results import Results, cupy_results, torch_results
from attnprobe.engine.launch import Launched
from attnprobe.engine.plan import current_change
from attnprobe.engine.prepared import Prepared
from attnprobe.engine.spec import ALIGNMENT

Key = tuple[Any, ...]

MOST_CALLS = 4096  # kept; past that all are forgotten: a caller with ever new shapes gains nothing
_NUMBERS = (int, float, np.number)
_SCRATCH_STEP = 256  # bytes: every array in scratch memory begins at a multiple


# What ``find`` says of a call: the key to remember it by, or None where it cannot be known; what
# was remembered, or None; the addresses of the arrays among the arguments, in their order.
Found = tuple[Key | None, "KnownCall | None", list[int]]

UNKNOWABLE: Found = (None, None, [])
_calls: dict[Key, KnownCall] = {}
_ndarray: Any = None  # CuPy's class, once CuPy is imported
_tensor: Any = None  # torch's, once torch is imported


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
    if type(q) is not _ndarray or current_change() is not None:
        return _find_tensors(kind, q, k, v, others, options)
    if not type(k) is type(v) is _ndarray:
        return UNKNOWABLE
    q_data, k_data, v_data = q.data, k.data, v.data
    addresses = [q_data.ptr, k_data.ptr, v_data.ptr]
    for array in others:
        if array is not None:
            others = _signatures(others, addresses)
            break
    # Contiguous strides follow from the shape, and asking for them is the quickest.
    # fmt: off
    key = (
        kind, options, others,
        q.shape, q._c_contiguous or q.strides, q.dtype.num, q_data.device_id,
        k.shape, k._c_contiguous or k.strides, k.dtype.num, k_data.device_id,
        v.shape, v._c_contiguous or v.strides, v.dtype.num, v_data.device_id,
        (addresses[0] | addresses[1] | addresses[2]) % ALIGNMENT,
    )
    # fmt: on
    try:
        return key, _calls.get(key), addresses
    except TypeError:  # a list among them
        return UNKNOWABLE


def _find_tensors(
    kind: str, q: Any, k: Any, v: Any, others: tuple[Any, ...], options: tuple[Any, ...]
) -> Found:
    """Answer as ``find`` does, for torch tensors."""
    if current_change() is not None:
        return UNKNOWABLE
    if type(q) is not _tensor or _tensor is None:
        return _find_later(kind, q, k, v, others, options)
    if not type(k) is type(v) is _tensor:
        return UNKNOWABLE
    try:
        addresses = [q.data_ptr(), k.data_ptr(), v.data_ptr()]
        for array in others:
            if array is not None:
                others = _tensor_signatures(others, addresses)
                break
        # Tensors that need a gradient are refused, so those that do not must not look alike.
        # fmt: off
        key = (
            kind, options, others,
            q.shape, q.is_contiguous() or q.stride(), q.dtype, q.get_device(), q.requires_grad,
            k.shape, k.is_contiguous() or k.stride(), k.dtype, k.get_device(), k.requires_grad,
            v.shape, v.is_contiguous() or v.stride(), v.dtype, v.get_device(), v.requires_grad,
            (addresses[0] | addresses[1] | addresses[2]) % ALIGNMENT,
        )
        # fmt: on
        return key, _calls.get(key), addresses
    except (TypeError, RuntimeError):  # a list among them; a tensor without memory of its own
        return UNKNOWABLE


def _find_later(*arguments: Any) -> Found:
    """Answer as ``find`` does, where q's library was not imported when it was last asked."""
    global _ndarray, _tensor
    kind = type(arguments[1])
    cupy, torch = sys.modules.get("cupy"), sys.modules.get("torch")
    if _ndarray is None and cupy is not None and kind is getattr(cupy, "ndarray", None):
        _ndarray = kind
        return find(*arguments)
    if _tensor is None and torch is not None and kind is getattr(torch, "Tensor", None):
        _tensor = kind
        return find(*arguments)
    return UNKNOWABLE


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


def _tensor_signatures(others: tuple[Any, ...], addresses: list[int]) -> tuple[Any, ...]:
    """Answer as ``_signatures`` does, for torch tensors."""
    parts = []
    for array in others:
        if type(array) is not _tensor:
            parts.append(array)
            continue
        address = array.data_ptr()
        addresses.append(address)
        steps = array.is_contiguous() or array.stride()
        own = (array.shape, steps, array.dtype, array.get_device(), array.requires_grad)
        parts.append((own, address % ALIGNMENT))
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
    kind = type(given[0])
    names = []
    for field, array in zip(fields, given, strict=True):
        if type(array) is not kind:
            # A number for all heads became an array, which a repeated call would not make again.
            made = isinstance(array, _NUMBERS) and field in launched.arrays
            if array is not None and (made or not isinstance(array, _NUMBERS)):
                return
            continue
        used = launched.arrays.get(field)
        address = array.data.ptr if kind is _ndarray else array.data_ptr()
        # A scalar array was read on the host, and an array that was copied will be so again.
        if used is None or array.ndim == 0 or used.data.ptr != address:
            return
        names.append(field)
    results = cupy_results(done) if kind is _ndarray else torch_results(done, launched.device)
    if len(_calls) >= MOST_CALLS:
        _calls.clear()
    _calls[key] = KnownCall(launched, tuple(names), results, out_given=done.out is not None)


class KnownCall:
    """All of a call but the addresses; any number of threads may make it at once.

    Parameters
    ----------
    launched : by the call that is to be repeated.
    names : of the arrays whose addresses will come, ``O`` the last where it is given.
    results : where O, LSE and scratch memory come from.
    out_given : whether O is the caller's.
    """

    def __init__(
        self, launched: Launched, names: tuple[str, ...], results: Results, *, out_given: bool
    ) -> None:
        import cupy

        self._get_device = cupy.cuda.runtime.getDevice
        self._in_device = cupy.cuda.Device(launched.device)
        self._device = launched.device
        self._new_o, self._new_lse, self._new_scratch, self._stream = results
        # Places of the arrays in one piece of scratch memory, and its size.
        self._scratch: list[int] = []
        self._scratch_size = 0
        for array in launched.scratch.values():
            self._scratch.append(self._scratch_size)
            self._scratch_size += -(-array.nbytes // _SCRATCH_STEP) * _SCRATCH_STEP
        self._reaches = _reaches(launched, names) if out_given else ()
        places = (*names, *(() if out_given else ("O",)), "LSE", *launched.scratch)
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
            O = self._new_o(addresses)
        elif self._meet(addresses):
            return None
        if return_lse:
            lse = self._new_lse(addresses)
        else:
            addresses.append(0)
        if self._scratch_size:
            _held, base = self._new_scratch(self._scratch_size)  # until all is queued
            addresses += [base + offset for offset in self._scratch]
        given, stream = tuple(addresses), self._stream()
        for launch in self._launches:
            launch(given, stream)
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
