"""Whose attention is tested: ready-made targets as rows, and any ``package.module:function``."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnprobe import _paths
from attnprobe.errors import ProblemError, UnsupportedError, UsageError
from attnprobe.numerics.calls import Call, dense
from attnprobe.numerics.memory import LAYOUTS
from attnprobe.numerics.plain import Plain
from attnprobe.numerics.reference import PLAIN, Array, Features
from attnprobe.numerics.relations import Result
from attnprobe.rig.libraries import Library, first_usable, library
from attnprobe.rig.signatures import ENTRIES, Attend, Signature, entry_of, signature, taken_by

_SOURCES = {".py", ".cu", ".cuh", ".cpp", ".h", ".so", ".pyd", ".ptx", ".cubin"}
_MUTANT = "mutant:"


class Declined(Exception):
    """A target does not serve a problem, and says so. Named in the report; no verdict."""


@dataclass(frozen=True)
class Target:
    """One callable under test, before it is loaded.

    Attributes
    ----------
    name : what the command line calls it.
    says : one line for the list of targets.
    signature : row of ``signatures``.
    libraries : names of the array libraries that it takes; the first that is usable is taken.
    load : () -> the callables, by the public call that each is a form of.
    sources : () -> files and words that make it what it is, for the key of a run.
    declines : pattern of messages by which it says that it does not serve a problem.
    around : () -> context manager that each call stands in.
    tile_rows : call -> queries of one tile of the kernel that serves it, 0 where it is not known.
    """

    name: str
    says: str
    signature: str
    libraries: tuple[str, ...]
    load: Callable[[], Mapping[str, Attend]]
    sources: Callable[[], tuple[Path | str, ...]]
    declines: str = ""
    around: Callable[[], AbstractContextManager[Any]] = nullcontext
    tile_rows: Callable[[Call], int] = lambda call: 0

    def fingerprint(self) -> str:
        """Return a hash of what the target is made of; it imports nothing of the target's."""
        return fingerprint_of((self.name, self.signature, *self.sources()))

    def open(self, arrays: str = "") -> Opened:
        """Return the target, loaded, with arrays of the library called ``arrays``.

        Raises
        ------
        UsageError
            If it cannot be imported.
        DeviceError
            If none of the array libraries that it takes can be used here.
        """
        chosen = library(arrays) if arrays else first_usable(self.libraries)
        entries = self.load()
        taken = {entry: taken_by(function) for entry, function in entries.items()}
        return Opened(self, entries, signature(self.signature), chosen, taken)


@dataclass(frozen=True)
class Opened:
    """A loaded target.

    Attributes
    ----------
    target : what it is.
    entries : the callables, by the public call that each is a form of.
    signature, library : how they are called, and with whose arrays.
    taken : names of the arguments that each takes.
    """

    target: Target
    entries: Mapping[str, Attend]
    signature: Signature
    library: Library
    taken: Mapping[str, frozenset[str]]

    def attend(self, q: Array, k: Array, v: Array, features: Features = PLAIN) -> Result:
        """Return O and LSE of a dense problem; as ``run``, for who has no ``Call`` at hand."""
        return self.run(dense((q, k, v), features, (), LAYOUTS["contiguous"], 0.0))

    def run(self, call: Call) -> Result:
        """Return O and LSE of a call as NumPy arrays; LSE is None from a target that returns none.

        Before the call, memory of the size of O is filled with NaN and given back, so that what
        the target leaves unwritten does not happen to be right.

        Raises
        ------
        Declined
            If the signature cannot say what is asked, or the target says that it does not serve it.
        Written
            If the target has changed its arguments.
        """
        refusal = self._refusal(call)
        if refusal:
            raise Declined(refusal)
        q, v = call.arrays["q"], list(call.arrays.values())[2]
        self.library.poison((*q.shape[:-1], v.shape[-1]), q.dtype)
        try:
            with self.target.around():
                return self._called(call)
        except (NotImplementedError, UnsupportedError, ProblemError) as error:
            raise Declined(f"the target says: {_first_line(error)}") from error

    def tile_rows(self, call: Call) -> int:
        """Return how many queries a tile of the kernel has; 0 where that is not known."""
        return self.target.tile_rows(call)

    def _refusal(self, call: Call) -> str:
        if call.entry not in self.entries:
            return f"{call.entry}: the target has no such call"
        return self.signature.refusal(call, self.taken[call.entry])

    def _called(self, call: Call) -> Result:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                return self.signature.call(
                    self.entries[call.entry],
                    call,
                    self.library.put,
                    self.library.get,
                    self.taken[call.entry],
                )
            except RuntimeError as error:
                if self.target.declines and re.search(self.target.declines, str(error)):
                    reasons = "; ".join(dict.fromkeys(_first_line(each.message) for each in said))
                    raise Declined(f"the target says: {reasons or _first_line(error)}") from error
                raise


def _first_line(message: object) -> str:
    return (str(message).strip().splitlines() or ["(no message)"])[0][:300]


def fingerprint_of(sources: Iterable[Path | str]) -> str:
    """Return a hash of some files and words."""
    digest = hashlib.sha256()
    for source in sources:
        data = source.read_bytes() if isinstance(source, Path) else source.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:20]


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


def _torch_sdpa() -> Mapping[str, Attend]:
    import torch

    return {"attention": torch.nn.functional.scaled_dot_product_attention}


def _pinned(backend: str) -> Callable[[], AbstractContextManager[Any]]:
    def around() -> AbstractContextManager[Any]:
        from torch.nn.attention import SDPBackend, sdpa_kernel

        context: AbstractContextManager[Any] = sdpa_kernel(getattr(SDPBackend, backend))
        return context

    return around


def _torch(name: str, backend: str, says: str, libraries: tuple[str, ...] = ("torch",)) -> Target:
    return Target(
        f"torch:{name}",
        f"torch's SDPA pinned to {says}",
        "sdpa",
        libraries,
        _torch_sdpa,
        lambda: (_version("torch"),),
        declines=r"No available kernel|No viable backend|not supported|no valid execution plan",
        around=_pinned(backend),
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
    ),
    Target(
        "yardstick",
        "the algorithm in NumPy float32 with a kernel's rounding points: sound, and needs no GPU",
        "ours",
        ("numpy",),
        _yardstick,
        package_files,
    ),
    _torch("flash", "FLASH_ATTENTION", "FlashAttention-2"),
    _torch("cudnn", "CUDNN_ATTENTION", "cuDNN"),
    _torch("efficient", "EFFICIENT_ATTENTION", "the memory-efficient kernel"),
    _torch("math", "MATH", "its composed math, on the GPU or the CPU", ("torch", "torch-cpu")),
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
    from attnprobe.mutants import apply, catalogue

    row = catalogue.find(name)

    def attention(q: Any, k: Any, v: Any, *, return_lse: bool = True, **asked: Any) -> Any:
        return tuple(apply.run(q, k, v, Features(**asked), row))

    return Target(
        f"{_MUTANT}{name}",
        f"our kernel, broken on purpose: {row.breaks}",
        "ours",
        ("cupy", "numpy"),
        lambda: {"attention": attention},
        lambda: (*package_files(), repr(row)),
        tile_rows=_our_tile,
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
