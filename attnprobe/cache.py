"""A store of compiled kernels on disk: bounded, shared by processes, believed by its checksum.

One file an entry, named by the hash of all that the compile depended on. A file appears whole or
not at all (written beside, then renamed), so nobody waits for anybody and no lock can be left over:
two processes that miss the same entry both compile it, and the later rename wins. Whatever goes
wrong with the disk is said once and then lived with: the store is a saving, never a need.

    ATTNPROBE_CACHE=0           no store
    ATTNPROBE_CACHE_DIR         where it is; else XDG_CACHE_HOME/attnprobe, else ~/.cache/attnprobe
    ATTNPROBE_CACHE_SIZE_MB     how much it may hold (512); what was used longest ago goes first
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from attnprobe.frozen import dataclass

FORMAT = 1  # of the files and of what goes into a key; entries of another are never looked at
DEFAULT_SIZE_MB = 512
SUFFIX = ".kernel"
_MAGIC = b"attnprobe-cache-%d " % FORMAT
_CHECKSUM_BYTES = 64  # of SHA-256 in hex
_MIB = 1 << 20
_ROOM = 0.9  # of the limit that an eviction leaves full, so that the next write evicts nothing
_RECOUNT = 64  # writes after which the folder is measured anew: other processes write to it as well
_ABANDONED = 3600  # seconds after which a file in the writing is one whose process died


@dataclass(frozen=True)
class Built:
    """What a compile gives: the PTX text or the cubin, and the compiler's log."""

    data: bytes
    log: str


@dataclass(frozen=True)
class Entry:
    """One file of the store.

    Attributes
    ----------
    key : name that it is found by.
    size : of the file, bytes.
    used : when it was last read or written, seconds since the epoch.
    facts : what it holds (``kind``, ``kernel``, ``target``, ``nvrtc``, ``macros``); empty where
        the file cannot be read.
    """

    key: str
    size: int
    used: float
    facts: Mapping[str, Any]


def store() -> Store | None:
    """Return the store that the environment asks for, or None where it is turned off."""
    if os.environ.get("ATTNPROBE_CACHE", "1") == "0":
        return None
    place = folder()
    return None if place is None else _store(place, _limit())


def folder() -> Path | None:
    """Return the store's folder, made or not, or None where there is no home to put it in."""
    chosen = os.environ.get("ATTNPROBE_CACHE_DIR")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):  # the XDG specification: a relative one is to be ignored
        return Path(base) / "attnprobe"
    try:
        return Path.home() / ".cache" / "attnprobe"
    except RuntimeError as error:
        _warn_once(f"no cache of compiled kernels: {error}; set ATTNPROBE_CACHE_DIR")
        return None


def key_of(parts: Sequence[str]) -> str:
    """Return the key of a compile that depends on ``parts`` and on nothing else."""
    digest = hashlib.sha256(_MAGIC)
    for part in parts:
        encoded = part.encode()
        digest.update(b"%d:" % len(encoded))  # so that no two lists run together to one text
        digest.update(encoded)
    return digest.hexdigest()


class Store:
    """Entries in ``folder``, of at most ``limit`` bytes together.

    No method raises for what the disk does: a read that fails is a miss, a write that fails is
    reported once through the logger "attnprobe", and nothing more is written.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._broken = False
        self._lock = threading.Lock()
        self._total = 0  # bytes held, as of the last count and what this process wrote since
        self._uncounted = _RECOUNT  # writes since the last count; at first it was never counted

    def read(self, key: str) -> Built | None:
        """Return the entry of ``key``, marked as used now, or None. A damaged one is removed."""
        path = self._path(key)
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._give_up(error)
            return None
        built = _decoded(raw)
        if built is None:
            warn(f"{path} is damaged; it will be written anew")
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):  # somebody else's store may be readable alone
            os.utime(path)
        return built

    def write(self, key: str, built: Built, facts: Mapping[str, Any]) -> None:
        """Keep ``built`` under ``key``; ``facts`` are what a listing shows of it."""
        raw = _encoded(built, facts)
        if self._broken or len(raw) > self.limit:
            return
        try:
            write_whole(self._path(key), raw)
        except OSError as error:
            self._give_up(error)
            return
        self._make_room(len(raw))

    def entries(self) -> list[Entry]:
        """Return every entry, what was used last first."""
        found = [
            Entry(path.name.removesuffix(SUFFIX), status.st_size, status.st_mtime, _facts(path))
            for path, status in self._files()
        ]
        return sorted(found, key=lambda entry: (-entry.used, entry.key))

    def clear(self) -> tuple[int, int]:
        """Remove everything; return how many entries and bytes went."""
        count = freed = 0
        for path, status in self._files():
            with suppress(OSError):
                path.unlink()
                count, freed = count + 1, freed + status.st_size
        for path in self._of_pattern("*.json"):
            with suppress(OSError):
                path.unlink()
        self._remove_abandoned()
        with self._lock:
            self._total, self._uncounted = 0, _RECOUNT
        return count, freed

    def _give_up(self, error: OSError) -> None:
        """Say once that this store is of no use, and write nothing to it from now on."""
        if not self._broken:
            self._broken = True
            warn(f"compiled kernels cannot be kept in {self.folder}: {error}")

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{SUFFIX}"

    def _of_pattern(self, *patterns: str) -> Iterator[Path]:
        for pattern in patterns:
            with suppress(OSError):
                yield from self.folder.glob(pattern)

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self._of_pattern(f"*{SUFFIX}"):
            with suppress(OSError):  # another process removed it meanwhile
                yield path, path.stat()

    def _make_room(self, added: int) -> None:
        """Count what was ``added``; past the limit, drop what was used longest ago."""
        with self._lock:
            self._total += added
            self._uncounted += 1
            if self._uncounted < _RECOUNT and self._total <= self.limit:
                return
            self._uncounted = 0
            files = sorted(self._files(), key=lambda item: item[1].st_mtime_ns)
            self._total = sum(status.st_size for _, status in files)
            if self._total > self.limit:
                for path, status in files[:-1]:
                    if self._total <= _ROOM * self.limit:
                        break
                    with suppress(OSError):
                        path.unlink()
                    self._total -= status.st_size
            self._remove_abandoned()

    def _remove_abandoned(self) -> None:
        now = time.time()
        for path in self._of_pattern("*.tmp"):
            with suppress(OSError):
                if now - path.stat().st_mtime > _ABANDONED:
                    path.unlink()


def write_whole(path: Path, raw: bytes) -> None:
    """Write a file that others see whole or not at all, in a folder that is made if need be.

    Raises
    ------
    OSError
        If the disk is full or may not be written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=path.stem[:16] + "-", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
        os.replace(beside, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise


def _encoded(built: Built, facts: Mapping[str, Any]) -> bytes:
    """Return magic and checksum, then facts as a line of JSON, then log and data packed."""
    log = built.log.encode()
    head = json.dumps({**facts, "log_bytes": len(log)}).encode()
    rest = head + b"\n" + zlib.compress(log + built.data, 1)
    return _MAGIC + hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest


def _decoded(raw: bytes) -> Built | None:
    """Return what ``_encoded`` was given, or None where a single bit is wrong."""
    start = len(_MAGIC) + _CHECKSUM_BYTES + 1
    rest = raw[start:]
    if raw[:start] != _MAGIC + hashlib.sha256(rest).hexdigest().encode() + b"\n":
        return None
    head, packed = rest.split(b"\n", 1)
    unpacked = zlib.decompress(packed)
    log_bytes = json.loads(head)["log_bytes"]
    return Built(unpacked[log_bytes:], unpacked[:log_bytes].decode())


def _facts(path: Path) -> Mapping[str, Any]:
    """Return the facts at the head of a file without reading the rest."""
    try:
        with path.open("rb") as file:
            if not file.readline().startswith(_MAGIC):
                return {}
            facts = json.loads(file.readline())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _limit() -> int:
    """Return the most bytes that the store may hold."""
    given = os.environ.get("ATTNPROBE_CACHE_SIZE_MB", "")
    try:
        size = float(given or DEFAULT_SIZE_MB)
        if 0 <= size < float("inf"):
            return int(size * _MIB)
    except ValueError:
        pass
    _warn_once(f"ATTNPROBE_CACHE_SIZE_MB is {given!r}, no size; {DEFAULT_SIZE_MB} is taken")
    return DEFAULT_SIZE_MB * _MIB


def warn(message: str) -> None:
    """Say something through the logger "attnprobe"."""
    import logging  # takes longer to import than a warm start has to spare, and is rarely needed

    logging.getLogger("attnprobe").warning(message)


@lru_cache(maxsize=16)
def _store(place: Path, limit: int) -> Store:
    return Store(place, limit)


@lru_cache(maxsize=256)
def _warn_once(message: str) -> None:
    warn(message)
