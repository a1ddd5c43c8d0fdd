"""Discovery of products of a warpgroup: D, A where it comes from registers, metadata.

B lies in shared memory, where the descriptor says which element is which, and so does A in one form
of each instruction. So m and n of D are seen as they are, and so is k of A in registers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.errors import LayoutError
from attnprobe.layouts import Instruction, Operand
from attnprobe.probing import registers, warpgroup
from attnprobe.probing.compare import Asked
from attnprobe.probing.discover_sparse import metadata_operand
from attnprobe.probing.discovery import Asker, Finding, found_operand, grid, method
from attnprobe.probing.signature import Signature, wgmma
from attnprobe.probing.warpgroup import LANES, NIBBLE_BITS, Parts

Array = npt.NDArray[Any]
Int = npt.NDArray[np.int64]

_EXACT = "B lies in shared memory, element by element as the descriptor says: n and k are exact"
_M_SEEN = "so does A: m is exact"
_M_OF_SIBLING = (
    "A comes from registers, so this form shows m only up to a common order in A and D: m is taken "
    "from the form with A in shared memory"
)


@method("wgmma", "wgmma.sp")
def _warpgroup(row: Instruction, ask: Asker) -> Finding:
    """D from sums that are m and n; A from its slots' numbers; metadata nibble by nibble."""
    of = wgmma(row.ptx)
    in_registers = Parts(of).a_in_registers
    d_at = _d(row, ask, in_registers)
    m, n, _ = of.shape
    found = {"D": found_operand(row["D"], d_at, m, n, ("m", "n"))}
    if in_registers:
        found["A"] = _a(row, of, d_at, ask("wgmma_a", "tags"))
    if of.group > 1:
        nibbles = _nibbles(row, of, d_at, ask("wgmma_metadata", "nibbles"))
        first_low = _first_is_low(row, of, d_at, found.get("A"), ask("wgmma_metadata", "indices"))
        found["E"] = _e(row, of, nibbles, first_low)
    operands = tuple(found[operand.name] for operand in row.operands)
    return Finding(operands, (), (_EXACT, _M_OF_SIBLING if in_registers else _M_SEEN))


def _values(row: Instruction, item: Asked) -> Int:
    """Return D as integers, (blocks, lanes, elements that were written)."""
    form = row["D"].format
    values = form.decode(registers.unpack(item.dump.arrays[0], form))
    if (values != np.floor(values)).any():
        raise LayoutError("D holds sums that are no whole numbers")
    return values.astype(np.int64)


def _d(row: Instruction, ask: Asker, in_registers: bool) -> Int:
    """Return (m, n) of every slot of D: (lanes, elements, 2)."""
    sums = _values(row, ask("wgmma_layout", "numbers"))
    if not in_registers:
        rows, columns, *passed = sums
    else:
        columns, *passed = sums
        sibling = replace(row, ptx=row.mnemonic)
        rows = _values(row, ask("wgmma_layout", "numbers", sibling))[0]
    element, lane = passed
    lanes, elements = np.indices(element.shape)
    if (element != elements + 1).any() or (lane != lanes + 1).any():
        raise LayoutError("D = A B + D does not add to each register what it held")
    return np.stack([rows, columns], axis=-1)


def _shown(d_at: Int, written: int, first: int, count: int) -> tuple[Array, Array, Int, Int]:
    """Return (lanes, elements) of D that show columns ``first`` and on, with m and column."""
    m, n = d_at[:, :written, 0], d_at[:, :written, 1] + first
    lanes, elements = np.nonzero(n < count)
    return lanes, elements, m[lanes, elements], n[lanes, elements]


# --- A --------------------------------------------------------------------------------------------


def _a(row: Instruction, of: Signature, d_at: Int, item: Asked) -> Operand:
    """Return A: the number of the slot that row m and column n of D show."""
    base, passes = warpgroup.tag_digits(of)
    offset = 0 if of.formats["A"].bits == 1 else 1
    tiles = Parts(of).column_tiles(of.stored)
    sums = _values(row, item)
    by_digit = sums.reshape(passes, len(tiles), *sums.shape[1:]) - offset
    number = sum(by_digit[digit] * base**digit for digit in range(passes))
    assert isinstance(number, np.ndarray)
    flat = np.full((registers.slots(row["A"]), 2), -1, np.int64)
    for tile, first in enumerate(tiles):
        lanes, elements, m, column = _shown(d_at, sums.shape[2], first, of.stored)
        slot = number[tile][lanes, elements]
        if (slot < 0).any() or (slot >= len(flat)).any():
            raise LayoutError("some sum is the number of no slot of A")
        flat[slot] = np.stack([m, column], axis=-1)
    if (flat < 0).any():
        raise LayoutError(f"{int((flat < 0).any(axis=1).sum())} slots of A are in no sum")
    axes = ("m", "k") if of.group == 1 else ("m", "stored")
    return found_operand(row["A"], grid(row["A"], flat), of.shape[0], of.stored, axes)


# --- metadata -------------------------------------------------------------------------------------


def _nibbles(row: Instruction, of: Signature, d_at: Int, item: Asked) -> Int:
    """Return (m, group) that each nibble steers: (selectors, lanes, 8, 2); -1 for none."""
    parts = Parts(of)
    tiles, selectors = parts.column_tiles(parts.groups), parts.selectors()
    sums = _values(row, item)
    bits = (sums > 0).reshape(NIBBLE_BITS, len(selectors), len(tiles), *sums.shape[1:])
    weights = 1 << np.arange(NIBBLE_BITS)
    number = np.tensordot(weights, bits.astype(np.int64), axes=1)
    steered = np.full((len(selectors), LANES * 8, 2), -1, np.int64)
    for selector in range(len(selectors)):
        for tile, first in enumerate(tiles):
            lanes, elements, m, group = _shown(d_at, sums.shape[2], first, parts.groups)
            steered[selector, number[selector, tile][lanes, elements]] = np.stack([m, group], -1)
    return steered.reshape(len(selectors), LANES, 8, 2)


def _first_is_low(
    row: Instruction, of: Signature, d_at: Int, a: Operand | None, item: Asked
) -> bool:
    """Return whether the low bits of a nibble place the first of the group's stored elements.

    A holds 1 and 2 by turns; a sum written in base 4 has at each place what A holds there.

    Raises
    ------
    LayoutError
        If the sums are not what some order of the two indices gives.
    """
    if of.kept == 1:
        return True
    parts = Parts(of)
    tiles = parts.column_tiles(parts.groups)
    sums = _values(row, item)
    by_nibble = sums.reshape(len(warpgroup.PAIRS), len(tiles), *sums.shape[1:])
    held = _turns(of, a)
    low_first = set()
    for nibble, of_nibble in zip(warpgroup.PAIRS, by_nibble, strict=True):
        low, high = nibble & 3, nibble >> 2
        for tile, first in enumerate(tiles):
            lanes, elements, m, group = _shown(d_at, sums.shape[2], first, parts.groups)
            seen = of_nibble[tile][lanes, elements]
            one, other = held[m, of.kept * group], held[m, of.kept * group + 1]
            as_is = bool((seen == one * 4**low + other * 4**high).all())
            turned = bool((seen == other * 4**low + one * 4**high).all())
            if as_is == turned:
                raise LayoutError(f"nibble {nibble:#x} does not place two elements of a group")
            low_first.add(as_is)
    if len(low_first) != 1:
        raise LayoutError("nibbles do not agree on the order of their indices")
    return low_first.pop()


def _turns(of: Signature, a: Operand | None) -> Int:
    """Return what A holds in that fill: (m, stored)."""
    if a is None:
        each = 1 + np.arange(of.stored) % 2
        return np.broadcast_to(each, (of.shape[0], of.stored)).astype(np.int64)
    count = a.fragment.elements
    held: Int = a.fragment.scatter(np.broadcast_to(1 + np.arange(count) % 2, (LANES, count)))
    return held


def _e(row: Instruction, of: Signature, nibbles: Int, first_low: bool) -> Operand:
    """Return E with digits: each nibble is one index, or two of which one is the low bits."""
    indices = 2 if of.group == 4 else 1
    steered = nibbles[..., 0] >= 0
    at = [nibbles.copy() for _ in range(2)]
    for index, each in enumerate(at):
        column = nibbles[..., 1] * indices + (index if indices == 2 else 0)
        each[..., 1] = np.where(steered, column, -1)
    first, last = at if first_low else at[::-1]
    selector = tuple(each for each in row.immediates if each.name == "sp-sel")
    return metadata_operand(replace(row, immediates=selector), row["E"], [last, first])
