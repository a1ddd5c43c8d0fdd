"""Attention callables with one fault each, and some that misbehave: targets for the rig's tests."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from attnprobe.numerics.reference import Features, attention, yardstick
from attnprobe.rig.target import Opened


def sound(q, k, v, *, softmax_scale=None, causal=False, return_lse=False):
    """Sound, and serves few features."""
    o, lse = yardstick(q, k, v, Features(softmax_scale=softmax_scale, causal=causal))
    return (o, lse) if return_lse else o


def rows_swapped(q, k, v, *, causal=False):
    """Rows r and r + 8 of each block of 16 are exchanged in O."""
    o = sound(q, k, v, causal=causal)
    whole = o.shape[1] // 16 * 16
    o[:, :whole] = o[:, np.arange(whole) ^ 8]
    return o


def scaled_twice(q, k, v, *, causal=False, return_lse=False):
    """The softmax scale is 5 % too large."""
    return sound(
        q, k, v, softmax_scale=1.05 * q.shape[-1] ** -0.5, causal=causal, return_lse=return_lse
    )


def lse_in_base_2(q, k, v, *, causal=False, return_lse=False):
    """O is right, LSE is in base 2."""
    o, lse = sound(q, k, v, causal=causal, return_lse=True)
    return (o, lse / np.float32(np.log(2))) if return_lse else o


def heads_first(
    query, key, value, *, attn_mask=None, is_causal=False, scale=None, enable_gqa=False
):
    """SDPA's signature, sound: written apart, with a mask for all that hides."""
    q, k, v = (array.swapaxes(1, 2) for array in (query, key, value))
    assert enable_gqa == (q.shape[2] != k.shape[2])
    features = Features(
        softmax_scale=scale, causal=is_causal, causal_alignment="top-left", mask=attn_mask
    )
    return yardstick(q, k, v, features).o.swapaxes(1, 2)


def unwritten(q, k, v, *, causal=False):
    """Leaves the last row of O as it was in memory."""
    o = np.empty((*q.shape[:3], v.shape[3]), q.dtype)
    o[:, :-1] = sound(q, k, v, causal=causal)[:, :-1]
    return o


def writes_to_q(q, k, v, *, causal=False):
    """Scales q where it lies."""
    q *= 2
    return sound(q / 2, k, v, causal=causal)


def in_float64(q, k, v):
    """Of another dtype than q."""
    return attention(q, k, v).o


def hangs_at_63(q, k, v):
    """Never comes back from 63 queries."""
    if q.shape[1] == 63:
        time.sleep(3600)
    return sound(q, k, v)


def hangs(q, k, v):
    """Never comes back; leaves its process number where the test looks for it."""
    with Path(os.environ["HUNG_PROCESSES"]).open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(3600)


def dies_at_63(q, k, v):
    """Ends its process as a segmentation fault does."""
    print("words on stdout")
    if q.shape[1] == 63:
        os.abort()
    return sound(q, k, v)


def raises(q, k, v):
    """Fails as a kernel does that CUDA ends."""
    raise RuntimeError("CUDA error: an illegal memory access was encountered\nsecond line")


def ends_the_context_at_63(q, k, v):
    """Leaves its process behind as an error of CUDA does: every later call fails too."""
    if q.shape[1] == 63:
        Opened.alive = lambda opened: False
    if not Opened.alive.__doc__:
        raise RuntimeError("CUDA error: misaligned address")
    return sound(q, k, v)


def serves_none(q, k, v):
    """Says that it serves nothing."""
    raise NotImplementedError("head_dim 17 only")


not_callable = 3
