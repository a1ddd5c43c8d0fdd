"""The bytes of a kernel's argument, laid out as its header below kernels/attention declares it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe import _paths
from attnprobe.errors import CompileError

_C_TYPES = {
    "i64_t": np.int64,
    "u64_t": np.uint64,
    "int": np.int32,
    "u32_t": np.uint32,
    "float": np.float32,
}
_FIELD = re.compile(r"^\s*(?:const\s+)?(\w+)\s+(\*?)(\w+);")


# Struct -> the header below kernels/attention that declares it.
_HEADERS = {
    "AttentionParams": "params.cuh",
    "AppendParams": "append.cuh",
    "MergeParams": "merge.cuh",
}


@cache
def params_dtype(struct: str = "AttentionParams") -> np.dtype[Any]:
    """Return a struct as a NumPy dtype: names, order and C alignment are those of its header.

    Raises
    ------
    CompileError
        If the header has a field that this reader does not understand.
    """
    header = _paths.data_dir("kernels") / "attention" / _HEADERS[struct]
    text = header.read_text(encoding="utf-8")
    body = text[text.index(f"struct {struct} {{") : text.index("};")].splitlines()[1:]
    fields: list[tuple[str, Any]] = []
    for line in body:
        match = _FIELD.match(line)
        if match is None or (not match[2] and match[1] not in _C_TYPES):
            raise CompileError(f"{header.name}: not a field of a known type: {line.strip()}")
        fields.append((match[3], np.uint64 if match[2] else _C_TYPES[match[1]]))
    return np.dtype(fields, align=True)


def params_offset(name: str, struct: str = "AttentionParams") -> int:
    """Return where the field ``name`` stands in a struct, bytes.

    Raises
    ------
    KeyError
        If there is no such field.
    """
    fields: Mapping[str, Any] = params_dtype(struct).fields or {}
    if name not in fields:
        raise KeyError(f"{struct} has no field {name!r}")
    return int(fields[name][1])


def pack_params(
    values: Mapping[str, float], struct: str = "AttentionParams"
) -> npt.NDArray[np.void]:
    """Return the struct as a one-element array; fields that ``values`` lacks are zero.

    Raises
    ------
    KeyError
        For a value that is no field of the struct.
    """
    packed = np.zeros(1, params_dtype(struct))
    names = packed.dtype.names or ()
    for name, value in values.items():
        if name not in names:
            raise KeyError(f"{struct} has no field {name!r}")
        packed[name] = value
    return packed
