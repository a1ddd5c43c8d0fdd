"""What a product might do instead: each hypothesis as a change of the arithmetic that is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from attnprobe.layouts import Instruction
from attnprobe.ptx import exact_kinds
from attnprobe.ptx.exact_chips import Rule
from attnprobe.ptx.exact_kinds import Arithmetic

Change = Callable[[Any, Instruction], Arithmetic | None]


@dataclass(frozen=True)
class Hypothesis:
    """One other way to compute a product.

    Attributes
    ----------
    name : how questions and pages call it.
    says : what the hardware would do.
    change : (arithmetic, row) -> the other arithmetic; None where it is the same or has no sense.
    """

    name: str
    says: str
    change: Change


HYPOTHESES: dict[str, Hypothesis] = {}


def _add(name: str, says: str, change: Change) -> None:
    HYPOTHESES[name] = Hypothesis(name, says, change)


def _rule(**changes: Any) -> Change:
    def change(known: Any, row: Instruction) -> Arithmetic | None:
        if known.rule is None or replace(known.rule, **changes) == known.rule:
            return None
        changed: Arithmetic = replace(known, rule=replace(known.rule, **changes))
        return changed

    return change


def _blocks(size: int) -> Change:
    def change(known: Any, row: Instruction) -> Arithmetic | None:
        terms = row.shape[2] // (2 if isinstance(known, exact_kinds.UnpackedFp8) else 1)
        if known.rule is None or size >= min(terms, known.rule.block):
            return None
        changed: Arithmetic = replace(known, rule=replace(known.rule, block=size))
        return changed

    return change


def _nearest_result(known: Any, row: Instruction) -> Arithmetic | None:
    if known.rule is None or known.rule.output != "f32":
        return None
    return _rule(final="nearest")(known, row)


def _native_fp8(fraction: int, result_bits: int) -> Change:
    def change(known: Any, row: Instruction) -> Arithmetic | None:
        if not isinstance(known, exact_kinds.UnpackedFp8):
            return None
        rule = Rule(fraction, row.shape[2], known.rule.emin, known.rule.output, result_bits)
        return exact_kinds.NativeFp8(known.form_a, known.form_b, rule)

    return change


def _field(kind: type, **changes: Any) -> Change:
    def change(known: Any, row: Instruction) -> Arithmetic | None:
        if not isinstance(known, kind):
            return None
        changed: Any = replace(known, **changes)  # type: ignore[type-var]
        result: Arithmetic | None = None if changed == known else changed
        return result

    return change


for _bits in (23, 24, 26):
    _add(f"F = {_bits}", f"terms keep {_bits} fraction bits", _rule(fraction=_bits))
_add("terms to nearest", "terms are rounded, not cut", _rule(terms="nearest"))
_add("terms floored", "terms are cut toward minus infinity", _rule(terms="floor"))
for _size in (4, 8):
    _add(f"blocks of {_size}", f"{_size} products are added at a time", _blocks(_size))
_add("c last", "c is added to the rounded sum of the products", _rule(late_c=True))
_add("result to nearest", "the sum is rounded to nearest f32, not cut", _nearest_result)
_add("zeros align", "a zero product counts as 2^-126 in alignment", _rule(zero_exponent=-126))
_add("no clamp", "alignment follows the terms however small they are", _rule(emin=None))
_add("flush", "subnormal inputs and results count as zero", _rule(flush=True))
_add("e8m13", "one product of all k, 13 bits kept, result of 13 bits", _native_fp8(13, 13))
_add("one fp8 step", "one product of all k with the accumulator", _native_fp8(25, 23))
_add(
    "k in order",
    "the first half of k is the first product, the second half the second",
    _field(exact_kinds.UnpackedFp8, interleaved=False),
)
_add("k backwards", "the chain begins at the last k", _field(exact_kinds.Doubles, reverse=True))
_add(
    "not fused",
    "products are rounded before they are added",
    _field(exact_kinds.Doubles, fused=False),
)
_add("wraps", "sums wrap", _field(exact_kinds.Integers, saturate=False))
_add("stops", "sums stop at the ends of s32", _field(exact_kinds.Integers, saturate=True))
