# ruff: noqa: E501
"""CUDA text to a launched kernel, through NVRTC, for tests of the emulator."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from attnprobe import compile as compiler
from attnprobe import ptx

PRELUDE = """
typedef unsigned char u8; typedef unsigned short u16; typedef unsigned u32; typedef unsigned long
long u64;
typedef long long i64;
__device__ __forceinline__ u32 smem(const void *p) { return static_cast<u32>(__cvta_generic_to_shared(p)); }
"""
ARCHES = (80, 90, 100, 120)


@cache
def program(text: str, cc: int = 90) -> ptx.Program:
    """Return the program of CUDA ``text``; line 1 is the first line of ``text``."""
    return ptx.load(
        compiler.ptx(
            compiler.Source(f'{PRELUDE}#line 1 "test/kernel.cu"\n{text}', "test/kernel.cu"), cc
        )
    )


def run_cuda(
    text: str,
    arrays: Sequence[np.ndarray[Any, Any]],
    scalars: Sequence[np.generic] = (),
    grid: Sequence[int] = (1,),
    block: Sequence[int] = (32,),
    shared_bytes: int = 0,
    *,
    cc: int = 90,
    **options: Any,
) -> ptx.LaunchReport:
    """Compile ``text`` and launch its kernel ``k``; arrays come first among the parameters."""
    memory = ptx.GlobalMemory()
    buffers = [memory.map(array, name=f"array {number}") for number, array in enumerate(arrays)]
    return ptx.launch(
        program(text, cc),
        "k",
        grid,
        block,
        [*buffers, *scalars],
        shared_bytes,
        memory=memory,
        **options,
    )
