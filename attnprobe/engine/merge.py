"""``merge_states``: attention over two sets of keys, made attention over both."""

from __future__ import annotations

from typing import Any

from attnprobe.engine.arrays import Operand, in_kind, library_of, take
from attnprobe.engine.call import check_places, place_of_run
from attnprobe.engine.checks import OUT_FORMAT_NAMES
from attnprobe.engine.one_kernel import OneKernel, strides
from attnprobe.engine.spec import ArraySpec
from attnprobe.errors import ProblemError

THREADS, ROWS_PER_BLOCK = 128, 4  # of merge_states.cu: a warp a row
_MOST_BLOCKS = 2**31 - 1


def merge_states(o_a: Any, lse_a: Any, o_b: Any, lse_b: Any) -> tuple[Any, Any]:
    """Return O and LSE over the keys of a and b together, as if they had been attended to at once.

    Where many sequences share a prefix, attention over it is computed once for all of them and
    merged with that over each one's own keys.

    Parameters
    ----------
    o_a, o_b : (batch, seqlen_q, num_heads, v_head_dim), packed (total_q, num_heads, v_head_dim);
        float16, bfloat16 or float32, both of one dtype; v_head_dim even and contiguous, the other
        axes of any stride.
    lse_a, lse_b : (batch, num_heads, seqlen_q), packed (num_heads, total_q), float32: natural
        logarithms, as ``attention`` returns them.

    Returns
    -------
    O : of o_a's shape and dtype. Where one side has LSE -inf (no key), the other's row as it is,
        whatever stands in the first; where both have, 0.
    LSE : of lse_a's shape, float32; -inf where both sides are. A sink must be in one side only.

    A NaN in a row stays in that row.

    Raises
    ------
    ProblemError
        For other shapes or dtypes, or arrays in different places.
    DeviceError, CompileError, EmulatorError
        Where the GPU, NVRTC or the emulated kernel fails.
    """
    given = {"o_a": o_a, "lse_a": lse_a, "o_b": o_b, "lse_b": lse_b}
    operands = {name: take(name, array) for name, array in given.items()}
    specs = {name: operand.spec(name) for name, operand in operands.items()}
    _check(specs)
    check_places(operands)
    query = operands["o_a"]
    with place_of_run(query):
        library = library_of(query)
        o = library.empty(query.array.shape, query.array.dtype)
        lse = library.empty(operands["lse_a"].array.shape, "float32")
        if o.size:
            _launch(operands, specs, o, lse)
        elif lse.size:
            raise ProblemError(f"o_a has shape {o.shape}: rows of no element cannot be merged")
    return in_kind(o, query), in_kind(lse, query)


def _launch(operands: dict[str, Operand], specs: dict[str, ArraySpec], o: Any, lse: Any) -> None:
    def padded(array: Any, axes: int) -> Any:
        return array if array.ndim == axes else array[None]

    arrays = {
        "O_a": padded(operands["o_a"].array, 4),
        "O_b": padded(operands["o_b"].array, 4),
        "O": padded(o, 4),
        "LSE_a": padded(operands["lse_a"].array, 3),
        "LSE_b": padded(operands["lse_b"].array, 3),
        "LSE": padded(lse, 3),
    }
    batch, rows, heads, width = arrays["O"].shape
    values: dict[str, float] = {"batch": batch, "rows": rows, "num_heads": heads, "width": width}
    for name, array in arrays.items():
        axes = ("batch", "row", "head") if name.startswith("O") else ("batch", "head", "row")
        values.update(strides(name.lower(), array, axes))
    blocks = -(-batch * rows * heads // ROWS_PER_BLOCK)
    if blocks > _MOST_BLOCKS:
        raise ProblemError(f"{batch * rows * heads} rows are too many for one launch: split them")
    format_ = specs["o_a"].format
    assert format_ is not None
    kernel = OneKernel(
        "attention/merge_states.cu",
        "attention_merge_states",
        "MergeParams",
        {"ATTN_OUT": format_.c_type, "ATTN_ALIGNED": 1},
        blocks,
        THREADS,
    )
    kernel.run(arrays, values, {"O", "LSE"})


def _check(specs: dict[str, ArraySpec]) -> None:
    o_a, o_b = specs["o_a"], specs["o_b"]
    if o_a.format is None or o_a.format.name not in OUT_FORMAT_NAMES:
        raise ProblemError(
            f"o_a has dtype {o_a.dtype}; float16, bfloat16 and float32 are supported"
        )
    if (o_a.shape, o_a.format) != (o_b.shape, o_b.format):
        raise ProblemError(
            f"o_a is {o_a.dtype} {o_a.shape} and o_b {o_b.dtype} {o_b.shape}; they must be equal"
        )
    if len(o_a.shape) not in (3, 4) or o_a.shape[-1] % 2:
        raise ProblemError(
            f"o_a has shape {o_a.shape}; (batch, seqlen_q, num_heads, v_head_dim) or (total_q, "
            "num_heads, v_head_dim) with an even v_head_dim is wanted"
        )
    wanted = (*o_a.shape[:-3], o_a.shape[-2], o_a.shape[-3])
    for name in ("lse_a", "lse_b"):
        spec = specs[name]
        if spec.shape != wanted or spec.dtype != "float32":
            raise ProblemError(
                f"{name} is {spec.dtype} {spec.shape}; float32 {wanted} is wanted: a number for "
                "each row of O, heads before rows"
            )
    for spec in (o_a, o_b):
        if spec.shape[-1] > 1 and spec.strides[-1] != 1 and 0 not in spec.shape:
            raise ProblemError(f"{spec.name}: the last axis must be contiguous: copy it")
