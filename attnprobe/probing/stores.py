"""Comparisons of what leaves the registers: "stored" (stmatrix) and "moved" (movmatrix)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.layouts import Instruction, Operand
from attnprobe.probing import memory, registers
from attnprobe.probing.compare import Asked, comparison, merge, verdict
from attnprobe.probing.definition import Question
from attnprobe.probing.report import Answer, OperandVerdict

Array = npt.NDArray[Any]


@comparison
def stored(row: Instruction, question: Question, asked: Mapping[str, Asked]) -> Answer:
    """Every slot lands where its row's lane pointed, in the column that the row names."""
    operand = row.operands[0]
    verdicts, findings = [], []
    for item in asked.values():
        offsets = item.launch.inputs[1][0].astype(np.int64)
        elements = item.dump.arrays[0][0].view(operand.format.storage)
        verdicts.append(_stored(operand, elements, offsets))
        findings.append(_whose_addresses(row, elements, offsets))
    return Answer((merge(verdicts),), tuple(dict.fromkeys(findings)))


def _stored(operand: Operand, elements: Array, offsets: Array) -> OperandVerdict:
    """Return the verdict on each slot; what else lies in memory counts for the slot it names."""
    numbers = memory.numbered(operand).astype(np.int64)
    at = operand.fragment.coords()
    size = operand.format.bits // 8
    place = offsets[at[..., 0]] // size + at[..., 1]
    width = memory.row_elements(operand)
    owner = {int(offset): lane for lane, offset in enumerate(offsets.tolist())}
    expected = np.zeros_like(elements)
    expected[place] = numbers
    stray = elements[(elements != expected) & (expected == 0)].astype(np.int64)
    wrong = (elements[place] != numbers) | np.isin(numbers, stray)

    def describe(block: int, lane: int, element: int) -> tuple[str, str, None, None]:
        found = np.flatnonzero(elements == numbers[lane, element])
        said = registers.position(operand, *at[lane, element].tolist())
        if not found.size:
            return "nothing that came to memory", said, None, None
        row, col = divmod(int(found[0]), width)
        of_lane = owner.get(row * memory.ROW_BYTES, -1)
        return registers.position(operand, of_lane, col), said, None, None

    return verdict(operand, wrong[None], describe)


def _whose_addresses(row: Instruction, elements: Array, offsets: Array) -> str:
    rows = np.flatnonzero(elements.reshape(row.lanes, -1).any(axis=1)) * memory.ROW_BYTES
    used = np.flatnonzero(np.isin(offsets, rows))
    span = f"{used.min()} ... {used.max()}" if used.size else "none"
    as_said = used.tolist() == list(range(row.addresses))
    said = "as the row says" if as_said else f"the row says 0 ... {row.addresses - 1}"
    return f"addresses of lanes {span} were used, {said}"


@comparison
def moved(row: Instruction, question: Question, asked: Mapping[str, Asked]) -> Answer:
    """Every slot of the result holds the element of the operand that has its place."""
    d, a = row.operands
    (item,) = asked.values()
    of_place = a.fragment.scatter(memory.numbered(a))
    expected = d.fragment.gather(of_place)
    bits = registers.unpack(item.dump.arrays[0][0], d.format)
    at = a.fragment.coords().reshape(-1, 2)

    def describe(block: int, lane: int, element: int) -> tuple[str, str, int, int]:
        held, wanted = int(bits[lane, element]), int(expected[lane, element])
        known = 1 <= held <= len(at)
        holds = registers.position(a, *at[held - 1].tolist()) if known else f"{held:#x}"
        return holds, registers.position(a, *at[wanted - 1].tolist()), held, wanted

    return Answer((verdict(d, (bits != expected)[None], describe),))
