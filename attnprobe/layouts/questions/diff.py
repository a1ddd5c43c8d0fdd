"""What differs between two operands or two instructions: facts, digits, and positions that move."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from attnprobe.errors import UsageError
from attnprobe.layouts import catalogue, lookup
from attnprobe.layouts.fragment import Digit, Digits
from attnprobe.layouts.instruction import Instruction, Operand


@dataclass(frozen=True)
class Fact:
    """One thing that can be said of both; ``first`` and ``second`` are what is said."""

    name: str
    first: str
    second: str

    @property
    def same(self) -> bool:
        """Whether both say the same."""
        return self.first == self.second


@dataclass(frozen=True)
class Step:
    """What one digit of the lane or element number does in each of the two.

    Attributes
    ----------
    number : "lane" or "i".
    weight, extent : which digit: ``number // weight % extent``.
    first, second : what a step of it adds to the position; None where there is no such digit.
    """

    number: str
    weight: int
    extent: int
    first: tuple[int, int] | None
    second: tuple[int, int] | None

    @property
    def same(self) -> bool:
        """Whether the digit does the same in both."""
        return self.first == self.second


@dataclass(frozen=True)
class Move:
    """A slot (lane, element) whose position differs."""

    lane: int
    element: int
    first: tuple[int, ...]
    second: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class OperandDiff:
    """Two operands compared.

    Attributes
    ----------
    first, second : the operands.
    facts : size, format, registers, ... of both.
    steps : the digits of both, in their common refinement.
    compared : slots (lane, element) that both have.
    moved : those whose positions differ, by lane and element.
    """

    first: Operand
    second: Operand
    facts: tuple[Fact, ...]
    steps: tuple[Step, ...]
    compared: int
    moved: tuple[Move, ...]

    @property
    def same(self) -> bool:
        """Whether the two lay the same positions in the same slots."""
        return not self.moved and all(step.same for step in self.steps)


@dataclass(frozen=True, eq=False)
class Diff:
    """The answer.

    Attributes
    ----------
    rows : the two instructions.
    facts : what is said of both; () where two operands were asked for.
    operands : each pair compared.
    only : operands of one instruction that the other lacks, as (which of the two, name).
    """

    rows: tuple[Instruction, Instruction]
    facts: tuple[Fact, ...]
    operands: tuple[OperandDiff, ...]
    only: tuple[tuple[int, str], ...]


def diff(first: str, second: str) -> Diff:
    """Return what differs between two instructions, or operands given as ``INSTR:A``.

    Raises
    ------
    UsageError
        If a text names no instruction or operand, or one of the two names an operand and the other
        none.
    """
    (row_1, name_1), (row_2, name_2) = named(first), named(second)
    if (name_1 is None) != (name_2 is None):
        with_name, without = (first, second) if name_2 is None else (second, first)
        raise UsageError(
            f"{with_name!r} names an operand and {without!r} does not; give both or neither"
        )
    if name_1 is not None and name_2 is not None:
        pair = of_operands(row_1[name_1], row_2[name_2])
        return Diff((row_1, row_2), (), (pair,), ())
    both = [name for name in row_1.by_name if name in row_2.by_name]
    pairs = tuple(of_operands(row_1[name], row_2[name]) for name in both)
    only = tuple(
        (which, name)
        for which, row in enumerate((row_1, row_2))
        for name in row.by_name
        if name not in both
    )
    return Diff((row_1, row_2), _row_facts(row_1, row_2), pairs, only)


def named(text: str) -> tuple[Instruction, str | None]:
    """Return the instruction and the operand of ``INSTR`` or ``INSTR:A``; None for no operand.

    Raises
    ------
    UsageError
        If there is no such instruction or operand.
    """
    # A mnemonic may have "::" in it (sp::ordered_metadata); an operand has one letter or two words.
    head, colon, name = text.rpartition(":")
    if not colon or head.endswith(":") or "." in name:
        return catalogue.find(text), None
    row = catalogue.find(head)
    return row, lookup.operand(row, name).name


def of_operands(first: Operand, second: Operand) -> OperandDiff:
    """Return what differs between two operands."""
    one, two = first.coords(), second.coords()
    lanes, elements = min(len(one), len(two)), min(one.shape[1], two.shape[1])
    axes = min(one.shape[2], two.shape[2])
    one, two = one[:lanes, :elements, -axes:], two[:lanes, :elements, -axes:]
    moved = tuple(
        Move(int(lane), int(i), tuple(one[lane, i].tolist()), tuple(two[lane, i].tolist()))
        for lane, i in np.argwhere((one != two).any(axis=-1))
    )
    steps = (
        *_steps("lane", first.fragment.lane, second.fragment.lane),
        *_steps("i", first.fragment.elem, second.fragment.elem),
    )
    return OperandDiff(first, second, _operand_facts(first, second), steps, lanes * elements, moved)


def _row_facts(first: Instruction, second: Instruction) -> tuple[Fact, ...]:
    def said(row: Instruction) -> dict[str, str]:
        return {
            "family": row.family,
            "shape": " x ".join(map(str, row.shape)) or "-",
            "PTX ISA": row.min_ptx,
            "targets": row.targets,
            "lanes": str(row.lanes),
            "operands": " ".join(row.by_name),
        }

    return _facts(said(first), said(second))


def _operand_facts(first: Operand, second: Operand) -> tuple[Fact, ...]:
    def said(operand: Operand) -> dict[str, str]:
        return {
            "axes": " x ".join(operand.axis_names),
            "size": " x ".join(map(str, operand.axis_sizes)),
            "format": operand.format.name,
            "registers": str(operand.registers),
            "elements in a register": str(operand.format.per_register),
            "copies": str(operand.fragment.copies),
        }

    return _facts(said(first), said(second))


def _facts(first: dict[str, str], second: dict[str, str]) -> tuple[Fact, ...]:
    return tuple(Fact(name, value, second[name]) for name, value in first.items())


def _steps(number: str, first: Digits, second: Digits) -> list[Step]:
    """Return both lists of digits cut where either has a cut, as far as cuts divide each other."""
    cuts = sorted({*_cuts(first), *_cuts(second)})
    if any(high % low for low, high in pairwise(cuts)):
        cuts = sorted(set(_cuts(first)) & set(_cuts(second)))  # cut only where both do
    steps = []
    for low, high in pairwise(cuts):
        given = tuple(_step_at(digits, low) for digits in (first, second))
        steps.append(Step(number, low, high // low, *given))
    return steps


def _cuts(digits: Digits) -> list[int]:
    cuts = [1]
    for digit in digits:
        cuts.append(cuts[-1] * digit.extent)
    return cuts


def _step_at(digits: Digits, weight: int) -> tuple[int, int] | None:
    """Return what adding ``weight`` to the number does to (row, col); None beyond its digits."""
    low = 1
    for digit in digits:
        if low <= weight < low * digit.extent:
            return _scaled(digit, weight // low)
        low *= digit.extent
    return None


def _scaled(digit: Digit, times: int) -> tuple[int, int]:
    return digit.row * times, digit.col * times
