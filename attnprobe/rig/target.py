"""A target: whose attention is tested, what it is made of, and one call of it."""

from __future__ import annotations

import hashlib
import platform
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attnprobe.errors import ProblemError, UnsupportedError
from attnprobe.numerics.calls import Call, dense
from attnprobe.numerics.memory import LAYOUTS
from attnprobe.numerics.reference import PLAIN, Array, Features
from attnprobe.numerics.relations import Result
from attnprobe.rig.libraries import Library, first_usable, library
from attnprobe.rig.signatures import Attend, Signature, signature, taken_by, tight, wanted

# Of a message: where in the library it was triggered, and the sizes that differ from call to call.
_NO_REASON = re.compile(r"\(Triggered internally at [^)]*\)|,? (?:Query|Key|Got Query)\.size.*")


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
    emulated : arrays of NumPy run on the emulator.
    dtype : format that every case is asked in, where it is not the case's own.
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
    emulated: bool = False
    dtype: str = ""

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
        call = tight(call, self.taken.get(call.entry, frozenset()))
        refusal = self._refusal(call)
        if refusal:
            raise Declined(refusal)
        q, v = call.arrays["q"], list(call.arrays.values())[2]
        dtype = q.dtype if q.dtype.itemsize > 1 else np.dtype(np.float16)  # O of e4m3 has 16 bits
        self.library.poison((*q.shape[:-1], v.shape[-1]), dtype)
        try:
            with self.target.around():
                return self._called(call)
        except (NotImplementedError, UnsupportedError, ProblemError) as error:
            raise Declined(f"the target says: {_first_line(error)}") from error

    def tile_rows(self, call: Call) -> int:
        """Return how many queries a tile of the kernel has; 0 where that is not known."""
        return self.target.tile_rows(call)

    def unsayable(self, entry: str, names: Iterable[str]) -> str:
        """Return why it cannot be asked for ``names``, as far as that is known without arrays."""
        if entry not in self.entries:
            return f"{entry}: the target has no such call"
        return self.signature.unsayable(entry, names)

    def alive(self) -> bool:
        """Return whether arrays still come and go: CUDA's errors can outlast the call."""
        sent = np.arange(4, dtype=np.float32)
        try:
            return bool((self.library.get(self.library.put(sent)) == sent).all())
        except Exception:  # whatever the library makes of it
            return False

    def environment(self) -> dict[str, str]:
        """Return where the target runs: device, versions, and whose arrays it takes."""
        found = self.library.environment()
        if self.target.emulated and self.library.name == "numpy":
            arch = _emulated_arch()
            found |= {"device": f"emulator of {arch}", "nvrtc": _nvrtc()}
        return {"python": platform.python_version(), **found, "arrays": self.library.name}

    def _refusal(self, call: Call) -> str:
        unsayable = self.unsayable(call.entry, wanted(call))
        return unsayable or self.signature.refusal(call, self.taken[call.entry])

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
                    reasons = _reasons([each.message for each in said])
                    raise Declined(f"the target says: {reasons or _first_line(error)}") from error
                raise


def _reasons(warned: list[object]) -> str:
    """Return in a line what a library has warned of before it gave up, without places and sizes."""
    lines = (_NO_REASON.sub("", _first_line(message)).strip(" .;:") for message in warned)
    return "; ".join(dict.fromkeys(line for line in lines if not line.endswith("because")))[:200]


def _first_line(message: object) -> str:
    return (str(message).strip().splitlines() or ["(no message)"])[0][:300]


def fingerprint_of(sources: Iterable[Path | str]) -> str:
    """Return a hash of some files and words."""
    digest = hashlib.sha256()
    for source in sources:
        data = source.read_bytes() if isinstance(source, Path) else source.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:20]


def _emulated_arch() -> str:
    from attnprobe.engine import launch

    return launch.emulated_arch().sm


def _nvrtc() -> str:
    from attnprobe import nvrtc

    return nvrtc.identity().shown
