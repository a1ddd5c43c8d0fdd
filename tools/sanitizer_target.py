"""Attention calls for compute-sanitizer: each head_dim, format and feature once, on small arrays.

CuPy's memory pool is switched off, so that every array is an allocation with an end of its own.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cupy
import ml_dtypes
import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]  # a checkout need not be installed

import attnprobe  # noqa: E402
from attnprobe.numerics.error import check_attention  # noqa: E402

# (head_dim, dtype, seqlen_q, seqlen_k, num_heads, num_kv_heads, arguments, rows of odd lengths)
CASES: tuple[tuple[int, Any, int, int, int, int, dict[str, Any], bool], ...] = (
    (64, np.float16, 200, 333, 2, 1, {}, False),
    (64, ml_dtypes.bfloat16, 129, 257, 2, 2, {"causal": True}, False),
    (128, np.float16, 200, 333, 2, 1, {"causal": True}, False),
    (128, ml_dtypes.bfloat16, 65, 190, 3, 1, {"window_size": (40, 9)}, False),
    (128, np.float16, 130, 70, 2, 2, {"causal": True, "softcap": 20.0}, True),
    (256, np.float16, 140, 200, 2, 1, {"causal": True}, False),
    (256, ml_dtypes.bfloat16, 1, 130, 2, 2, {"softmax_scale": -0.05}, True),
)


def main() -> None:
    """Run every case and hold it against float64."""
    cupy.cuda.set_allocator(None)
    for number, case in enumerate(CASES):
        head_dim, dtype, seqlen_q, seqlen_k, heads, kv_heads, arguments, odd = case
        rng = np.random.default_rng(number)
        shapes = ((1, seqlen_q, heads), (1, seqlen_k, kv_heads), (1, seqlen_k, kv_heads))
        host = [rng.standard_normal((*shape, head_dim)).astype(dtype) for shape in shapes]
        placed = [_place(array, odd) for array in host]
        O, LSE = attnprobe.attention(*placed, return_lse=True, **arguments)
        check_attention(cupy.asnumpy(O), cupy.asnumpy(LSE), *host, **arguments)
        print(f"case {number}: head_dim {head_dim} {np.dtype(dtype).name} {arguments}", flush=True)


def _place(array: Any, odd: bool) -> Any:
    if not odd:
        return cupy.asarray(array)
    room = np.zeros((*array.shape[:-1], array.shape[-1] + 3), array.dtype)
    room[..., 1:-2] = array
    return cupy.asarray(room)[..., 1:-2]


if __name__ == "__main__":
    main()
