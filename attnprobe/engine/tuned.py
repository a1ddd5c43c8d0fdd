"""The user's table of tuned tiles: what ``attnprobe tune`` found faster than the rows' own choice.

One JSON file in the folder of compiled kernels, by shape class. An entry names the row that it
changes, by all its fields, and what it changes in it. It counts as long as there is such a row and
the kernel text is the one that was tuned; otherwise it is ignored, and tuning again replaces it.

    ATTNPROBE_TUNED=0           no table
    ATTNPROBE_CACHE_DIR         where it is: tuned/table.json below it (cache.py)
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from attnprobe import cache
from attnprobe import compile as compile_
from attnprobe.arch import Arch
from attnprobe.engine.features import FEATURES
from attnprobe.engine.problem import Problem
from attnprobe.engine.rows import ROWS
from attnprobe.engine.variants import Variant
from attnprobe.frozen import dataclass

SCHEMA = "attnprobe.tuned/1"


@dataclass(frozen=True)
class Entry:
    """The winner of one shape class.

    Attributes
    ----------
    shape_class : key; ``shape_class()`` makes it.
    base : fields of the row that is changed, ``why`` aside.
    changes : fields that are changed, and their values.
    text : digest of the kernel file that was tuned.
    note : how much faster it was than what, where and when.
    """

    shape_class: str
    base: Mapping[str, Any]
    changes: Mapping[str, Any]
    text: str
    note: str


def shape_class(problem: Problem, arch: Arch) -> str:
    """Return the name of the problems that one tile is best for.

    Widths, formats, features and the kind of sequences must be the same; lengths and the number of
    heads are taken to the nearest power of two.
    """
    kinds = [row.name for row in FEATURES if row.active(problem)]
    heads = problem.batch * problem.num_kv_heads
    group = problem.num_heads // max(1, problem.num_kv_heads)
    formats = f"{problem.format.name}/{problem.kv_format.name}/{problem.out_format.name}"
    window = [] if problem.window == (-1, -1) else [",".join(map(str, _sides(problem)))]
    splits = [f"splits {problem.num_splits}"] if problem.num_splits else []
    pages = [f"page {problem.layout.page_size}"] if problem.layout.page_size else []
    mapped = [] if problem.mappable else ["no tensor maps"]
    return " ".join(
        (
            f"{arch.sm}{arch.suffix}x{arch.multiprocessors}",
            f"d{problem.head_dim}/{problem.v_head_dim}",
            formats,
            f"q{_nearest(problem.seqlen_q)}",
            f"k{_nearest(problem.seqlen_k)}",
            f"h{_nearest(heads)}x{group}",
            *window,
            *splits,
            *pages,
            *mapped,
            *kinds,
        )
    )


def _sides(problem: Problem) -> tuple[int, int]:
    """Return the sides of the window as classes: -1 is open, 0 is 0."""
    left, right = problem.window
    return (_nearest(left) if left > 0 else left, _nearest(right) if right > 0 else right)


def _nearest(number: int) -> int:
    return 2 ** round(math.log2(number)) if number > 0 else 0


def facts(variant: Variant) -> dict[str, Any]:
    """Return the fields of a row that make it what it is: all but ``why``."""
    return {name: value for name, value in vars(variant).items() if name != "why"}


@lru_cache(maxsize=64)
def text_of(file: str) -> str:
    """Return a digest of a kernel file and all that it includes."""
    return hashlib.sha256(compile_.load_source(file).text.encode()).hexdigest()[:16]


def path() -> Path | None:
    """Return the table's file, there or not; None where tables are turned off or have no place."""
    if os.environ.get("ATTNPROBE_TUNED", "1") == "0" or cache.store() is None:
        return None
    folder = cache.folder()
    return None if folder is None else folder / "tuned" / "table.json"


def table() -> dict[str, Entry]:
    """Return the entries by shape class; none where there is no table."""
    file = path()
    if file is None:
        return {}
    try:
        status = file.stat()
    except OSError:
        return {}
    return _read(file, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4)
def _read(file: Path, changed: int, size: int) -> dict[str, Entry]:
    names = {item.name for item in fields(Entry)}
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        if told["schema"] != SCHEMA:
            raise ValueError(f"schema {told['schema']!r}")
        found = [Entry(**{name: each[name] for name in names}) for each in told["entries"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        cache.warn(f"the table of tuned tiles {file} is ignored: {error}")
        return {}
    return {entry.shape_class: entry for entry in found}


def write(entries: Iterable[Entry]) -> None:
    """Replace the table.

    Raises
    ------
    OSError
        Where it cannot be written, or tables are turned off.
    """
    file = path()
    if file is None:
        raise OSError("tuned tiles are turned off (ATTNPROBE_TUNED=0 or ATTNPROBE_CACHE=0)")
    listed = [vars(entry) for entry in entries]
    text = json.dumps({"schema": SCHEMA, "entries": listed}, indent=1) + "\n"
    cache.write_whole(file, text.encode())


def why_not(entry: Entry) -> str:
    """Return why an entry no longer counts, or "" where it does."""
    base = next((row for row in ROWS if facts(row) == dict(entry.base)), None)
    if base is None:
        return "the row that it changes is gone"
    if text_of(base.source) != entry.text:
        return "the kernel has changed since"
    known = {item.name for item in fields(base)}
    return "" if set(entry.changes) <= known else "the row has no such field"


def variant_for(problem: Problem, arch: Arch) -> Variant | None:
    """Return the tuned tile of a problem, or None where there is none that counts."""
    entries = table()
    if not entries:
        return None
    entry = entries.get(shape_class(problem, arch))
    if entry is None or why_not(entry):
        return None
    base = next(row for row in ROWS if facts(row) == dict(entry.base))
    tuned = replace(base, **entry.changes, why=f"tuned: {entry.note}")
    return tuned if tuned.refusal(problem, arch) is None else None
