"""What can be asked of the layout rows, as frozen answers that a renderer turns into output."""

from __future__ import annotations

from dataclasses import dataclass

from attnprobe.errors import UsageError
from attnprobe.layouts import catalogue, lookup
from attnprobe.layouts.instruction import Instruction, Operand


@dataclass(frozen=True)
class Listing:
    """The rows that a text fits."""

    rows: tuple[Instruction, ...]


@dataclass(frozen=True)
class Sheet:
    """One instruction, and those of its operands that were asked for."""

    row: Instruction
    operands: tuple[Operand, ...]


@dataclass(frozen=True)
class Answer:
    """The answer to a look-up.

    Attributes
    ----------
    row : the instruction.
    query : what was asked, by name: lane, register, or at (a position).
    held : the elements found, by operand, lane and element.
    without : why an operand is not in the answer, for each that is not.
    """

    row: Instruction
    query: dict[str, int | tuple[int, ...]]
    held: tuple[lookup.Held, ...]
    without: tuple[str, ...]


def listing(text: str = "") -> Listing:
    """Return the rows that ``text`` fits, all of them for no text.

    Raises
    ------
    UsageError
        If none fits; names the nearest.
    """
    found = catalogue.search(text)
    if not found:
        raise catalogue.no_such(text)
    return Listing(tuple(found))


def sheet(text: str, operand: str | None = None) -> Sheet:
    """Return the sheet of the instruction that ``text`` names.

    Raises
    ------
    UsageError
        If ``text`` fits no row or several, or the row has no such operand.
    """
    row = catalogue.find(text)
    return Sheet(row, _operands(row, operand))


def held(
    text: str, lane: int | None = None, register: int | None = None, operand: str | None = None
) -> Answer:
    """Return what ``lane`` holds in ``register``; None stands for every one.

    Raises
    ------
    UsageError
        If no operand that was asked for has such a lane and register.
    """
    row = catalogue.find(text)
    query: dict[str, int | tuple[int, ...]] = {}
    if lane is not None:
        query["lane"] = lane
    if register is not None:
        query["register"] = register
    found: list[lookup.Held] = []
    without: list[str] = []
    for each in _operands(row, operand):
        try:
            found.extend(lookup.held(each, lane, register))
        except UsageError as error:
            without.append(str(error))
    return _answer(row, query, found, without)


def holders(text: str, at: tuple[int, ...], operand: str | None = None) -> Answer:
    """Return who holds the position ``at`` in each operand that has it.

    Raises
    ------
    UsageError
        If no operand that was asked for has such a position.
    """
    row = catalogue.find(text)
    found: list[lookup.Held] = []
    without: list[str] = []
    for each in _operands(row, operand):
        try:
            found.extend(lookup.holders(each, at))
        except UsageError as error:
            without.append(str(error))
    return _answer(row, {"at": at}, found, without)


def _operands(row: Instruction, name: str | None) -> tuple[Operand, ...]:
    return row.operands if name is None else (lookup.operand(row, name),)


def _answer(
    row: Instruction,
    query: dict[str, int | tuple[int, ...]],
    found: list[lookup.Held],
    without: list[str],
) -> Answer:
    if not found:
        raise UsageError("\n  ".join(dict.fromkeys(without)))
    return Answer(row, query, tuple(found), tuple(without))
