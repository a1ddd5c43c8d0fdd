"""Recorded answers of hardware to questions on arithmetic: written on a GPU, checked without one.

The folder ``probes/recorded/<arch>/arithmetic/`` holds ``questions.json`` (the raw results of all
vectors), ``tiles.json`` and ``scalars.json`` (a hash of the results of each chunk of random inputs,
and a few results as they are), and ``ex2.xz``. Inputs are not kept: they follow from their labels.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe import _paths
from attnprobe.backends.base import Backend
from attnprobe.errors import UsageError
from attnprobe.layouts import Instruction
from attnprobe.probing import arithmetic, scalars, tiles, vectors

Array = npt.NDArray[Any]
Json = dict[str, Any]
Multiply = arithmetic.Multiply

SCHEMA = "attnprobe.arithmetic/1"
CHUNK = 500  # tiles of one hash
SAMPLE = 16  # results of each regime that are kept as they are
_WHOLE = 10_800  # tiles of a type
_PART = 600  # tiles of the other rows of a type


def folder(cc: int = 90) -> Path:
    """Return the folder of the shipped answers of ``cc``."""
    return _paths.data_dir("probes") / "recorded" / f"sm_{cc}" / "arithmetic"


def digest(array: Array) -> str:
    """Return 16 hexadecimal digits that stand for an array's dtype and bytes."""
    text = array.dtype.str.encode() + np.ascontiguousarray(array).tobytes()
    return hashlib.sha256(text).hexdigest()[:16]


def packed(array: Array) -> str:
    """Return an array of unsigned integers as text: compressed, base64."""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(array).tobytes(), 9)).decode()


def unpacked(text: str, dtype: np.dtype[Any]) -> Array:
    """Return the array that ``packed`` made ``text`` of."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype)


# --- Questions ------------------------------------------------------------------------------------


def _vectors_digest(row: Instruction, name: str) -> str:
    held = vectors.pack(row, name)
    return digest(np.frombuffer(b"".join(x.tobytes() for x in (held.a, held.b, held.c)), np.uint8))


def record_questions(
    chosen: tuple[Instruction, ...], products_of: Callable[[Instruction], Multiply]
) -> Json:
    """Return the answers to all questions: question -> instruction -> answers."""
    found: Json = {}
    for question, row in arithmetic.pairs(chosen):
        answers = arithmetic.ask(question, row, products_of(row))
        entry = {"vectors": _vectors_digest(row, question.name), "answers": packed(answers)}
        found.setdefault(question.name, {})[row.ptx] = entry
    return found


def recorded_outcomes(data: Json, rows: tuple[Instruction, ...]) -> Iterator[arithmetic.Outcome]:
    """Yield the outcome of every recorded question about ``rows``.

    Raises
    ------
    UsageError
        If a question's vectors have changed since.
    """
    for question, row in arithmetic.pairs(rows):
        entry = data["questions"].get(question.name, {}).get(row.ptx)
        if entry is None:
            continue
        if entry["vectors"] != _vectors_digest(row, question.name):
            raise UsageError(f"{question.name}, {row.ptx}: the vectors changed; record them again")
        answers = unpacked(entry["answers"], row["D"].format.storage)
        yield arithmetic.outcome(question, row, answers)


# --- Tiles ----------------------------------------------------------------------------------------


def type_of(row: Instruction) -> str:
    """Return what rows of one arithmetic have in common: formats, and how integers add."""
    words = [row[name].format.ptx for name in "ABD"]
    words += [word for word in ("satfinite", "xor", "and") if word in row.ptx.split(".")]
    return ".".join(words)


def tile_count(row: Instruction, rows: tuple[Instruction, ...]) -> int:
    """Return how many tiles ``row`` is asked: most for the largest of its type.

    Of f64, whose rule takes longest, most for the smallest.
    """
    if row.family == "wgmma":
        return _PART
    same = [other for other in rows if type_of(other) == type_of(row)]
    chosen = (min if row["D"].format.ptx == "f64" else max)(same, key=lambda other: other.shape)
    return _WHOLE if row == chosen else _PART


def chunks(row: Instruction, count: int) -> Iterator[tuple[str, int, int]]:
    """Yield (regime, chunk, tiles) that together are ``count`` tiles."""
    names = tuple(tiles.regimes(row))
    each = count // len(names)
    for regime in names:
        for chunk, first in enumerate(range(0, each, CHUNK)):
            yield regime, chunk, min(CHUNK, each - first)


def record_tiles(row: Instruction, count: int, *multiply: Multiply) -> list[Json]:
    """Return, for each of ``multiply``, count and hashes of the products of ``row``'s tiles.

    ``multiply`` gives raw D of raw A, B, C: a backend does, or the rule.
    """
    found: list[Json] = [{"tiles": 0, "regimes": {}} for _ in multiply]
    for regime, chunk, size in chunks(row, count):
        held = tiles.make(row, regime, chunk, size)
        for one, answers in zip(multiply, found, strict=True):
            d = one(held)
            entry = answers["regimes"].setdefault(regime, {"hashes": []})
            entry["hashes"].append(digest(d))
            entry.setdefault("sample", [f"{value:x}" for value in d.ravel()[:SAMPLE].tolist()])
            answers["tiles"] += size
    return found


def differing_chunks(recorded: Json, found: Json) -> list[str]:
    """Return the chunks whose hashes are not the same, as "regime chunk"."""
    wrong = []
    for regime, entry in recorded["regimes"].items():
        hashes = found["regimes"].get(regime, {"hashes": []})["hashes"]
        if len(hashes) != len(entry["hashes"]):
            wrong.append(f"{regime}: {len(entry['hashes'])} recorded, {len(hashes)} here")
        pairs = zip(entry["hashes"], hashes, strict=False)
        wrong += [f"{regime} {i}" for i, (one, other) in enumerate(pairs) if one != other]
    return wrong


# --- Scalars --------------------------------------------------------------------------------------


def record_scalars(backend: Backend) -> Json:
    """Return the hashes of ``backend``'s results: instruction -> regime -> hash and sample."""
    found: Json = {}
    for scalar in scalars.SCALARS:
        for regime in scalars.REGIMES:
            results = scalars.ask(scalar, regime, backend)
            sample = [f"{value:x}" for value in results[:SAMPLE].tolist()]
            entry = {"hash": digest(results), "sample": sample}
            found.setdefault(scalar.ptx, {})[regime] = entry
    return found


# --- Files ----------------------------------------------------------------------------------------


def save(path: Path, environment: dict[str, str], name: str, data: Json) -> None:
    """Write one file of answers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"schema": SCHEMA, "environment": environment, name: data}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def load(path: Path) -> Json:
    """Return one file of answers.

    Raises
    ------
    UsageError
        If it has another schema.
    """
    data: Json = json.loads(path.read_text(encoding="utf-8"))
    if data.get("schema") != SCHEMA:
        raise UsageError(f"{path.name} has schema {data.get('schema')!r}, not {SCHEMA!r}")
    return data
