"""``attnprobe layout``: list the layout rows, show one, and ask questions of them."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from attnprobe.commands.layout_options import (
    add_formats,
    add_pictures,
    position,
    wanted_picture,
)
from attnprobe.commands.layout_questions import QUESTION_EXAMPLES, add_questions

_LIST_EXAMPLES = """\
examples:
  attnprobe layout list                     every instruction that has a row
  attnprobe layout list ldmatrix trans      those whose mnemonic has both words
  attnprobe layout list --json              ptx, family, min_ptx, targets, ... of each
"""

_SHOW_EXAMPLES = """\
INSTR is the PTX mnemonic or any part of it that only one instruction has; words may be apart.

examples:
  attnprobe layout show mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32
  attnprobe layout show mma.sync.aligned.m16n8k16.row.col.f32.f16 --operand A
  attnprobe layout show ldmatrix m8n8.x4.trans.shared.b16 --lane 5 --reg 1   what a lane holds there
  attnprobe layout show ldmatrix m8n8.x4.trans.shared.b16 --at 2,0,7         who holds a position
  attnprobe layout show mma.sync.aligned.m16n8k16.row.col.f32.f16 --html page.html
  attnprobe layout show mma.sync.aligned.m16n8k16.row.col.f32.f16 --cute     as CuTe writes it
"""


def add_parser(subparsers: Any) -> None:
    """Add ``layout`` and its actions."""
    raw = argparse.RawDescriptionHelpFormatter
    examples = (_LIST_EXAMPLES, _SHOW_EXAMPLES, *QUESTION_EXAMPLES)
    parser = subparsers.add_parser(
        "layout",
        help="fragment layouts: which lane holds which element in which register",
        description="Fragment layouts: which lane holds which element in which register.",
        epilog="examples:\n" + "".join(text.partition("examples:\n")[2] for text in examples),
        formatter_class=raw,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    _add_list(
        actions.add_parser(
            "list", help="list the instructions", epilog=_LIST_EXAMPLES, formatter_class=raw
        )
    )
    _add_show(
        actions.add_parser(
            "show",
            help="show an instruction's operands, or look something up in them",
            epilog=_SHOW_EXAMPLES,
            formatter_class=raw,
        )
    )
    add_questions(actions)


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", nargs="*", metavar="TEXT", help="part of the mnemonic, or words")
    add_formats(parser)
    parser.set_defaults(run=run_list)


def _add_show(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("instr", nargs="+", metavar="INSTR", help="the mnemonic or a part of it")
    parser.add_argument("--operand", metavar="NAME", help="only this operand: A, B, C, D, ...")
    parser.add_argument("--lane", type=int, metavar="L", help="what this lane holds")
    parser.add_argument("--reg", type=int, metavar="R", help="what is held in this register")
    parser.add_argument(
        "--at",
        type=position,
        metavar="ROW,COL",
        help="who holds this position (of ldmatrix: MATRIX,ROW,COL)",
    )
    formats = add_formats(parser)
    add_pictures(formats)
    formats.add_argument(
        "--cute",
        action="store_const",
        const="cute",
        dest="format",
        help="as CuTe's (thread, value) layout",
    )
    parser.set_defaults(run=run_show)


def run_list(args: argparse.Namespace) -> int:
    """Print the rows that a text fits; returns 0."""
    from attnprobe.layouts import report
    from attnprobe.render import questions

    questions.write(report.listing(" ".join(args.text)), args.format, sys.stdout)
    return 0


def run_show(args: argparse.Namespace) -> int:
    """Print one instruction, or the answer to a look-up; returns 0.

    Raises
    ------
    UsageError
        For a name, lane, register or position that does not exist, or both look-ups at once.
    """
    from attnprobe.layouts import report
    from attnprobe.render import questions

    text = " ".join(args.instr)
    found = look_up(args, text)
    drawn = wanted_picture(args)
    if found is not None:
        _refuse_whole_forms(args, drawn)
        questions.write(found, args.format, sys.stdout)
        return 0
    sheet = report.sheet(text, args.operand)
    if drawn is not None:
        questions.write_picture(sheet, *drawn, sys.stdout)
    elif args.format == "cute":
        from attnprobe.render import diff

        sys.stdout.write(diff.cute_text(sheet))
    else:
        questions.write(sheet, args.format, sys.stdout)
    return 0


def look_up(args: argparse.Namespace, text: str) -> Any:
    """Return the answer to ``--at``, or to ``--lane`` and ``--reg``; None where none was asked.

    Raises
    ------
    UsageError
        For what does not exist, or both look-ups at once.
    """
    from attnprobe.errors import UsageError
    from attnprobe.layouts import report

    by_holder = args.lane is not None or args.reg is not None
    if by_holder and args.at is not None:
        raise UsageError(
            "--at asks for lanes, --lane and --reg for positions; give one or the other"
        )
    if by_holder:
        return report.held(text, args.lane, args.reg, args.operand)
    if args.at is not None:
        return report.holders(text, args.at, args.operand)
    return None


def _refuse_whole_forms(args: argparse.Namespace, drawn: tuple[str, str] | None) -> None:
    from attnprobe.errors import UsageError

    if drawn is not None or args.format == "cute":
        form = drawn[0] if drawn else "cute"
        raise UsageError(f"--{form} shows whole operands; leave out --at, --lane and --reg")
