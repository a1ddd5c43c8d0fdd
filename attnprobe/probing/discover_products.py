"""Discovery of products of a warp: mma, mma.sp."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.errors import LayoutError
from attnprobe.layouts import Instruction, Operand
from attnprobe.probing import classes, fills, meetings, orders, registers
from attnprobe.probing.classes import Classes
from attnprobe.probing.compare import Asked
from attnprobe.probing.discovery import Asker, Finding, found_operand, grid, method

Array = npt.NDArray[Any]
Int = npt.NDArray[np.int64]

AXES = {"A": ("m", "k"), "B": ("k", "n"), "C": ("m", "n"), "D": ("m", "n")}
_OPEN = (
    "a product shows which slots share m, n and k, not in which order these are counted: the order "
    "is the one with the fewest digits (docs/design/what-a-probe-cannot-see.md)"
)


@method("mma")
def _mma(row: Instruction, ask: Asker) -> Finding:
    """A numbered against B one-hot where there are few slots, else bit planes of both."""
    if ask.applies("operand_layout"):
        asked = {name: ask("operand_layout", name) for name in ("meetings", "pass_through")}
        found = meetings.read(row, asked)
        slots = {name: registers.slots(row[name]) for name in "ABCD"}
        if found.unreadable:
            raise LayoutError(f"{found.unreadable} values are the number of no slot")
        seen, c_of_d = classes.from_meetings(found, slots), found.c_of_d
    else:
        seen = classes.from_planes(
            [plane_sums(row, ask("operand_planes", "planes"))], _differs(row)
        )
        c_of_d = passed(row, ask("operand_planes", "pass_through"))
    operands = arrange(row, seen, c_of_d)
    return Finding(operands, ("m", "n", "k"), (_OPEN,))


def _differs(row: Instruction) -> bool:
    return ".xor." in row.mnemonic


def plane_sums(row: Instruction, item: Asked) -> Array:
    """Return the sums of all planes, (planes of A, planes of B, slots of D)."""
    d = row["D"]
    values = d.format.decode(registers.unpack(item.dump.arrays[0], d.format))
    planes = len(fills.build("planes", row, row["B"]))
    return values.reshape(-1, planes, registers.slots(d)).astype(np.int64)


def passed(row: Instruction, item: Asked) -> Int:
    """Return the slot of C that each slot of D shows.

    Raises
    ------
    LayoutError
        If some slot shows none.
    """
    c, d = row["C"], row["D"]
    values = d.format.decode(registers.unpack(item.dump.arrays[0], d.format))
    by_digit = values.reshape(fills.tag_passes(row, c), registers.slots(d))
    numbers = fills.read_tags(row, c, by_digit)
    if (numbers < 0).any():
        raise LayoutError("C does not pass through to some slot of D")
    return numbers


# --- indices --------------------------------------------------------------------------------------


def arrange(row: Instruction, seen: Classes, c_of_d: Int) -> tuple[Operand, ...]:
    """Return D, A, B and C with digits, in the order of indices with the fewest.

    Raises
    ------
    LayoutError
        If no digits give the classes.
    """
    ids = {key: grid(row[key[0]], each) for key, each in seen.ids.items()}
    matrix = _matrices(ids)
    deep = _depth(row, ids, seen.half)
    index = {
        "m": _best(row, ids, "D", "m", ("D", "A")),
        "n": _best(row, ids, "D", "n", ("D", "B")),
        "k": _best(row, ids, "A", "k", ("A", "B"), deep),
    }
    at = {
        "A": [index["m"][ids["A", "m"]], index["k"][ids["A", "k"]]],
        "B": [deep(index["k"][ids["B", "k"]]), index["n"][ids["B", "n"]]],
        "D": [index["m"][ids["D", "m"]], index["n"][ids["D", "n"]]],
    }
    positions = {name: np.stack([matrix[name], *each], axis=-1) for name, each in at.items()}
    positions["C"] = _of_c(row, positions["D"], c_of_d)
    count = int(matrix["D"].max()) + 1
    found = {name: _operand(row[name], each, count) for name, each in positions.items()}
    if row.sparsity is not None:
        found["A"] = replace(found["A"], axes=("m", "stored"))
    return tuple(found.get(each.name, each) for each in row.operands)


def _best(
    row: Instruction,
    ids: dict[tuple[str, str], Int],
    reference: str,
    axis: str,
    users: tuple[str, ...],
    deep: Callable[[Int], Int] | None = None,
) -> Int:
    """Return the index of each class of ``axis``."""

    def user(name: str) -> Callable[[Int], Int]:
        if name == "B" and deep is not None:
            return lambda index: deep(index[ids["B", axis]])
        return lambda index: index[ids[name, axis]]

    # Only k goes on by registers: that a register ends counts there, and not along m and n.
    ends = {name: row[name].format.per_register if axis == "k" else 0 for name in users}
    chosen = [orders.User(user(name), ends[name]) for name in users]
    per = row[reference].format.per_register
    return orders.best(ids[reference, axis], ids[reference, "matrix"], per, chosen)


def _depth(
    row: Instruction, ids: dict[tuple[str, str], Int], half: Int | None
) -> Callable[[Int], Int]:
    """Return what makes k of B of the number of the stored element: itself for a dense A."""
    how = row.sparsity
    if how is None or half is None:
        return lambda stored: stored
    last = grid(row["B"], half)
    group, kept = how.group, how.kept
    return lambda stored: stored // kept * group + last * kept + stored % kept


def _matrices(ids: dict[tuple[str, str], Int]) -> dict[str, Int]:
    """Return the number of the matrix of every slot of A, B and D; counted by the lanes of D."""
    of_d = ids["D", "matrix"]
    places = orders.moving(ids["D", "m"], of_d, "matrix")
    label, weight = np.zeros(of_d.shape, np.int64), 1
    for place in places:
        label += place.values((of_d.shape[0], of_d.shape[1])) * weight
        weight *= place.extent
    index = np.zeros(int(of_d.max()) + 1, np.int64)
    index[of_d] = label
    return {name: index[ids[name, "matrix"]] for name in "ABD"}


def _of_c(row: Instruction, positions: Int, c_of_d: Int) -> Int:
    """Return the positions of C: each slot has that of the slot of D that shows it."""
    c = row["C"]
    flat = np.full((registers.slots(c), positions.shape[-1]), -1, np.int64)
    flat[c_of_d] = positions.reshape(-1, positions.shape[-1])
    if (flat < 0).any():
        raise LayoutError("some slot of C comes to no slot of D")
    return grid(c, flat)


def _operand(bare: Operand, positions: Int, matrices: int) -> Operand:
    rows, cols = (int(each) + 1 for each in positions.reshape(-1, 3).max(axis=0)[1:])
    at = positions if matrices > 1 else positions[..., 1:]
    return found_operand(bare, at, rows, cols, AXES[bare.name], matrices)
