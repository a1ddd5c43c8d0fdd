"""The two look-ups in a layout: what a lane's register holds, and who holds a position."""

from __future__ import annotations

from dataclasses import dataclass

from attnprobe.errors import UsageError
from attnprobe.layouts.instruction import Instruction, Operand


@dataclass(frozen=True)
class Held:
    """One element in its place.

    Attributes
    ----------
    operand : name of the operand.
    lane, register, part : where it is; part 0 is the low end of the register.
    element : its number within the lane, low to high through the registers.
    position : its coordinates, in the order of ``Operand.axis_names``.
    """

    operand: str
    lane: int
    register: int
    part: int
    element: int
    position: tuple[int, ...]


def operand(row: Instruction, name: str) -> Operand:
    """Return the operand called ``name``, in either case.

    Raises
    ------
    UsageError
        If the instruction has no such operand; names those that it has.
    """
    found = row.by_name.get(name.upper())
    if found is None:
        known = ", ".join(row.by_name)
        raise UsageError(f"{row.ptx} has no operand {name!r}; it has {known}")
    return found


def all_held(operand: Operand) -> tuple[Held, ...]:
    """Return every element of the operand, by lane, then low to high."""
    coords = operand.coords().tolist()
    return tuple(
        Held(operand.name, lane, *operand.slot(element), element, tuple(position))
        for lane, positions in enumerate(coords)
        for element, position in enumerate(positions)
    )


def held(operand: Operand, lane: int | None, register: int | None) -> tuple[Held, ...]:
    """Return what ``lane`` holds in ``register``; None stands for every lane or register.

    Raises
    ------
    UsageError
        If there is no such lane or register; says which there are.
    """
    lanes, registers = operand.fragment.lanes, operand.registers
    if lane is not None and not 0 <= lane < lanes:
        raise UsageError(f"lane {lane} is out of range; lanes are 0 to {lanes - 1}")
    if register is not None and not 0 <= register < registers:
        raise UsageError(
            f"register {register} is out of range; operand {operand.name} has {registers}: "
            f"{register_span(operand)}"
        )
    return tuple(
        each
        for each in all_held(operand)
        if lane in (None, each.lane) and register in (None, each.register)
    )


def holders(operand: Operand, position: tuple[int, ...]) -> tuple[Held, ...]:
    """Return who holds ``position``: one element, or as many as the fragment has copies.

    ``position`` is in ``axis_names``; where those begin with the matrix it may be left out, and
    rows then count through all matrices.

    Raises
    ------
    UsageError
        If the position is outside the operand; says what is inside.
    """
    whole = _whole_position(operand, position)
    hits = operand.fragment.where(*operand.fragment_position(whole))
    return tuple(Held(operand.name, lane, *operand.slot(i), i, whole) for lane, i in hits)


def _whole_position(operand: Operand, position: tuple[int, ...]) -> tuple[int, ...]:
    sizes = operand.axis_sizes
    shown = ",".join(str(each) for each in position)
    if operand.matrix_rows and len(position) == 2:
        row, col = position
        sizes = (operand.fragment.rows, operand.fragment.cols)
        whole: tuple[int, ...] = (*divmod(row, operand.matrix_rows), col)
    else:
        whole = position
    if len(position) != len(sizes):
        names = ",".join(operand.axis_names)
        raise UsageError(f"{shown} is no position of operand {operand.name}; give {names}")
    if not all(0 <= value < size for value, size in zip(position, sizes, strict=True)):
        axes = operand.axis_names[-len(sizes) :]
        spans = ", ".join(
            f"{axis} is 0 to {size - 1}" for axis, size in zip(axes, sizes, strict=True)
        )
        raise UsageError(f"{shown} is outside operand {operand.name}: {spans}")
    return whole


def register_span(operand: Operand) -> str:
    """Return the operand's registers in words: ``a[0] to a[3]``."""
    first, last = register_name(operand.name, 0), register_name(operand.name, operand.registers - 1)
    return first if first == last else f"{first} to {last}"


def register_name(operand_name: str, register: int) -> str:
    """Return a register as kernels write it: ``a[1]``."""
    return f"{operand_name.lower()}[{register}]"


def part_name(part: int, parts: int) -> str:
    """Return which part of a register it is: "" for the whole, ``lo``, ``hi``, else its number."""
    if parts == 1:
        return ""
    return ("lo", "hi")[part] if parts == 2 else str(part)
