"""Checks of what a call was given; each says what is supported and the nearest thing that works."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any

from attnprobe.engine.spec import ArraySpec
from attnprobe.errors import ProblemError
from attnprobe.formats import FORMATS, Format

WIDTH_STEP = 16  # head_dim is cut into steps of one mma
MAX_HEAD_DIM, MAX_V_HEAD_DIM = 576, 512
FORMAT_NAMES: tuple[str, ...] = ("f16", "bf16")
OUT_FORMAT_NAMES: tuple[str, ...] = (*FORMAT_NAMES, "f32")
CACHE_FORMAT_NAMES: tuple[str, ...] = ("e4m3", "s8")  # of K and V beside q's own
BYTE_QUERY = "e4m3"  # of Q too, where K and V have it
BYTE_QUERY_OUT = "bf16"  # of O then, where nobody says
MAX_SIZE = 2**28  # so that query + diagonal + window fits in 32 bits
MAX_SPLITS = 256
ALIGNMENTS = ("bottom-right", "top-left")

_AXES = "(batch, seqlen, num_heads, head_dim)"


def check_formats(q: ArraySpec, k: ArraySpec, v: ArraySpec) -> tuple[Format, Format]:
    """Return the formats of Q, and of K and V."""
    if q.format is None or q.format.name not in (*FORMAT_NAMES, BYTE_QUERY):
        raise ProblemError(
            f"q has dtype {q.dtype}; supported are float16 and bfloat16 (ml_dtypes.bfloat16), and "
            "with k and v of e4m3 also e4m3 (ml_dtypes.float8_e4m3fn, or uint8 with "
            "kv_format='e4m3'): convert it, e.g. q.astype('float16')"
        )
    if q.format.name == BYTE_QUERY and not k.format == v.format == q.format:
        raise ProblemError(
            f"q is e4m3, k has dtype {k.dtype} and v {v.dtype}; with q of 8 bits all three must be "
            "e4m3: convert k and v to it, or q to float16 or bfloat16"
        )
    for spec in (k, v):
        if spec.format is None or (
            spec.format.name not in CACHE_FORMAT_NAMES and spec.format != q.format
        ):
            raise ProblemError(
                f"{spec.name} has dtype {spec.dtype} and q {q.dtype}; supported are q's own dtype, "
                "int8, and e4m3 (ml_dtypes.float8_e4m3fn, or uint8 with kv_format='e4m3'): "
                f"convert {spec.name}, e.g. {spec.name}.astype('{q.dtype}')"
            )
    if k.format is None or k.format != v.format:
        raise ProblemError(f"k and v have dtypes {k.dtype} and {v.dtype}; they must be equal")
    return q.format, k.format


def check_out_format(wanted: Format | None, out: ArraySpec | None, query: Format) -> Format:
    """Return the format of O: ``out_dtype`` where given, else that of ``out``, else q's.

    Q of e4m3 gives bfloat16: e4m3 is too coarse for O, and bfloat16 has its range, whatever
    v_descale is.
    """
    by_query = FORMATS[BYTE_QUERY_OUT] if query.name == BYTE_QUERY else query
    found = wanted or (out.format if out is not None else by_query)
    if found is None or found.name not in OUT_FORMAT_NAMES:
        given = out.dtype if out is not None else found
        raise ProblemError(
            f"out has dtype {given}, which is not supported; float16, bfloat16 and float32 are"
        )
    return found


def check_axes(spec: ArraySpec) -> None:
    """Refuse an array that has no four axes."""
    if len(spec.shape) != 4:
        hint = "; add the batch axis: x[None]" if len(spec.shape) == 3 else ""
        raise ProblemError(
            f"{spec.name} has {len(spec.shape)} axes {spec.shape}; four are wanted, {_AXES}{hint}"
        )


def check_shapes(q: ArraySpec, k: ArraySpec, v: ArraySpec) -> None:
    """Refuse arrays that have no four axes, or widths, heads or sizes that no kernel takes."""
    for spec in (q, k, v):
        check_axes(spec)
        if max(spec.shape) > MAX_SIZE:
            raise ProblemError(
                f"{spec.name} has shape {spec.shape}; sizes up to 2^28 are supported"
            )
    if k.shape[:3] != v.shape[:3]:
        raise ProblemError(
            f"k has shape {k.shape} and v {v.shape}; they must be equal up to the last axis"
        )
    if k.shape[3] != q.shape[3]:
        raise ProblemError(
            f"q has head_dim {q.shape[3]} and k has {k.shape[3]}; they must be equal"
        )
    _check_width("head_dim", q.shape[3], MAX_HEAD_DIM)
    _check_width("head_dim of v", v.shape[3], MAX_V_HEAD_DIM)
    _check_heads(q.shape[2], k.shape[2])


def check_batch(batch: int, keys: int) -> None:
    """Refuse K and V of another batch than Q's ``batch``."""
    if keys != batch:
        raise ProblemError(
            f"q has batch {batch} and k, v have {keys}; they must be equal "
            "(broadcast k and v to q's batch with a stride of 0: no copy is made)"
        )


def _check_width(name: str, width: int, most: int) -> None:
    if width in range(WIDTH_STEP, most + 1, WIDTH_STEP):
        return
    larger = -(-max(width, 1) // WIDTH_STEP) * WIDTH_STEP
    hint = f"the nearest that works: {min(larger, most)}"
    if width in range(1, most):
        hint += f", padded with zeros and with softmax_scale=1/sqrt({width})"
    supported = f"multiples of {WIDTH_STEP} up to {most}"
    raise ProblemError(f"{name} {width} is not supported; supported: {supported}; {hint}")


def _check_heads(num_heads: int, num_kv_heads: int) -> None:
    if num_heads == 0 and num_kv_heads == 0:
        return
    if num_kv_heads == 0 or num_heads % num_kv_heads:
        divisors = [n for n in range(1, num_heads + 1) if num_heads % n == 0]
        nearest = min(divisors, key=lambda n: abs(n - num_kv_heads), default=0)
        raise ProblemError(
            f"num_kv_heads {num_kv_heads} does not divide num_heads {num_heads}; "
            f"the nearest that does: {nearest}"
        )


def check_out(out: ArraySpec, shape: tuple[int, ...], format_: Format) -> None:
    """Refuse an ``out`` of another shape or format, or one that overlaps itself."""
    if out.shape != shape or out.format != format_:
        raise ProblemError(
            f"out has shape {out.shape} and dtype {out.dtype}; {shape} of {format_.dtype} is wanted"
        )
    by_step = sorted(
        (abs(stride), extent)
        for stride, extent in zip(out.strides, out.shape, strict=True)
        if extent > 1
    )
    reach = 0
    for stride, extent in by_step:
        if stride <= reach:
            raise ProblemError(
                f"out has strides {out.strides} (elements): elements overlap; pass a plain array"
            )
        reach += stride * (extent - 1)


def check_strides(spec: ArraySpec) -> None:
    """Refuse an array whose head_dim is not contiguous."""
    if spec.shape[3] > 1 and spec.strides[3] != 1 and 0 not in spec.shape:
        raise ProblemError(
            f"{spec.name} has stride {spec.strides[3]} (elements) along head_dim; head_dim must be "
            f"contiguous, the other axes may have any stride: copy it to a contiguous array"
        )


def check_scale(softmax_scale: float | None, head_dim: int) -> float:
    """Return the factor of S."""
    if softmax_scale is None:
        return 1.0 / math.sqrt(head_dim)
    value = _number("softmax_scale", softmax_scale)
    if not math.isfinite(value) or abs(value) > 1e30:
        raise ProblemError(
            f"softmax_scale is {softmax_scale}; a finite number is wanted, usually 1/sqrt(head_dim)"
        )
    return value


def check_softcap(softcap: float) -> float:
    """Return the cap, 0 for none."""
    value = _number("softcap", softcap)
    if not math.isfinite(value) or value < 0 or 0 < value < 1e-6 or value > 1e30:
        raise ProblemError(
            f"softcap is {softcap}; 0 (none) or a number from 1e-6 to 1e30 is wanted, such as 50.0"
        )
    return value


def check_window(window_size: tuple[int, int], causal: bool) -> tuple[int, int]:
    """Return (left, right), -1 for an open side, 0 on the right for ``causal``."""
    try:
        left, right = (int(side) for side in window_size)
        whole = (left, right) == tuple(window_size)
    except (TypeError, ValueError):
        whole = False
    if not whole or left < -1 or right < -1:
        raise ProblemError(
            f"window_size is {window_size!r}; two whole numbers (left, right) from 0 up are "
            "wanted, -1 = open"
        )
    if causal:
        if right > 0:
            raise ProblemError(
                f"causal=True and window_size {window_size!r} contradict: causal closes the right "
                "side; pass a right side of -1 or 0, or causal=False"
            )
        right = 0
    return left, right


def check_diagonal(alignment: str, q_offset: int | None) -> int | None:
    """Return the key that query 0 is aligned with; None for bottom-right, which lengths decide."""
    if alignment not in ALIGNMENTS:
        raise ProblemError(
            f"causal_alignment is {alignment!r}; supported: {', '.join(map(repr, ALIGNMENTS))}"
        )
    if q_offset is None:
        return None if alignment == "bottom-right" else 0
    if isinstance(q_offset, bool) or not isinstance(q_offset, Integral):
        raise ProblemError(f"q_offset is {q_offset!r}; the position of query 0, a whole number")
    if alignment != "bottom-right":
        raise ProblemError("q_offset and causal_alignment='top-left' both say where query 0 stands")
    if not 0 <= q_offset <= MAX_SIZE:
        raise ProblemError(f"q_offset is {q_offset}; a position from 0 to 2^28 is wanted")
    return int(q_offset)


def check_splits(num_splits: int | None) -> int:
    """Return the parts of the keys; 0 where the plan chooses."""
    if num_splits is None or num_splits == 0:
        return 0
    if isinstance(num_splits, bool) or not isinstance(num_splits, Integral):
        raise ProblemError(f"num_splits is {num_splits!r}; a whole number, or None, is wanted")
    if not 1 <= num_splits <= MAX_SPLITS:
        raise ProblemError(f"num_splits is {num_splits}; 1 to {MAX_SPLITS} are supported")
    return int(num_splits)


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ProblemError(f"{name} is {value!r}; a number is wanted") from error
