"""Which byte of shared memory a bulk tensor copy (TMA) puts each element to, and back.

The tensor numbers its elements, and every block copies one box of it. What should come follows
from ``TensorMap``: the elements of the box, and where its chunks lie. A record of hardware says
whether it does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe import _paths
from attnprobe.backends.base import UNWRITTEN, Backend, Launch
from attnprobe.compile import load_source
from attnprobe.layouts.swizzle import CHUNK
from attnprobe.layouts.tensor_map import MAX_RANK, TensorMap

Array = npt.NDArray[Any]
SCHEMA = "attnprobe.tensor_copies/1"
DUMP_BYTES = 16 << 10
_STORAGE = {"u8": np.uint8, "u16": np.uint16, "f16": np.uint16, "bf16": np.uint16, "f32": np.uint32}


@dataclass(frozen=True)
class Case:
    """A tensor map (its address counts from the tensor's array) and boxes of it.

    Attributes
    ----------
    corners : coordinates of each box, innermost axis first.
    start : byte of the dump at which the box is to lie.
    store : out of shared memory, instead of into it.
    """

    name: str
    tensor: TensorMap
    corners: tuple[tuple[int, ...], ...]
    start: int = 0
    store: bool = False

    @property
    def dtype(self) -> np.dtype[Any]:
        """The unsigned type of an element."""
        return np.dtype(_STORAGE[self.tensor.element])

    @property
    def refused(self) -> bool:
        """Whether the GPU copies one of the boxes not at all."""
        return any(self.tensor.refusal(corner, self.store) for corner in self.corners)


def _map(element: str, shape: tuple[int, ...], box: tuple[int, ...], **more: Any) -> TensorMap:
    """Return the map of a dense array whose rows are padded to whole chunks."""
    size = {"u8": 1, "f32": 4}.get(element, 2)
    row = -(-shape[0] * size // CHUNK) * CHUNK
    strides = [row * prod(shape[1:axis]) for axis in range(1, len(shape))]
    return TensorMap(0, element, shape, tuple(strides), box, **more)


@cache
def cases() -> tuple[Case, ...]:
    """Return all cases, loads first."""
    loads = tuple(_loads())
    stores = tuple(  # one box each, since several may meet
        replace(case, name=f"store {case.name}, {corner}", store=True, corners=(corner,))
        for case in loads
        if (case.tensor.fill, case.tensor.element, case.start) == ("zeros", "u16", 0)
        for corner in case.corners[1:]
        if "chunks" not in case.name or not case.tensor.refusal(corner, store=True)
    )
    return loads + stores


def _loads() -> Iterator[Case]:
    inside = ((0, 0), (8, 3))
    for swizzle, widths in (
        ("none", (8, 16, 64, 128)), ("32B", (8, 16)), ("64B", (8, 16, 32)),
        ("128B", (8, 16, 24, 32, 64)),
    ):  # fmt: skip
        for width in widths:
            told = _map("u16", (256, 96), (width, 32), swizzle=swizzle)
            yield Case(f"{swizzle}, rows of {2 * width} bytes", told, inside)
        for start in (128, 256, 512, 896):
            told = _map("u16", (256, 96), (widths[-1], 24), swizzle=swizzle)
            yield Case(f"{swizzle}, from byte {start}", told, inside, start)
    around = ((-3, 0), (0, -5), (-20, -9), (90, 0), (0, 35), (97, 38), (-64, 0), (0, 300))
    aligned = ((-8, 0), (0, -5), (-24, -9), (88, 0), (0, 35), (96, 38), (-64, 0), (0, 300))
    for swizzle in ("none", "128B"):
        told = _map("u16", (100, 40), (64, 16), swizzle=swizzle)
        yield Case(f"{swizzle}, around the edges", told, around)
        yield Case(f"{swizzle}, chunks around the edges", told, aligned)
    for element in ("f16", "bf16", "f32"):
        told = _map(element, (36, 40), (32, 8), swizzle="128B", fill="nan")
        yield Case(f"{element}, filled with NaN", told, ((-3, -2), (20, 36)))
        yield Case(f"{element}, chunks filled with NaN", told, ((-8, -2), (24, 36)))
    for element in ("u8", "f32"):
        told = _map(element, (64, 40), (32, 16), swizzle="128B")
        yield Case(f"elements {element}", told, inside)
        yield Case(f"chunks of {element}", told, ((0, 0), (16, 3)))
    yield Case("1 axis", _map("u16", (1000,), (64,)), ((0,), (5,), (-7,), (960,)))
    yield Case("chunks of 1 axis", _map("u16", (1000,), (64,)), ((0,), (8,), (-16,), (960,)))
    three = _map("u16", (64, 5, 30), (64, 1, 16), swizzle="128B")
    yield Case("3 axes", three, ((0, 0, 0), (0, 4, 20), (0, 5, 0)))
    four = _map("u16", (64, 20, 3, 4), (64, 8, 2, 2), swizzle="128B")
    yield Case("4 axes", four, ((0, 0, 0, 0), (0, 15, 2, 3), (0, -2, -1, 1)))
    five = _map("u16", (16, 6, 3, 4, 5), (16, 4, 2, 2, 2), swizzle="32B")
    yield Case("5 axes", five, ((0, 0, 0, 0, 0), (0, 3, 2, 3, 4), (8, -1, -1, -1, -1)))
    for step in (2, 3):
        told = _map("u16", (128, 96), (64, 24), swizzle="128B", element_strides=(1, step))
        yield Case(f"one row of {step}", told, ((0, 0), (8, 70), (0, -4)))
    told = _map("u16", (128, 96), (64, 16), swizzle="128B", element_strides=(2, 1))
    yield Case("a step along the innermost axis", told, inside)


# --- launches -------------------------------------------------------------------------------------


def tensor_array(case: Case) -> Array:
    """Return the tensor's array, every element its number (modulo the type): (slow axes, row)."""
    row = case.tensor.strides[0] // case.tensor.size if case.tensor.rank > 1 else 0
    count = prod(case.tensor.shape[1:]) * row if row else case.tensor.shape[0]
    count += -count % (CHUNK // case.tensor.size)
    if case.store:
        return np.full(count * case.tensor.size, UNWRITTEN, np.uint8).view(case.dtype)
    return np.arange(count, dtype=np.uint64).astype(case.dtype)


def launch(case: Case) -> Launch:
    """Return the launch that copies the boxes of ``case``."""
    corners = np.zeros((len(case.corners), MAX_RANK), np.int32)
    corners[:, : case.tensor.rank] = case.corners
    array = tensor_array(case)
    macros = {
        "RANK": case.tensor.rank,
        "START": case.start,
        "BYTES": case.tensor.box_bytes,
        "DUMP_WORDS": DUMP_BYTES // 4,
        "STORE": int(case.store),
    }
    dump = ((len(corners), DUMP_BYTES // 4), np.dtype(np.uint32))
    tensor = (array.shape, array.dtype)
    return Launch(
        source=load_source("probe/tensor_copy.cu", macros),
        entry="tensor_copy",
        grid=(len(corners), 1, 1),
        block=(128, 1, 1),
        inputs=(corners,) if case.store else (corners, array),
        outputs=(tensor, dump) if case.store else (dump,),
        label=("cp.async.bulk.tensor", "tensor_copies", case.name),
        shared_bytes=DUMP_BYTES,
        target="sm_90a",
        maps=((1, case.tensor),),
    )


def ask(case: Case, backend: Backend) -> Array:
    """Return what ``backend`` writes: the dump of each block (blocks, words), or the tensor."""
    return backend.run(launch(case)).arrays[0]


def expected(case: Case) -> Array:
    """Return what the map says that ``ask`` gives."""
    return _stored(case) if case.store else np.stack([_dump(case, c) for c in case.corners])


def _dump(case: Case, corner: tuple[int, ...]) -> Array:
    dump = np.full(DUMP_BYTES, UNWRITTEN, np.uint8)
    index, inside = _elements(case.tensor, corner)
    held = tensor_array(case)[np.where(inside, index, 0)]
    box = (
        np.where(inside, held, case.dtype.type(case.tensor.fill_bits))
        .view(np.uint8)
        .reshape(-1, CHUNK)
    )
    places = case.tensor.chunk_places(case.start)
    dump.reshape(-1, CHUNK)[places // CHUNK] = box
    return dump.view(np.uint32)


def _stored(case: Case) -> Array:
    tensor = tensor_array(case)
    number = np.arange(DUMP_BYTES // 2, dtype=np.uint32).astype(np.uint16)
    chunks = number.view(np.uint8).reshape(-1, CHUNK)
    for corner in case.corners:
        index, inside = _elements(case.tensor, corner)
        box = chunks[case.tensor.chunk_places(case.start) // CHUNK].view(case.dtype).reshape(-1)
        written = case.tensor.written(inside)
        tensor[index[written]] = box[written]
    return tensor


def _elements(tensor: TensorMap, corner: tuple[int, ...]) -> tuple[Array, Array]:
    """Return the place of each element of a box in the array, and whether it is in the tensor."""
    steps = (1, *tensor.element_strides[1:])
    strides = (tensor.size, *tensor.strides)
    index, inside = np.zeros(1, np.int64), np.ones(1, bool)
    axes = zip(tensor.counts, steps, corner, tensor.shape, strides, strict=True)
    for count, step, first, extent, stride in axes:
        at = first + step * np.arange(count)
        index = (at[:, None] * (stride // tensor.size) + index[None, :]).reshape(-1)
        inside = (((at >= 0) & (at < extent))[:, None] & inside[None, :]).reshape(-1)
    return index, inside


def record_path(cc: int = 90) -> Any:
    """Return the file of what hardware gave."""
    return _paths.data_dir("probes") / "recorded" / f"sm_{cc}" / "tensor_copies.json"
