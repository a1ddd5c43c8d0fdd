"""Where mutants run, and memory around their arrays: garbage beside inputs, guards beside O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.engine import launch
from attnprobe.engine.plan import Plan
from attnprobe.numerics.memory import LAYOUTS, Layout

GUARD_ROWS = 3
FAR = 2**31  # elements: past what a 32-bit offset can name

# Rows after the last of each batch entry (or, packed, of all): memory that belongs to the array and
# to no query or key.
GUARDED = Layout(
    "guarded",
    lambda s: (*s[:-3], s[-3] + GUARD_ROWS, *s[-2:]),
    lambda m, s: m[..., : s[-3], :, :],
)


@dataclass(frozen=True)
class Place:
    """Where kernels run: ``name`` is "emulator" or "gpu"."""

    name: str

    @property
    def library(self) -> Any:
        """NumPy or CuPy."""
        if self.name == "emulator":
            return np
        import cupy

        return cupy

    def brought(self, array: npt.NDArray[Any]) -> Any:
        """Return an array in this place, with the strides it has and the memory around it."""
        if self.name == "emulator":
            return array
        owner = array
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        if owner is array or not owner.flags.c_contiguous:
            return self.library.asarray(array)
        # As bytes: whatever the owner holds, CuPy need not have a dtype for it.
        copied = self.library.asarray(owner.reshape(-1).view(np.uint8))
        offset = _address(array) - _address(owner)
        memory = self.library.cuda.MemoryPointer(
            copied.data.mem, copied.data.ptr - copied.data.mem.ptr + offset
        )
        return self.library.ndarray(array.shape, array.dtype, memory, strides=array.strides)

    def compile(self, plan: Plan) -> None:
        """Compile and load the kernels of a plan, so that its launch takes no time but its own."""
        if self.name == "gpu":
            launch.plan_kernels(plan, int(self.library.cuda.runtime.getDevice()))

    def fetched(self, array: Any) -> npt.NDArray[Any]:
        """Return an array of this place as a NumPy array."""
        return np.asarray(array) if self.name == "emulator" else self.library.asnumpy(array)

    def far_apart(self, array: npt.NDArray[Any]) -> Any:
        """Return ``array`` here, its batch entries ``FAR`` elements apart.

        The memory between them is never touched, and costs nothing on the CPU.
        """
        library, (batch, *rest) = self.library, array.shape
        buffer = library.empty((batch - 1) * FAR + int(np.prod(rest)), array.dtype)
        steps = (FAR, rest[1] * rest[2], rest[2], 1)
        view = library.lib.stride_tricks.as_strided(
            buffer, array.shape, tuple(array.itemsize * step for step in steps)
        )
        view[...] = self.brought(array)
        return view

    def soil(self, count: int) -> None:
        """Leave NaN in free memory that an array of ``count`` float32 may get next.

        Otherwise what a kernel does not write may still hold the right numbers of an earlier run.
        """
        if self.name == "gpu":
            library = self.library
            del [library.full(count, np.nan, np.float32) for _ in range(4)][:]


def _address(array: npt.NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


class Output:
    """An O to be written, full of NaN, in memory whose other elements must stay as they are."""

    def __init__(self, place: Place, shape: tuple[int, ...], dtype: Any, layout: str) -> None:
        self._row = GUARDED if layout == "contiguous" else LAYOUTS[layout]
        self._place, self._shape = place, shape
        host = np.full(self._row.buffer(shape), np.nan, dtype)
        self._untouched = host.tobytes()
        self._buffer = place.brought(host)
        self.view = self._row.view(self._buffer, shape)

    def fetched(self) -> tuple[npt.NDArray[Any], bool]:
        """Return O as a contiguous NumPy array, and whether the memory around it is untouched."""
        buffer = np.array(self._place.fetched(self._buffer))
        inside = self._row.view(buffer, self._shape)
        O = inside.copy(order="C")
        inside[...] = np.nan
        return O, buffer.tobytes() == self._untouched
