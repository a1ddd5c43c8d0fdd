"""Backend "recorded": dumps of real hardware, kept in ``probes/recorded/<arch>/``.

A folder holds ``index.json`` (readable: environments, and for each question, instruction and fill
the digest of the launch, the environment it ran in and the names of what it wrote) and one
``<question>.npz`` with the arrays. An array is named after its content, and so is kept once however
many instructions gave it.
A record answers a launch only when the digests agree: a changed kernel or fill makes it stale, and
a stale record is an error with the reason, never an answer. Records are written on a GPU only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from attnprobe import _paths
from attnprobe.backends.base import Array, Backend, Dump, Environment, Launch, NotRunError
from attnprobe.compile import Source
from attnprobe.errors import UsageError

SCHEMA = "attnprobe.recorded/1"
DEFAULT_CC = 90

Entry = dict[str, Any]


def default_folder(cc: int = DEFAULT_CC) -> Path:
    """Return the folder of the shipped dumps of compute capability ``cc``."""
    return _paths.data_dir("probes") / "recorded" / f"sm_{cc}"


def _empty_index() -> dict[str, Any]:
    return {"schema": SCHEMA, "environments": [], "records": {}}


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / "index.json"
    if not path.is_file():
        return _empty_index()
    index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if index.get("schema") != SCHEMA:
        found = index.get("schema")
        raise UsageError(f"{path} has schema {found!r}; this version reads {SCHEMA!r}")
    return index


def _names(ptx: str, fill: str, entry: Entry) -> list[str]:
    """Return the names of the arrays of a record; earlier records give their number alone."""
    outputs = entry["outputs"]
    if isinstance(outputs, int):
        return [f"{ptx}|{fill}|{number}" for number in range(outputs)]
    return list(outputs)


def _content_name(array: Array) -> str:
    content = hashlib.sha256(repr((array.shape, array.dtype.str)).encode())
    content.update(np.ascontiguousarray(array).tobytes())
    return content.hexdigest()[:16]


class RecordedBackend:
    """Answers launches from a folder of dumps.

    Parameters
    ----------
    folder : a folder with ``index.json``; the shipped sm_90 dumps where it is None.
    """

    name = "recorded"

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = default_folder() if folder is None else folder
        name = self.folder.name
        self.cc = int(name[3:]) if name.startswith("sm_") else DEFAULT_CC
        self._index = _read_index(self.folder)
        self._by_digest = {
            entry["digest"]: (question, ptx, fill, entry)
            for question, ptxs in self._index["records"].items()
            for ptx, fills in ptxs.items()
            for fill, entry in fills.items()
        }
        self._files: dict[str, Any] = {}

    def environment(self) -> Environment:
        """Return the environment of the latest recording."""
        environments = self._index["environments"]
        return dict(environments[-1]) if environments else {"device": "nothing recorded"}

    def labels(self) -> list[tuple[str, str, str]]:
        """Return (instruction, question, fill) of every record."""
        return [(ptx, question, fill) for question, ptx, fill, _ in self._by_digest.values()]

    def run(self, launch: Launch) -> Dump:
        """Return the recorded outputs of ``launch``.

        Raises
        ------
        NotRunError
            If nothing is recorded under its label, or the record is of another text or input.
        """
        found = self._by_digest.get(launch.digest())
        if found is None:
            raise NotRunError(self._why_not(launch))
        question, ptx, fill, entry = found
        arrays = tuple(self._read(question, name) for name in _names(ptx, fill, entry))
        for array, (shape, dtype) in zip(arrays, launch.outputs, strict=True):
            if array.shape != tuple(shape) or array.dtype != dtype:
                raise NotRunError(f"the record of {ptx}, {fill}, has shape {array.shape}")
        environment = dict(self._index["environments"][entry["environment"]])
        return Dump(arrays, self.name, environment)

    def _why_not(self, launch: Launch) -> str:
        ptx, question, fill = launch.label
        entry = self._index["records"].get(question, {}).get(ptx, {}).get(fill)
        if entry is None:
            return f"no record of fill {fill!r} in {self.folder.name}"
        return (
            f"the record of fill {fill!r} is stale: it was made with another kernel text or input "
            f"(recorded {entry['digest'][:8]}, now {launch.digest()[:8]}); record it again on a GPU"
        )

    def _read(self, question: str, name: str) -> Array:
        if question not in self._files:
            with np.load(self.folder / f"{question}.npz", allow_pickle=False) as stored:
                self._files[question] = {key: stored[key] for key in stored.files}
        array: Array = self._files[question][name]
        return array


class Recorder:
    """A backend that passes launches on to another one and keeps what came, to be saved.

    Attributes
    ----------
    name, cc : of the backend that it wraps.
    """

    def __init__(self, inner: Backend, command: str) -> None:
        self.name = inner.name
        self.cc = inner.cc
        self._inner = inner
        self._command = command
        self._kept: dict[tuple[str, str, str], tuple[str, tuple[Array, ...]]] = {}

    def environment(self) -> Environment:
        """Return the environment of the wrapped backend."""
        return self._inner.environment()

    def run(self, launch: Launch) -> Dump:
        """Return the wrapped backend's answer, and keep it."""
        dump = self._inner.run(launch)
        self._kept[launch.label] = (launch.digest(), dump.arrays)
        return dump

    def compile_ahead(self, wanted: Iterable[tuple[Source, str]]) -> int:
        """Let the wrapped backend compile what it will be asked, if it can."""
        compile_ahead = getattr(self._inner, "compile_ahead", None)
        return 0 if compile_ahead is None else int(compile_ahead(wanted))

    def save(self, folder: Path) -> int:
        """Add what was kept to ``folder`` over records of the same label; return their number."""
        folder.mkdir(parents=True, exist_ok=True)
        index = _read_index(folder)
        environment = {**self.environment(), "command": self._command}
        if environment not in index["environments"]:
            index["environments"].append(environment)
        number = index["environments"].index(environment)
        for question in sorted({label[1] for label in self._kept}):
            self._save_question(folder, index, question, number)
        _drop_unused_environments(index)
        (folder / "index.json").write_text(_index_text(index), encoding="utf-8")
        return len(self._kept)

    def _save_question(
        self, folder: Path, index: dict[str, Any], question: str, environment: int
    ) -> None:
        path = folder / f"{question}.npz"
        arrays: dict[str, Array] = {}
        if path.is_file():
            with np.load(path, allow_pickle=False) as stored:
                arrays = {key: stored[key] for key in stored.files}
        records = index["records"].setdefault(question, {})
        for (ptx, of_question, fill), (digest, outputs) in self._kept.items():
            if of_question != question:
                continue
            names = [_content_name(array) for array in outputs]
            entry: Entry = {"digest": digest, "environment": environment, "outputs": names}
            records.setdefault(ptx, {})[fill] = entry
            arrays |= dict(zip(names, outputs, strict=True))
        used = {
            name
            for ptx, fills in records.items()
            for fill, entry in fills.items()
            for name in _names(ptx, fill, entry)
        }
        in_order: dict[str, Any] = {key: arrays[key] for key in sorted(used)}
        np.savez_compressed(path, **in_order)


def _index_text(index: dict[str, Any]) -> str:
    """Return the index as JSON with a line for each instruction and question."""
    head = json.dumps({key: index[key] for key in ("schema", "environments")}, indent=1)
    questions = []
    for question, ptxs in sorted(index["records"].items()):
        lines = [f"   {json.dumps(ptx)}: {_line(fills)}" for ptx, fills in sorted(ptxs.items())]
        questions.append(f"  {json.dumps(question)}: {{\n" + ",\n".join(lines) + "\n  }")
    records = ",\n".join(questions)
    return head.removesuffix("\n}") + ',\n "records": {\n' + records + "\n }\n}\n"


def _line(fills: dict[str, Entry]) -> str:
    return json.dumps(fills, sort_keys=True, separators=(",", ":"))


def _drop_unused_environments(index: dict[str, Any]) -> None:
    """Remove environments that no record refers to any longer, and renumber the references."""
    entries: list[Entry] = [
        entry
        for ptxs in index["records"].values()
        for fills in ptxs.values()
        for entry in fills.values()
    ]
    used = sorted({entry["environment"] for entry in entries})
    index["environments"] = [index["environments"][number] for number in used]
    for entry in entries:
        entry["environment"] = used.index(entry["environment"])
