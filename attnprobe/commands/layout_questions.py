"""The questions of ``attnprobe layout``: where, repack, load and diff."""

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

_F16 = "mma.sync.aligned.m16n8k16.row.col.f32.f16"
_FP8 = "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3"

_WHERE_EXAMPLES = f"""\
INSTR is the PTX mnemonic or any part of it that only one instruction has; words may be apart.
Without a look-up the whole matrix is shown, each position as lane:register.

examples:
  attnprobe layout where {_F16} --operand A
  attnprobe layout where {_F16} --operand A --at 9,3
  attnprobe layout where {_F16} --lane 5 --reg 1
  attnprobe layout where {_F16} --registers --operand B
  attnprobe layout where {_F16} --dot 9,3        D[9][3] as a sum over registers
"""

_REPACK_EXAMPLES = f"""\
FROM and TO are instructions, quoted where they have blanks in them. D of FROM becomes A of TO, or
B with --operand B. Several D side by side may make one A, and one D several.

examples:
  attnprobe layout repack {_F16} {_F16}
  attnprobe layout repack {_F16} {_F16} --operand B
  attnprobe layout repack {_FP8} {_FP8}
  attnprobe layout repack {_FP8} {_FP8} --cuda   as CUDA C++
  attnprobe layout repack {_FP8} {_FP8} --check --backend emulator
  attnprobe layout repack --check                run every known recipe; exit code 1 if one is wrong
  attnprobe layout repack --record               on a GPU: run them and keep the answers
"""

_LOAD_EXAMPLES = f"""\
TARGET is a product's operand, written INSTR:A. A, B and C are loaded with ldmatrix, D is stored
with stmatrix.

examples:
  attnprobe layout load {_F16}:A
  attnprobe layout load {_F16}:B --order row             rows of k, as V lies: .trans
  attnprobe layout load {_F16}:A --pitch 128             64 columns of f16: 8-way conflicts
  attnprobe layout load {_F16}:A --pitch 128 --swizzle 128
  attnprobe layout load {_F16}:D --json
"""

_DIFF_EXAMPLES = f"""\
A and B are two instructions, or two operands written INSTR:A.

examples:
  attnprobe layout diff {_F16} mma.sync.aligned.m16n8k8.row.col.f32.f16
  attnprobe layout diff {_F16}:A {_FP8}:A
  attnprobe layout diff {_F16}:D {_F16}:A
"""

QUESTION_EXAMPLES = (_WHERE_EXAMPLES, _REPACK_EXAMPLES, _LOAD_EXAMPLES, _DIFF_EXAMPLES)


def add_questions(actions: Any) -> None:
    """Add ``where``, ``repack``, ``load`` and ``diff``."""
    _add_where(_parser(actions, "where", _WHERE_EXAMPLES, "who holds what: whole, or one element"))
    _add_repack(_parser(actions, "repack", _REPACK_EXAMPLES, "how D becomes the next A or B"))
    _add_load(_parser(actions, "load", _LOAD_EXAMPLES, "addresses for ldmatrix and stmatrix"))
    _add_diff(_parser(actions, "diff", _DIFF_EXAMPLES, "what differs between two layouts"))


def _parser(actions: Any, name: str, examples: str, says: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        name, help=says, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    return parser


def _add_where(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("instr", nargs="+", metavar="INSTR", help="the mnemonic or a part of it")
    parser.add_argument("--operand", metavar="NAME", help="only this operand: A, B, C, D, ...")
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--at", type=position, metavar="ROW,COL", help="who holds this position")
    asked.add_argument("--dot", type=position, metavar="ROW,COL", help="write out D[ROW][COL]")
    asked.add_argument("--registers", action="store_true", help="every lane's registers")
    parser.add_argument("--lane", type=int, metavar="L", help="what this lane holds")
    parser.add_argument("--reg", type=int, metavar="R", help="what is held in this register")
    add_pictures(add_formats(parser))
    parser.set_defaults(run=run_where)


def _add_repack(parser: argparse.ArgumentParser) -> None:
    from attnprobe.commands.probe import add_backend

    parser.add_argument("source", nargs="?", metavar="FROM", help="the instruction that makes D")
    parser.add_argument("target", nargs="?", metavar="TO", help="the instruction that takes it")
    parser.add_argument("--operand", default="A", metavar="NAME", help="A (the default) or B")
    parser.add_argument("--transpose", action="store_true", help="D enters transposed")
    formats = add_formats(parser)
    formats.add_argument(
        "--cuda", action="store_const", const="cuda", dest="format", help="as CUDA C++ statements"
    )
    parser.add_argument("--check", action="store_true", help="run the recipes and compare")
    add_backend(parser)
    parser.add_argument("--record", action="store_true", help="keep the answers of this GPU")
    parser.add_argument(
        "--record-to", metavar="DIR", help="keep them there, not in probes/recorded/"
    )
    parser.set_defaults(run=run_repack)


def _add_load(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="TARGET", help="INSTR:A, INSTR:B, INSTR:C or INSTR:D")
    parser.add_argument(
        "--order", default="row", help="row (the default) or col: what lies side by side"
    )
    parser.add_argument(
        "--pitch", type=int, default=0, metavar="BYTES", help="from line to line; default: no gap"
    )
    parser.add_argument(
        "--swizzle", default="none", metavar="S", help="none, 32, 64, 128, or row: chunk ^ row %% 8"
    )
    add_formats(parser)
    parser.set_defaults(run=run_load)


def _add_diff(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", metavar="A", help="INSTR or INSTR:OPERAND")
    parser.add_argument("second", metavar="B", help="INSTR or INSTR:OPERAND")
    add_formats(parser)
    parser.set_defaults(run=run_diff)


def run_where(args: argparse.Namespace) -> int:
    """Print whole operands, one look-up, or one sum; returns 0.

    Raises
    ------
    UsageError
        For what does not exist, or two questions at once.
    """
    from attnprobe.commands.layout import look_up
    from attnprobe.errors import UsageError
    from attnprobe.layouts import report
    from attnprobe.layouts.questions import dot
    from attnprobe.render import questions
    from attnprobe.render.where import Whole

    text, drawn = " ".join(args.instr), wanted_picture(args)
    whole = args.at is None and args.dot is None and args.lane is None and args.reg is None
    if drawn is not None and (args.registers or not whole):
        raise UsageError(f"--{drawn[0]} draws whole matrices; leave out the look-up")
    if (args.dot is not None or args.registers) and (args.lane, args.reg) != (None, None):
        raise UsageError("--lane and --reg are a question of their own; ask one at a time")
    if drawn is not None:
        questions.write_picture(report.sheet(text, args.operand), *drawn, sys.stdout)
        return 0
    if args.dot is not None:
        answer: Any = dot.dot(text, args.dot)
    elif whole:
        answer = Whole(report.sheet(text, args.operand), args.registers)
    else:
        answer = look_up(args, text)
    questions.write(answer, args.format, sys.stdout)
    return 0


def run_repack(args: argparse.Namespace) -> int:
    """Print how D becomes the next operand, or run the recipes; returns the exit code.

    Raises
    ------
    UsageError
        For an instruction or operand that does not exist, or one instruction alone.
    """
    from attnprobe.errors import UsageError
    from attnprobe.layouts.questions import repack
    from attnprobe.render import moves, questions

    checking = args.check or args.record or args.record_to is not None
    if args.target is None and (args.source is not None or not checking):
        raise UsageError("name two instructions: attnprobe layout repack FROM TO")
    if checking:
        from attnprobe.commands import layout_check

        return layout_check.run(args)
    answer = repack.repack(args.source, args.target, args.operand, transposed=args.transpose)
    if args.format == "cuda":
        sys.stdout.write(moves.repack_code(answer))
    else:
        questions.write(answer, args.format, sys.stdout)
    return 0


def run_load(args: argparse.Namespace) -> int:
    """Print the addresses for a matrix load or store; returns 0.

    Raises
    ------
    UsageError
        If the target names no operand, or the order, pitch or swizzle is none.
    """
    from attnprobe.errors import UsageError
    from attnprobe.layouts.questions import diff, load
    from attnprobe.render import questions

    row, operand = diff.named(args.target)
    if operand is None:
        raise UsageError(f"name an operand too, such as {args.target}:A")
    answer = load.of_row(row, operand, order=args.order, pitch=args.pitch, swizzled=args.swizzle)
    questions.write(answer, args.format, sys.stdout)
    return 0


def run_diff(args: argparse.Namespace) -> int:
    """Print what differs between two layouts; returns 0."""
    from attnprobe.layouts.questions import diff
    from attnprobe.render import questions

    questions.write(diff.diff(args.first, args.second), args.format, sys.stdout)
    return 0
