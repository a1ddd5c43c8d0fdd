"""The bytes of ``AttentionParams``, laid out as kernels/attention/params.cuh declares them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe import _paths
from attnprobe.errors import CompileError

_C_TYPES = {"i64_t": np.int64, "int": np.int32, "u32_t": np.uint32, "float": np.float32}
_FIELD = re.compile(r"^\s*(?:const\s+)?(\w+)\s+(\*?)(\w+);")


@cache
def params_dtype() -> np.dtype[Any]:
    """Return the struct as a NumPy dtype: names, order and C alignment are those of params.cuh.

    Raises
    ------
    CompileError
        If the header has a field that this reader does not understand.
    """
    header = _paths.data_dir("kernels") / "attention" / "params.cuh"
    text = header.read_text(encoding="utf-8")
    body = text[text.index("struct AttentionParams {") : text.index("};")].splitlines()[1:]
    fields: list[tuple[str, Any]] = []
    for line in body:
        match = _FIELD.match(line)
        if match is None or (not match[2] and match[1] not in _C_TYPES):
            raise CompileError(f"{header.name}: not a field of a known type: {line.strip()}")
        fields.append((match[3], np.uint64 if match[2] else _C_TYPES[match[1]]))
    return np.dtype(fields, align=True)


def pack_params(values: Mapping[str, float]) -> npt.NDArray[np.void]:
    """Return the struct as a one-element array; fields that ``values`` lacks are zero.

    Raises
    ------
    KeyError
        For a value that is no field of the struct.
    """
    struct = np.zeros(1, params_dtype())
    names = struct.dtype.names or ()
    for name, value in values.items():
        if name not in names:
            raise KeyError(f"AttentionParams has no field {name!r}")
        struct[name] = value
    return struct
