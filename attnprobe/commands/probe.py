"""``attnprobe probe``: ask the questions of ``probes/`` about instructions, on a GPU or none."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnprobe.layouts import Instruction
    from attnprobe.probing.definition import Question
    from attnprobe.probing.report import ProbeReport, ProbeResult

_EXAMPLES = """\
INSTR is the PTX mnemonic or any part of it; all instructions that it fits are probed.

examples:
  attnprobe probe                                   every question about every instruction
  attnprobe probe m16n8k16 --question operand_layout
  attnprobe probe ldmatrix --backend recorded       compare the rows with dumps of real hardware
  attnprobe probe x4.trans --backend emulator --json
  attnprobe probe --all --backend recorded          the coverage table: every row, its verdict
  attnprobe probe --list                            the questions, and what an answer proves
  attnprobe probe --record                          on a GPU: keep its dumps in probes/recorded/

exit codes: 0 all that ran matches, 1 mismatch, 2 a mistake in the call, 3 no usable GPU,
            4 a compile failed, 5 nothing could run
"""


def add_parser(subparsers: Any) -> None:
    """Add ``probe``."""
    parser = subparsers.add_parser(
        "probe",
        help="prove layouts: run small kernels and compare what they dump with the rows",
        description="Runs small kernels and compares, bit by bit, what they dump with the rows.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("instr", nargs="*", metavar="INSTR", help="mnemonics, or parts of them")
    parser.add_argument(
        "--question", action="append", metavar="NAME", help="only this question (may be repeated)"
    )
    add_backend(parser)
    parser.add_argument("--json", action="store_true", help="one object per answer, as a JSON list")
    parser.add_argument("--details", action="store_true", help="say what was found of all answers")
    parser.add_argument(
        "--all", action="store_true", help="print the coverage: every row, verdict, device, date"
    )
    parser.add_argument("--list", action="store_true", help="list the questions and run nothing")
    parser.add_argument("--record", action="store_true", help="keep the dumps of this GPU")
    parser.add_argument(
        "--record-to", type=Path, metavar="DIR", help="keep them there, not in probes/recorded/"
    )
    parser.set_defaults(run=run)


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Add ``--backend`` to a parser."""
    parser.add_argument(
        "--backend",
        choices=("auto", "gpu", "emulator", "recorded"),
        default="auto",
        help="auto (the default) is the GPU when there is one, else the emulator, and says which",
    )


def run(args: argparse.Namespace) -> int:
    """Ask, print the answers, and return the exit code.

    Raises
    ------
    UsageError
        For an instruction or a question that does not exist.
    DeviceError
        If a GPU is asked for, or needed to record, and there is none.
    """
    from attnprobe.probing import definition

    if args.list:
        _list_questions()
        return 0
    rows = _rows(args.instr)
    names = args.question or [question.name for question in definition.questions()]
    report = _ask(args, rows, [definition.find(name) for name in names])
    if args.json and not args.all:
        from attnprobe.render import json

        sys.stdout.write(json.dumps(report.as_json()))
    return report.exit_code


def _rows(texts: list[str]) -> list[Instruction]:
    """Return the rows that any of ``texts`` fits, in catalogue order; all rows for no text."""
    from attnprobe import layouts

    chosen = {row.ptx for text in texts for row in layouts.search(text) or [layouts.find(text)]}
    return [row for row in layouts.rows() if not texts or row.ptx in chosen]


def _ask(
    args: argparse.Namespace, rows: list[Instruction], questions: list[Question]
) -> ProbeReport:
    from attnprobe import backends
    from attnprobe.errors import UsageError
    from attnprobe.probing import session
    from attnprobe.render import probe_result

    if not session.pairs(rows, questions):
        names = ", ".join(question.name for question in questions)
        raise UsageError(f"no question of {names} applies to {rows[0].ptx}")
    recording = args.record or args.record_to is not None
    backend, said = backends.select("gpu" if recording and args.backend == "auto" else args.backend)
    print(said, file=sys.stderr)
    if recording:
        report = _recorded(args, rows, questions, backend)
    else:
        report = session.run(rows, questions, backend, _printer(args))
    if args.all:
        _print_coverage(args, rows, report, backend.cc)
    print(probe_result.total(report), file=sys.stderr if args.json else sys.stdout)
    caution = probe_result.caution(backend.name)
    if caution:
        print(caution, file=sys.stderr)
    return report


def _recorded(
    args: argparse.Namespace, rows: list[Instruction], questions: list[Question], backend: Any
) -> ProbeReport:
    """Ask on a GPU and keep the dumps, whatever the verdict: they are what was there."""
    from attnprobe.backends.recorded import Recorder, default_folder
    from attnprobe.errors import UsageError
    from attnprobe.probing import session

    if backend.name != "gpu":
        raise UsageError(f"only a GPU is recorded, not the backend {backend.name!r}")
    asked = [f"--question {name}" for name in args.question or ()]
    command = " ".join(["attnprobe probe", *args.instr, *asked, "--record"])
    recorder = Recorder(backend, command)
    folder = args.record_to or default_folder(backend.cc)
    try:
        return session.run(rows, questions, recorder, _printer(args))
    finally:  # what came before an error is evidence all the same
        count = recorder.save(folder)
        print(f"recorded {count} dumps in {folder}", file=sys.stderr)


def _print_coverage(
    args: argparse.Namespace, rows: list[Instruction], report: ProbeReport, cc: int
) -> None:
    from attnprobe.probing.coverage import coverage
    from attnprobe.render import console, json
    from attnprobe.render import coverage as tables

    lines = coverage(rows, report, cc)
    if args.json:
        sys.stdout.write(json.dumps([line.as_json() for line in lines]))
    else:
        console.write(tables.document(lines), sys.stdout)


def _printer(args: argparse.Namespace) -> Any:
    """Return what prints each result as it comes; with --json nothing does."""
    from attnprobe.probing.report import MATCH, MISMATCH
    from attnprobe.render import probe_result

    def show(result: ProbeResult) -> None:
        if args.all and result.verdict != MISMATCH:
            return
        print(probe_result.line(result), flush=True)
        if args.details or result.verdict != MATCH:
            for text in probe_result.details(result):
                print(text)

    return None if args.json else show


def _list_questions() -> None:
    from attnprobe.probing import definition

    for question in definition.questions():
        print(f"{question.name}  ({question.family}, {question.kernel})")
        print(f"  asks    {question.asks}")
        print(f"  proves  {question.proves}")
        print(f"  blind   {question.blind}")
        for fill in question.fills:
            print(f"  fill {fill.name}: {fill.says}")
