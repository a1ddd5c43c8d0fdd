"""The command line: finds the command, runs it, and turns errors into messages and exit codes.

    0  done                              4  a compile failed, or the compiler is missing
    1  a mismatch, or a faulty kernel    5  not supported on this arch, or by this backend
    2  a mistake in the call             6  out of time
    3  no usable GPU                    70  a fault of attnprobe itself

Data go to stdout, messages to stderr. Nothing heavy is imported here: ``--help`` must be quick.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from attnprobe import __version__
from attnprobe.errors import AttnprobeError

COMMANDS = (
    "layout",
    "probe",
    "discover",
    "dump",
    "plan",
    "warmup",
    "cache",
    "bench",
    "tune",
    "regress",
    "gate",
    "mutants",
    "demo",
)

INTERNAL_ERROR = 70  # EX_SOFTWARE of sysexits.h
INTERRUPTED = 130  # as a shell reports a process ended by SIGINT
BROKEN_PIPE = 141  # as a shell reports a process ended by SIGPIPE

_EPILOG = """\
examples:
  attnprobe layout list
  attnprobe layout show m16n8k16.row.col.f32.f16
  attnprobe probe --backend recorded
  attnprobe dump m16n8k16.row.col.f32.f16 --fill rows
  attnprobe demo

every command has examples of its own: attnprobe COMMAND --help
"""


class Parser(argparse.ArgumentParser):
    """A parser that takes ``--debug`` at every level, so that it can stand at the end of a call."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)
        self.add_argument(
            "--debug",
            action="store_true",
            default=argparse.SUPPRESS,  # a sub-parser's default would undo the flag before it
            help="show the traceback of an error",
        )


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = Parser(
        prog="attnprobe",
        description="Tensor-core fragment layouts proved on hardware, "
        "and the attention engine built on them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"attnprobe {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f"attnprobe.commands.{name}").add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Parameters
    ----------
    argv : arguments without the program's name; those of the process by default.
    """
    try:
        args = build_parser().parse_args(argv)
    except SystemExit as stop:  # argparse ends the process after --help and after a mistake
        return stop.code if isinstance(stop.code, int) else 2
    debug = getattr(args, "debug", False)
    try:
        code: int = args.run(args)
        sys.stdout.flush()  # a closed pipe shows here at the latest, not at interpreter exit
        return code
    except BrokenPipeError:
        _discard_stdout()
        return BROKEN_PIPE
    except KeyboardInterrupt:
        print("attnprobe: interrupted", file=sys.stderr)
        return INTERRUPTED
    except AttnprobeError as error:
        _report(error, str(error), debug)
        return error.exit_code
    except Exception as error:
        _report(error, f"{type(error).__name__}: {error} (--debug shows where)", debug)
        return INTERNAL_ERROR


def _report(error: Exception, message: str, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    else:
        print(f"attnprobe: {message}", file=sys.stderr)


def _discard_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's own flush at exit finds no closed pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
