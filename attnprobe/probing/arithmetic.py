"""Questions on how a product adds: vectors put to a backend, the known rule and others compared.

Questions are TOML files of ``probes/arithmetic/``; every one is asked of every product row of its
kind whose arithmetic is known.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe import _paths, layouts
from attnprobe.backends.base import Backend, Launch
from attnprobe.compile import load_source
from attnprobe.errors import UsageError
from attnprobe.layouts import Instruction
from attnprobe.probing import macros, registers, vectors
from attnprobe.probing.hypotheses import HYPOTHESES
from attnprobe.ptx import exact_kinds, exact_plan

Array = npt.NDArray[Any]
Tiles = tuple[Array, Array, Array]  # raw A, B, C of many tiles
Multiply = Callable[[Tiles], Array]  # raw D: of a backend, or of the rule

_KEYS = ("name", "experiment", "rows", "asks", "shown", "separates")
_KINDS = {
    "float": (exact_kinds.Floats, exact_kinds.UnpackedFp8),  # NativeFp8 is one of Floats
    "fp8": (exact_kinds.UnpackedFp8, exact_kinds.NativeFp8),
    "f64": (exact_kinds.Doubles,),
    "integer": (exact_kinds.Integers,),
}


@dataclass(frozen=True)
class Question:
    """One question on arithmetic.

    Attributes
    ----------
    name : of the file without its ending, and of its vectors.
    experiment : its number in the page, "E1".
    rows : "float", "fp8", "f64", "integer", or a format of A or D such as "tf32" or "D f16".
    asks : the question.
    shown : says of the vectors that the page shows, where the row has them.
    separates : names of the hypotheses that it is there to tell from the known rule.
    """

    name: str
    experiment: str
    rows: str
    asks: str
    shown: tuple[str, ...]
    separates: tuple[str, ...]

    def applies(self, row: Instruction) -> bool:
        """Return whether it is asked of ``row``."""
        if self.rows in _KINDS:
            return isinstance(exact_kinds.arithmetic(row), _KINDS[self.rows])
        operand, _, form = self.rows.rpartition(" ")
        return row[operand or "A"].format.ptx == form


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a backend answered to one question about one row.

    Attributes
    ----------
    question, row : which.
    packed : the vectors.
    answers, predicted : raw results and what the known rule gives, (vectors,).
    others : hypothesis -> what it would give, for all that differ from the rule in any vector.
    """

    question: Question
    row: Instruction
    packed: vectors.Packed
    answers: Array
    predicted: Array
    others: Mapping[str, Array]

    @property
    def differing(self) -> int:
        """How many answers are not what the known rule gives."""
        return int((self.answers != self.predicted).sum())

    def refuted(self) -> dict[str, int]:
        """Return the hypotheses that some answers contradict, and how many do."""
        counts = {name: int((self.answers != bits).sum()) for name, bits in self.others.items()}
        return {name: count for name, count in counts.items() if count}


@cache
def questions() -> tuple[Question, ...]:
    """Return all questions, in the order of their experiments."""
    folder = _paths.data_dir("probes") / "arithmetic"
    found = [_read(path) for path in sorted(folder.glob("*.toml"))]
    return tuple(sorted(found, key=lambda question: (int(question.experiment[1:]), question.name)))


def _read(path: Path) -> Question:
    data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    wrong = sorted(set(data) ^ set(_KEYS))
    if wrong:
        wanted = ", ".join(_KEYS)
        raise UsageError(f"{path.name}: missing or unknown: {', '.join(wrong)}; wanted: {wanted}")
    unknown = sorted(set(data["separates"]) - set(HYPOTHESES))
    if unknown or data["name"] != path.stem:
        raise UsageError(f"{path.name}: unknown hypotheses {unknown}, or a name not the file's")
    shown, separates = tuple(data.pop("shown")), tuple(data.pop("separates"))
    return Question(**data, shown=shown, separates=separates)


def rows(cc: int = 90) -> tuple[Instruction, ...]:
    """Return the product rows whose arithmetic is known on ``cc``, in the order of the tables."""
    return tuple(row for row in layouts.rows("mma") if exact_kinds.known(row, cc))


def pairs(chosen: tuple[Instruction, ...]) -> list[tuple[Question, Instruction]]:
    """Return every question with every row of ``chosen`` that it applies to and has vectors for."""
    found = [(question, row) for question in questions() for row in chosen]
    return [
        (question, row)
        for question, row in found
        if question.applies(row) and len(vectors.pack(row, question.name).c)
    ]


def outcome(question: Question, row: Instruction, answers: Array) -> Outcome:
    """Return ``answers``, raw results of the question's vectors, beside rule and hypotheses."""
    packed = vectors.pack(row, question.name)
    tiles = vectors.tiles(row, packed)
    known = exact_kinds.arithmetic(row)
    predicted = vectors.picked(row, exact_plan.multiplied(known, *tiles), len(packed.c))
    others = {}
    for name in question.separates:
        other = HYPOTHESES[name].change(known, row)
        if other is not None:
            bits = vectors.picked(row, exact_plan.multiplied(other, *tiles), len(packed.c))
            if (bits != predicted).any():
                others[name] = bits
    return Outcome(question, row, packed, answers, predicted, others)


def ask(question: Question, row: Instruction, multiply: Multiply) -> Array:
    """Return the raw results, (vectors,), of what ``multiply`` makes of the question's tiles."""
    packed = vectors.pack(row, question.name)
    return vectors.picked(row, multiply(vectors.tiles(row, packed)), len(packed.c))


def products(row: Instruction, tiles: Tiles, backend: Backend, label: str = "tiles") -> Array:
    """Return raw D, (tiles, m, n), that ``backend`` gives for raw A, B and C of many tiles."""
    held = [
        registers.pack(row[name].fragment.gather(raw), row[name].format)
        for name, raw in zip("ABC", tiles, strict=True)
    ]
    d = row["D"]
    count = len(tiles[0])
    shape = (count, registers.words(d), d.fragment.lanes)
    launch = Launch(
        source=load_source("probe/mma_sync.cu", macros.product_macros(row)),
        entry="mma_sync",
        grid=(count, 1, 1),
        block=(row.lanes, 1, 1),
        inputs=tuple(held),
        outputs=((shape, np.dtype(np.uint32)),),
        label=(row.ptx, "arithmetic", label),
    )
    dump = backend.run(launch)
    return d.fragment.scatter(registers.unpack(dump.arrays[0], d.format))
