"""From a .cu file to one source text, and from the text to PTX or a cubin through NVRTC.

The text is the unit: the GPU backend gives it to ``cupy.RawModule``, the emulator compiles the same
text to PTX, and every cache key is made from it. Kernels include nothing but files of ``kernels/``,
and these are expanded here with ``#line`` marks, so a compile error names the real file and line.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from attnprobe import _paths
from attnprobe.errors import CompileError

# -fmad=false: the sources write every fma themselves, so ptxas fuses nothing on its own.
# -ftz=true: CuPy adds it to every compile; the emulator must see the same program.
OPTIONS: tuple[str, ...] = ("-std=c++17", "-fmad=false", "-default-device")
CUPY_IMPLIED: tuple[str, ...] = ("-ftz=true",)

_INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"\s*$')
_SYSTEM_INCLUDE = re.compile(r"^\s*#\s*include\s*<")


@dataclass(frozen=True)
class Source:
    """One kernel text, complete: includes expanded, macros in front.

    Attributes
    ----------
    text : what a compiler sees.
    name : file that it came from, relative to the kernels folder.
    """

    text: str
    name: str

    def replaced(self, old: str, new: str, count: int = 1) -> Source:
        """Return the source with ``old`` replaced, where it stands exactly ``count`` times.

        Raises
        ------
        CompileError
            If ``old`` does not stand there ``count`` times: a mutant that no longer applies.
        """
        found = self.text.count(old)
        if found != count:
            raise CompileError(f"{self.name}: expected {count} of {old!r}, found {found}")
        return Source(self.text.replace(old, new), self.name)


def load_source(name: str, defines: Mapping[str, object] | None = None) -> Source:
    """Return ``kernels/<name>`` as one text with ``defines`` as macros in front.

    Parameters
    ----------
    name : path below the kernels folder, with forward slashes: ``attention/fwd_mma.cu``.
    defines : macro name -> value, put in front as ``#define`` lines in the given order.
    """
    head = "".join(f"#define {key} {value}\n" for key, value in (defines or {}).items())
    body = expand_includes(_paths.data_dir("kernels"), name)
    return Source(head + body, name)


def expand_includes(root: Path, name: str) -> str:
    """Return the text of ``root/name`` with every ``#include "..."`` replaced by the file, once.

    Includes are looked up beside the including file, then from ``root``.

    Raises
    ------
    CompileError
        For an include that does not exist, or one of a system header.
    """
    seen: set[Path] = set()
    return _expand(root, (root / name).resolve(), seen)


def _expand(root: Path, path: Path, seen: set[Path]) -> str:
    seen.add(path)
    shown = path.relative_to(root.resolve()).as_posix()
    lines = [f'#line 1 "{shown}"']
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if _SYSTEM_INCLUDE.match(line):
            raise CompileError(
                f"{shown}:{number}: kernels include nothing but kernels/: {line.strip()}"
            )
        match = _INCLUDE.match(line)
        if match is None:
            lines.append("" if line.strip() == "#pragma once" else line)
            continue
        target = _find_include(root, path, match[1])
        if target is None:
            raise CompileError(f"{shown}:{number}: no file {match[1]!r}")
        if target not in seen:
            lines.append(_expand(root, target, seen))
        lines.append(f'#line {number + 1} "{shown}"')
    return "\n".join(lines) + "\n"


def _find_include(root: Path, including: Path, name: str) -> Path | None:
    for candidate in (including.parent / name, root / name):
        if candidate.is_file():
            return candidate.resolve()
    return None


@dataclass(frozen=True)
class Nvrtc:
    """The NVRTC library, loaded. ``version`` is (major, minor)."""

    library: Any
    version: tuple[int, int]
    path: str


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


@cache
def supported_ccs() -> tuple[int, ...]:
    """Return the compute capabilities that this NVRTC compiles for, ascending."""
    library = nvrtc().library
    count = ctypes.c_int()
    _check(library, library.nvrtcGetNumSupportedArchs(ctypes.byref(count)))
    found = (ctypes.c_int * count.value)()
    _check(library, library.nvrtcGetSupportedArchs(found))
    return tuple(sorted(found))


def device_target(cc: int, suffix: str = "") -> str:
    """Return the target whose cubins run on a device of compute capability ``cc``: ``sm_90a``.

    Without a suffix a cubin also runs on later devices of its major, so an NVRTC older than the
    device takes the nearest that it knows; with one it runs on that device alone.

    Raises
    ------
    CompileError
        If this NVRTC knows no such target.
    """
    older = [known for known in supported_ccs() if known <= cc and known // 10 == cc // 10]
    if not older or (suffix and older[-1] != cc):
        version = ".".join(map(str, nvrtc().version))
        raise CompileError(
            f"NVRTC {version} does not compile for sm_{cc}{suffix}; install a newer one: "
            "pip install 'attnprobe[cuda13]'"
        )
    return f"sm_{older[-1]}{suffix}"


@lru_cache(maxsize=256)
def ptx(source: Source, cc: int = 90, *, suffix: str = "", lineinfo: bool = True) -> str:
    """Return the PTX of ``source`` for virtual arch ``compute_<cc><suffix>``.

    Compiled as CuPy would compile it, so that the emulator executes the program that a GPU runs.
    ``lineinfo`` adds ``.loc`` lines, from which emulator errors name the source line.

    Raises
    ------
    CompileError
        With NVRTC's log.
    """
    extra = ("-lineinfo",) if lineinfo else ()
    options = (*OPTIONS, *CUPY_IMPLIED, *extra, f"-arch=compute_{cc}{suffix}")
    data, _ = _compile(source, options, "PTX")
    return data.decode("utf-8").rstrip("\0")


def cubin(source: Source, target: str) -> tuple[bytes, str]:
    """Return the cubin of ``source`` for a real target (``sm_90``) and ptxas's resource log.

    The log holds registers, spills and shared memory per kernel.

    Raises
    ------
    CompileError
        With NVRTC's log.
    """
    return _compile(
        source, (*OPTIONS, *CUPY_IMPLIED, f"-arch={target}", "--ptxas-options=-v"), "CUBIN"
    )


def _compile(source: Source, options: tuple[str, ...], kind: str) -> tuple[bytes, str]:
    library = nvrtc().library
    program = ctypes.c_void_p()
    created = library.nvrtcCreateProgram(
        ctypes.byref(program), source.text.encode(), source.name.encode(), 0, None, None
    )
    if created != 0:
        raise CompileError(f"{source.name}: {_error_string(library, created)}")
    try:
        encoded = [option.encode() for option in options]
        array = (ctypes.c_char_p * len(encoded))(*encoded)
        status = library.nvrtcCompileProgram(program, len(encoded), array)
        log = (
            _fetch(library, program, "ProgramLog").rstrip(b"\0").decode("utf-8", "replace").strip()
        )
        if status != 0:
            shown = " ".join(options)
            raise CompileError(f"{source.name}: {_error_string(library, status)} with {shown}", log)
        return _fetch(library, program, kind), log
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


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
