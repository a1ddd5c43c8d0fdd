"""One way out for every question: text, JSON, CSV, Markdown, or a picture in a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from attnprobe.errors import UsageError
from attnprobe.layouts.questions.diff import Diff
from attnprobe.layouts.questions.dot import Dot
from attnprobe.layouts.questions.load import Load
from attnprobe.layouts.questions.repack import Repack
from attnprobe.layouts.report import Answer, Listing, Sheet
from attnprobe.render import console, diff, json, layout, markdown, moves, where
from attnprobe.render.document import Document
from attnprobe.render.where import Whole

_KINDS: dict[type, tuple[Callable[[Any], Document], Callable[[Any], Any], Callable[[Any], str]]] = {
    Whole: (where.whole_document, where.whole_object, where.whole_csv),
    Dot: (where.dot_document, where.dot_object, where.dot_csv),
    Repack: (moves.repack_document, moves.repack_object, moves.repack_csv),
    Load: (moves.load_document, moves.load_object, moves.load_csv),
    Diff: (diff.diff_document, diff.diff_object, diff.diff_csv),
    **dict.fromkeys(
        (Listing, Sheet, Answer), (layout.as_document, layout.as_object, layout.as_csv)
    ),
}


def write(report: Any, form: str, stream: TextIO) -> None:
    """Write a report on ``stream`` as "text", "json", "csv" or "md"."""
    as_document, as_object, as_csv = _KINDS[type(report)]
    if form == "json":
        stream.write(json.dumps(as_object(report)))
    elif form == "csv":
        stream.write(as_csv(report))
    elif form == "md":
        stream.write(markdown.render(as_document(report)))
    else:
        console.write(as_document(report), stream)


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
