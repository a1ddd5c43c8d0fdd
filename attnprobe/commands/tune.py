"""``attnprobe tune``: searches the fastest tile for a shape class, and keeps it for the plan."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from typing import TYPE_CHECKING, Any

from attnprobe.commands.shape_options import Sequences, add_shape_options, problem_of

if TYPE_CHECKING:
    from attnprobe.bench.tune import Outcome

SCHEMA = "attnprobe.tune/1"

_EPILOG = """\
Tiles, stages and warps around the plan's own are compiled; those that spill are dropped; the others
are held against float64 and timed in turn. The winner is kept in the user's table (tuned/table.json
in the folder of compiled kernels), for lengths and heads near these, and `attnprobe plan` says so.
ATTNPROBE_TUNED=0 turns the table off.

examples:
  attnprobe tune --head-dim 128 --seqlen 4096 --heads 16 --batch 4 --causal
  attnprobe tune --head-dim 64 --seqlen 8192 --seqlen-q 1 --heads 32 --kv-heads 8 --batch 16
  attnprobe tune --head-dim 128 --seqlen 4096 --heads 16 --most 20 --dry-run
  attnprobe tune --list
  attnprobe tune --forget
"""


def add_parser(subparsers: Any) -> None:
    """Add ``tune``."""
    parser = subparsers.add_parser(
        "tune",
        help="search the fastest tile for a shape, and keep it for the plan",
        description="Searches tiles, stages and warps for a shape class on the GPU at hand.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--seqlen", type=int, default=4096, metavar="N", help="keys (4096); queries too by default")
    add("--seqlen-q", type=int, metavar="N", help="queries")
    add_shape_options(parser, head_dim_required=False)
    add("--packed", action="store_true", help="sequences one after the other (attention_varlen)")
    add("--page-size", type=int, default=0, metavar="N", help="keys in pages (attention_paged)")
    add("--most", type=int, default=0, metavar="N", help="tiles that are tried at most")
    add("--dry-run", action="store_true", help="search, and keep nothing")
    add("--list", action="store_true", help="list what the table has")
    add("--forget", action="store_true", help="empty the table; with --head-dim, of that shape")
    add("--json", action="store_true", help="one object, all facts")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Search, list or forget.

    Raises
    ------
    UsageError
        For options that do not go together, or a table that is turned off.
    DeviceError
        Where there is no usable GPU to time on.
    """
    from attnprobe.engine import tuned
    from attnprobe.errors import DeviceError, UsageError

    if tuned.path() is None:
        raise UsageError("tuned tiles are turned off: ATTNPROBE_TUNED=0 or ATTNPROBE_CACHE=0")
    if args.list:
        return _list(args)
    if args.forget and args.head_dim is None:
        return _forget("")
    if args.head_dim is None:
        raise UsageError("--head-dim is missing; attnprobe tune --help has examples")
    if args.unaligned:
        raise UsageError("--unaligned is not tuned: rows of odd lengths run anywhere")
    from attnprobe.backends.gpu import usable

    reason = usable()
    if reason:
        raise DeviceError(f"attnprobe tune times kernels and needs a GPU: {reason}")
    return _search(args)


def _search(args: argparse.Namespace) -> int:
    import cupy

    from attnprobe.bench import tune, tune_gpu
    from attnprobe.engine import tuned
    from attnprobe.engine.launch import gpu_arch
    from attnprobe.engine.plan import plan_of_rows
    from attnprobe.errors import UsageError
    from attnprobe.render import console
    from attnprobe.render import tune as documents

    queries = args.seqlen if args.seqlen_q is None else args.seqlen_q
    rows = Sequences(queries, args.seqlen, args.packed, args.page_size)
    if args.packed and queries != args.seqlen:
        raise UsageError("--packed tunes sequences with as many queries as keys")
    problem = tune_gpu.described(problem_of(args, rows))
    plan = plan_of_rows(problem, gpu_arch(int(cupy.cuda.Device().id)))
    if args.forget:
        return _forget(tuned.shape_class(plan.problem, plan.arch))
    bench = tune_gpu.GpuBench(problem, _options(args), cupy)
    outcome = tune.search(plan, bench, lambda line: print(line, file=sys.stderr), most=args.most)
    entry = None if args.dry_run else _keep(outcome)
    if args.json:
        print(json.dumps(_facts(outcome), indent=2))
        return 0
    console.write(documents.document(outcome), sys.stdout)
    if entry is not None:
        print(f"\nkept in {tuned.path()}: {entry.note}")
    return 0


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the numbers of the call."""
    left, right = (int(side) for side in args.window.split(","))
    options: dict[str, Any] = {"causal": args.causal, "softcap": args.softcap}
    options |= {"window_size": (left, right), "softmax_scale": args.softmax_scale}
    return options | ({"num_splits": args.num_splits} if args.num_splits else {})


def _keep(outcome: Outcome) -> Any:
    """Write the winner into the table, or remove what an earlier search wrote."""
    import cupy

    from attnprobe.engine import tuned

    properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
    device = properties["name"].decode()
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    entry = outcome.entry(f"{device}, {today}")
    entries = dict(tuned.table())
    entries.pop(outcome.shape_class, None)
    if entry is not None:
        entries[entry.shape_class] = entry
    _write(entries.values())
    return entry


def _write(entries: Any) -> None:
    from attnprobe.engine import tuned
    from attnprobe.errors import UsageError

    try:
        tuned.write(entries)
    except OSError as error:
        raise UsageError(f"the table of tuned tiles cannot be written: {error}") from error


def _forget(shape_class: str) -> int:
    from attnprobe.engine import tuned

    entries = tuned.table()
    kept = [entry for entry in entries.values() if shape_class and entry.shape_class != shape_class]
    if entries:
        _write(kept)
    print(f"{len(entries) - len(kept)} forgotten, {len(kept)} kept: {tuned.path()}")
    return 0


def _list(args: argparse.Namespace) -> int:
    from attnprobe.engine import tuned

    entries = tuned.table().values()
    if args.json:
        listed = [{**vars(entry), "ignored": tuned.why_not(entry)} for entry in entries]
        print(json.dumps({"schema": SCHEMA, "entries": listed}, indent=2))
        return 0
    for entry in entries:
        reason = tuned.why_not(entry)
        changes = ", ".join(f"{name} {value}" for name, value in entry.changes.items())
        ignored = f"  (ignored: {reason})" if reason else ""
        print(f"{entry.shape_class}\n    {changes}: {entry.note}{ignored}")
    print(f"{len(entries)} shape classes: {tuned.path()}")
    return 0


def _facts(outcome: Outcome) -> dict[str, Any]:
    from attnprobe.engine.tuned import facts

    tried = [
        {
            "variant": facts(each.variant),
            "median_us": each.median_us if each.samples_us else None,
            "samples_us": list(each.samples_us),
            "dropped": each.dropped,
        }
        for each in outcome.tried
    ]
    winner = facts(outcome.winner.variant)
    return {"schema": SCHEMA, "class": outcome.shape_class, "winner": winner, "tried": tried}
