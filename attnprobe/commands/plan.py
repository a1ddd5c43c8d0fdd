"""``attnprobe plan``: which kernel and tile would run a problem, and why not the ones before it."""

from __future__ import annotations

import argparse
import json
from typing import Any

_EPILOG = """\
Needs no GPU: planning looks at sizes alone.

examples:
  attnprobe plan --head-dim 128 --seqlen 4096 --heads 32 --kv-heads 8 --causal
  attnprobe plan --head-dim 256 --seqlen 1024 --arch 89
  attnprobe plan --head-dim 576 --v-head-dim 512 --seqlen 8192 --heads 128 --kv-heads 1 --json
"""


def add_parser(subparsers: Any) -> None:
    """Add ``plan``."""
    parser = subparsers.add_parser(
        "plan",
        help="which attention kernel and tile would run a problem, and why",
        description="Prints which attention kernel and tile would run a problem.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--seqlen", type=int, required=True, metavar="N", help="keys; queries too by default")
    add("--seqlen-q", type=int, metavar="N", help="queries")
    add("--head-dim", type=int, required=True, metavar="N", help="width of Q and K")
    add("--v-head-dim", type=int, metavar="N", help="width of V; that of Q and K by default")
    add("--heads", type=int, default=1, metavar="N", help="query heads")
    add("--kv-heads", type=int, metavar="N", help="K/V heads; as many as query heads by default")
    add("--batch", type=int, default=1, metavar="N")
    add("--dtype", choices=("float16", "bfloat16"), default="float16")
    add("--causal", action="store_true")
    add("--window", default="-1,-1", metavar="LEFT,RIGHT", help="window_size; -1 is open")
    add("--softcap", type=float, default=0.0, metavar="X")
    add("--softmax-scale", type=float, metavar="X")
    add("--unaligned", action="store_true", help="rows that start at no multiple of 16 bytes")
    add(
        "--arch", type=int, default=90, metavar="CC", help="compute capability: 80, 86, 89, 90, ..."
    )
    add("--json", action="store_true", help="one object, all facts")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the plan."""
    from attnprobe.arch import arch
    from attnprobe.engine.plan import make_plan

    plan = make_plan(_problem(args), arch(args.arch))
    facts = _facts(plan)
    if args.json:
        print(json.dumps(facts, indent=2))
        return 0
    width = max(map(len, facts))
    for name, value in facts.items():
        lines = value if isinstance(value, list) else [value]
        for number, line in enumerate(lines or ["-"]):
            print(f"{name if number == 0 else '':{width}s}  {line}")
    return 0


def _problem(args: argparse.Namespace) -> Any:
    from attnprobe.engine.problem import make_problem
    from attnprobe.engine.spec import ArraySpec
    from attnprobe.errors import UsageError
    from attnprobe.formats import FORMATS

    try:
        left, right = (int(side) for side in args.window.split(","))
    except ValueError:
        raise UsageError(f"--window is {args.window!r}; LEFT,RIGHT is wanted: 128,0") from None
    format_ = FORMATS[{"float16": "f16", "bfloat16": "bf16"}[args.dtype]]

    def spec(name: str, seqlen: int, heads: int, width: int) -> ArraySpec:
        row = width + 1 if args.unaligned else width
        strides = (seqlen * heads * row, heads * row, row, 1)
        return ArraySpec(name, (args.batch, seqlen, heads, width), strides, format_, args.dtype, 0)

    queries = args.seqlen if args.seqlen_q is None else args.seqlen_q
    kv_heads = args.heads if args.kv_heads is None else args.kv_heads
    v_width = args.head_dim if args.v_head_dim is None else args.v_head_dim
    return make_problem(
        spec("q", queries, args.heads, args.head_dim),
        spec("k", args.seqlen, kv_heads, args.head_dim),
        spec("v", args.seqlen, kv_heads, v_width),
        None,
        softmax_scale=args.softmax_scale,
        causal=args.causal,
        window_size=(left, right),
        softcap=args.softcap,
    )


def _facts(plan: Any) -> dict[str, Any]:
    variant = plan.variant
    return {
        "kernel": variant.entry,
        "source": f"kernels/{variant.source}",
        "arch": plan.arch.sm,
        "tile": f"{variant.block_m} queries x {variant.block_n} keys",
        "why": variant.why,
        "warps": variant.warps,
        "blocks": plan.grid[0],
        "blocks_per_multiprocessor": variant.blocks_per_sm,
        "shared_bytes": plan.shared_bytes,
        "v_parts": variant.v_parts,
        "features": list(plan.features),
        "passed_over": list(plan.passed_over),
        "defines": [f"{name} {value}" for name, value in plan.defines.items()],
    }
