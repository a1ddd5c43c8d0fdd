"""docs/product-numerics.md: chips, and what hardware answered to the questions on arithmetic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from attnprobe.formats import Format
from attnprobe.layouts import Instruction
from attnprobe.numerics import recorded_attention, recorded_launches
from attnprobe.probing import arithmetic, evidence, scalars, warpgroup_arithmetic
from attnprobe.probing.hypotheses import HYPOTHESES
from attnprobe.ptx import exact_ex2
from attnprobe.ptx.exact_chips import CHIPS
from doc_sections import markdown_table, section

PAGE = "docs/product-numerics.md"
NOTHING = "Nothing is recorded yet: `python tools/record_arithmetic.py` does it on a GPU."
SHOWN_MIXED = ("e4m3.e5m2", "e5m2.e4m3", "u8.s8", "s8.u8", "u4.s4", "s4.u4")  # as their kin


@section(PAGE, "chips")
def chips() -> str:
    """One line for each chip."""
    rows = [
        [
            f"{row.name} (sm_{row.cc})",
            row.fraction,
            row.block16,
            row.block32 or "-",
            "none" if row.emin_f32 is None else row.emin_f32,
            row.emin_f16,
            _fp8(row.fp8, row.fp8_block, row.fp8_fraction, row.fp8_result_bits),
            "measured" if row.measured else "literature",
        ]
        for row in CHIPS
    ]
    header = ["chip", "F", "block, 16-bit", "block, tf32", "emin, f32", "emin, f16", "fp8", "from"]
    return markdown_table(header, rows)


def _fp8(kind: str, block: int, fraction: int, bits: int) -> str:
    if kind == "native":
        return f"block {block}, F {fraction}, result of {bits} bits"
    return {"f16": "two f16 products, then an addition", "": "-"}[kind]


def _stored(name: str) -> dict[str, Any] | None:
    path = evidence.folder() / f"{name}.json"
    return evidence.load(path) if path.is_file() else None


def _where(data: dict[str, Any]) -> str:
    e = data["environment"]
    parts = [
        e.get("device"),
        *(f"{k} {e[k]}" for k in ("driver", "nvrtc") if k in e),
        e.get("date"),
    ]
    return ", ".join(str(part) for part in parts if part)


@cache
def _outcomes() -> tuple[arithmetic.Outcome, ...]:
    data = _stored("questions")
    return () if data is None else tuple(evidence.recorded_outcomes(data, _representatives()))


@cache
def _representatives() -> tuple[Instruction, ...]:
    """Return the row with the most products of each type; mixed types are left to their kin."""
    found: dict[str, Instruction] = {}
    for row in arithmetic.rows():
        name = evidence.type_of(row)
        if not name.startswith(SHOWN_MIXED):
            found[name] = max(found.get(name, row), row, key=lambda item: item.shape)
    return tuple(found.values())


@section(PAGE, "questions")
def questions() -> str:
    """Each question with the vectors that show its answer, type by type."""
    data = _stored("questions")
    if data is None:
        return NOTHING
    parts = [f"Answers of {_where(data)}."]
    for question in arithmetic.questions():
        outcomes = [item for item in _outcomes() if item.question == question]
        asked = sum(len(item.answers) for item in outcomes)
        wrong = sum(item.differing for item in outcomes)
        parts.append(f"### {question.experiment}: {question.asks}")
        agreement = "all as the rule says" if not wrong else f"**{wrong} not as the rule says**"
        parts.append(
            f"{asked} answers of {len(outcomes)} instructions, {agreement}.{_refuted(outcomes)}"
        )
        lines = [line for item in outcomes for line in _lines(item)]
        if lines:
            parts.append(markdown_table(["instruction", "sum", "answer"], lines))
    return "\n\n".join(parts)


def _refuted(outcomes: list[arithmetic.Outcome]) -> str:
    counts: Counter[str] = Counter()
    for item in outcomes:
        counts.update(item.refuted())
    said = [f"{HYPOTHESES[name].says} ({name}: {n} answers)" for name, n in counts.items()]
    return f" Refuted: {'; '.join(said)}." if said else ""


def _lines(item: arithmetic.Outcome) -> Iterator[list[object]]:
    form = item.row["D"].format
    name = "`" + item.row.ptx.removeprefix("mma.sync.aligned.") + "`"
    for number, says in enumerate(item.packed.says):
        if says in item.question.shown:
            bits, wanted = int(item.answers[number]), int(item.predicted[number])
            rule = "" if bits == wanted else f" (the rule: {wanted:x})"
            yield [name, says, f"`{bits:0{form.bits // 4}x}` = {_value(bits, form)}{rule}"]


def _value(bits: int, form: Format) -> str:
    with np.errstate(all="ignore"):
        return f"{form.decode(np.array([bits], form.storage))[0]:.9g}"


@section(PAGE, "tiles")
def tile_counts() -> str:
    """Random tiles of each type."""
    data = _stored("tiles")
    if data is None:
        return NOTHING
    counts: Counter[str] = Counter()
    instructions: Counter[str] = Counter()
    regimes: dict[str, list[str]] = {}
    for row in arithmetic.rows():
        stored = data["tiles"].get(row.ptx)
        if stored is not None:
            name = evidence.type_of(row)
            counts[name] += stored["tiles"]
            instructions[name] += 1
            regimes[name] = [regime.replace("_", " ") for regime in stored["regimes"]]
    lines = [
        [f"`{name}`", instructions[name], count, ", ".join(regimes[name])]
        for name, count in counts.items()
    ]
    table = markdown_table(["A, B, D", "instructions", "tiles", "regimes"], lines)
    return f"{sum(counts.values()):,} tiles, answered by {_where(data)}.\n\n{table}"


@section(PAGE, "wgmma")
def groups() -> str:
    """One line for each wgmma product."""
    data = _stored("wgmma")
    if data is None:
        return NOTHING
    rows = tuple(map(warpgroup_arithmetic.twin, warpgroup_arithmetic.rows()))
    answers: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for item in evidence.recorded_outcomes(data["wgmma"], rows):
        answers[item.row.ptx] += len(item.answers)
        wrong[item.row.ptx] += item.differing
    lines = []
    for name, count in answers.items():
        short = "`" + name.removeprefix("wgmma.mma_async.sync.aligned.") + "`"
        lines.append([short, count, wrong[name], data["wgmma"]["tiles"][name]["tiles"]])
    table = markdown_table(["instruction", "answers", "not as the rule says", "tiles"], lines)
    return f"Answers of {_where(data)}.\n\n{table}"


@section(PAGE, "ex2")
def ex2() -> str:
    """How far the table of ex2.approx is from correct rounding."""
    if not exact_ex2.path().is_file():
        return NOTHING
    values, counts = np.unique(exact_ex2.differences(), return_counts=True)
    lines = [[f"{value:+d}", f"{count:,}"] for value, count in zip(values, counts, strict=True)]
    size = exact_ex2.path().stat().st_size
    table = markdown_table(["units in the last place", "of 2^23 values"], lines)
    return f"{table}\n\nThe file has {size:,} bytes."


@section(PAGE, "scalars")
def scalar_list() -> str:
    """The scalar instructions that are checked."""
    data = _stored("scalars")
    if data is None:
        return NOTHING
    words = len(scalars.REGIMES) * scalars.COUNT
    names = ", ".join(f"`{name}`" for name in data["scalars"])
    return f"{names}: {words:,} random inputs each, answered by {_where(data)}."


@section(PAGE, "attention")
def attention() -> str:
    """The cases of attention."""
    data = _stored("attention")
    if data is None:
        return NOTHING
    cases = recorded_attention.cases()
    kinds: dict[str, list[str]] = {}
    for name in data["attention"]:
        kinds.setdefault(name.split(", ")[0], []).append(", ".join(name.split(", ")[1:]))
    lines = [
        [kind, cases[f"{kind}, {widths[0]}"][1], "; ".join(widths)]
        for kind, widths in kinds.items()
    ]
    table = markdown_table(["case", "values", "widths and formats"], lines)
    stored = data["attention"]
    launches = recorded_launches.load(evidence.folder() / recorded_attention.LAUNCHES)
    present = sum(
        not recorded_attention.changed(name, stored[name], launches[name]) for name in stored
    )
    return (
        f"{len(stored)} cases on {_where(data)}. {present} of them are of the kernels as they are "
        "now; the launches of all are kept whole beside the record, and it is these that the "
        f"emulator runs again.\n\n{table}"
    )
