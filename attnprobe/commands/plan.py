"""``attnprobe plan``: which kernel and tile would run a problem, and why not the ones before it."""

from __future__ import annotations

import argparse
import json
from typing import Any

from attnprobe.commands.shape_options import (
    Sequences,
    add_shape_options,
    compute_capability,
    problem_of,
)

_EPILOG = """\
Needs no GPU: planning looks at sizes alone.

examples:
  attnprobe plan --head-dim 128 --seqlen 4096 --heads 32 --kv-heads 8 --causal
  attnprobe plan --head-dim 256 --seqlen 1024 --arch 89
  attnprobe plan --head-dim 128 --seqlen 8192 --seqlen-q 1 --batch 16 --page-size 16
  attnprobe plan --head-dim 128 --seqlen 8192 --seqlen-q 1 --heads 32 --kv-heads 8 --kv-format e4m3
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
    add_shape_options(parser)
    add("--packed", action="store_true", help="sequences one after the other (attention_varlen)")
    add("--page-size", type=int, default=0, metavar="N", help="keys in pages (attention_paged)")
    add(
        "--arch",
        type=compute_capability,
        default=90,
        metavar="CC",
        help="compute capability: 80, 86, 89, 90 (or sm_90), ...",
    )
    add("--json", action="store_true", help="one object, all facts")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the plan."""
    from attnprobe.arch import arch
    from attnprobe.engine.plan import make_plan

    queries = args.seqlen if args.seqlen_q is None else args.seqlen_q
    rows = Sequences(queries, args.seqlen, args.packed, args.page_size)
    plan = make_plan(problem_of(args, rows), arch(args.arch))
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


def _facts(plan: Any) -> dict[str, Any]:
    variant = plan.variant
    return {
        "kernel": variant.entry,
        "source": f"kernels/{variant.source}",
        "arch": plan.arch.sm,
        "tile": f"{variant.block_m} {variant.row_name} x {variant.block_n} keys",
        "why": variant.why,
        "tuned": plan.tuned,
        "warps": variant.warps,
        "blocks": plan.grid[0],
        "blocks_per_multiprocessor": variant.blocks_per_sm,
        "shared_bytes": plan.shared_bytes,
        "v_parts": variant.v_parts,
        "num_splits": plan.num_splits,
        "launches": [f"{step.entry}, {step.grid[0]} blocks" for step in plan.steps],
        "features": list(plan.features),
        "passed_over": list(plan.passed_over),
        "defines": [f"{name} {value}" for name, value in plan.defines.items()],
    }
