"""Tensor maps in the 128 bytes that a kernel gets, as the emulator writes and reads them.

What the driver writes is not documented, so the emulator has a form of its own, of the same size: a
magic word, then every field of the map. A launch takes a ``TensorMap`` for such a parameter.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from attnprobe.errors import EmulatorError
from attnprobe.layouts.swizzle import SWIZZLES
from attnprobe.layouts.tensor_map import BYTES, ELEMENTS, FILLS, MAX_RANK, PROMOTIONS, TensorMap

MAGIC = int.from_bytes(b"attnTMAP", "little")

_FIELDS = np.dtype(
    [
        ("magic", "<u8"), ("address", "<u8"), ("rank", "u1"), ("element", "u1"), ("swizzle", "u1"),
        ("fill", "u1"), ("promotion", "u1"), ("element_strides", "u1", MAX_RANK),
        ("shape", "<u8", MAX_RANK), ("strides", "<u8", MAX_RANK - 1), ("box", "<u2", MAX_RANK),
    ]
)  # fmt: skip
assert _FIELDS.itemsize <= BYTES


def encoded(tensor: TensorMap) -> bytes:
    """Return the 128 bytes of ``tensor`` for a launch on the emulator."""
    row: Any = np.zeros(1, _FIELDS)
    row["magic"], row["address"], row["rank"] = MAGIC, tensor.address, tensor.rank
    for name, table in _TABLES.items():
        row[name] = table.index(getattr(tensor, name))
    for name in ("element_strides", "shape", "strides", "box"):
        values = getattr(tensor, name)
        row[name][0, : len(values)] = values
    data: bytes = row.tobytes()
    return data.ljust(BYTES, b"\0")


@lru_cache(maxsize=256)
def decoded(data: bytes) -> TensorMap:
    """Return the map that 128 bytes are.

    Raises
    ------
    EmulatorError
        If they are none that ``encoded`` wrote.
    """
    row = np.frombuffer(data, _FIELDS, 1)[0]
    if row["magic"] != MAGIC:
        raise EmulatorError("the 128 bytes are no tensor map of the emulator: see ptx.TensorMap")
    rank = int(row["rank"])
    axes = {
        name: tuple(int(value) for value in row[name][: rank - (name == "strides")])
        for name in ("element_strides", "shape", "strides", "box")
    }
    names = {name: table[int(row[name])] for name, table in _TABLES.items()}
    return TensorMap(int(row["address"]), **axes, **names)  # type: ignore[arg-type]


_TABLES: dict[str, tuple[str, ...]] = {
    "element": tuple(ELEMENTS),
    "swizzle": tuple(SWIZZLES),
    "fill": FILLS,
    "promotion": PROMOTIONS,
}
