"""``attnprobe bench``: our kernels and every peer that is installed, timed in turn in one run."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnprobe.bench.record import Record

_EPILOG = """\
Engines take turns on the same N(0, 1) data, each result is held against float64 before it is timed,
and what the card can do at most is measured in the same run (docs/bench.md). The record is written
after every case; without --json it is kept in the user's state folder.

examples:
  attnprobe bench --quick                                some cases of every suite, two minutes
  attnprobe bench --suite prefill --json prefill.json --html prefill.html
  attnprobe bench --cases "d128 causal" --engines attnprobe,cuDNN
  attnprobe bench --suite all --budget 300 --json all.json
  attnprobe bench --suite all --json all.json --resume   go on where a run was cut off
  attnprobe bench --render all.json --html all.html --plots plots --csv all.csv
  attnprobe bench --compare old.json new.json            exit code 1 if something got slower
  attnprobe bench --list

exit codes: 0 done, 1 something got slower, 2 a mistake in the call, 3 no usable GPU
"""


def add_parser(subparsers: Any) -> None:
    """Add ``bench``."""
    parser = subparsers.add_parser(
        "bench",
        help="time attention beside every peer that is installed",
        description="Times attention and every peer that is installed in turn in one run, beside "
        "what the card can do at most.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--suite", default="all", metavar="LIST", help="prefill, decode, features, host; all")
    add("--cases", default="", metavar="TEXT", help="only cases whose name holds this text")
    add("--engines", default="", metavar="LIST", help="only engines whose name holds one of these")
    add("--quick", action="store_true", help="some cases, shorter batches")
    add("--budget", type=float, default=0.0, metavar="SECONDS", help="the most important, as far "
        "as this lasts")  # fmt: skip
    add("--resume", action="store_true", help="go on with the record of a run that was cut off")
    add("--json", type=Path, metavar="FILE", help="where the record is kept")
    add("--csv", type=Path, metavar="FILE", help="write a line for each case and engine")
    add("--html", type=Path, metavar="FILE", help="write the report as one self-contained page")
    add("--plots", type=Path, metavar="DIR", help="write the plots as SVG and PNG")
    add("--render", type=Path, metavar="RECORD", help="time nothing: show a record")
    add(
        "--compare",
        type=Path,
        nargs="+",
        metavar=("OLD", "NEW"),
        help="say what got slower since OLD; without NEW in a run now",
    )
    add("--list", action="store_true", help="list cases and engines")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Time, or read records, and print.

    Raises
    ------
    UsageError
        For options that do not go together, records that cannot be read, a library that is missing.
    DeviceError
        If kernels are to be timed and there is no usable GPU.
    """
    from attnprobe.bench import compare, record
    from attnprobe.errors import UsageError
    from attnprobe.render import bench as documents
    from attnprobe.render import console

    if args.list:
        console.write(documents.listing(), sys.stdout)
        return 0
    if args.compare and len(args.compare) > 2:
        raise UsageError(f"--compare takes OLD and NEW, and {len(args.compare)} are given")
    if args.render and args.compare:
        raise UsageError("--render and --compare do not go together: --compare OLD NEW prints both")
    _check_plots(args)
    old = record.load(args.compare[0]) if args.compare else None
    if args.render or (args.compare and len(args.compare) == 2):
        found = record.load(args.render or args.compare[1])
    else:
        found = _timed(args)
    _write_files(args, found)
    if old is not None:
        comparison = compare.compare(old, found)
        console.write(documents.comparison(comparison), sys.stdout)
        return comparison.exit_code
    console.write(documents.document(found), sys.stdout)
    return 0


def _check_plots(args: argparse.Namespace) -> None:
    """Refuse before a run what could not be drawn after it."""
    if args.html or args.plots:
        from attnprobe.render import plot_style

        plot_style.check_installed()


def _timed(args: argparse.Namespace) -> Record:
    from attnprobe.bench import engines, session
    from attnprobe.bench.machine import Gpu
    from attnprobe.bench.timing import FULL, QUICK
    from attnprobe.errors import UsageError

    suites = session.suites_of(args.suite)
    cases = session.choose(suites, args.cases, quick=args.quick)
    if args.cases:
        suites = tuple(name for name in suites if name != "host")  # none of its calls is a case
    if not cases and "host" not in suites:
        raise UsageError(f"no case of --suite {args.suite} holds {args.cases!r}; --list shows all")
    machine = Gpu(QUICK if args.quick else FULL, first_rounds=1 if args.quick else 3)
    path = args.json or default_path(machine.environment()["device"])
    plan = session.Plan(
        suites,
        cases,
        engines.chosen(args.engines),
        path,
        _command(args),
        args.resume,
        args.budget,
    )
    print(f"record: {path}", file=sys.stderr)
    return session.run(plan, machine, _show)


def _show(record: Record, name: str, seconds: float) -> None:
    from attnprobe.render.bench import line

    print(line(record, name, seconds), file=sys.stderr, flush=True)


def default_path(device: str) -> Path:
    """Return where the record of a device is kept where --json says nothing."""
    given, state = os.environ.get("ATTNPROBE_STATE"), os.environ.get("XDG_STATE_HOME")
    folder = (Path(state) if state else Path.home() / ".local" / "state") / "attnprobe"
    folder = Path(given) if given else folder
    return folder / "bench" / f"{device.lower().replace(' ', '-')}.json"


def _write_files(args: argparse.Namespace, record: Record) -> None:
    from attnprobe.render import bench as documents

    if args.csv:
        args.csv.write_text(documents.as_csv(record), encoding="utf-8")
        print(f"wrote {args.csv}", file=sys.stderr)
    if args.html:
        from attnprobe.render import bench_html

        args.html.write_text(bench_html.page(record), encoding="utf-8")
        print(f"wrote {args.html}", file=sys.stderr)
    if args.plots:
        from attnprobe.render import plots

        for path in plots.write(record, args.plots):
            print(f"wrote {path}", file=sys.stderr)


def _command(args: argparse.Namespace) -> str:
    """Return the command line that runs this again: what changes the results, and no more."""
    words = ["attnprobe", "bench", "--suite", args.suite]
    for name in ("cases", "engines"):
        if getattr(args, name):
            words += [f"--{name}", getattr(args, name)]
    words += ["--quick"] * args.quick
    if args.budget:
        words += ["--budget", f"{args.budget:g}"]
    return shlex.join(words)
