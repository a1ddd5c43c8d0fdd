"""The bytes of AttentionParams are those of the C struct."""

from __future__ import annotations

import re

import numpy as np
import pytest

from attnprobe import compile as compile_
from attnprobe import ptx
from attnprobe.engine.params import pack_params, params_dtype


def test_every_offset_is_the_compilers() -> None:
    dtype = params_dtype()
    assert dtype.fields is not None
    stores = "".join(
        f"offsets[{i}] = reinterpret_cast<u64_t>(&static_cast<AttentionParams *>(nullptr)->{name});"
        for i, name in enumerate(dtype.fields)
    )
    header = compile_.load_source("attention/params.cuh").text
    kernel = f'extern "C" __global__ void report(u64_t *offsets, u64_t *size) {{ {stores}'
    text = f"{header}\n{kernel} *size = sizeof(AttentionParams); }}"
    memory = ptx.GlobalMemory()
    offsets, size = np.zeros(len(dtype.fields), np.uint64), np.zeros(1, np.uint64)
    program = ptx.load(compile_.ptx(compile_.Source(text, "offsets.cu"), 90))
    buffers = [memory.map(offsets, name="offsets"), memory.map(size, name="size")]
    ptx.launch(program, "report", (1, 1, 1), (1, 1, 1), buffers, memory=memory)
    assert offsets.tolist() == [field[1] for field in dtype.fields.values()]
    assert size[0] == dtype.itemsize


def test_reader_finds_every_field_of_the_header() -> None:
    text = compile_.load_source("attention/params.cuh").text
    body = text.split("struct AttentionParams {")[1].split("};")[0]
    declared = re.findall(r"(\w+);", re.sub(r"//.*", "", body))
    assert list(params_dtype().names or ()) == declared


def test_unknown_field_is_refused() -> None:
    with pytest.raises(KeyError, match="no_such"):
        pack_params({"no_such": 1})


def test_values_arrive() -> None:
    struct = pack_params({"rows_q": 7, "Q": 2**48 + 16, "exponent_scale": 0.5})
    assert struct["rows_q"][0] == 7
    assert struct["Q"][0] == 2**48 + 16
    assert struct["exponent_scale"][0] == np.float32(0.5)
    assert struct["V"][0] == 0
