"""``attnprobe dump``: print the fragments of an instruction for a fill of one's choice."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from attnprobe.commands.probe import add_backend

_EXAMPLES = """\
INSTR is the PTX mnemonic or any part of it that only one instruction has; words may be apart.

examples:
  attnprobe dump m16n8k16.row.col.f32.f16 --fill rows      A[r][k] = r, B = 1: D[m][n] is 16 * m,
                                                           so lane 0 holds 0, 0, 128, 128
  attnprobe dump m16n8k16.row.col.f32.f16 --fill tags --operand A    the name of each element of A
  attnprobe dump m8n8.x4.trans --fill tags                 matrix,row,col in each register
  attnprobe dump m8n8.x4.shared --fill same                all lanes pass the address of row 0
  attnprobe dump m16n8k8.row.col.f32.bf16 --operand all --json
"""


def add_parser(subparsers: Any) -> None:
    """Add ``dump``."""
    parser = subparsers.add_parser(
        "dump",
        help="print the fragments themselves for a fill",
        description="Runs one instruction on a fill and prints what every lane's registers hold.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("instr", nargs="+", metavar="INSTR", help="the mnemonic or a part of it")
    parser.add_argument(
        "--fill",
        metavar="NAME",
        help="what the operands hold: rows, cols, ones, tags, integers, random; of a load tags, "
        "scattered, same (default: rows, of a load tags)",
    )
    parser.add_argument(
        "--operand", default="D", metavar="NAME", help="A, B, C, D or all (default: D)"
    )
    parser.add_argument(
        "--block", type=int, default=0, metavar="N", help="which block of a fill that has several"
    )
    add_backend(parser)
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--json", action="store_const", const="json", dest="format")
    formats.add_argument("--csv", action="store_const", const="csv", dest="format")
    parser.set_defaults(run=run, format="text")


def run(args: argparse.Namespace) -> int:
    """Print the fragments; returns 0.

    Raises
    ------
    UsageError
        For an instruction, fill, operand or block that does not exist.
    DeviceError
        If a GPU is asked for and there is none.
    """
    from attnprobe import backends, layouts
    from attnprobe.probing import dump
    from attnprobe.render import probe_dump

    row = layouts.find(" ".join(args.instr))
    names = sorted(row.by_name) if args.operand.lower() == "all" else [args.operand.upper()]
    fill = args.fill or dump.usual_fill(row)
    backend, said = backends.select(args.backend)
    report = dump.fragments(row, fill, backend, names, args.block)
    print(said, file=sys.stderr)
    probe_dump.write(report, args.format, sys.stdout)
    return 0
