"""The problem of a case, without arrays: what is planned and compiled before anything is timed."""

from __future__ import annotations

from dataclasses import replace

from attnprobe.bench.cases import Case
from attnprobe.bench.features import FEATURES
from attnprobe.bench.inputs import FORMAT_OF
from attnprobe.engine.call import out_format
from attnprobe.engine.problem import Problem, make_problem
from attnprobe.engine.spec import ArraySpec
from attnprobe.formats import FORMATS

# Arrays of features: argument -> the name that extras.py has for it, and the dtype.
_NAMES = {"softmax_scale": ("head_scales", "float32"), "mask": ("mask", "bool")}
_OF_HEADS = ("softmax_scale", "alibi_slopes", "sinks")


def problem_of(case: Case) -> Problem:
    """Return the problem of the call that ``engines.ours`` makes.

    Raises
    ------
    ProblemError
        If attention does not take it.
    """
    batch, queries, keys = case.batch, case.seqlen_q, case.seqlen_k
    if case.layout == "packed":
        batch, queries, keys = 1, batch * queries, batch * keys
    kv_batch, kv_dtype = batch, case.kv_format or case.dtype
    if case.layout == "paged":
        kv_batch, keys = case.batch * keys // case.page_size, case.page_size
    q = _spec("q", (batch, queries, case.heads, case.head_dim), case.dtype)
    k = _spec("k", (kv_batch, keys, case.kv_heads, case.head_dim), kv_dtype)
    extras, options = _lengths(case), {}
    if case.kv_format == "int8":
        for name in ("k_descale", "v_descale"):
            extras[name] = ArraySpec(name, (case.kv_heads,), (), None, "float32", 0)
    if case.feature:
        row = FEATURES[case.feature]
        options = {name: value for name, value in row.options if name != "return_lse"}
        extras |= {_NAMES.get(name, (name,))[0]: _extra(name, case) for name, _ in row.arrays}
    form = out_format(options.pop("out_dtype", None))
    return make_problem(
        q, k, replace(k, name="v"), None, causal=case.causal, out_format=form, extras=extras,
        **options,
    )  # fmt: skip


def _spec(name: str, shape: tuple[int, int, int, int], dtype: str) -> ArraySpec:
    _, rows, heads, width = shape
    strides = (rows * heads * width, heads * width, width, 1)
    return ArraySpec(name, shape, strides, FORMATS[FORMAT_OF[dtype]], dtype, 0)


def _extra(name: str, case: Case) -> ArraySpec:
    """Return the spec of an array of a feature."""
    field, dtype = _NAMES.get(name, (name, "float32"))
    if name in _OF_HEADS:
        return ArraySpec(field, (case.heads,), (1,), FORMATS["f32"], dtype, 0)
    shape = (1, 1, case.seqlen_q, case.seqlen_k)
    format_ = FORMATS[FORMAT_OF[case.dtype] if name == "bias" else "u8"]
    return ArraySpec(field, shape, (0, 0, case.seqlen_k, 1), format_, dtype, 0)


def _lengths(case: Case) -> dict[str, ArraySpec]:
    """Return the specs of the arrays that say where the sequences are."""
    shapes: dict[str, tuple[int, ...]] = {}
    if case.layout == "packed":
        shapes = {"cu_seqlens_q": (case.batch + 1,), "cu_seqlens_k": (case.batch + 1,)}
    elif case.layout == "paged":
        pages = case.seqlen_k // case.page_size
        shapes = {"seqused_k": (case.batch,), "block_table": (case.batch, pages)}
    return {name: ArraySpec(name, shape, (), None, "int32", 0) for name, shape in shapes.items()}
