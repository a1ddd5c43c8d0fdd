"""``attnprobe layout``: list the layout rows, show one, look up a register or a position."""

from __future__ import annotations

import argparse
import sys
from typing import Any

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
  attnprobe layout show m16n8k16 f32 f16 --operand A
  attnprobe layout show m16n8k16 f32 f16 --lane 5 --reg 1      what lane 5 holds in register 1
  attnprobe layout show m16n8k16 f32 f16 --at 9,3 --operand A  who holds A[9][3]
  attnprobe layout show x4.trans --at 2,0,7                    matrix 2, row 0, column 7
  attnprobe layout show x4.trans --json
"""


def add_parser(subparsers: Any) -> None:
    """Add ``layout list`` and ``layout show``."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = subparsers.add_parser(
        "layout",
        help="fragment layouts: which lane holds which element in which register",
        description="Fragment layouts: which lane holds which element in which register.",
        epilog=_LIST_EXAMPLES + _SHOW_EXAMPLES.partition("examples:\n")[2],
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


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", nargs="*", metavar="TEXT", help="part of the mnemonic, or words")
    _add_formats(parser)
    parser.set_defaults(run=run_list)


def _add_show(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("instr", nargs="+", metavar="INSTR", help="the mnemonic or a part of it")
    parser.add_argument("--operand", metavar="NAME", help="only this operand: A, B, C or D")
    parser.add_argument("--lane", type=int, metavar="L", help="what this lane holds")
    parser.add_argument("--reg", type=int, metavar="R", help="what is held in this register")
    parser.add_argument(
        "--at",
        type=_position,
        metavar="ROW,COL",
        help="who holds this position (of ldmatrix: MATRIX,ROW,COL)",
    )
    _add_formats(parser)
    parser.set_defaults(run=run_show)


def _add_formats(parser: argparse.ArgumentParser) -> None:
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--json", action="store_const", const="json", dest="format")
    formats.add_argument("--csv", action="store_const", const="csv", dest="format")
    parser.set_defaults(format="text")


def _position(text: str) -> tuple[int, ...]:
    try:
        position = tuple(int(part) for part in text.split(","))
    except ValueError:
        position = ()
    if len(position) not in (2, 3):
        raise argparse.ArgumentTypeError(f"{text!r} is no ROW,COL; write for example 9,3")
    return position


def run_list(args: argparse.Namespace) -> int:
    """Print the rows that a text fits; returns 0."""
    from attnprobe.layouts import report
    from attnprobe.render import layout

    layout.write(report.listing(" ".join(args.text)), args.format, sys.stdout)
    return 0


def run_show(args: argparse.Namespace) -> int:
    """Print one instruction, or the answer to a look-up; returns 0.

    Raises
    ------
    UsageError
        For a name, lane, register or position that does not exist, or both look-ups at once.
    """
    from attnprobe.errors import UsageError
    from attnprobe.layouts import report
    from attnprobe.render import layout

    text = " ".join(args.instr)
    by_holder = args.lane is not None or args.reg is not None
    if by_holder and args.at is not None:
        raise UsageError(
            "--at asks for lanes, --lane and --reg for positions; give one or the other"
        )
    if by_holder:
        found: Any = report.held(text, args.lane, args.reg, args.operand)
    elif args.at is not None:
        found = report.holders(text, args.at, args.operand)
    else:
        found = report.sheet(text, args.operand)
    layout.write(found, args.format, sys.stdout)
    return 0
