"""``attnprobe regress``: any attention callable, on data that shows faults, judged row by row."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnprobe.rig.report import Report
    from attnprobe.rig.suite import Job

_EPILOG = """\
TARGET is a ready-made one (--list shows them), mutant:NAME (our kernel, broken on purpose), or
package.module:function, any callable; --signature says how that one is called.

examples:
  attnprobe regress --quick                                  our own kernels, under a minute
  attnprobe regress --target my_package.attention:forward --signature flash
  attnprobe regress --target torch:cudnn --full --html cudnn.html
  attnprobe regress --target mutant:p_repack_order --case "causal 65 x 65"
  attnprobe regress --target yardstick --case "64 x 64" --fill peaked --json
  attnprobe regress --full --resume                          go on where a run was stopped
  attnprobe regress --list                                   targets, cases, fills

exit codes: 0 sound, 1 refused, 2 a mistake in the call, 3 no usable GPU, 4 a compile failed,
            5 nothing applies to the target, 6 a call hung
"""


def add_parser(subparsers: Any) -> None:
    """Add ``regress``."""
    parser = subparsers.add_parser(
        "regress",
        help="refuse a broken attention kernel, yours or ours, and say what is wrong with it",
        description="Runs an attention callable on cases and data chosen to show faults, judges "
        "every row against float64 under a derived bound, and guesses at the fault.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--target", default="ours", metavar="TARGET", help="what is tested; ours by default")
    add(
        "--signature",
        default="",
        metavar="NAME",
        help="how a callable is called: flash, sdpa, ours",
    )
    add("--arrays", default="", metavar="NAME", help="whose arrays it gets: numpy, cupy, torch, ..")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="under a minute (the default)")
    size.add_argument("--full", action="store_true", help="all cases with all their fills")
    size.add_argument("--large", action="store_true", help="and real models in their own sizes")
    add("--case", action="append", metavar="TEXT", help="only this case, or those with TEXT in it")
    add("--fill", action="append", metavar="NAME", help="only this fill")
    add("--dtype", choices=("f16", "bf16"), help="every case in this format")
    add("--resume", action="store_true", help="take what a stopped run has finished")
    add("--timeout", type=float, default=60.0, metavar="S", help="seconds one call may take (60)")
    add("--workers", type=int, default=0, metavar="N", help="processes; by default one a core")
    add("--checked", action="store_true", help="on the emulator: report races and such as well")
    add("--json", action="store_true", help="the report as one object")
    add("--html", type=Path, metavar="FILE", help="write the report as one self-contained page")
    add("--details", action="store_true", help="every job a line, sound ones too")
    add("--record", action="store_true", help="keep the report of a GPU in tests/recorded/")
    add("--record-to", type=Path, metavar="DIR", help="keep it there")
    add("--list", action="store_true", help="list targets, signatures, cases and fills")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run, print, and return the exit code.

    Raises
    ------
    UsageError
        For a target, case or fill that does not exist.
    DeviceError
        Where the target cannot be used here, or a record is asked for without a GPU.
    """
    from attnprobe.render import console, json
    from attnprobe.render import regress as documents

    if args.list:
        console.write(documents.listing(), sys.stdout)
        return 0
    report = _report(args)
    if args.html:
        from attnprobe.render import regress_html

        args.html.write_text(regress_html.page(report), encoding="utf-8")
        print(f"wrote {args.html}", file=sys.stderr)
    if args.record or args.record_to:
        _record(report, args.record_to)
    if args.json:
        sys.stdout.write(json.dumps(report.as_json()))
    else:
        console.write(documents.document(report, details=args.details), sys.stdout)
    return report.exit_code


def _report(args: argparse.Namespace) -> Report:
    from attnprobe.render import progress
    from attnprobe.rig import record, session
    from attnprobe.rig.crew import Order

    order = Order(args.target, args.signature, args.arrays, args.checked)
    arrays = session.arrays_of(order)
    if args.record or args.record_to:
        record.check_possible(arrays)
    plan = session.Plan(
        order,
        _jobs(args, arrays),
        _command(args),
        args.workers,
        args.timeout,
        args.resume,
    )
    try:
        with progress.shown("regress", sys.stderr) as show:
            return session.run(plan, show)
    except KeyboardInterrupt:
        print("stopped; what was finished is kept: go on with --resume", file=sys.stderr)
        raise


def _size(args: argparse.Namespace) -> str:
    return "large" if args.large else "full" if args.full else "quick"


def _jobs(args: argparse.Namespace, arrays: str) -> tuple[Job, ...]:
    from attnprobe.errors import UsageError
    from attnprobe.numerics.fills import fill
    from attnprobe.rig import record, suite, targets

    for name in args.fill or ():
        fill(name)
    chosen = suite.select(
        _size(args),
        on_gpu=arrays in record.ON_A_GPU,
        cases=tuple(args.case or ()),
        fills=tuple(args.fill or ()),
        dtype=args.dtype or targets.find(args.target, args.signature or "").dtype,
    )
    if not chosen:
        raise UsageError("no case is left by --case, --fill and --dtype; --list shows all")
    return chosen


def _command(args: argparse.Namespace) -> str:
    """Return the command line that runs this again: what changes the results, and no more."""
    words = ["attnprobe", "regress", "--target", args.target]
    for name in ("signature", "arrays", "dtype"):
        if getattr(args, name):
            words += [f"--{name}", getattr(args, name)]
    words.append(f"--{_size(args)}")
    words += [word for each in args.case or () for word in ("--case", each)]
    words += [word for each in args.fill or () for word in ("--fill", each)]
    words += ["--checked"] if args.checked else []
    return shlex.join(words)


def _record(report: Report, folder: Path | None) -> None:
    from attnprobe.rig import record

    path = record.keep(report, folder)
    print(f"recorded {path}", file=sys.stderr)
