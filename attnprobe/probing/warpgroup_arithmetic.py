"""Arithmetic of ``wgmma``: the same tiles and vectors, A in registers or in shared memory."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe import layouts
from attnprobe.backends.base import Backend, Launch
from attnprobe.compile import load_source
from attnprobe.layouts import Instruction
from attnprobe.layouts.wgmma import matrices
from attnprobe.probing import generate, registers, warpgroup
from attnprobe.probing.signature import Signature, wgmma
from attnprobe.ptx import exact_kinds

Array = npt.NDArray[Any]
COLUMNS = 8  # of D: products of other widths are as many of these side by side


@cache
def rows() -> tuple[Instruction, ...]:
    """Return the dense rows of the least width, in the order of the tables."""
    found = layouts.rows("wgmma")
    return tuple(row for row in found if row.shape[1] == COLUMNS and exact_kinds.known(twin(row)))


twin = matrices  # what tiles, vectors and rules are made from


def launch(row: Instruction, tiles: tuple[Array, Array, Array]) -> Launch:
    """Return the launch that multiplies raw A (tiles, 64, k), B (tiles, k, n), C (tiles, 64, n)."""
    of = wgmma(row.ptx)
    a, b, c = tiles
    count = len(c)
    d = row["D"]
    held_c = registers.pack(d.fragment.gather(c), d.format)
    number = np.arange(count, dtype=np.uint32)
    none = np.zeros_like(number)
    written = held_c.shape[1]
    control = np.stack([number, number, number, none, none, none + np.uint32(written)], axis=1)
    inputs = (
        np.ascontiguousarray(control),
        _a(row, of, a),
        np.stack([warpgroup.image(each.T, of.formats["B"]) for each in b]),
        held_c,
        np.zeros((1, warpgroup.LANES), np.uint32),
    )
    return Launch(
        source=load_source("probe/wgmma.cu", warpgroup.macros(row)),
        entry="wgmma",
        grid=(count, 1, 1),
        block=(warpgroup.LANES, 1, 1),
        inputs=inputs,
        outputs=(((count, written, warpgroup.LANES), np.dtype(np.uint32)),),
        label=(row.ptx, "arithmetic", "tiles"),
        target=generate.target(row),
    )


def _a(row: Instruction, of: Signature, a: Array) -> Array:
    if "A" in row.by_name:
        return registers.pack(row["A"].fragment.gather(a), row["A"].format)
    return np.stack([warpgroup.image(each, of.formats["A"]) for each in a])


def products(row: Instruction, tiles: tuple[Array, Array, Array], backend: Backend) -> Array:
    """Return raw D, (tiles, 64, n), that ``backend`` gives."""
    d = row["D"]
    dump = backend.run(launch(row, tiles))
    return d.fragment.scatter(registers.unpack(dump.arrays[0], d.format))
