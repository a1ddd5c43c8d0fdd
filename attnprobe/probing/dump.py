"""The fragments themselves: what every register slot of an operand holds for a chosen fill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.backends.base import Backend, Dump, Environment, Launch
from attnprobe.errors import UnsupportedError, UsageError
from attnprobe.layouts import Instruction, Operand
from attnprobe.probing import definition, fills, generate, memory, registers
from attnprobe.probing.definition import Fill, Question

Array = npt.NDArray[Any]
Named = tuple[int, ...] | None

# Kernels that execute the instruction alone, so that their inputs and outputs are its operands.
_INPUTS = {
    "mma_sync.cu": ("A", "B", "C"),
    "mma_steered.cu": ("A", "B", "C", "E"),
    "ldmatrix.cu": (),
}


@dataclass(frozen=True, eq=False)
class Held:
    """What the lanes hold of one operand.

    Attributes
    ----------
    operand : the operand's row.
    bits : raw elements, (lanes, elements), low to high.
    names : the element that each slot's value names, where the fill names them: (row, col), for a
        matrix load (matrix, row, col); None where the value names nothing. Empty without names.
    """

    operand: Operand
    bits: Array
    names: tuple[tuple[Named, ...], ...] = ()

    def values(self) -> npt.NDArray[np.float64]:
        """Return the values of ``bits``: float64, (lanes, elements)."""
        return self.operand.format.decode(self.bits)


@dataclass(frozen=True, eq=False)
class DumpReport:
    """Fragments of one instruction for one fill.

    Attributes
    ----------
    row : the instruction.
    fill, says : name of the fill, and the fill in one sentence.
    block, blocks : which block of the launch this is, of how many.
    held : the operands.
    backend, environment : where it ran.
    """

    row: Instruction
    fill: str
    says: str
    block: int
    blocks: int
    held: tuple[Held, ...]
    backend: str
    environment: Environment = field(default_factory=dict)


def fill_names(row: Instruction) -> tuple[str, ...]:
    """Return the fills that ``fragments`` can dump for ``row``."""
    names = [fill.name for _, fill in _choices(row)]
    return tuple(sorted({name for name in names if not _is_variant(name, names)}))


def fragments(
    row: Instruction, fill: str, backend: Backend, operands: Sequence[str] = ("D",), block: int = 0
) -> DumpReport:
    """Return what the lanes hold of ``operands`` in one block of fill ``fill``.

    Raises
    ------
    UsageError
        For a fill, operand or block that does not exist.
    UnsupportedError
        If the backend's device is too old for the instruction.
    NotRunError
        If the backend has no answer.
    """
    if not row.runs_on(backend.cc):
        needs = f"{row.ptx} needs {row.targets}"
        raise UnsupportedError(f"{needs}; backend {backend.name} is sm_{backend.cc}")
    for name in operands:
        if name not in row.by_name:
            raise UsageError(f"no operand {name!r}; {row.ptx} has {', '.join(sorted(row.by_name))}")
    held = []
    for name in operands:
        question, chosen = _choose(row, fill, name)
        made = generate.launch(row, question, chosen)
        if not 0 <= block < made.grid[0]:
            raise UsageError(f"no block {block}; fill {fill!r} has {made.grid[0]}")
        dump = backend.run(made)
        held.append(_held(row, question, chosen, name, made, dump, block))
    return DumpReport(
        row, fill, chosen.says, block, made.grid[0], tuple(held), backend.name, dump.environment
    )


def usual_fill(row: Instruction) -> str:
    """Return the fill that is dumped where none is named: what shows the most at a glance.

    Raises
    ------
    UnsupportedError
        If no probe executes the instruction alone and gives back its registers.
    """
    names = fill_names(row)
    for name in ("rows", "tags", "integers", *names):
        if name in names:
            return name
    raise UnsupportedError(f"no fill shows the registers of {row.ptx}; attnprobe probe asks of it")


def _choices(row: Instruction) -> list[tuple[Question, Fill]]:
    return [
        (question, fill)
        for question in definition.questions()
        if question.kernel in _INPUTS and generate.applies(question, row)
        for fill in question.fills
    ]


def _is_variant(name: str, names: Sequence[str]) -> bool:
    """A fill ``tags_B`` is what ``tags`` means where operand B is looked at."""
    return name[-2:-1] == "_" and name[:-2] in names


def _choose(row: Instruction, name: str, operand: str) -> tuple[Question, Fill]:
    by_name = {fill.name: (question, fill) for question, fill in _choices(row)}
    found = by_name.get(f"{name}_{operand}") or by_name.get(name)
    if found is None:
        raise UsageError(f"no fill {name!r} for {row.ptx}; there are {', '.join(fill_names(row))}")
    return found


def _held(
    row: Instruction,
    question: Question,
    fill: Fill,
    name: str,
    made: Launch,
    dump: Dump,
    block: int,
) -> Held:
    inputs = dict(zip(_INPUTS[question.kernel], made.inputs, strict=False))
    words = inputs[name] if name in inputs else dump.arrays[0]
    operand = row[name]
    bits = registers.unpack(words, operand.format)
    if question.kernel == "ldmatrix.cu":
        names = _loaded_names(operand, bits[block], made.inputs[1][block].astype(np.int64))
        return Held(operand, bits[block], names)
    named_by = name if name in inputs else "C"
    is_sum = name not in inputs and "zeros" not in (fill.parts["A"], fill.parts["B"])
    if fill.parts[named_by] != "tags" or is_sum:
        return Held(operand, bits[block])
    return Held(operand, bits[block], _tag_names(row, row[named_by], operand, bits, inputs, block))


def _tag_names(
    row: Instruction,
    named: Operand,
    operand: Operand,
    bits: Array,
    inputs: dict[str, Array],
    block: int,
) -> tuple[tuple[Named, ...], ...]:
    """Return the element of ``named`` that each slot's tag is, read from all digits of the tag."""
    first = _first_blocks(inputs[named.name], fills.tag_passes(row, named))
    numbers = fills.read_tags(row, named, operand.format.decode(bits[first]))
    at = named.fragment.coords().reshape(-1, 2)
    return tuple(
        tuple(tuple(at[number].tolist()) if number >= 0 else None for number in lane)
        for lane in numbers.tolist()
    )


def _first_blocks(held: Array, passes: int) -> list[int]:
    """Return the first block of the launch in which each digit of the tags stands."""
    _, first = np.unique(held.reshape(len(held), -1), axis=0, return_index=True)
    return sorted(first.tolist())[:passes]


def _loaded_names(
    operand: Operand, bits: Array, offsets: npt.NDArray[np.int64]
) -> tuple[tuple[Named, ...], ...]:
    width = memory.row_elements(operand)
    owner = {int(offset): lane for lane, offset in reversed(list(enumerate(offsets.tolist())))}

    def name(number: int) -> Named:
        row, col = divmod(number - 1, width)
        lane = owner.get(row * memory.ROW_BYTES)
        if number < 1 or lane is None or lane >= operand.fragment.rows:
            return None
        return (*divmod(lane, operand.matrix_rows or operand.fragment.rows), col)

    return tuple(tuple(name(number) for number in lane) for lane in bits.tolist())
