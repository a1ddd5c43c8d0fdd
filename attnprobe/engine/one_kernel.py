"""One launch of a helper kernel whose only argument is a struct, on the GPU or on the emulator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import numpy as np

from attnprobe import compile as compile_
from attnprobe.arch import EMULATED_ARCH
from attnprobe.engine import kernels
from attnprobe.engine.params import pack_params, params_offset
from attnprobe.engine.prepared import Prepared, Struct
from attnprobe.frozen import dataclass

Change = Callable[[compile_.Source], compile_.Source]

_change: ContextVar[Change | None] = ContextVar("text_change", default=None)


@contextmanager
def texts_changed(change: Change) -> Iterator[None]:
    """Pass the text of every helper kernel within through ``change``, as ``plans_changed`` does."""
    token = _change.set(change)
    try:
        yield
    finally:
        _change.reset(token)


@lru_cache(maxsize=64)
def _source(file: str, defines: tuple[tuple[str, object], ...]) -> compile_.Source:
    return compile_.load_source(file, dict(defines))


@dataclass(frozen=True)
class OneKernel:
    """A launch without its arrays.

    Attributes
    ----------
    file, entry : kernel file below kernels/, and the function in it.
    struct : name of the argument's type, as params.py knows it.
    defines : macros of the text.
    blocks, threads : shape of the launch.
    """

    file: str
    entry: str
    struct: str
    defines: Mapping[str, object]
    blocks: int
    threads: int

    def run(
        self, arrays: Mapping[str, Any], values: Mapping[str, float], written: set[str]
    ) -> Prepared | None:
        """Launch on ``arrays`` (field -> NumPy or CuPy array); ``written`` names the outputs.

        Returns the launch, to be repeated; None on the emulator.

        Raises
        ------
        CompileError, EmulatorError
            Where NVRTC or the emulated kernel fails.
        """
        source = _source(self.file, tuple(self.defines.items()))
        change = _change.get()
        if change is not None:
            source = change(source)
        if isinstance(next(iter(arrays.values())), np.ndarray):
            self._emulate(source, arrays, values, written)
            return None
        import cupy

        device = int(next(iter(arrays.values())).device.id)
        kernel = kernels.load(source, self.entry, device=device)
        places = {name: params_offset(name, self.struct) for name in arrays}
        argument = Struct(pack_params(values, self.struct).tobytes(), places)
        grid, block = (self.blocks, 1, 1), (self.threads, 1, 1)
        launch = Prepared(kernel, grid, block, 0, [argument], tuple(arrays))
        addresses = tuple(array.data.ptr for array in arrays.values())
        launch(addresses, cupy.cuda.get_current_stream().ptr)
        return launch

    def _emulate(
        self,
        source: compile_.Source,
        arrays: Mapping[str, Any],
        values: Mapping[str, float],
        written: set[str],
    ) -> None:
        from attnprobe import ptx

        memory = ptx.GlobalMemory()
        addresses = {
            name: memory.map(array, name=name, writable=name in written).address
            for name, array in arrays.items()
        }
        struct = pack_params({**values, **addresses}, self.struct)
        program = ptx.load(compile_.ptx(source, EMULATED_ARCH))
        grid, block = (self.blocks, 1, 1), (self.threads, 1, 1)
        ptx.launch(program, self.entry, grid, block, [struct], memory=memory)


def strides(field: str, array: Any, axes: tuple[str, ...]) -> dict[str, int]:
    """Return the stride fields of an array, in elements: ``<field>_<axis>_stride``, axis by axis.

    A step along an axis of one element means nothing and is 0.
    """
    return {
        f"{field}_{axis}_stride": array.strides[number] // array.dtype.itemsize
        if array.shape[number] > 1
        else 0
        for number, axis in enumerate(axes)
    }
