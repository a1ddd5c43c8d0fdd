"""The journal of a run: a line for each finished job, so that a stopped run goes on where it was.

A line is appended by one write, its end before it, so that a line that a crash cut short is lost
alone. The file's name is
a hash of all that can change a result: the target's sources, attnprobe's own, and the options.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnprobe.rig.report import Result

SCHEMA = "attnprobe.regress.journal/1"


def folder() -> Path:
    """Return where journals are kept: ``ATTNPROBE_STATE``, or the user's state folder."""
    given = os.environ.get("ATTNPROBE_STATE")
    if given:
        return Path(given)
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "attnprobe" / "regress"


def key(parts: Iterable[str]) -> str:
    """Return the hash that names the journal of a run made of ``parts``."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Journal:
    """The journal at ``path``, which need not exist yet: results, and where they were found."""

    path: Path

    def read(self) -> dict[str, Result]:
        """Return the finished jobs by name; none where there is no journal, or another schema's."""
        found = {}
        for data in self._lines():
            with contextlib.suppress(TypeError, KeyError, ValueError):  # another version's
                result = Result.of_json(data)
                found[result.job] = result
        return found

    def _lines(self) -> list[dict[str, Any]]:
        """Return what can be read of the journal, line by line."""
        try:
            first, *lines = self.path.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError):
            return []
        if _object(first) != {"schema": SCHEMA}:
            return []
        return [data for line in lines if (data := _object(line))]

    def environment(self) -> dict[str, str]:
        """Return where the results were found; {} where that is not known."""
        for data in self._lines():
            if "environment" in data:
                return dict(data["environment"])
        return {}

    def begin(self) -> None:
        """Start anew: a journal with no job in it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(f".{os.getpid()}.new")
        fresh.write_text(json.dumps({"schema": SCHEMA}), encoding="utf-8")
        fresh.replace(self.path)

    def add(self, result: Result) -> None:
        """Append one finished job."""
        self._append(result.as_json())

    def add_environment(self, environment: dict[str, str]) -> None:
        """Append where the jobs run."""
        self._append({"environment": environment})

    def _append(self, data: dict[str, Any]) -> None:
        line = ("\n" + json.dumps(data)).encode()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)


def _object(line: str) -> dict[str, Any]:
    """Return the object on a line; {} where none can be read."""
    try:
        data = json.loads(line)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}
