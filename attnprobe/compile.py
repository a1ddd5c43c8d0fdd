"""From a .cu file to one source text, and from the text to PTX or a cubin through NVRTC.

The text is the unit: a GPU gets its cubin, the emulator its PTX, and every key of the store on disk
(cache.py) is made from it. Kernels include nothing but files of ``kernels/``,
and these are expanded here with ``#line`` marks, so a compile error names the real file and line.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from attnprobe import _paths, cache, nvrtc
from attnprobe.cache import Built
from attnprobe.errors import CompileError
from attnprobe.frozen import dataclass

# -fmad=false: the sources write every fma themselves, so ptxas fuses nothing on its own.
# -ftz=true: CuPy adds it to every compile; the emulator must see the same program.
OPTIONS: tuple[str, ...] = ("-std=c++17", "-fmad=false", "-default-device")
CUPY_IMPLIED: tuple[str, ...] = ("-ftz=true",)

# The lines of a kernel file that do not stay as they are.
_DIRECTIVE = re.compile(
    r"^[ \t]*#[ \t]*(?:(?P<once>pragma once)|include[ \t]*(?:"
    r'"(?P<file>[^"\n]+)"|(?P<system><).*))[ \t]*$',
    re.MULTILINE,
)


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
    texts: dict[str, str | None] = {}  # of every name that was looked for; None: no such file
    if _find(str(root), texts, name) is None:
        raise CompileError(f"no file {name!r} below {root}")
    return _expand(str(root), name, texts, set())


def _expand(root: str, name: str, texts: dict[str, str | None], seen: set[str]) -> str:
    """Expand one file; its name is relative to ``root``, and no step in it leads up."""
    seen.add(name)
    text = texts[name] or ""

    def expanded(line: re.Match[str]) -> str:
        if line["once"]:
            return ""
        number = text.count("\n", 0, line.start()) + 1
        if line["system"]:
            raise CompileError(
                f"{name}:{number}: kernels include nothing but kernels/: {line[0].strip()}"
            )
        target = _find(root, texts, f"{posixpath.dirname(name)}/{line['file']}", line["file"])
        if target is None:
            raise CompileError(f"{name}:{number}: no file {line['file']!r}")
        body = "" if target in seen else _expand(root, target, texts, seen) + "\n"
        return f'{body}#line {number + 1} "{name}"'

    return f'#line 1 "{name}"\n{_DIRECTIVE.sub(expanded, text)}'


def _find(root: str, texts: dict[str, str | None], *names: str) -> str | None:
    """Return the first of ``names`` that is a file's, its text read."""
    for name in map(posixpath.normpath, names):
        if name not in texts:
            try:
                with open(f"{root}/{name}", encoding="utf-8") as file:
                    texts[name] = file.read()
            except OSError:
                texts[name] = None
        if texts[name] is not None:
            return name
    return None


def device_target(cc: int, suffix: str = "") -> str:
    """Return the target whose cubins run on a device of compute capability ``cc``: ``sm_90a``.

    Without a suffix a cubin also runs on later devices of its major, so an NVRTC older than the
    device takes the nearest that it knows; with one it runs on that device alone.

    Raises
    ------
    CompileError
        If this NVRTC knows no such target.
    """
    here = nvrtc.identity()
    older = [known for known in here.ccs if known <= cc and known // 10 == cc // 10]
    if not older or (suffix and older[-1] != cc):
        raise CompileError(
            f"NVRTC {here.shown} does not compile for sm_{cc}{suffix}; install a newer one: "
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
    options = ("-lineinfo",) if lineinfo else ()
    built = build(source, "PTX", f"compute_{cc}{suffix}", options)
    return built.data.decode("utf-8")


def cubin(source: Source, target: str) -> tuple[bytes, str]:
    """Return the cubin of ``source`` for a real target (``sm_90``) and ptxas's resource log.

    The log holds registers, spills and shared memory per kernel.

    Raises
    ------
    CompileError
        With NVRTC's log.
    """
    built = build(source, "CUBIN", target, ("--ptxas-options=-v",))
    return built.data, built.log


def is_built(source: Source, target: str) -> bool:
    """Return whether the store on disk has the cubin of ``source`` for ``target``."""
    found = _stored(source, "CUBIN", (*_options(target), "--ptxas-options=-v"), nvrtc.identity())
    return found is not None


def build(source: Source, kind: str, target: str, extra: tuple[str, ...] = ()) -> Built:
    """Return what NVRTC makes of ``source``, from the store on disk where it is there.

    Parameters
    ----------
    kind : "PTX" or "CUBIN".
    target : ``compute_90`` or ``sm_90``, with the suffix of a target of its own.
    extra : options beside the usual ones.

    Raises
    ------
    CompileError
        With NVRTC's log.
    """
    options = (*_options(target), *extra)
    expected = nvrtc.identity()
    found = _stored(source, kind, options, expected)
    if found is not None:
        return found
    here = nvrtc.loaded_identity()
    if here != expected:  # the note on which library it would be was out of date
        found = _stored(source, kind, options, here)
        if found is not None:
            return found
    data, log = nvrtc.compile_text(source.text, source.name, options, kind)
    built = Built(_without_folder(data) if kind == "PTX" else data, log)
    store = cache.store()
    if store is not None:
        facts = {
            "kind": kind.lower(),
            "kernel": source.name,
            "target": target,
            "nvrtc": here.shown,
            "macros": macros_of(source),
        }
        store.write(_key(source, kind, options, here), built, facts)
    return built


def macros_of(source: Source) -> dict[str, str]:
    """Return the macros that stand in front of ``source``."""
    head = source.text.partition("#line")[0]
    return dict(re.findall(r"^#define (\w+) (.*)$", head, re.MULTILINE))


def _options(target: str) -> tuple[str, ...]:
    return (*OPTIONS, *CUPY_IMPLIED, f"-arch={target}")


def _stored(
    source: Source, kind: str, options: tuple[str, ...], by: nvrtc.Identity
) -> Built | None:
    store = cache.store()
    return None if store is None else store.read(_key(source, kind, options, by))


def _key(source: Source, kind: str, options: tuple[str, ...], by: nvrtc.Identity) -> str:
    compiler = f"nvrtc {by.shown} of {by.size} bytes"
    return cache.key_of((kind, compiler, " ".join(options), source.name, source.text))


def _without_folder(ptx_text: bytes) -> bytes:
    """Return PTX whose ``.file`` lines name no folder of this process: NVRTC puts its own there."""
    here = re.escape(os.getcwd() + os.sep)
    text = ptx_text.decode("utf-8").rstrip("\0")
    return re.sub(rf'^([ \t]*\.file[ \t]+\d+ "){here}', r"\1", text, flags=re.MULTILINE).encode()
