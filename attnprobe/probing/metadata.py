"""Comparison "metadata": which lane and which bits of E place which element of a sparse A.

All groups of A have their elements in the same places but one, whose place one nibble of one lane
changes: a block for each nibble of each lane, for each value of the selector. The sums that change
name the row and the group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.layouts import Instruction
from attnprobe.probing import macros, predict, registers
from attnprobe.probing.compare import Asked, comparison, merge, verdict
from attnprobe.probing.definition import Question
from attnprobe.probing.report import Answer, OperandVerdict

Array = npt.NDArray[Any]
Index = tuple[int, int] | None  # row of A and index, or nothing


@comparison
def metadata(row: Instruction, question: Question, asked: Mapping[str, Asked]) -> Answer:
    """Each nibble of E moves the elements that the row says, and no other."""
    verdicts, findings = [], []
    for item in asked.values():
        for variant, values in enumerate(macros.variants(row)):
            chosen = [f"{name} = {value}" for name, value in values.items()]
            verdicts.append(_of_variant(row, item, variant))
            if verdicts[-1].differing:
                findings.append(f"with {', '.join(chosen)}: {item.fill.says}")
    return Answer((merge(verdicts),), tuple(findings))


def _of_variant(row: Instruction, item: Asked, variant: int) -> OperandVerdict:
    """Return the verdict on E for one choice of the selector."""
    e, d = row["E"], row["D"]
    blocks = np.flatnonzero(item.held()["variant"].reshape(-1) == variant)
    held = {name: each[blocks] for name, each in item.held().items()}
    bits = registers.unpack(item.dump.arrays[0][blocks], d.format)
    expected = predict.result_bits(row, predict.product(row, held))
    if (bits == expected).all():
        return OperandVerdict("E", "match", registers.slots(e))
    with np.errstate(invalid="ignore"):  # what the hardware wrote may be anything
        changes = d.format.decode(bits) - d.format.decode(bits[:1])
    said, seen = _claimed(row, held), _seen(row, held, changes)
    wrong = np.array([one != other for one, other in zip(said, seen, strict=True)])
    if not wrong.any():  # the start itself is not as predicted: no nibble is to blame
        wrong[:] = True
    per = 4 // e.format.bits
    lanes = wrong.reshape(1, e.fragment.lanes, -1).repeat(per, axis=-1)

    def describe(block: int, lane: int, element: int) -> tuple[str, str, None, None]:
        number = lane * (e.fragment.elements // per) + element // per
        return _name(seen[number]), _name(said[number]), None, None

    return verdict(e, lanes, describe)


def _name(index: Index) -> str:
    return "nothing that is read" if index is None else f"E[{index[0]}, {index[1]}]"


def _claimed(row: Instruction, held: Mapping[str, Array]) -> list[Index]:
    """Return for each nibble the first index that it changes, by the row."""
    raw = predict.metadata(row, held)
    changed = raw[1:] != raw[:1]
    return [_first(each) for each in changed]


def _first(changed: Array) -> Index:
    at = np.argwhere(changed)
    return (int(at[0][0]), int(at[0][1])) if len(at) else None


def _seen(row: Instruction, held: Mapping[str, Array], changes: Array) -> list[Index]:
    """Return for each nibble the index whose change explains what changed in D."""
    effects = {
        row["D"].fragment.gather(effect).tobytes(): index for index, effect in _effects(row, held)
    }
    effects[np.zeros_like(changes[0]).tobytes()] = (-1, -1)
    found = [effects.get((each + 0.0).tobytes(), (-2, -2)) for each in changes[1:]]
    return [None if index == (-1, -1) else index for index in found]


def _effects(row: Instruction, held: Mapping[str, Array]) -> Iterator[tuple[Index, Array]]:
    """Yield each index and what its change would do to D (m, n)."""
    how = row.sparsity
    assert how is not None, "a question about sparse products"
    raw = predict.metadata(row, held)
    values = np.unique(raw[1:][raw[1:] != raw[:1]]) if len(raw) > 1 else raw[:0]
    a = predict.matrix(row["A"], held["A"][:1])[0]
    b = predict.matrix(row["B"], held["B"][:1])[0]
    start = how.expand(a, raw[0]) @ b
    for at in np.ndindex(*raw[0].shape):
        for value in values[values != raw[0][at]].tolist():
            other = raw[0].copy()
            other[at] = value
            if how.indices == 2 and _collide(other, at):
                continue
            yield (int(at[0]), int(at[1])), how.expand(a, other) @ b - start


def _collide(raw: Array, at: tuple[int, ...]) -> bool:
    """Return whether the two indices of the group are the same place."""
    first = at[1] // 2 * 2
    return bool(raw[at[0], first] == raw[at[0], first + 1])
