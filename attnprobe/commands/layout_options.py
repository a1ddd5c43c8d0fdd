"""Options that the actions of ``attnprobe layout`` share: output forms, pictures, positions."""

from __future__ import annotations

import argparse
from typing import Any


def add_formats(parser: argparse.ArgumentParser) -> Any:
    """Add ``--json``, ``--csv`` and ``--md``; returns their group, in which one may be given."""
    formats = parser.add_mutually_exclusive_group()
    says = {"json": "as JSON", "csv": "as CSV", "md": "as Markdown"}
    for name, text in says.items():
        formats.add_argument(
            f"--{name}", action="store_const", const=name, dest="format", help=text
        )
    parser.set_defaults(format="text")
    return formats


def add_pictures(formats: Any) -> None:
    """Add ``--svg FILE`` and ``--html FILE`` to a group of output forms."""
    formats.add_argument("--svg", metavar="FILE", help="write a picture; - for standard output")
    formats.add_argument(
        "--html", metavar="FILE", help="write a page to explore; - for standard output"
    )


def wanted_picture(args: argparse.Namespace) -> tuple[str, str] | None:
    """Return (form, file) of the picture that was asked for, or None."""
    for form in ("svg", "html"):
        name = getattr(args, form)
        if name is not None:
            return form, name
    return None


def position(text: str) -> tuple[int, ...]:
    """Return ROW,COL or MATRIX,ROW,COL as numbers, for argparse.

    Raises
    ------
    argparse.ArgumentTypeError
        For a text that is neither.
    """
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in (2, 3):
        raise argparse.ArgumentTypeError(f"{text!r} is no ROW,COL; write for example 9,3")
    return numbers
