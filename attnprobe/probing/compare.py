"""Comparisons of products: what the row predicts against what the dump holds, bit by bit.

A comparison is a function of (row, question, asked) to an Answer, where ``asked`` has for each fill
its launch and its dump. Questions name one of ``COMPARISONS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.backends.base import Dump, Launch
from attnprobe.layouts import Instruction, Operand
from attnprobe.probing import predict, registers
from attnprobe.probing.definition import Fill, Question
from attnprobe.probing.report import MATCH, MISMATCH, Answer, Difference, OperandVerdict

Array = npt.NDArray[Any]
SHOWN = 256  # differences of one operand that a report lists; ``differing`` counts all


@dataclass(frozen=True, eq=False)
class Asked:
    """One fill of a question as it was asked: the launch, and what came."""

    fill: Fill
    launch: Launch
    dump: Dump

    def held(self) -> Mapping[str, Array]:
        """Return the registers of A, B and C of a product launch, and what steers it."""
        names = ("A", "B", "C", "E", "variant")
        return dict(zip(names, self.launch.inputs, strict=False))


Comparison = Callable[[Instruction, Question, Mapping[str, Asked]], Answer]
COMPARISONS: dict[str, Comparison] = {}


def comparison(function: Comparison) -> Comparison:
    """Register a comparison under the name of its function."""
    COMPARISONS[function.__name__] = function
    return function


def value_text(value: float) -> str:
    """Return a value as a person writes it: ``128``, ``0.1``."""
    return f"{value:.9g}"


def verdict(
    operand: Operand,
    wrong: npt.NDArray[np.bool_],
    describe: Callable[[int, int, int], tuple[str, str, int | None, int | None]],
    name: str = "",
) -> OperandVerdict:
    """Return the verdict on slots (blocks, lanes, elements) of which ``wrong`` differ.

    ``describe(block, lane, element)`` gives (holds, expected, bits, expected bits).
    """
    differences = []
    label = name or operand.name
    for block, lane, element in np.argwhere(wrong)[:SHOWN].tolist():
        holds, expected, bits, expected_bits = describe(block, lane, element)
        row, col = operand.fragment.coords()[lane, element].tolist()
        register, part = divmod(element, operand.format.per_register)
        slot = registers.register_name(operand, register, part)
        at = (label, slot, lane, register, part, row, col)
        differences.append(Difference(*at, holds, expected, bits, expected_bits, block))
    count = int(wrong.sum())
    return OperandVerdict(
        label, MISMATCH if count else MATCH, wrong.size, count, tuple(differences)
    )


def compare_bits(operand: Operand, bits: Array, expected: Array, name: str = "") -> OperandVerdict:
    """Return the verdict on raw elements (blocks, lanes, elements): all bits as expected."""

    def describe(block: int, lane: int, element: int) -> tuple[str, str, int, int]:
        pair = np.array([bits[block, lane, element], expected[block, lane, element]])
        holds, wanted = operand.format.decode(pair).tolist()
        return value_text(holds), value_text(wanted), int(pair[0]), int(pair[1])

    return verdict(operand, bits != expected, describe, name)


def merge(verdicts: list[OperandVerdict]) -> OperandVerdict:
    """Return one verdict of several on the same operand."""
    differing = sum(item.differing for item in verdicts)
    differences = tuple(difference for item in verdicts for difference in item.differences)
    return OperandVerdict(
        verdicts[0].operand,
        MISMATCH if differing else MATCH,
        sum(item.checked for item in verdicts),
        differing,
        differences[:SHOWN],
    )


@comparison
def product_bits(row: Instruction, question: Question, asked: Mapping[str, Asked]) -> Answer:
    """D has the very bits of the exact product, in every block of every fill."""
    d = row["D"]
    verdicts, findings = [], []
    for name, item in asked.items():
        expected = predict.result_bits(row, predict.product(row, item.held()))
        bits = registers.unpack(item.dump.arrays[0], d.format)
        found = compare_bits(d, bits, expected)
        verdicts.append(found)
        if found.differing:
            findings.append(f"fill {name!r} ({item.fill.says}): {found.differing} values differ")
    return Answer((merge(verdicts),), tuple(findings))


@comparison
def product_bound(row: Instruction, question: Question, asked: Mapping[str, Asked]) -> Answer:
    """D lies within the bound of the accumulation of the exact product.

    Each of the k + 1 additions may lose less than one unit in the last place of the accumulator at
    the largest partial sum, truncated rather than rounded, and f32 accumulators keep 23 bits beyond
    the leading one: |D - exact| <= (k + 1) * 2**-22 * magnitude. A narrower D adds its own rounding
    at each step that the hardware may split the sum into (at most two): 2 * ulp.
    """
    d = row["D"]
    verdicts = []
    worst = 0.0
    for item in asked.values():
        exact, magnitude = predict.product(row, item.held()), predict.magnitude(row, item.held())
        ulp = 2.0 ** -(10 if d.format.bits == 16 else 23)
        bound = (predict.terms(row) * 2.0**-22 + 2 * ulp) * magnitude
        bits = registers.unpack(item.dump.arrays[0], d.format)
        values = d.format.decode(bits)
        with np.errstate(invalid="ignore"):  # what the hardware wrote may be anything
            error = np.abs(values - d.fragment.gather(exact))
        limit = d.fragment.gather(bound)
        wanted = predict.fragment_bits(d, exact)
        wrong = ~(error <= limit)  # a NaN is wrong
        worst = max(worst, float(np.nanmax(error / limit)))
        verdicts.append(_bounded(d, wrong, bits, wanted))
    return Answer((merge(verdicts),), (f"largest error: {worst:.3g} of the bound",))


def _bounded(
    d: Operand, wrong: npt.NDArray[np.bool_], bits: Array, wanted: Array
) -> OperandVerdict:
    def describe(block: int, lane: int, element: int) -> tuple[str, str, int, int]:
        pair = np.array([bits[block, lane, element], wanted[block, lane, element]])
        holds, exact = d.format.decode(pair).tolist()
        return value_text(holds), f"about {value_text(exact)}", int(pair[0]), int(pair[1])

    return verdict(d, wrong, describe)
