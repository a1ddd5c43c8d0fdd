"""The journal of a run: a line for each finished job, so that a stopped run goes on where it was.

A line is appended by one write, its end before it, so that a line that a crash cut short is lost
alone. The file's name is
a hash of all that can change a result: the target's sources, attnprobe's own, and the options.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

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
    """The journal at ``path``, which need not exist yet."""

    path: Path

    def read(self) -> dict[str, Result]:
        """Return the finished jobs by name; none where there is no journal, or another schema's."""
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return {}
        found: dict[str, Result] = {}
        for number, line in enumerate(lines):
            try:
                data = json.loads(line)
                if number == 0 and data != {"schema": SCHEMA}:
                    return {}
                if number:
                    result = Result.of_json(data)
                    found[result.job] = result
            except (ValueError, TypeError, KeyError):
                continue
        return found

    def begin(self) -> None:
        """Start anew: a journal with no job in it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(f".{os.getpid()}.new")
        fresh.write_text(json.dumps({"schema": SCHEMA}), encoding="utf-8")
        fresh.replace(self.path)

    def add(self, result: Result) -> None:
        """Append one finished job."""
        line = ("\n" + json.dumps(result.as_json())).encode()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
