"""What every backend takes and gives: a Launch with its digest, a Dump, and its environment."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from attnprobe.compile import Source
from attnprobe.errors import AttnprobeError
from attnprobe.layouts.tensor_map import TensorMap

Array = npt.NDArray[Any]
Dim3 = tuple[int, int, int]
Environment = dict[str, str]  # "device", "driver", "nvrtc", ... -> what it was

UNWRITTEN = 0xA5  # every byte of an output before the launch: an element that nobody wrote shows

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_LINE_MARK = re.compile(r"^\s*#line[^\n]*$", re.MULTILINE)


class NotRunError(AttnprobeError):
    """A backend has no answer to a launch, and says why: no record, or a stale one."""


@dataclass(frozen=True, eq=False)
class Launch:
    """One kernel launch on arrays; the kernel takes pointers to the inputs, then to the outputs.

    Attributes
    ----------
    source : the kernel text.
    entry : name of the ``extern "C"`` kernel.
    grid, block : blocks and threads per block.
    inputs : arrays that the kernel reads; C-contiguous.
    outputs : (shape, dtype) of each array that the kernel writes.
    label : (instruction, question, fill): under which a record is kept.
    shared_bytes : dynamic shared memory per block.
    target : the real target that the text must be compiled for, such as ``sm_90a`` where it uses
        what later GPUs do not have; "" for the device's own.
    maps : tensor maps that the kernel takes by value, before the pointers: each with the number of
        the array that it is over, inputs first; ``address`` counts from that array.
    """

    source: Source
    entry: str
    grid: Dim3
    block: Dim3
    inputs: tuple[Array, ...]
    outputs: tuple[tuple[tuple[int, ...], np.dtype[Any]], ...]
    label: tuple[str, str, str] = ("", "", "")
    shared_bytes: int = 0
    target: str = ""
    maps: tuple[tuple[int, TensorMap], ...] = ()

    def digest(self) -> str:
        """Return a hash of all that decides the outputs: program text, geometry, inputs.

        Comments and line marks of the text do not count, so evidence outlives a reworded comment.
        """
        text = hashlib.sha256()
        geometry = (self.entry, self.grid, self.block, self.shared_bytes)
        outputs = [(tuple(shape), dtype.str) for shape, dtype in self.outputs]
        text.update(repr((program_words(self.source), geometry, outputs)).encode())
        if self.maps:
            text.update(repr(self.maps).encode())
        for array in self.inputs:
            text.update(repr((array.shape, array.dtype.str)).encode())
            text.update(np.ascontiguousarray(array).tobytes())
        return text.hexdigest()[:32]

    def placed_maps(self, addresses: Sequence[int]) -> list[TensorMap]:
        """Return the maps of arrays (inputs, then outputs) that lie at ``addresses``."""
        return [
            replace(told, address=addresses[number] + told.address) for number, told in self.maps
        ]

    def unwritten(self) -> list[Array]:
        """Return the outputs as they are before the launch: every byte ``UNWRITTEN``."""
        arrays = []
        for shape, dtype in self.outputs:
            size = int(np.prod(shape)) * dtype.itemsize
            arrays.append(np.full(size, UNWRITTEN, np.uint8).view(dtype).reshape(shape))
        return arrays


def program_words(source: Source) -> str:
    """Return the text of ``source`` without comments and line marks, with single blanks."""
    bare = _LINE_MARK.sub("", _COMMENT.sub(" ", source.text))
    return " ".join(bare.split())


@dataclass(frozen=True, eq=False)
class Dump:
    """What a launch wrote, and where it ran.

    Attributes
    ----------
    arrays : the outputs, in the order of ``Launch.outputs``.
    backend : "gpu", "emulator" or "recorded".
    environment : device, driver, compiler, versions, date.
    """

    arrays: tuple[Array, ...]
    backend: str
    environment: Environment = field(default_factory=dict)


class Backend(Protocol):
    """Something that answers launches.

    Attributes
    ----------
    name : "gpu", "emulator" or "recorded".
    cc : compute capability that it answers for, 90 for sm_90.
    """

    name: str
    cc: int

    def environment(self) -> Environment:
        """Return what its answers come from."""

    def run(self, launch: Launch) -> Dump:
        """Return what ``launch`` writes.

        Raises
        ------
        NotRunError
            If this backend has no answer to it.
        """
