"""``attnprobe mutants``: break the kernels on purpose, and see which test data refuse them."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnprobe.mutants.matrix import Matrix
    from attnprobe.mutants.mutant import Mutant
    from attnprobe.mutants.record import Record
    from attnprobe.mutants.workers import Task

INTERRUPTED = 130  # as a shell reports a process ended by SIGINT

_EPILOG = """\
A mutant is the real kernel with one small change that makes it wrong. Each runs on every fill of
the regression rig; a fill kills it where the oracle, or the emulator's checker, refuses the result.
The kernel as it is runs first on the same scenes: a fill that refuses it is a false alarm.

examples:
  attnprobe mutants                                  the kill matrix, all mutants by all fills
  attnprobe mutants --family masks --fill one_hot
  attnprobe mutants --mutant p_repack_order --json
  attnprobe mutants --fill near_uniform              what the bad example misses
  attnprobe mutants --list                           the mutants, and what each breaks
  attnprobe mutants --backend gpu -j 16 --record tests/recorded

exit codes: 0 every mutant that is not equivalent is killed and the sound kernel passes, 1 not,
            2 a mistake in the call, 3 no usable GPU, 4 a mutant no longer applies
"""


def add_parser(subparsers: Any) -> None:
    """Add ``mutants``."""
    parser = subparsers.add_parser(
        "mutants",
        help="break the kernels on purpose, and see which test data refuse them",
        description="Prints the kill matrix: seeded kernel bugs by test data.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--mutant", action="append", default=[], metavar="NAME", help="only this one (repeatable)")
    add("--family", action="append", default=[], metavar="NAME", help="only this family")
    add("--fill", action="append", default=[], metavar="NAME", help="only this fill (repeatable)")
    add(
        "--backend",
        choices=("auto", "gpu", "emulator"),
        default="auto",
        help="auto (the default) is the GPU when there is one, else the emulator, and says which",
    )
    add("-j", "--jobs", type=int, metavar="N", help="processes at a time; one a core by default")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="a list of one object for each mutant")
    form.add_argument("--md", action="store_true", help="Markdown tables")
    form.add_argument("--list", action="store_true", help="list the mutants and run nothing")
    add(
        "--record",
        type=Path,
        metavar="DIR",
        help="keep the matrix in DIR/mutants-<device>.json; a part of it replaces that part",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the mutants asked for, print the matrix, and return the exit code.

    Raises
    ------
    UsageError
        For a mutant, family or fill that does not exist.
    CompileError
        If a mutant no longer applies to the kernel text.
    DeviceError
        If a GPU is asked for and there is none.
    """
    chosen = _chosen(args)
    if args.list:
        _list(chosen)
        return 0
    from attnprobe import backends
    from attnprobe.mutants import matrix, record

    backend, said = backends.select(args.backend)
    print(said, file=sys.stderr)
    jobs = args.jobs or len(os.sched_getaffinity(0))
    found = matrix.run(chosen, args.fill, place=backend.name, jobs=jobs, done=_progress)
    kept = record.of(found, {**backend.environment(), "command": _command(args)})
    _print(args, kept)
    if args.record:
        where = kept.environment["device"] if backend.name == "gpu" else backend.name
        path = args.record / f"mutants-{where.lower().replace(' ', '-')}.json"
        part = found.stopped or args.mutant or args.family or args.fill
        record.save(
            record.joined(record.load(path), kept) if part and path.exists() else kept, path
        )
        print(f"record: {path}", file=sys.stderr)
    _complain(found)
    if found.stopped:
        print(f"interrupted: {len(found.rows)} of {len(chosen)} are finished", file=sys.stderr)
        return INTERRUPTED
    return 0 if found.ok else 1


def _chosen(args: argparse.Namespace) -> list[Mutant]:
    from attnprobe.errors import UsageError
    from attnprobe.mutants.catalogue import FAMILIES, MUTANTS, find

    for family in args.family:
        if family not in FAMILIES:
            raise UsageError(f"no family {family!r}; there are: {', '.join(FAMILIES)}")
    names = {find(name).name for name in args.mutant}
    everything = not names and not args.family
    return [row for row in MUTANTS if everything or row.name in names or row.family in args.family]


def _list(mutants: list[Mutant]) -> None:
    for row in mutants:
        print(f"{row.name}  ({row.family}, {row.subject})")
        print(f"  breaks      {row.breaks}")
        if row.field:
            print(f"  met in      {row.field}")
        if row.equivalent:
            print(f"  equivalent  {row.equivalent}")
        else:
            print(f"  refused by  {', '.join(row.refused_by)}")
        print(f"  seen on     {', '.join(row.seen_on)}")


def _command(args: argparse.Namespace) -> str:
    options = [
        *(f"--mutant {name}" for name in args.mutant),
        *(f"--family {name}" for name in args.family),
        *(f"--fill {name}" for name in args.fill),
    ]
    return " ".join(["attnprobe mutants", *options])


def _progress(task: Task, number: int, total: int) -> None:
    name = task.mutant or "the kernel as it is"
    line = f"[{number}/{total}] {name} on {task.scene}"
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="\n" if number == total else "", file=sys.stderr, flush=True)
    elif number % 20 == 0 or number == total:
        print(line, file=sys.stderr, flush=True)


def _print(args: argparse.Namespace, kept: Record) -> None:
    from attnprobe.render import console, json, markdown
    from attnprobe.render import mutants as tables

    if args.json:
        sys.stdout.write(json.dumps(kept.objects()))
    elif args.md:
        sys.stdout.write(markdown.render(tables.document(kept)))
    else:
        console.write(tables.document(kept), sys.stdout)


def _complain(found: Matrix) -> None:
    for scene, fill in found.false_alarms:
        print(f"false alarm: {fill} refuses the kernel as it is on {scene}", file=sys.stderr)
    for row in found.alive:
        assert row.mutant is not None
        print(f"alive: {row.mutant.name}: {row.mutant.breaks}", file=sys.stderr)
    for row in found.refuted:
        assert row.mutant is not None
        killers = ", ".join(row.killed_by)
        print(f"not equivalent: {row.mutant.name} is killed by {killers}", file=sys.stderr)
