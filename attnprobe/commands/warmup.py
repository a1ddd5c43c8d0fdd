"""``attnprobe warmup``: compiles the kernels of a shape class ahead, into the store on disk."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

from attnprobe.commands.shape_options import (
    BYTE_DTYPES,
    DTYPES,
    Sequences,
    add_shape_options,
    compute_capability,
    problem_of,
)

SCHEMA = "attnprobe.warmup/1"
CALLS = ("prefill", "decode", "varlen", "paged")
BYTE_CALLS = ("prefill", "decode")  # that take a q of 8 bits
COMMON_HEAD_DIMS = (64, 128, 256)

_EPILOG = """\
The kernels of four kinds of call are compiled: attention over whole sequences (prefill) and of one
query (decode), attention_varlen, and attention_paged of one query; of e4m3 the first two, with the
three descales. --calls takes fewer. A kernel depends on widths, dtype and features, not on the
lengths; --seqlen decides where the plan does.

Needs no GPU where --arch is given. ATTNPROBE_CACHE_DIR says where the kernels are kept.

examples:
  attnprobe warmup --head-dim 128 --heads 32 --kv-heads 8 --causal --dtype float16 --arch sm_90
  attnprobe warmup --head-dim 64 --calls prefill,varlen
  attnprobe warmup --head-dim 128 --dtype e4m3 --arch sm_90
  attnprobe warmup --all --arch 89 --jobs 8
"""


def add_parser(subparsers: Any) -> None:
    """Add ``warmup``."""
    parser = subparsers.add_parser(
        "warmup",
        help="compile attention kernels ahead, so that no first call waits",
        description="Compiles attention kernels ahead into the cache on disk.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add_shape_options(parser, head_dim_required=False)
    add("--seqlen", type=int, default=4096, metavar="N", help="keys of a sequence (4096)")
    add("--page-size", type=int, default=16, metavar="N", help="keys in a page (16)")
    add("--calls", metavar="LIST", help=f"of {', '.join(CALLS)}; all of them by default")
    widths = ", ".join(map(str, COMMON_HEAD_DIMS))
    add(
        "--all",
        action="store_true",
        help=f"head_dim {widths}, both dtypes, causal and not, beside the other options",
    )
    add("--arch", type=compute_capability, metavar="CC", help="sm_90, ...; that of the GPU here")
    add("--jobs", type=int, default=0, metavar="N", help="compiles at a time; one for each core")
    add("--json", action="store_true", help="one object, all facts")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compile, and print what became of each kernel. Returns 4 where NVRTC refused one."""
    from attnprobe import cache
    from attnprobe.arch import arch
    from attnprobe.engine.plan import make_plan
    from attnprobe.engine.warmup import compile_all, texts_of
    from attnprobe.errors import UsageError

    if cache.store() is None:
        raise UsageError("the cache is turned off (ATTNPROBE_CACHE=0): nothing would be kept")
    row = arch(_arch_here() if args.arch is None else args.arch)
    wanted = texts_of(make_plan(problem, row) for problem in _problems(args))
    outcomes = []
    for outcome in compile_all(wanted, args.jobs):
        outcomes.append(outcome)
        if not args.json:
            _print(outcome)
    failed = [outcome for outcome in outcomes if outcome.error]
    if args.json:
        print(json.dumps({"schema": SCHEMA, "kernels": list(map(_facts, outcomes))}, indent=2))
    for outcome in failed:
        print(f"attnprobe: {outcome.error}", file=sys.stderr)
    return 4 if failed else 0


def _arch_here() -> int:
    """Return the compute capability of the current GPU; DeviceError where there is none."""
    from attnprobe.backends.gpu import usable
    from attnprobe.errors import DeviceError

    reason = usable()
    if reason:
        raise DeviceError(f"{reason}; --arch says what to compile for without a GPU")
    import cupy

    return int(cupy.cuda.Device().compute_capability)


def _problems(args: argparse.Namespace) -> Iterator[Any]:
    from attnprobe.errors import UsageError

    if args.head_dim is None and not args.all:
        raise UsageError("--head-dim is missing; or --all for the common widths")
    rows = {
        "prefill": Sequences(args.seqlen, args.seqlen),
        "decode": Sequences(1, args.seqlen),
        "varlen": Sequences(args.seqlen, args.seqlen, packed=True),
        "paged": Sequences(1, args.seqlen, page_size=args.page_size),
    }
    usual = BYTE_CALLS if args.dtype in BYTE_DTYPES else CALLS
    for call in args.calls.split(",") if args.calls else usual:
        if call not in rows:
            raise UsageError(f"--calls has {call!r}; of {', '.join(CALLS)} is wanted")
        for each in _classes(args):
            yield problem_of(each, rows[call])


def _classes(args: argparse.Namespace) -> Iterator[argparse.Namespace]:
    """Yield the options of each shape class."""
    if not args.all:
        yield args
        return
    for head_dim in COMMON_HEAD_DIMS if args.head_dim is None else (args.head_dim,):
        for dtype in DTYPES:
            for causal in (False, True):
                options = {**vars(args), "head_dim": head_dim, "dtype": dtype, "causal": causal}
                yield argparse.Namespace(**options)


def _facts(outcome: Any) -> dict[str, Any]:
    from attnprobe.compile import macros_of

    return {
        "kernel": outcome.wanted.source.name,
        "target": outcome.wanted.target,
        "state": _state(outcome),
        "seconds": round(outcome.seconds, 3),
        "macros": macros_of(outcome.wanted.source),
    }


def _state(outcome: Any) -> str:
    if outcome.error:
        return "refused"
    return "kept" if outcome.kept else "compiled"


def _print(outcome: Any) -> None:
    from attnprobe.compile import macros_of
    from attnprobe.render.kernels import shown_macros

    what = f"{outcome.wanted.source.name:26s} {outcome.wanted.target:7s}"
    state = f"{_state(outcome):8s} {outcome.seconds:6.1f} s"
    print(f"{what} {state}  {shown_macros(macros_of(outcome.wanted.source))}".rstrip(), flush=True)
