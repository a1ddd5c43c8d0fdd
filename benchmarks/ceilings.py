"""What the card can do at most: a bare mma.sync loop, and a large product by the vendor library."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from attnprobe import compile as compile_
from benchmarks.timing import Timing, time_call

_ROUNDS = 4096
_WARPS_PER_BLOCK, _ACCUMULATORS, _FLOP_PER_MMA = 4, 16, 2 * 16 * 8 * 16
_MATRIX = 8192


def mma_sync_loop() -> tuple[float, Timing]:
    """Return (FLOP, timing) of a bare loop of ``mma.sync.m16n8k16`` f16 with f32 accumulators."""
    import cupy

    kernel = cupy.RawModule(code=_loop_text(), options=compile_.OPTIONS).get_function("mma_loop")
    blocks = 8 * cupy.cuda.Device().attributes["MultiProcessorCount"]
    rng = np.random.default_rng(0)
    operands = cupy.asarray(rng.standard_normal(128 * 12).astype(np.float16).view(np.uint32))
    sums = cupy.empty(blocks * 128, np.float32)
    arguments = (operands, sums, np.int32(_ROUNDS))
    timing = time_call(lambda: kernel((blocks,), (128,), arguments))
    flop = blocks * _WARPS_PER_BLOCK * _ROUNDS * _ACCUMULATORS * _FLOP_PER_MMA
    return float(flop), timing


def _loop_text() -> str:
    body = (Path(__file__).parent / "mma_loop.cu").read_text(encoding="utf-8")
    headers = compile_.load_source("ptx/mma.cuh").text
    return headers + body.replace('#include "ptx/mma.cuh"', "")


def library_product() -> tuple[float, Timing]:
    """Return (FLOP, timing) of torch's f16 product of two random 8192 x 8192 matrices."""
    import torch

    generator = torch.Generator(device="cuda").manual_seed(0)
    shape = (_MATRIX, _MATRIX)
    a, b = (torch.randn(shape, device="cuda", generator=generator).half() for _ in range(2))
    timing = time_call(lambda: a @ b)
    return 2.0 * _MATRIX**3, timing
