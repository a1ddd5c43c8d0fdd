"""A question as data: which kernel, which fills, which comparison, and what an answer proves.

Questions are TOML files of ``probes/``; nothing in them executes. Every question is asked of every
layout row of its family for which its kernel can be generated.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnprobe import _paths
from attnprobe.errors import UsageError

_KEYS = ("name", "family", "kernel", "compare", "asks", "proves", "blind", "within", "fill")


@dataclass(frozen=True)
class Fill:
    """One launch of a question: a name, a sentence, and what each operand or address holds.

    Attributes
    ----------
    name : what ``attnprobe dump --fill`` takes.
    says : the fill in one sentence.
    parts : operand or other input -> name of what fills it ("A" -> "tags").
    """

    name: str
    says: str
    parts: Mapping[str, str]


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes
    ----------
    name : name of the file without its ending.
    family : of layout rows that it is asked of; several with blanks between.
    kernel : file in ``kernels/probe/``.
    compare : name of a function in ``COMPARISONS``.
    asks, proves, blind : the question, what an answer proves, and what it cannot see.
    within : what is said beside a match because of ``blind``, or "".
    fills : the launches.
    """

    name: str
    family: str
    kernel: str
    compare: str
    asks: str
    proves: str
    blind: str
    within: str
    fills: tuple[Fill, ...]

    @property
    def families(self) -> tuple[str, ...]:
        """The families of layout rows that it is asked of."""
        return tuple(self.family.split())

    def fill(self, name: str) -> Fill:
        """Return the fill ``name``."""
        return next(fill for fill in self.fills if fill.name == name)


def questions(folder: Path | None = None) -> tuple[Question, ...]:
    """Return all questions of ``folder`` (the shipped ones where it is None), in order of name.

    Raises
    ------
    UsageError
        For a file that is not a question; says which key is wrong.
    """
    place = _paths.data_dir("probes") if folder is None else folder
    return tuple(read(path) for path in sorted(place.glob("*.toml")))


def find(name: str) -> Question:
    """Return the shipped question ``name``.

    Raises
    ------
    UsageError
        If there is none; names the nearest.
    """
    known = {question.name: question for question in questions()}
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.0)
        raise UsageError(f"no question {name!r}; the nearest: {', '.join(close)}")
    return known[name]


def read(path: Path) -> Question:
    """Return the question of one TOML file.

    Raises
    ------
    UsageError
        For a missing or unknown key, or a name other than the file's.
    """
    data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    wrong = sorted(set(data) ^ set(_KEYS))
    if wrong:
        listed = f"{', '.join(wrong)}; wanted: {', '.join(_KEYS)}"
        raise UsageError(f"{path.name}: missing or unknown: {listed}")
    if data["name"] != path.stem:
        raise UsageError(f"{path.name}: its name is {data['name']!r}, not {path.stem!r}")
    fills = tuple(_fill(path, table) for table in data.pop("fill"))
    names = [fill.name for fill in fills]
    if len(set(names)) != len(names):
        raise UsageError(f"{path.name}: a fill is named twice: {names}")
    return Question(fills=fills, **data)


def _fill(path: Path, table: dict[str, str]) -> Fill:
    missing = {"name", "says"} - set(table)
    if missing:
        raise UsageError(f"{path.name}: a fill lacks {', '.join(sorted(missing))}")
    parts = {key: value for key, value in table.items() if key not in ("name", "says")}
    return Fill(table["name"], table["says"], parts)
