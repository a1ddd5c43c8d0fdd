"""The targets by name: ready-made rows, ``mutant:NAME``, and any ``package.module:function``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from attnprobe import _paths
from attnprobe.engine.plan import on_kernel, plans_changed
from attnprobe.engine.variants import MMA_ENTRY
from attnprobe.errors import UsageError
from attnprobe.numerics.calls import Call
from attnprobe.numerics.plain import Plain
from attnprobe.rig import torch_sdpa
from attnprobe.rig.signatures import ENTRIES, Attend, entry_of, signature, taken_by
from attnprobe.rig.target import Target
from attnprobe.rig.torch_sdpa import Backend

_SOURCES = {".py", ".cu", ".cuh", ".cpp", ".h", ".so", ".pyd", ".ptx", ".cubin"}
_MUTANT = "mutant:"
# What torch says where the backend that it is pinned to does not serve a call.
_NO_KERNEL = r"No available kernel|no kernel found to launch|[Nn]o valid execution plan"

# --- ready-made targets ---------------------------------------------------------------------------


def _ours() -> Mapping[str, Attend]:
    from attnprobe import engine

    return {name: getattr(engine, name) for name in ENTRIES}


def _our_tile(call: Call) -> int:
    """Return the tile of the plan that the engine makes for such arrays; 0 for packed sequences."""
    if call.entry != "attention":
        return 0
    from attnprobe.backends.gpu import usable
    from attnprobe.engine import launch
    from attnprobe.engine.arrays import take
    from attnprobe.engine.plan import make_plan
    from attnprobe.engine.problem import make_problem

    arch = launch.emulated_arch() if usable() else launch.gpu_arch(0)
    q, k, v = (take(name, call.arrays[name]).spec(name) for name in "qkv")
    return make_plan(make_problem(q, k, v, None), arch).variant.block_m


def package_files() -> tuple[Path | str, ...]:
    """Return every file of attnprobe's own code and kernels."""
    return (*_files(Path(__file__).parent.parent), *_files(_paths.data_dir("kernels")))


def _yardstick() -> Mapping[str, Attend]:
    plain = Plain()
    return {name: getattr(plain, name) for name in ENTRIES}


def _torch(
    name: str, backend: Backend, says: str, libraries: tuple[str, ...] = ("torch",)
) -> Target:
    return Target(
        f"torch:{name}",
        f"torch's SDPA pinned to {says}",
        "sdpa",
        libraries,
        backend.load,
        lambda: (_version("torch"),),
        declines=_NO_KERNEL,
        around=backend.pinned,
    )


def _flash_attn() -> Mapping[str, Attend]:
    from flash_attn import flash_attn_func

    return {"attention": flash_attn_func}


def _version(package: str) -> str:
    from importlib import metadata

    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{package}, not installed"


TARGETS: tuple[Target, ...] = (
    Target(
        "ours",
        "attnprobe.attention: its kernels on the GPU, or on the emulator where there is none",
        "ours",
        ("cupy", "numpy"),
        _ours,
        package_files,
        tile_rows=_our_tile,
        emulated=True,
    ),
    Target(
        "ours:mma.sync",
        "the same on the mma.sync kernel, whichever the plan would take",
        "ours",
        ("cupy", "numpy"),
        _ours,
        package_files,
        around=lambda: plans_changed(partial(on_kernel, MMA_ENTRY)),
        emulated=True,
    ),
    Target(
        "ours:e4m3",
        "the same with Q, K and V in e4m3, each case's numbers rounded to it",
        "ours",
        ("cupy", "numpy"),
        _ours,
        package_files,
        emulated=True,
        dtype="e4m3",
    ),
    Target(
        "yardstick",
        "the algorithm in NumPy float32 with a kernel's rounding points: sound, and needs no GPU",
        "ours",
        ("numpy",),
        _yardstick,
        package_files,
    ),
    _torch("flash", torch_sdpa.FLASH, "FlashAttention-2"),
    _torch("cudnn", torch_sdpa.CUDNN, "cuDNN"),
    _torch("efficient", torch_sdpa.EFFICIENT, "the memory-efficient kernel"),
    _torch("math", torch_sdpa.MATH, "its composed math, on GPU or CPU", ("torch", "torch-cpu")),
    Target(
        "flash_attn",
        "flash_attn.flash_attn_func, of the flash-attn package",
        "flash",
        ("torch",),
        _flash_attn,
        lambda: (_version("flash-attn"),),
        declines="only supports|must be divisible",
    ),
)

# --- targets by name ------------------------------------------------------------------------------


def find(name: str, signature_name: str = "") -> Target:
    """Return the target called ``name``: a ready-made row, ``mutant:NAME``, or a callable's path.

    Parameters
    ----------
    name : of a row of TARGETS; ``mutant:NAME``, our kernel with a mutant's edits; or
        ``package.module:function``, any callable.
    signature_name : how a callable of one's own is called; "flash" by default.

    Raises
    ------
    UsageError
        For a name that is none of these, or a module that is not there.
    """
    ready = next((row for row in TARGETS if row.name == name), None)
    if ready is None and name.startswith(_MUTANT):
        ready = _mutant(name.removeprefix(_MUTANT))
    if ready is not None:
        if signature_name not in ("", ready.signature):
            raise UsageError(f"{name} is called by the signature {ready.signature!r}, not another")
        return ready
    module, _, function = name.partition(":")
    if not module or not function:
        names = ", ".join(row.name for row in TARGETS)
        raise UsageError(
            f"no target {name!r}; there are: {names}, mutant:NAME, and package.module:function"
        )
    return _callable(name, module, function, signature(signature_name or "flash").name)


def _mutant(name: str) -> Target:
    from attnprobe.mutants.apply import applied
    from attnprobe.mutants.catalogue import find as find_mutant

    row = find_mutant(name)
    return Target(
        f"{_MUTANT}{name}",
        f"our kernel, broken on purpose: {row.breaks}",
        "ours",
        ("cupy", "numpy"),
        _ours,
        lambda: (*package_files(), name),
        around=lambda: applied(row),
        tile_rows=_our_tile,
        emulated=True,
    )


def _callable(name: str, module: str, function: str, signature_name: str) -> Target:
    def load() -> Mapping[str, Attend]:
        _see_working_folder()
        try:
            found: Any = importlib.import_module(module)
            for part in function.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError) as error:
            raise UsageError(f"target {name!r} cannot be loaded: {error}") from error
        if not callable(found):
            raise UsageError(f"target {name!r} is a {type(found).__name__}, not a callable")
        return {entry_of(taken_by(found)): found}

    libraries = ("torch", "cupy", "numpy") if signature_name != "ours" else ("cupy", "numpy")
    return Target(
        name, "a callable of your own", signature_name, libraries, load, lambda: _made_of(module)
    )


def _see_working_folder() -> None:
    """Let modules be found in the working folder, as ``python -m`` does."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, "")


def _made_of(module: str) -> tuple[Path | str, ...]:
    """Return the source files of a module's package, or of the module, without importing it."""
    _see_working_folder()
    try:
        top = importlib.util.find_spec(module.partition(".")[0])
    except (ImportError, ValueError):
        top = None
    if top is None:
        raise UsageError(f"no module {module!r} is found from here")
    if top.submodule_search_locations:
        return tuple(
            path for folder in top.submodule_search_locations for path in _files(Path(folder))
        )
    return (Path(top.origin),) if top.origin and Path(top.origin).is_file() else (module,)


def _files(folder: Path) -> Iterator[Path]:
    """Yield the source files below ``folder`` in order."""
    return (
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix in _SOURCES and "__pycache__" not in path.parts and path.is_file()
    )
