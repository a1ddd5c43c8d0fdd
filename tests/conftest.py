"""What every test module shares: checked emulation by default, and the two backends."""

from __future__ import annotations

import os

# Before NumPy is imported, which reads it then: matrices are tiny, and threads only wait.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnprobe.backends.gpu import usable
from attnprobe.rig.libraries import LIBRARIES

os.environ.setdefault("ATTNPROBE_CHECKED", "1")  # races and uninitialised reads are errors in tests
# What one run compiled the next one finds, and nothing is left in the home of who runs the tests.
_STORE = Path(__file__).resolve().parent.parent / ".pytest_cache" / "kernels"
os.environ.setdefault("ATTNPROBE_CACHE_DIR", str(_STORE))
os.environ.setdefault("ATTNPROBE_STATE", str(_STORE.with_name("regress")))
os.environ["ATTNPROBE_TUNED"] = "0"  # plans are those of the rows, whatever its user has tuned


@dataclass(frozen=True)
class Backend:
    """Where attention runs: how arrays get there and back."""

    name: str
    asarray: Callable[[Any], Any]
    asnumpy: Callable[[Any], Any]


def make_backend(name: str) -> Backend:
    """Return the backend ``emulator`` (NumPy) or ``gpu`` (CuPy)."""
    if name == "emulator":
        return Backend(name, lambda array: array, np.asarray)
    library = LIBRARIES["cupy"]
    return Backend(name, library.put, library.get)


@pytest.fixture(params=["emulator", pytest.param("gpu", marks=pytest.mark.gpu)])
def xp_backend(request: pytest.FixtureRequest) -> Backend:
    """Both backends in turn: what holds on one must hold on the other."""
    return make_backend(request.param)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = usable()
    if not reason:
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason=reason))
