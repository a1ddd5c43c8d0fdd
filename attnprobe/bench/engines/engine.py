"""What an engine is: how to see whether it is there, what it takes, and how one call is made."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from attnprobe.bench.cases import Case
from attnprobe.bench.inputs import Inputs

Call = Callable[[], Any]


def same(result: Any) -> Any:
    """Return the result: it is O, (batch, seqlen_q, heads, head_dim)."""
    return result


@dataclass(frozen=True)
class Engine:
    """One engine.

    Attributes
    ----------
    name : unique.
    library : whose streams and graphs it runs in: "cupy", "torch" or "jax".
    unit : matrix instruction that bounds it: "mma.sync", "wgmma" or "" for the best that there is.
    missing : () -> "" where it can be used here, else why not.
    versions : () -> names and versions of what it brings.
    refusal : a case -> "" where it takes it, else why not.
    make : inputs -> a call; it launches once and returns without waiting.
    o_of : what the call returns -> O, (batch, seqlen_q, heads, head_dim), of any library.
    """

    name: str
    library: str
    unit: str
    missing: Callable[[], str]
    versions: Callable[[], Mapping[str, str]]
    refusal: Callable[[Case], str]
    make: Callable[[Inputs], Call]
    o_of: Callable[[Any], Any] = same


def not_found(module: str, package: str) -> str:
    """Return "" where ``module`` can be imported, else why not; it is imported to see."""
    try:
        found = importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        return f"{package} is not installed"
    try:
        importlib.import_module(module)
    except Exception as error:  # whatever a library raises whose own needs are not met
        return f"{package} cannot be imported: {type(error).__name__}: {error}"
    return ""


def version_of(*packages: str) -> dict[str, str]:
    """Return the version of the first of ``packages`` that is installed, by its name."""
    for package in packages:
        try:
            return {package: importlib.metadata.version(package)}
        except importlib.metadata.PackageNotFoundError:
            continue
    return {}


def dense(case: Case, dtypes: tuple[str, ...] = ("float16", "bfloat16")) -> str:
    """Return why an engine that takes plain padded arrays alone does not take ``case``, or ""."""
    if case.feature:
        return "features are timed beside our own plain call"
    if case.dtype not in dtypes:
        return f"{case.dtype} is not taken"
    if case.kv_format:
        return f"takes no {case.kv_format} cache"
    return "" if case.layout == "padded" else "takes no pages"
