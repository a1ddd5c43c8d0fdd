"""One way out for every question: text, JSON, CSV, Markdown, or a picture in a file.

The renderer of a report is imported when one is to be written: ``layout show`` must be quick.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from attnprobe.errors import UsageError

if TYPE_CHECKING:
    from attnprobe.layouts.report import Sheet

# Report -> module of this package, and what the names of its functions begin with: a report has
# <prefix>_document, <prefix>_object and <prefix>_csv.
_RENDERERS = {
    "Listing": ("layout", "as"),
    "Sheet": ("layout", "as"),
    "Answer": ("layout", "as"),
    "Whole": ("where", "whole"),
    "Dot": ("where", "dot"),
    "Repack": ("moves", "repack"),
    "Load": ("moves", "load"),
    "Diff": ("diff", "diff"),
}


def write(report: Any, form: str, stream: TextIO) -> None:
    """Write a report on ``stream`` as "text", "json", "csv" or "md"."""
    if form == "json":
        from attnprobe.render import json

        stream.write(json.dumps(_made(report, "object")))
    elif form == "csv":
        stream.write(_made(report, "csv"))
    elif form == "md":
        from attnprobe.render import markdown

        stream.write(markdown.render(_made(report, "document")))
    else:
        from attnprobe.render import console

        console.write(_made(report, "document"), stream)


def _made(report: Any, what: str) -> Any:
    module, prefix = _RENDERERS[type(report).__name__]
    renderer = importlib.import_module(f"attnprobe.render.{module}")
    return getattr(renderer, f"{prefix}_{what}")(report)


def write_picture(sheet: Sheet, form: str, name: str, stream: TextIO) -> None:
    """Write a picture of a sheet as "svg" or "html" to the file ``name``, "-" for ``stream``.

    Raises
    ------
    UsageError
        If the file cannot be written.
    """
    from attnprobe.render import html, svg

    draw = {"svg": svg.draw, "html": html.page}[form]
    text = draw(sheet.row, sheet.operands)
    if name == "-":
        stream.write(text)
        return
    try:
        Path(name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {name}: {error.strerror}") from error
    stream.write(f"{name}\n")
