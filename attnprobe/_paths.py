"""Where the shipped data folders are: inside the installed package, or beside it in a checkout."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


@cache
def data_dir(name: str) -> Path:
    """Return the folder of shipped data ``name`` ("kernels" or "probes").

    A wheel holds it at ``attnprobe/<name>``; a checkout holds it beside the package.

    Raises
    ------
    FileNotFoundError
        If neither place has it: the installation is incomplete.
    """
    for candidate in (_PACKAGE / name, _PACKAGE.parent / name):
        if candidate.is_dir() and any(candidate.iterdir()):
            return candidate
    raise FileNotFoundError(
        f"the data folder {name!r} is neither in {_PACKAGE} nor beside it; reinstall attnprobe"
    )
