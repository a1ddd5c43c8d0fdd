"""Loaded kernels: a text, an entry and a device give one launchable function, made once.

The text is compiled by our own NVRTC binding for the device's own target, with the suffix that the
kernel asks for (``sm_90a``), and the cubin is loaded through CuPy. Any number of threads may ask at
once: those that want the same kernel wait for the first, the others do not.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

from attnprobe import compile as compile_
from attnprobe.engine.capture import refuse_in_capture

MOST_LOADED = 1024  # functions kept; the one that was asked for longest ago goes first


class Wanted(NamedTuple):
    """What a loaded kernel is known by.

    Attributes
    ----------
    source : complete kernel text.
    entry : name of the function.
    shared_bytes : the most dynamic shared memory that it is launched with.
    suffix : "a" where the text uses instructions of one arch alone, else "".
    device : number of the CUDA device.
    """

    source: compile_.Source
    entry: str
    shared_bytes: int
    suffix: str
    device: int


def load(
    source: compile_.Source, entry: str, *, device: int, shared_bytes: int = 0, suffix: str = ""
) -> Any:
    """Return ``entry`` of ``source`` on CUDA device ``device``, as a ``cupy.cuda.Function``.

    Raises
    ------
    CompileError
        With NVRTC's log.
    DeviceError
        If the kernel is not loaded yet and the current stream is being captured into a graph.
    """
    return _loaded.get(Wanted(source, entry, shared_bytes, suffix, device))


class Once:
    """Values by key, each made by the first thread that asks; the others wait for it.

    Where making fails, everybody who waited tries for himself, and gets the error of his own try.
    """

    def __init__(self, make: Callable[[Wanted], Any], most: int) -> None:
        self._make, self._most = make, most
        self._values: OrderedDict[Wanted, Any] = OrderedDict()
        self._making: dict[Wanted, threading.Lock] = {}
        self._guard = threading.Lock()  # of the two dicts; never held while something is made

    def get(self, key: Wanted) -> Any:
        """Return the value of ``key``, making it if nobody did."""
        with self._guard:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
            turn = self._making.setdefault(key, threading.Lock())
        try:
            with turn:
                with self._guard:
                    if key in self._values:
                        return self._values[key]
                value = self._make(key)
                self._keep(key, value)
                return value
        finally:
            with self._guard:
                self._making.pop(key, None)

    def _keep(self, key: Wanted, value: Any) -> None:
        with self._guard:
            self._values[key] = value
            while len(self._values) > self._most:
                self._values.popitem(last=False)


def _load(wanted: Wanted) -> Any:
    import cupy

    device = cupy.cuda.Device(wanted.device)
    with device:
        refuse_in_capture(f"loading the kernel {wanted.entry}")
        target = compile_.device_target(int(device.compute_capability), wanted.suffix)
        cubin, _ = compile_.cubin(wanted.source, target)
        module = cupy.cuda.function.Module()
        module.load(cubin)
        function = module.get_function(wanted.entry)
        if wanted.shared_bytes:
            driver = cupy.cuda.driver
            attribute = driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            driver.funcSetAttribute(function.ptr, attribute, wanted.shared_bytes)
    return function


_loaded = Once(_load, MOST_LOADED)
