"""``attention``: the public call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from attnprobe.engine import extras, known, launch
from attnprobe.engine.arrays import Operand, in_kind, stream_of, take
from attnprobe.engine.plan import Plan, are_changed, make_plan
from attnprobe.engine.problem import make_problem
from attnprobe.errors import ProblemError


def attention(
    q: Any,
    k: Any,
    v: Any,
    *,
    softmax_scale: Any = None,
    causal: bool = False,
    causal_alignment: str = "bottom-right",
    q_offset: int | None = None,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Any = None,
    bias: Any = None,
    mask: Any = None,
    sinks: Any = None,
    return_lse: bool = False,
    out: Any = None,
) -> Any:
    """Return O = softmax(mask(softmax_scale * Q K^T)) V, head by head.

    CuPy arrays run on their GPU, on the current stream (torch tensors on torch's); NumPy arrays run
    on the emulator, which executes the same kernel text. Any object with ``__dlpack__`` or
    ``__cuda_array_interface__`` is taken without a copy; the result is returned in q's kind.

    Parameters
    ----------
    q : (batch, seqlen_q, num_heads, head_dim), float16 or bfloat16; head_dim a multiple of 16 up
        to 576.
    k : (batch, seqlen_k, num_kv_heads, head_dim), q's dtype; num_kv_heads divides num_heads, and
        query head h reads K/V head ``h // (num_heads // num_kv_heads)``.
    v : (batch, seqlen_k, num_kv_heads, v_head_dim), q's dtype; v_head_dim a multiple of 16 up to
        256, or of 32 up to 512. Any strides with head_dim contiguous in q, k and v; rows that start
        at multiples of 16 bytes are faster.
    softmax_scale : factor of Q K^T; 1/sqrt(head_dim) by default. A number, or (num_heads,) numbers.
    causal : query i sees the keys j <= i + d, where d is the key that query 0 is aligned with.
    causal_alignment : "bottom-right", d = seqlen_k - seqlen_q: the last query sees the last key;
        or "top-left", d = 0.
    q_offset : d itself, for a chunk of queries that starts at this position.
    window_size : (left, right), both inclusive, -1 = open: query i sees the keys from i + d - left
        to i + d + right.
    softcap : where > 0, scores become softcap * tanh(score / softcap), before what follows.
    alibi_slopes : (num_heads,) or (batch, num_heads): -slope * abs(i + d - j) is added to scores.
    bias : added to scores; q's dtype or float32, broadcastable to (batch, num_heads, seqlen_q,
        seqlen_k). -inf hides a key.
    mask : bool, True = may attend; broadcastable likewise.
    sinks : (num_heads,) logits that join the sum of the softmax and carry no value.
    return_lse : return (O, LSE).
    out : array to write O to, of O's shape and q's dtype; it may share no memory with q, k or v.

    Returns
    -------
    O : (batch, seqlen_q, num_heads, v_head_dim), q's dtype. A query that sees no key gives 0.
    LSE : (batch, num_heads, seqlen_q), float32: natural logarithm of the sum of exp(score), the
        sink's among them; -inf for a query that sees no key and no sink. Only with ``return_lse``.

    A NaN or infinity in an input stays in the rows that see it and reaches no other.

    Raises
    ------
    ProblemError
        For arrays or arguments that are not supported, before anything is compiled.
    UnsupportedError
        Where no kernel serves these widths on this GPU.
    DeviceError, CompileError, EmulatorError
        Where the GPU, NVRTC or the emulated kernel fails.

    Source
    ------
    Dao, FlashAttention-2 (arXiv 2307.08691), for the online softmax.
    """
    options: dict[str, Any] = {
        "softmax_scale": None if extras.is_per_head(softmax_scale) else softmax_scale,
        "causal": causal,
        "causal_alignment": causal_alignment,
        "q_offset": q_offset,
        "window_size": window_size,
        "softcap": softcap,
    }
    given = {
        "head_scales": softmax_scale if extras.is_per_head(softmax_scale) else None,
        "alibi_slopes": alibi_slopes,
        "bias": bias,
        "mask": mask,
        "sinks": sinks,
    }
    plain = out is None and not are_changed() and all(a is None for a in given.values())
    key = known.key_of(q, k, v, *options.values()) if plain else None
    call = known.find(key)
    if call is not None:
        return call(q, k, v, return_lse)
    operands = {"q": take("q", q), "k": take("k", k), "v": take("v", v)}
    if out is not None:
        operands["out"] = take("out", out)
    _check_places(operands)
    specs = {name: operand.spec(name) for name, operand in operands.items()}
    shapes = (specs["q"], specs["k"], specs["v"], specs.get("out"))
    problem = make_problem(*shapes, **options)
    query = operands["q"]
    with _place_of_run(query):
        sizes = (problem.batch, problem.num_heads, problem.seqlen_q, problem.seqlen_k)
        more = extras.take_extras(query, sizes, given)
        if more:
            problem = make_problem(*shapes, **options, extras=extras.extra_specs(more))
        plan = make_plan(problem, _arch_of(query))
        O = (
            operands["out"].array
            if out is not None
            else _empty_output(query.array, problem.v_head_dim)
        )
        lse = launch.empty_lse(plan, query.array)
        if not problem.empty:
            _run(plan, operands, O, lse, more)
        known.remember(key, plan, query.array, operands["k"].array, operands["v"].array, O, lse)
    result = out if out is not None else in_kind(O, query)
    return (result, in_kind(lse, query)) if return_lse else result


def _run(plan: Plan, operands: dict[str, Operand], O: Any, lse: Any, more: dict[str, Any]) -> None:
    run = launch.run_gpu if operands["q"].on_gpu else launch.run_emulator
    q, k, v = (operands[name].array for name in ("q", "k", "v"))
    run(plan, q, k, v, O, lse, extras=more)


def _arch_of(query: Operand) -> Any:
    if query.on_gpu:
        return launch.gpu_arch(int(query.array.device.id))
    return launch.emulated_arch()


@contextmanager
def _place_of_run(query: Operand) -> Iterator[None]:
    """Make q's device current, and the stream of the library that q comes from."""
    if not query.on_gpu:
        yield
        return
    with query.array.device, stream_of(query):
        yield


def _empty_output(like: Any, v_head_dim: int) -> Any:
    shape = (*like.shape[:3], v_head_dim)
    if isinstance(like, np.ndarray):
        return np.empty(shape, like.dtype)
    import cupy

    return cupy.empty(shape, like.dtype)


def _check_places(operands: dict[str, Operand]) -> None:
    """All arrays in one memory, and out apart from the inputs and writable."""
    places = {name: _place(operand) for name, operand in operands.items()}
    if len(set(places.values())) > 1:
        listed = ", ".join(f"{name} {place}" for name, place in places.items())
        raise ProblemError(f"the arrays are in different places: {listed}; move them to q's")
    if "out" not in operands:
        return
    out = operands["out"]
    if not out.on_gpu and not out.array.flags.writeable:
        raise ProblemError("out is read-only; pass a writable array")
    begin, end = _extent(out)
    for name in ("q", "k", "v"):
        low, high = _extent(operands[name])
        if begin < high and low < end:
            raise ProblemError(f"out shares memory with {name}; pass an array of its own")


def _place(operand: Operand) -> str:
    return f"on CUDA device {operand.array.device.id}" if operand.on_gpu else "in CPU memory"


def _extent(operand: Operand) -> tuple[int, int]:
    """Return first and end byte address of the array's elements."""
    array = operand.array
    start = int(array.data.ptr if operand.on_gpu else array.__array_interface__["data"][0])
    if array.size == 0:
        return start, start
    steps = [(extent - 1) * step for extent, step in zip(array.shape, array.strides, strict=True)]
    low = start + sum(step for step in steps if step < 0)
    return low, start + sum(step for step in steps if step > 0) + array.dtype.itemsize
