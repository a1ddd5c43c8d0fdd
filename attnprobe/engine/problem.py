"""What a call asks for, checked and made canonical; wrong input is refused before any compile.

Pure: it looks at shapes, strides, dtypes and numbers, never at an array's contents or at a device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from attnprobe.errors import ProblemError
from attnprobe.formats import Format

WIDTH_STEP = 16  # head_dim is cut into steps of one mma
MAX_HEAD_DIM, MAX_V_HEAD_DIM = 576, 512
FORMAT_NAMES: tuple[str, ...] = ("f16", "bf16")
MAX_SIZE = 2**28  # so that query + diagonal + window fits in 32 bits
ALIGNMENT = 16  # bytes: what one cp.async copies

_AXES = "(batch, seqlen, num_heads, head_dim)"


@dataclass(frozen=True)
class ArraySpec:
    """One array argument without its contents.

    Attributes
    ----------
    name : argument name, for messages.
    shape : sizes; ``(batch, seqlen, heads, head_dim)``.
    strides : steps in elements, same order.
    format : number format, or None for a dtype that is not one.
    dtype : the dtype as the caller's library prints it.
    address : of element 0, bytes; only its alignment is used here.
    """

    name: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    format: Format | None
    dtype: str
    address: int

    @property
    def aligned(self) -> bool:
        """Whether every row starts at a multiple of 16 bytes, as 16-byte copies want it."""
        if self.format is None:
            return False
        size = self.format.bits // 8
        steps = [
            stride
            for stride, extent in zip(self.strides[:-1], self.shape[:-1], strict=True)
            if extent > 1
        ]
        return self.address % ALIGNMENT == 0 and all(step * size % ALIGNMENT == 0 for step in steps)


@dataclass(frozen=True)
class Problem:
    """A checked attention call, without the arrays.

    Attributes
    ----------
    batch, seqlen_q, seqlen_k, num_heads, num_kv_heads : sizes.
    head_dim, v_head_dim : widths of Q and K, and of V and O.
    format : number format of Q, K, V and O.
    softmax_scale : factor of S; finite.
    window : keys before and after the aligned one that a query sees, both inclusive, -1 = open;
        ``causal`` is a right side of 0.
    softcap : 0 for none.
    diagonal : the key that query 0 is aligned with.
    head_scales, alibi, mask, sinks : whether the call has such an array.
    bias : number format of the additive bias, or None.
    aligned : whether all arrays allow 16-byte accesses.
    """

    batch: int
    seqlen_q: int
    seqlen_k: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    v_head_dim: int
    format: Format
    softmax_scale: float
    window: tuple[int, int]
    softcap: float
    aligned: bool
    diagonal: int = 0
    head_scales: bool = False
    alibi: bool = False
    mask: bool = False
    sinks: bool = False
    bias: Format | None = None

    @property
    def windowed(self) -> bool:
        """Whether some side of the window is closed."""
        return self.window != (-1, -1)

    @property
    def empty(self) -> bool:
        """Whether O has no element."""
        return 0 in (self.batch, self.seqlen_q, self.num_heads)


def make_problem(
    q: ArraySpec,
    k: ArraySpec,
    v: ArraySpec,
    out: ArraySpec | None,
    *,
    softmax_scale: float | None = None,
    causal: bool = False,
    causal_alignment: str = "bottom-right",
    q_offset: int | None = None,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    extras: Mapping[str, ArraySpec] | None = None,
) -> Problem:
    """Return the checked problem. ``extras`` are the checked specs of extras.py.

    Raises
    ------
    ProblemError
        Says what was given, what is supported and the nearest thing that works.
    """
    extras = extras or {}
    format_ = _check_formats(q, k, v)
    _check_shapes(q, k, v)
    batch, seqlen_q, num_heads, head_dim = q.shape
    seqlen_k, num_kv_heads = k.shape[1], k.shape[2]
    arrays = [q, k, v]
    if out is not None:
        _check_out(out, q, v)
        arrays.append(out)
    for spec in arrays:
        _check_strides(spec)
    return Problem(
        batch,
        seqlen_q,
        seqlen_k,
        num_heads,
        num_kv_heads,
        head_dim,
        v.shape[3],
        format_,
        _scale(softmax_scale, head_dim),
        _window(window_size, causal),
        _softcap(softcap),
        all(spec.aligned for spec in arrays),
        _diagonal(causal_alignment, q_offset, seqlen_q, seqlen_k),
        head_scales="head_scales" in extras,
        alibi="alibi_slopes" in extras,
        mask="mask" in extras,
        sinks="sinks" in extras,
        bias=extras["bias"].format if "bias" in extras else None,
    )


def _check_formats(q: ArraySpec, k: ArraySpec, v: ArraySpec) -> Format:
    for spec in (q, k, v):
        if spec.format is None or spec.format.name not in FORMAT_NAMES:
            raise ProblemError(
                f"{spec.name} has dtype {spec.dtype}; supported are float16 and bfloat16 "
                f"(ml_dtypes.bfloat16): convert it, e.g. {spec.name}.astype('float16')"
            )
    if not q.format == k.format == v.format or q.format is None:
        raise ProblemError(
            f"q, k and v have dtypes {q.dtype}, {k.dtype}, {v.dtype}; they must be equal: "
            f"convert them to {q.dtype}"
        )
    return q.format


def _check_shapes(q: ArraySpec, k: ArraySpec, v: ArraySpec) -> None:
    for spec in (q, k, v):
        if len(spec.shape) != 4:
            hint = "; add the batch axis: x[None]" if len(spec.shape) == 3 else ""
            raise ProblemError(
                f"{spec.name} has {len(spec.shape)} axes {spec.shape}; four are wanted, "
                f"{_AXES}{hint}"
            )
        if max(spec.shape) > MAX_SIZE:
            raise ProblemError(
                f"{spec.name} has shape {spec.shape}; sizes up to 2^28 are supported"
            )
    if k.shape[:3] != v.shape[:3]:
        raise ProblemError(
            f"k has shape {k.shape} and v {v.shape}; they must be equal up to the last axis"
        )
    if k.shape[0] != q.shape[0]:
        raise ProblemError(
            f"q has batch {q.shape[0]} and k, v have {k.shape[0]}; they must be equal "
            "(broadcast k and v to q's batch with a stride of 0: no copy is made)"
        )
    if k.shape[3] != q.shape[3]:
        raise ProblemError(
            f"q has head_dim {q.shape[3]} and k has {k.shape[3]}; they must be equal"
        )
    _check_width("head_dim", q.shape[3], MAX_HEAD_DIM)
    _check_width("head_dim of v", v.shape[3], MAX_V_HEAD_DIM)
    _check_heads(q.shape[2], k.shape[2])


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


def _check_out(out: ArraySpec, q: ArraySpec, v: ArraySpec) -> None:
    shape = (*q.shape[:3], v.shape[3])
    if out.shape != shape or out.format != q.format:
        raise ProblemError(
            f"out has shape {out.shape} and dtype {out.dtype}; {shape} of {q.dtype} is wanted"
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


def _check_strides(spec: ArraySpec) -> None:
    if spec.shape[3] > 1 and spec.strides[3] != 1 and 0 not in spec.shape:
        raise ProblemError(
            f"{spec.name} has stride {spec.strides[3]} (elements) along head_dim; head_dim must be "
            f"contiguous, the other axes may have any stride: copy it to a contiguous array"
        )


def _scale(softmax_scale: float | None, head_dim: int) -> float:
    if softmax_scale is None:
        return 1.0 / math.sqrt(head_dim)
    value = _number("softmax_scale", softmax_scale)
    if not math.isfinite(value) or abs(value) > 1e30:
        raise ProblemError(
            f"softmax_scale is {softmax_scale}; a finite number is wanted, usually 1/sqrt(head_dim)"
        )
    return value


def _softcap(softcap: float) -> float:
    value = _number("softcap", softcap)
    if not math.isfinite(value) or value < 0 or 0 < value < 1e-6 or value > 1e30:
        raise ProblemError(
            f"softcap is {softcap}; 0 (none) or a number from 1e-6 to 1e30 is wanted, such as 50.0"
        )
    return value


def _window(window_size: tuple[int, int], causal: bool) -> tuple[int, int]:
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


ALIGNMENTS = ("bottom-right", "top-left")


def _diagonal(alignment: str, q_offset: int | None, seqlen_q: int, seqlen_k: int) -> int:
    if alignment not in ALIGNMENTS:
        raise ProblemError(
            f"causal_alignment is {alignment!r}; supported: {', '.join(map(repr, ALIGNMENTS))}"
        )
    if q_offset is None:
        return seqlen_k - seqlen_q if alignment == "bottom-right" else 0
    if isinstance(q_offset, bool) or not isinstance(q_offset, Integral):
        raise ProblemError(f"q_offset is {q_offset!r}; the position of query 0, a whole number")
    if alignment != "bottom-right":
        raise ProblemError("q_offset and causal_alignment='top-left' both say where query 0 stands")
    if not 0 <= q_offset <= MAX_SIZE:
        raise ProblemError(f"q_offset is {q_offset}; a position from 0 to 2^28 is wanted")
    return int(q_offset)


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ProblemError(f"{name} is {value!r}; a number is wanted") from error
