"""Finds the layout of an instruction from dumps alone: its digits, with no row.

Of the instruction only what its mnemonic says is known: formats, shape, how many registers a lane
has. ``stripped`` takes the fragments out of a row, so that nothing below can look at them; launches
are those of the probes, so that recorded dumps serve as well as a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.backends.base import Backend, Dump, Environment, Launch
from attnprobe.errors import LayoutError, UnsupportedError
from attnprobe.layouts import Digit, Fragment, Instruction, Operand
from attnprobe.probing import definition, digits, generate
from attnprobe.probing.compare import Asked
from attnprobe.probing.definition import Question

Int = npt.NDArray[np.int64]


class Stripped(Instruction):
    """An instruction whose fragments only count slots: row l, column i is element i of lane l."""

    def __post_init__(self) -> None:
        """Check nothing: these fragments do not have the sizes of the operands."""


def stripped(row: Instruction) -> Instruction:
    """Return ``row`` without its layout: names, formats and register counts stay."""
    fields = {name: getattr(row, name) for name in row.__dataclass_fields__}
    return Stripped(**{**fields, "operands": tuple(_counted(each) for each in row.operands)})


def _counted(operand: Operand) -> Operand:
    lanes, elements = operand.fragment.lanes, operand.fragment.elements
    count = Fragment(lanes, elements, (Digit(lanes, row=1),), (Digit(elements, col=1),))
    return Operand(operand.name, count, operand.format, ("lane", "i"))


@cache
def shipped(question: str) -> Question:
    """Return a shipped question; its file is read once."""
    return definition.find(question)


@dataclass(frozen=True, eq=False)
class Asker:
    """Asks the questions of ``probes/`` about one stripped row, and counts what it takes.

    Attributes
    ----------
    row : the stripped row.
    backend : who answers.
    taken : launches and blocks so far, and the environment of the answers.
    """

    row: Instruction
    backend: Backend
    taken: dict[str, Any]

    def __call__(self, question: str, fill: str, row: Instruction | None = None) -> Asked:
        """Return the answer to one fill of a question."""
        asked = shipped(question)
        launch = generate.launch(row or self.row, asked, asked.fill(fill))
        dump = self.backend.run(launch)
        self._count(launch, dump)
        return Asked(asked.fill(fill), launch, dump)

    def applies(self, question: str) -> bool:
        """Return whether the question can be asked."""
        return generate.applies(shipped(question), self.row)

    def _count(self, launch: Launch, dump: Dump) -> None:
        self.taken["launches"] = self.taken.get("launches", 0) + 1
        self.taken["blocks"] = self.taken.get("blocks", 0) + launch.grid[0]
        self.taken["environment"] = dump.environment


@dataclass(frozen=True)
class Finding:
    """What was found of one instruction.

    Attributes
    ----------
    operands : with the fragments that the dumps give, in the order of the row.
    free : axes of which only the grouping was seen, not the order: ("m", "n", "k") of a product.
    said : sentences on how, and on what a probe cannot see.
    """

    operands: tuple[Operand, ...]
    free: tuple[str, ...] = ()
    said: tuple[str, ...] = ()


Method = Callable[[Instruction, Asker], Finding]
METHODS: dict[str, Method] = {}


def method(*families: str) -> Callable[[Method], Method]:
    """Register how instructions of some families are found."""

    def register(function: Method) -> Method:
        METHODS.update(dict.fromkeys(families, function))
        return function

    return register


@dataclass(frozen=True)
class Discovery:
    """A finding, where it came from, and whether the row says the same.

    Attributes
    ----------
    ptx : the instruction.
    finding : what was found.
    launches, blocks : what it took.
    backend, environment : who answered.
    verdict : "the row", "the row, in another order", "not the row" or "no row".
    differing : operands that differ from the row.
    """

    ptx: str
    finding: Finding
    launches: int
    blocks: int
    backend: str
    environment: Environment
    verdict: str
    differing: tuple[str, ...] = ()

    @property
    def agrees(self) -> bool:
        """Whether the row says the same, as far as can be seen."""
        return not self.differing


def families() -> tuple[str, ...]:
    """Return the families of instructions that discovery knows what to ask."""
    from attnprobe.probing import (  # noqa: F401  (they register their methods)
        discover_loads,
        discover_products,
        discover_sparse,
        discover_warpgroup,
    )

    return tuple(METHODS)


def discover(row: Instruction, backend: Backend, *, compare: bool = True) -> Discovery:
    """Return the layout of ``row`` as the answers of ``backend`` give it.

    ``compare`` says whether ``row`` has a layout that the finding is compared with.

    Raises
    ------
    UnsupportedError
        If the backend's device does not run the instruction, or nothing is known to ask of it.
    NotRunError
        If the backend has no answer.
    LayoutError
        If no digits give what the answers say.
    """
    if not row.runs_on(backend.cc):
        raise UnsupportedError(f"{row.ptx} needs {row.targets}; {backend.name} is sm_{backend.cc}")
    if row.family not in families():
        known = ", ".join(sorted(METHODS))
        raise UnsupportedError(f"nothing to ask about the family {row.family!r}; there are {known}")
    bare = stripped(row)
    asker = Asker(bare, backend, {})
    finding = METHODS[row.family](bare, asker)
    differing, same_order = compared(row, finding) if compare else ((), False)
    verdict = "the row" if same_order else "the row, in another order"
    verdict = verdict if compare else "no row"
    return Discovery(
        row.ptx,
        finding,
        asker.taken["launches"],
        asker.taken["blocks"],
        backend.name,
        asker.taken["environment"],
        "not the row" if differing else verdict,
        differing,
    )


def compared(row: Instruction, finding: Finding) -> tuple[tuple[str, ...], bool]:
    """Return the operands that are not the row's, and whether orders are the row's too.

    Of an axis in ``free`` any one-to-one renaming is the same, if all operands are renamed alike.
    """
    names: dict[str, dict[int, int]] = {axis: {} for axis in finding.free}
    back: dict[str, dict[int, int]] = {axis: {} for axis in finding.free}
    differing, same = [], True
    for found in finding.operands:
        said = row[found.name]
        same &= bool(np.array_equal(found.coords(), said.coords()))
        if found.coords().shape != said.coords().shape:
            differing.append(found.name)
            continue
        for place, axis in enumerate(said.axis_names):
            ours, theirs = found.coords()[..., place], said.coords()[..., place]
            key = _free_key(axis, finding.free)
            agree = (
                bool((ours == theirs).all())
                if key is None
                else _renamed(ours, theirs, names[key], back[key])
            )
            if not agree and found.name not in differing:
                differing.append(found.name)
        if found.choices != said.choices and found.name not in differing:
            differing.append(found.name)
    return tuple(differing), same


def _free_key(axis: str, free: tuple[str, ...]) -> str | None:
    return axis if axis in free else None


def _renamed(ours: Int, theirs: Int, names: dict[int, int], back: dict[int, int]) -> bool:
    """Return whether one renaming, so far ``names``, makes ``ours`` ``theirs``; extend it."""
    pairs = np.unique(np.stack([ours.ravel(), theirs.ravel()], axis=1), axis=0)
    agree = True
    for one, other in pairs.tolist():
        agree &= names.setdefault(one, other) == other
        agree &= back.setdefault(other, one) == one
    return agree


def found_operand(
    bare: Operand, positions: Int, rows: int, cols: int, axes: tuple[str, str], matrices: int = 1
) -> Operand:
    """Return the operand with digits for ``positions`` (lanes, elements, (matrix,) row, col).

    Raises
    ------
    LayoutError
        If no digits give them, or they do not cover the operand evenly.
    """
    if matrices == 1:
        return replace(bare, fragment=digits.fragment(positions, rows, cols), axes=axes)
    found = digits.solve(positions)
    lane, elem = (
        tuple(
            Digit(step.extent, row=step.moves[0] * rows + step.moves[1], col=step.moves[2])
            for step in steps
        )
        for steps in (found.lane, found.elem)
    )
    fragment = Fragment(matrices * rows, cols, lane, elem)
    return replace(bare, fragment=fragment, axes=axes, matrix_rows=rows)


def grid(operand: Operand, slots: Int) -> Int:
    """Return values by slot number (slots, ...) as (lanes, elements, ...)."""
    shape = operand.fragment.lanes, operand.fragment.elements
    if len(slots) != shape[0] * shape[1]:
        raise LayoutError(f"{len(slots)} slots are not {shape[0]} lanes of {shape[1]} elements")
    return slots.reshape(*shape, *slots.shape[1:])
