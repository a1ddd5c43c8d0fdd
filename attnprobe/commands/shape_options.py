"""Options that describe an attention problem without arrays, and the problem that they make."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

DTYPES = {"float16": "f16", "bfloat16": "bf16"}
BYTE_DTYPES = {"e4m3": "e4m3"}  # of Q, K and V together
KV_FORMATS = {"e4m3": "e4m3", "int8": "s8"}


@dataclass(frozen=True)
class Sequences:
    """How many rows there are, and how they lie.

    Attributes
    ----------
    queries, keys : of each sequence.
    packed : sequences one after the other, by cu_seqlens.
    page_size : keys in a page of a paged cache; 0 = no pages.
    """

    queries: int
    keys: int
    packed: bool = False
    page_size: int = 0


def add_shape_options(parser: argparse.ArgumentParser, *, head_dim_required: bool = True) -> None:
    """Add all but the sequence lengths and the arch."""
    add = parser.add_argument
    add("--head-dim", type=int, required=head_dim_required, metavar="N", help="width of Q and K")
    add("--v-head-dim", type=int, metavar="N", help="width of V; that of Q and K by default")
    add("--heads", type=int, default=1, metavar="N", help="query heads")
    add("--kv-heads", type=int, metavar="N", help="K/V heads; as many as query heads by default")
    add("--batch", type=int, default=1, metavar="N")
    add(
        "--dtype",
        choices=(*DTYPES, *BYTE_DTYPES),
        default="float16",
        help="of q; e4m3: of q, k and v, with their descales",
    )
    add("--causal", action="store_true")
    add("--window", default="-1,-1", metavar="LEFT,RIGHT", help="window_size; -1 is open")
    add("--softcap", type=float, default=0.0, metavar="X")
    add("--softmax-scale", type=float, metavar="X")
    add("--kv-format", choices=tuple(KV_FORMATS), help="K and V in 8 bits; q's dtype by default")
    add("--num-splits", type=int, metavar="N", help="parts of the keys; chosen by default")
    add("--unaligned", action="store_true", help="rows that start at no multiple of 16 bytes")


def compute_capability(text: str) -> int:
    """Return 90 for "90", "sm_90" and "sm_90a": an argparse type."""
    digits = text.removeprefix("sm_").rstrip("af")
    if not digits.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no compute capability: 90 or sm_90")
    return int(digits)


def problem_of(args: argparse.Namespace, rows: Sequences) -> Any:
    """Return the ``Problem`` of the options.

    Raises
    ------
    UsageError, ProblemError
        For numbers that make no problem, or one that is not supported.
    """
    from attnprobe.engine.problem import make_problem
    from attnprobe.engine.spec import ArraySpec
    from attnprobe.errors import UsageError
    from attnprobe.formats import FORMATS

    try:
        left, right = (int(side) for side in args.window.split(","))
    except ValueError:
        raise UsageError(f"--window is {args.window!r}; LEFT,RIGHT is wanted: 128,0") from None
    format_ = FORMATS[{**DTYPES, **BYTE_DTYPES}[args.dtype]]
    kv_format = FORMATS[KV_FORMATS.get(args.kv_format, format_.name)]

    def spec(name: str, shape: tuple[int, int, int, int]) -> ArraySpec:
        _, seqlen, heads, width = shape
        row = width + 1 if args.unaligned else width
        strides = (seqlen * heads * row, heads * row, row, 1)
        return ArraySpec(name, shape, strides, format_ if name == "q" else kv_format, args.dtype, 0)

    kv_heads = args.heads if args.kv_heads is None else args.kv_heads
    v_width = args.head_dim if args.v_head_dim is None else args.v_head_dim
    queries, keys = (args.batch, rows.queries), (args.batch, rows.keys)
    if rows.packed:
        queries, keys = (1, args.batch * rows.queries), (1, args.batch * rows.keys)
    elif rows.page_size:
        keys = (args.batch * -(-rows.keys // rows.page_size), rows.page_size)
    return make_problem(
        spec("q", (*queries, args.heads, args.head_dim)),
        spec("k", (*keys, kv_heads, args.head_dim)),
        spec("v", (*keys, kv_heads, v_width)),
        None,
        softmax_scale=args.softmax_scale,
        causal=args.causal,
        window_size=(left, right),
        softcap=args.softcap,
        num_splits=args.num_splits,
        extras={**_lengths(args.batch, rows), **_descales(args, kv_heads)},
    )


def _descales(args: argparse.Namespace, kv_heads: int) -> dict[str, Any]:
    """Return the specs of the descales that a q of 8 bits comes with."""
    from attnprobe.engine.spec import ArraySpec

    if args.dtype not in BYTE_DTYPES:
        return {}
    shape = (args.batch, kv_heads)
    names = ("q_descale", "k_descale", "v_descale")
    return {name: ArraySpec(name, shape, (), None, "float32", 0) for name in names}


def _lengths(batch: int, rows: Sequences) -> dict[str, Any]:
    """Return the specs of the arrays that say where the sequences are."""
    from attnprobe.engine.spec import ArraySpec

    shapes: dict[str, tuple[int, ...]] = {}
    if rows.packed:
        shapes = {"cu_seqlens_q": (batch + 1,), "cu_seqlens_k": (batch + 1,)}
    elif rows.page_size:
        pages = -(-rows.keys // rows.page_size)
        shapes = {"seqused_k": (batch,), "block_table": (batch, pages)}
    return {name: ArraySpec(name, shape, (), None, "int32", 0) for name, shape in shapes.items()}
