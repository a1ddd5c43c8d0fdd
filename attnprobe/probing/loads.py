"""Comparisons of loads and chains: "loaded", "ldmatrix_to_a" and "d_is_next_a"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.layouts import Instruction, Operand
from attnprobe.probing import fills, generate, memory, predict, registers
from attnprobe.probing.compare import Asked, compare_bits, comparison, merge, verdict
from attnprobe.probing.definition import Question
from attnprobe.probing.report import Answer, OperandVerdict

Array = npt.NDArray[Any]
Int = npt.NDArray[np.int64]


# --- ldmatrix alone -------------------------------------------------------------------------------


@comparison
def loaded(row: Instruction, question: Question, asked: Mapping[str, Asked]) -> Answer:
    """Every slot holds the element that the row names, read where its row's lane pointed."""
    d = row["D"]
    verdicts, findings = [], []
    for item in asked.values():
        offsets = item.launch.inputs[1][0].astype(np.int64)
        stored = item.launch.inputs[0][0].view(d.format.storage)
        bits = registers.unpack(item.dump.arrays[0][0], d.format)
        verdicts.append(_loaded(d, bits, stored, offsets))
        findings += _whose_addresses(row, bits, offsets)
    return Answer((merge(verdicts),), tuple(dict.fromkeys(findings)))


def _loaded(d: Operand, bits: Array, stored: Array, offsets: Int) -> OperandVerdict:
    coords = d.fragment.coords()
    width = memory.row_elements(d)
    expected = stored[offsets[coords[..., 0]] // (d.format.bits // 8) + coords[..., 1]]

    def describe(block: int, lane: int, element: int) -> tuple[str, str, int, int]:
        held, wanted = int(bits[lane, element]), int(expected[lane, element])
        said = registers.position(d, *coords[lane, element].tolist())
        return element_name(d, held, offsets, width), said, held, wanted

    return verdict(d, (bits != expected)[None], describe)


def element_name(d: Operand, number: int, offsets: Int, width: int) -> str:
    """Return which element the tag ``number`` is, given the offset that each lane passed."""
    row_slot, col = divmod(number - 1, width)
    owners = np.flatnonzero(offsets == row_slot * memory.ROW_BYTES)
    if number < 1 or not owners.size:
        return f"{number:#x}, which no lane's address leads to"
    if owners.size > 1:
        return f"row 0 of memory [{col}]"
    lane = int(owners[0])
    if lane >= d.fragment.rows:
        return f"[{col}] of the row at lane {lane}'s address"
    return registers.position(d, lane, col)


def _whose_addresses(row: Instruction, bits: Array, offsets: Int) -> list[str]:
    """Say which lanes' addresses were used, or that one row came everywhere."""
    width = memory.row_elements(row["D"])
    numbers = bits.astype(np.int64) - 1
    slots = np.unique(numbers // width)
    if len(np.unique(offsets)) == 1:
        alone = "every register of every lane comes from row 0 alone"
        return [alone] if slots.tolist() == [0] else [f"rows {slots.tolist()} of memory came"]
    used = np.flatnonzero(np.isin(offsets // memory.ROW_BYTES, slots))
    span = f"{used.min()} ... {used.max()}" if used.size else "none"
    said = (
        "as the row says"
        if used.tolist() == list(range(row.addresses))
        else (f"the row says 0 ... {row.addresses - 1}")
    )
    return [f"addresses of lanes {span} were used, {said}"]


# --- ldmatrix to A --------------------------------------------------------------------------------


@comparison
def ldmatrix_to_a(row: Instruction, question: Question, asked: Mapping[str, Asked]) -> Answer:
    """Register i of the load is a[i], and the product with it is that of the tile."""
    (item,) = asked.values()
    a, d = row["A"], row["D"]
    tile = memory.tile(row, a)
    words = item.dump.arrays[0]  # (blocks, registers, lanes)
    passes, repeats = len(tile), len(words) // len(tile)
    bits = registers.unpack(words, a.format)
    values = a.format.decode(bits[::repeats]).reshape(passes, *bits.shape[1:])
    number = fills.read_tags(row, a, values)
    coords = np.stack([number // a.fragment.cols, number % a.fragment.cols], axis=-1)
    findings = _which_register(row, coords)
    return Answer((_coords_verdict(a, coords), _tile_product(row, item, d)), findings)


def _coords_verdict(a: Operand, coords: Int) -> OperandVerdict:
    said = a.fragment.coords()

    def describe(block: int, lane: int, element: int) -> tuple[str, str, None, None]:
        holds = registers.position(a, *coords[lane, element].tolist())
        return holds, registers.position(a, *said[lane, element].tolist()), None, None

    return verdict(a, (coords != said).any(axis=-1)[None], describe)


def _which_register(row: Instruction, coords: Int) -> tuple[str, ...]:
    """Say for each register of the load which a[i] has the very elements that it holds."""
    a = row["A"]
    per = a.format.per_register
    loaded_by = coords.reshape(-1, a.registers, per, 2)
    said = a.fragment.coords().reshape(-1, a.registers, per, 2)
    load = generate.load_for_a(row)
    name = "the load" if load is None else ".".join(load.ptx.split(".")[:5])
    pairs = []
    for j in range(a.registers):
        same = [i for i in range(a.registers) if (loaded_by[:, j] == said[:, i]).all()]
        pairs.append(f"r[{j}] is a[{same[0]}]" if same else f"r[{j}] is no a[i]")
    return (f"{name}: {', '.join(pairs)}",)


def _tile_product(row: Instruction, item: Asked, d: Operand) -> OperandVerdict:
    """Return the verdict on D against the product of the tile in memory with B."""
    a = row["A"]
    stored = item.launch.inputs[0].view(a.format.storage)
    tile = a.format.decode(stored).reshape(-1, a.fragment.rows, a.fragment.cols)
    b = predict.matrix(row["B"], item.launch.inputs[2])
    expected = predict.fragment_bits(d, tile @ b)
    return compare_bits(d, registers.unpack(item.dump.arrays[1], d.format), expected)


# --- D to the next A ------------------------------------------------------------------------------


@comparison
def d_is_next_a(row: Instruction, question: Question, asked: Mapping[str, Asked]) -> Answer:
    """Packed D has the bits of A, and its product with the selecting columns is D again."""
    (item,) = asked.values()
    a, d = row["A"], row["D"]
    held, selecting = item.launch.inputs
    packed, results = item.dump.arrays
    lanes = a.fragment.lanes
    b = predict.matrix(row["B"], selecting)  # (blocks, tiles, k, n)
    first = predict.matrix(a, held)[:, None] @ b  # (blocks, tiles, m, n)
    kept = d.fragment.gather(first)  # (blocks, tiles, lanes, elements)
    in_order = np.moveaxis(kept, 1, 2).reshape(len(held), lanes, -1)
    expected = a.format.encode(in_order)
    in_a = compare_bits(a, registers.unpack(packed, a.format), expected)
    next_a = a.fragment.scatter(in_order)[:, None]
    again = predict.fragment_bits(d, next_a @ b)
    bits = registers.unpack(results, d.format)
    shape = (-1, *bits.shape[2:])
    in_d = compare_bits(d, bits.reshape(shape), again.reshape(shape))
    is_a = bool((packed == held).all())
    return Answer((_demand_identity(in_a, is_a, a, held, packed), in_d), _recipe(row, is_a))


def _demand_identity(
    found: OperandVerdict, is_a: bool, a: Operand, held: Array, packed: Array
) -> OperandVerdict:
    """Return ``found``, or where the bits are predicted but are not A's, what differs from A."""
    if is_a or found.differing:
        return found
    return compare_bits(a, registers.unpack(packed, a.format), registers.unpack(held, a.format))


def _recipe(row: Instruction, is_a: bool) -> tuple[str, ...]:
    """State the identity register by register, or that there is none."""
    if not is_a:
        return ("D packed in the order of its registers is not A",)
    d, per = row["D"], row["A"].format.per_register
    of_tile = d.fragment.elements // per
    lines = []
    for register in range(row["A"].registers):
        tile, first = divmod(register, of_tile)
        if d.format.per_register == per:
            lines.append(f"a[{register}] = d{tile}[{first}]")
        else:
            parts = ", ".join(f"d{tile}[{per * first + part}]" for part in range(per))
            lines.append(f"a[{register}] = pack({parts})")
    return (f"D is the next A, no exchange between lanes: {'; '.join(lines)}",)
