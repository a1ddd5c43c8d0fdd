"""NVRTC, through ctypes: where it is, which version, what it compiles for, and one compile."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from attnprobe import cache as disk
from attnprobe.errors import CompileError
from attnprobe.frozen import dataclass

# What decides which library a search finds.
_SEARCHED = ("CUDA_PATH", "CUDA_HOME", "CONDA_PREFIX", "LD_LIBRARY_PATH")


@dataclass(frozen=True)
class Nvrtc:
    """The NVRTC library, loaded. ``version`` is (major, minor)."""

    library: Any
    version: tuple[int, int]
    path: str


@dataclass(frozen=True)
class Identity:
    """Which NVRTC would compile, known without loading it.

    Attributes
    ----------
    version : (major, minor).
    size : of the library's file, bytes: tells two builds of one version apart.
    ccs : compute capabilities that it compiles for, ascending.
    """

    version: tuple[int, int]
    size: int
    ccs: tuple[int, ...]

    @property
    def shown(self) -> str:
        """The version as people write it: ``12.9``."""
        return ".".join(map(str, self.version))


@cache
def nvrtc() -> Nvrtc:
    """Load NVRTC and return it.

    Raises
    ------
    CompileError
        If there is no NVRTC: says which extra brings it.
    """
    from cuda import pathfinder

    try:
        loaded = pathfinder.load_nvidia_dynamic_lib("nvrtc")
    except Exception as error:  # its exception type differs between versions
        raise CompileError(
            "NVRTC was not found; install it with: pip install 'attnprobe[cuda12]' (or [cuda13])",
            str(error),
        ) from error
    library = ctypes.CDLL(loaded.abs_path)
    library.nvrtcGetErrorString.restype = ctypes.c_char_p
    major, minor = ctypes.c_int(), ctypes.c_int()
    library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return Nvrtc(library, (major.value, minor.value), str(loaded.abs_path))


def identity() -> Identity:
    """Return which NVRTC would compile, from a note where it is not loaded yet.

    Finding and loading the library takes longer than a warm start may, so what was seen the last
    time is noted in the kernel store, and holds as long as that file is still the same.

    Raises
    ------
    CompileError
        If there is no NVRTC.
    """
    if not nvrtc.cache_info().currsize:
        note = _note()
        with suppress(OSError, ValueError, KeyError, TypeError):
            return _noted(note.read_bytes() if note else b"")
    return loaded_identity()


@cache
def loaded_identity() -> Identity:
    """Load NVRTC, return which it is, and note that for the next process.

    Raises
    ------
    CompileError
        If there is no NVRTC.
    """
    loaded = nvrtc()
    status = os.stat(loaded.path)
    found = Identity(loaded.version, status.st_size, _supported_ccs(loaded.library))
    note = _note()
    if note is not None:
        told = {"path": loaded.path, "mtime_ns": status.st_mtime_ns, **vars(found)}
        with suppress(OSError):  # the store itself will say that it cannot be written
            disk.write_whole(note, json.dumps(told).encode())
    return found


def _note() -> Path | None:
    """Return the file that says which library was found, looking where this process would look."""
    store = disk.store()
    if store is None:
        return None
    sites = [place for place in sys.path if place.endswith(("site-packages", "dist-packages"))]
    looked = [sys.prefix, *sites, *(os.environ.get(name, "") for name in _SEARCHED)]
    digest = hashlib.sha256("\0".join(looked).encode()).hexdigest()
    return store.folder / f"nvrtc-{digest[:16]}.json"


def _noted(raw: bytes) -> Identity:
    """Return what a note says of a library that is still there; ValueError where it is not."""
    told = json.loads(raw)
    status = os.stat(told["path"])
    if (status.st_size, status.st_mtime_ns) != (told["size"], told["mtime_ns"]):
        raise ValueError("another library by now")
    major, minor = told["version"]
    return Identity((int(major), int(minor)), int(told["size"]), tuple(map(int, told["ccs"])))


def compile_text(text: str, name: str, options: Sequence[str], kind: str) -> tuple[bytes, str]:
    """Return what NVRTC makes of ``text``, and its log.

    Parameters
    ----------
    name : file name that messages and line tables show.
    kind : "PTX" or "CUBIN".

    Raises
    ------
    CompileError
        With NVRTC's log.
    """
    library = nvrtc().library
    program = ctypes.c_void_p()
    created = library.nvrtcCreateProgram(
        ctypes.byref(program), text.encode(), name.encode(), 0, None, None
    )
    if created != 0:
        raise CompileError(f"{name}: {_error_string(library, created)}")
    try:
        encoded = [option.encode() for option in options]
        array = (ctypes.c_char_p * len(encoded))(*encoded)
        status = library.nvrtcCompileProgram(program, len(encoded), array)
        log = (
            _fetch(library, program, "ProgramLog").rstrip(b"\0").decode("utf-8", "replace").strip()
        )
        if status != 0:
            shown = " ".join(options)
            raise CompileError(f"{name}: {_error_string(library, status)} with {shown}", log)
        return _fetch(library, program, kind), log
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _supported_ccs(library: Any) -> tuple[int, ...]:
    count = ctypes.c_int()
    _check(library, library.nvrtcGetNumSupportedArchs(ctypes.byref(count)))
    found = (ctypes.c_int * count.value)()
    _check(library, library.nvrtcGetSupportedArchs(found))
    return tuple(sorted(found))


def _fetch(library: Any, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    _check(library, getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check(library, getattr(library, f"nvrtcGet{what}")(program, buffer))
    return buffer.raw


def _check(library: Any, status: int) -> None:
    if status != 0:
        raise CompileError(f"NVRTC: {_error_string(library, status)}")


def _error_string(library: Any, status: int) -> str:
    return str(library.nvrtcGetErrorString(status).decode())
