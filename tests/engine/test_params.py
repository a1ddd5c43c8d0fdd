"""The bytes of AttentionParams are those of the C struct."""

from __future__ import annotations

import re

import numpy as np
import pytest

from attnprobe import compile as compile_
from attnprobe.engine.params import pack_params, params_dtype


def test_every_offset_is_the_compilers() -> None:
    dtype = params_dtype()
    assert dtype.names is not None
    assert dtype.fields is not None
    checks = "\n".join(
        f'static_assert(__builtin_offsetof(AttentionParams, {name}) == {field[1]}, "{name}");'
        for name, field in dtype.fields.items()
    )
    text = compile_.load_source("attention/params.cuh").text
    size = f'static_assert(sizeof(AttentionParams) == {dtype.itemsize}, "size");'
    source = compile_.Source(f"{text}\n{checks}\n{size}\n__global__ void f() {{}}", "offsets.cu")
    assert ".entry" in compile_.ptx(source, 90)


def test_reader_finds_every_field_of_the_header() -> None:
    text = compile_.load_source("attention/params.cuh").text
    body = text.split("struct AttentionParams {")[1].split("};")[0]
    declared = re.findall(r"(\w+);", re.sub(r"//.*", "", body))
    assert list(params_dtype().names or ()) == declared


def test_unknown_field_is_refused() -> None:
    with pytest.raises(KeyError, match="no_such"):
        pack_params({"no_such": 1})


def test_values_arrive() -> None:
    struct = pack_params({"seqlen_q": 7, "Q": 2**48 + 16, "exponent_scale": 0.5})
    assert struct["seqlen_q"][0] == 7
    assert struct["Q"][0] == 2**48 + 16
    assert struct["exponent_scale"][0] == np.float32(0.5)
    assert struct["V"][0] == 0
