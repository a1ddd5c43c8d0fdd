"""Reports of a GPU, kept as evidence: tests/recorded/regress-<target>-<device>.json."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attnprobe.errors import DeviceError
from attnprobe.rig.report import SOUND, Report, Result

ON_A_GPU = ("cupy", "torch")
_PLOTS = ("rows", "scores", "map", "fragment")  # of a diagnosis: pictures are made, not kept
MOST_DIAGNOSED = 3  # failures that are kept with all that is known of them


def check_possible(arrays: str) -> None:
    """Refuse a record of a run that is not on a GPU.

    Raises
    ------
    DeviceError
        If arrays of the library called ``arrays`` are not on a GPU.
    """
    if arrays not in ON_A_GPU:
        raise DeviceError(f"only a run on a GPU is recorded, and the arrays here are {arrays}'s")


def default_folder() -> Path:
    """Return tests/recorded/ of a checkout, or the working folder."""
    folder = Path(__file__).resolve().parents[2] / "tests" / "recorded"
    return folder if folder.is_dir() else Path.cwd()


def keep(report: Report, folder: Path | None = None) -> Path:
    """Write the record of ``report`` and return its path."""
    path = path_of("regress", report.target, report.environment, folder)
    path.write_text(json.dumps(_record(report), indent=1) + "\n", encoding="utf-8")
    return path


def path_of(
    kind: str, target: str, environment: Mapping[str, str], folder: Path | None = None
) -> Path:
    """Return where the record of one kind goes, in ``folder`` or the default, which is made."""
    folder = folder or default_folder()
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{kind}-{_slug(target)}-{_slug(environment.get('device', 'unknown'))}.json"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _record(report: Report) -> dict[str, Any]:
    data = report.as_json()
    failures = 0
    for result, kept in zip(report.results, data["results"], strict=True):
        failures += result.failed
        _shorten(result, kept, full=failures <= MOST_DIAGNOSED)
    return data


def _shorten(result: Result, kept: dict[str, Any], *, full: bool) -> None:
    """Leave out what is empty, pictures, and of later failures all but the verdict."""
    diagnosis = {k: v for k, v in result.diagnosis.items() if k not in _PLOTS} if full else {}
    kept["diagnosis"] = diagnosis
    if not full:
        kept["lines"] = kept["lines"][:1]
    for name in [name for name, value in kept.items() if value in ("", None, [], {})]:
        del kept[name]
    if result.verdict == SOUND:
        kept.pop("lines", None)
