"""Random arrays of a case on the GPU, and the float64 rows that results are held against.

A small case is given several copies of K and V that are used in turn, so that together they are
more than the L2 cache holds: what is timed finds its keys in memory, as a model's next layer does.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from attnprobe import compile as compile_
from attnprobe.bench.cases import Case
from attnprobe.engine import kernels
from attnprobe.formats import FORMATS

FORMAT_OF = {"float16": "f16", "bfloat16": "bf16", "e4m3": "e4m3", "int8": "s8"}
INT8_SCALE = 32.0  # integers are N(0, 1) times it
# What CuPy holds them in: it has no 8-bit floats.
HELD: dict[str, np.dtype[Any]] = {
    **{name: FORMATS[name].dtype for name in ("f16", "bf16")},
    "e4m3": np.dtype(np.uint8),
    "s8": np.dtype(np.int8),
}
_THREADS, _BLOCKS = 256, 2048  # of kernels/bench/normal.cu
_COLD = 3  # L2 caches that all copies together fill
_MOST_COPIES = 32


def normal_source(format_name: str) -> compile_.Source:
    """Return the text that fills arrays of a format with N(0, 1)."""
    return compile_.load_source("bench/normal.cu", {"BENCH_ELEMENT": c_type(format_name)})


def c_type(format_name: str) -> str:
    """Return how kernels name the elements of a format in memory."""
    return FORMATS[format_name].c_type or f"{format_name}_t"


def normal(shape: tuple[int, ...], dtype: str, seed: int, xp: Any = None) -> Any:
    """Return N(0, 1) as an array of ``xp``, CuPy by default; of int8 ``INT8_SCALE`` times that.

    NumPy's are other numbers than CuPy's: they are for the emulator.
    """
    format_ = FORMATS[FORMAT_OF[dtype]]
    scale = INT8_SCALE if dtype == "int8" else 1.0
    if xp is np:
        values = np.random.default_rng(seed).standard_normal(shape, np.float32) * scale
        held = HELD[format_.name]
        if dtype == "e4m3":
            return values.astype(format_.dtype).view(held)
        return (values.round().clip(-128, 127) if dtype == "int8" else values).astype(held)
    import cupy

    out = cupy.empty(shape, HELD[format_.name])
    kernel = kernels.load(normal_source(format_.name), "normal", device=int(cupy.cuda.Device().id))
    given = (out, np.int64(out.size), np.uint64(seed), np.float32(scale))
    kernel((_BLOCKS,), (_THREADS,), given)
    return out


def to_numpy(array: Any) -> Any:
    """Return a CuPy array as a NumPy array, and a NumPy array as it is."""
    return array.get() if hasattr(array, "get") else array


def copies_of(cache_bytes: float, l2_bytes: int) -> int:
    """Return how many copies of K and V, ``cache_bytes`` each, are more than the L2 cache."""
    return int(min(_MOST_COPIES, max(1, -(-_COLD * l2_bytes // max(1, int(cache_bytes))))))


@dataclass(frozen=True)
class Inputs:
    """The arrays of one case.

    Attributes
    ----------
    q : (batch, seqlen_q, heads, head_dim).
    k, v : (batch, seqlen_k, kv_heads, head_dim); of pages (num_pages, page_size, ...).
    table : (batch, pages of a sequence), int32, a permutation of all pages; None without pages.
    used : (batch,) int32, keys of each sequence.
    xp : the arrays' library, CuPy or NumPy.
    """

    case: Case
    xp: Any
    q: Any
    k: Any
    v: Any
    table: Any = None
    used: Any = None
    _more: dict[tuple[int, ...], Any] = field(default_factory=dict, compare=False)

    def more(self, *shape: int) -> Any:
        """Return further random numbers of q's dtype, the same for the same shape."""
        if shape not in self._more:
            self._more[shape] = normal(shape, self.case.dtype, 99, self.xp)
        return self._more[shape]

    @cached_property
    def descale(self) -> Any:
        """(kv_heads,) float32: what integers of K and V are multiplied by; None for floats."""
        if self.case.kv_format != "int8":
            return None
        return self.xp.full(self.case.kv_heads, 1 / INT8_SCALE, np.float32)

    def keys_of(self, batch: int, head: int) -> tuple[Any, Any]:
        """Return K and V of one sequence and K/V head as NumPy arrays (1, seqlen_k, 1, width).

        Those of an 8-bit cache are float32, multiplied by their descale.
        """
        k, v = (self._rows(array, batch, head) for array in (self.k, self.v))
        return k, v

    def _rows(self, array: Any, batch: int, head: int) -> Any:
        if self.table is None:
            rows = array[batch, :, head]
        else:
            rows = array[self.table[batch], :, head].reshape(-1, array.shape[-1])
        found = to_numpy(rows)[None, :, None]
        if self.case.kv_format == "int8":
            return found.astype(np.float32) / np.float32(INT8_SCALE)
        if self.case.kv_format == "e4m3":
            return found.view(FORMATS["e4m3"].dtype).astype(np.float32)
        return self.named(found)

    def named(self, rows: Any) -> Any:
        """Return NumPy rows of q's dtype as numbers of it: bytes of e4m3 get their dtype."""
        return rows.view(FORMATS["e4m3"].dtype) if self.case.dtype == "e4m3" else rows


def make(case: Case, l2_bytes: int, xp: Any = None) -> tuple[Inputs, ...]:
    """Return the inputs: one, or as many as keep K and V out of the L2 cache.

    Parameters
    ----------
    xp : whose arrays they are, CuPy's by default.
    """
    xp = importlib.import_module("cupy") if xp is None else xp
    q = normal((case.batch, case.seqlen_q, case.heads, case.head_dim), case.dtype, 1, xp)
    shape = (case.batch, case.seqlen_k, case.kv_heads, case.head_dim)
    table = None
    if case.layout == "paged":
        pages = case.batch * case.seqlen_k // case.page_size
        order = np.random.default_rng(1).permutation(pages).astype(np.int32)
        table = xp.asarray(order.reshape(case.batch, -1))
        shape = (pages, case.page_size, case.kv_heads, case.head_dim)
    used = xp.full(case.batch, case.seqlen_k, np.int32)
    dtype = case.kv_format or case.dtype

    def pair(number: int) -> tuple[Any, Any]:
        k, v = (normal(shape, dtype, 2 * number + which, xp) for which in (2, 3))
        return k, v

    count = copies_of(case.cache_bytes, l2_bytes)
    return tuple(Inputs(case, xp, q, *pair(number), table, used) for number in range(count))


@dataclass(frozen=True)
class Patch:
    """Some rows of O: of one sequence and head, from query ``first`` on."""

    batch: int
    head: int
    first: int
    rows: int


CHECKED_ROWS = 16


def patches(case: Case) -> Iterator[Patch]:
    """Yield the rows that results are checked on: the last of the last head, and the first."""
    rows = min(CHECKED_ROWS, case.seqlen_q)
    yield Patch(case.batch - 1, case.heads - 1, case.seqlen_q - rows, rows)
    if not case.feature:
        yield Patch(0, 0, 0, rows)
