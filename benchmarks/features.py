"""Time each feature beside the plain call of the same shape in one run, and write a record.

    python -m benchmarks.features             # needs a GPU and CuPy; torch for its version

Inputs are N(0, 1). "factor" is the plain (or named) call's time divided by the feature's: more than
1 is faster. Figures are for one shape of prefill and one of decode; the tests judge the results.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.attention import RESULTS, environment
from benchmarks.timing import time_call

SCHEMA = "attnprobe.benchmark.features/1"
SEQLEN, HEADS, HEAD_DIM = 16384, 16, 128
DECODE_BATCH, DECODE_KEYS, DECODE_HEADS, DECODE_KV_HEADS = 64, 4096, 32, 8


@dataclass(frozen=True)
class Row:
    """One timed call.

    Attributes
    ----------
    name : of the feature.
    beside : name of the row whose time is divided by this one's.
    make : nothing -> a call without arguments.
    aim : the least factor that is wanted, or 0.
    """

    name: str
    beside: str
    make: Callable[[], Callable[[], Any]]
    aim: float = 0.0


def normal(*shape: int) -> Any:
    """Return N(0, 1) in float16 on the device."""
    import cupy

    rng = np.random.default_rng(sum(shape))
    return cupy.asarray(rng.standard_normal(shape, np.float32).astype(np.float16))


def prefill(layout: str = "padded", **options: Any) -> Callable[[], Callable[[], Any]]:
    """Return the maker of a call with as many queries as keys."""

    def make() -> Callable[[], Any]:
        import cupy

        import attnprobe

        given = {name: value() if callable(value) else value for name, value in options.items()}
        q, k, v = (normal(1, SEQLEN, HEADS, HEAD_DIM) for _ in range(3))
        if layout == "padded":
            return lambda: attnprobe.attention(q, k, v, **given)
        if layout == "packed":
            ends = cupy.asarray([0, SEQLEN], np.int32)
            rows = (q[0], k[0], v[0])
            return lambda: attnprobe.attention_varlen(*rows, ends, ends, **given)
        size = 16
        table = cupy.asarray(np.random.default_rng(1).permutation(SEQLEN // size), np.int32)[None]
        used = cupy.asarray([SEQLEN], np.int32)
        pages = [rows.reshape(-1, size, HEADS, HEAD_DIM) for rows in (k, v)]
        return lambda: attnprobe.attention_paged(q, *pages, table, used, **given)

    return make


def decode(page_size: int, kv_format: str | None = None) -> Callable[[], Callable[[], Any]]:
    """Return the maker of a call with one query a sequence; page_size 0 is a cache in one piece."""

    def make() -> Callable[[], Any]:
        import cupy

        import attnprobe

        q = normal(DECODE_BATCH, 1, DECODE_HEADS, HEAD_DIM)
        shape = (DECODE_BATCH, DECODE_KEYS, DECODE_KV_HEADS, HEAD_DIM)
        k, v = normal(*shape), normal(*shape)
        if kv_format is not None:
            k, v = ((rows * 16).clip(-100, 100).astype(np.int8).view(np.uint8) for rows in (k, v))
            if kv_format == "e4m3":
                k, v = (rows & 0xBF for rows in (k, v))  # no NaN among the codes
        used = cupy.full(DECODE_BATCH, DECODE_KEYS, np.int32)
        table = None
        if page_size:
            pages = DECODE_BATCH * DECODE_KEYS // page_size
            table = cupy.asarray(np.random.default_rng(1).permutation(pages).astype(np.int32))
            table = table.reshape(DECODE_BATCH, -1)
            k, v = (rows.reshape(-1, page_size, *shape[2:]) for rows in (k, v))
        return lambda: attnprobe.attention_paged(q, k, v, table, used, kv_format=kv_format)

    return make


def _slopes() -> Any:
    import cupy

    return cupy.asarray(2.0 ** -np.arange(1, HEADS + 1), np.float32)


def _bias() -> Any:
    return normal(1, 1, SEQLEN, SEQLEN)


def _mask() -> Any:
    return normal(1, 1, SEQLEN, SEQLEN) < 1.3


PLAIN, CAUSAL, CONTIGUOUS = "plain", "causal", "decode, cache in one piece"
ROWS: tuple[Row, ...] = (
    Row(PLAIN, PLAIN, prefill()),
    Row(CAUSAL, PLAIN, prefill(causal=True), 1.8),
    Row("causal, window of 1024", CAUSAL, prefill(causal=True, window_size=(1024, 0)), 6.0),
    Row("softcap", PLAIN, prefill(softcap=30.0)),
    Row("scale per head", PLAIN, prefill(softmax_scale=_slopes)),
    Row("ALiBi", PLAIN, prefill(alibi_slopes=_slopes)),
    Row("sinks", PLAIN, prefill(sinks=_slopes)),
    Row("bias, float16", PLAIN, prefill(bias=_bias)),
    Row("mask", PLAIN, prefill(mask=_mask)),
    Row("float32 out", PLAIN, prefill(out_dtype="float32")),
    Row("LSE", PLAIN, prefill(return_lse=True)),
    Row("packed", PLAIN, prefill("packed")),
    Row("pages of 16", PLAIN, prefill("paged")),
    Row(CONTIGUOUS, CONTIGUOUS, decode(0)),
    Row("decode, pages of 1", CONTIGUOUS, decode(1)),
    Row("decode, pages of 16", CONTIGUOUS, decode(16), 0.85),
    Row("decode, pages of 256", CONTIGUOUS, decode(256)),
    Row("decode, e4m3 cache", CONTIGUOUS, decode(0, "e4m3")),
    Row("decode, int8 cache", CONTIGUOUS, decode(0, "int8")),
)


def main(argv: list[str] | None = None) -> int:
    """Run, print a table, write a record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the record")
    arguments = parser.parse_args(argv)
    where = environment("python -m benchmarks.features")
    rows: dict[str, dict[str, Any]] = {}
    for row in ROWS:
        timing = time_call(row.make())
        factor = rows[row.beside]["median_us"] / (timing.median_s * 1e6) if rows else 1.0
        if row.beside == row.name:
            factor = 1.0
        rows[row.name] = {
            "name": row.name,
            "beside": row.beside,
            "median_us": timing.median_s * 1e6,
            "factor": factor,
            "aim": row.aim,
            "samples_us": [sample * 1e6 for sample in timing.samples_s],
        }
        print(f"{row.name:32s} {timing.median_s * 1e6:10.1f} us  {factor:6.2f}", flush=True)
    shapes = {
        "prefill": {"batch": 1, "seqlen": SEQLEN, "heads": HEADS, "head_dim": HEAD_DIM},
        "decode": {
            "batch": DECODE_BATCH,
            "seqlen_k": DECODE_KEYS,
            "heads": DECODE_HEADS,
            "kv_heads": DECODE_KV_HEADS,
            "head_dim": HEAD_DIM,
        },
    }
    record = {"schema": SCHEMA, "environment": where, "shapes": shapes, "rows": list(rows.values())}
    slug = where["device"].lower().replace(" ", "-")
    path = arguments.out / f"features-{slug}-{where['date']}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"record: {path.name}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
