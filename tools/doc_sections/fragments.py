"""The tables of docs/fragments.md: the rows by family, their formulas, and pictures of operands."""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import prod

from attnprobe import layouts
from attnprobe.layouts import Instruction, Operand, hardware
from attnprobe.render.document import table
from attnprobe.render.text import table_lines
from doc_sections import markdown_table, section

PAGE = "docs/fragments.md"
WIDEST = 256  # of wgmma, whose D is drawn and computed for one N alone

# What is drawn: one of each kind of operand. `attnprobe layout show` draws the others.
DRAWN = (
    "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32",
    "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32",
    "mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32",
    "mma.sp.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32",
    "mma.sp.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32",
    "mma.sp.sync.aligned.m16n8k64.row.col.s32.s8.s8.s32",
    "mma.sync.aligned.m16n8k64.row.col.kind::mxf4.block_scale.scale_vec::2X.f32.e2m1.e2m1.f32.ue8m0",
    "ldmatrix.sync.aligned.m8n8.x1.shared.b16",
    "ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16",
    "ldmatrix.sync.aligned.m16n16.x1.trans.shared.b8",
    "stmatrix.sync.aligned.m16n8.x1.trans.shared.b8",
)


@section(PAGE, "families")
def families() -> str:
    """Return how many rows each family has, and how many of them an H200 takes."""
    lines: list[tuple[object, ...]] = []
    rows = layouts.rows()
    for family in dict.fromkeys(row.family for row in rows):
        own = [row for row in rows if row.family == family]
        here = sum(row.runs_on(90, "a") for row in own)
        arrangements = len(layouts.distinct(family))
        lines.append((f"`{family}`", len(own), arrangements, here, len(own) - here))
    header = ("family", "instructions", "arrangements", "sm_90a takes", "only newer GPUs take")
    return markdown_table(header, lines)


# --- instructions ---------------------------------------------------------------------------------


@section(PAGE, "instructions")
def instructions() -> str:
    """Return the table of all rows; those that differ in types alone share a line."""
    header = ("instructions", "number", "registers a lane", "least PTX", "targets", "section")
    groups: dict[object, list[Instruction]] = {}
    for row in layouts.rows():
        groups.setdefault(_group(row), []).append(row)
    return markdown_table(header, [_line(rows) for rows in groups.values()])


def _words(row: Instruction) -> list[str]:
    """Return the mnemonic's words; a width of wgmma is the letter N, ``.satfinite`` is left out."""
    words = row.mnemonic.replace(".satfinite", "").split(".")
    if row.lanes == 128:
        words = [re.sub(r"^(m64n)\d+(k\d+)$", r"\g<1>N\2", word) for word in words]
    return words


def _group(row: Instruction) -> tuple[object, ...]:
    words = _words(row)
    return (
        words[0],
        len(words),
        tuple(words[:3] if row.shape or row.measured else words),
        words[6] if row.measured and not row.shape else "",
        row.shape[0:1] + row.shape[2:],
        "" if row.lanes == 128 else _registers(row),
        row.ptx.partition(" ")[2],
        row.kind,
        row.immediates,
        row.min_ptx,
        row.targets,
        row.source,
        tuple((each.format.bits, each.format.kind) for each in row.operands),
    )


def _line(rows: list[Instruction]) -> tuple[object, ...]:
    row = rows[0]
    registers = _registers(row)
    if row.lanes == 128:
        per = {operand.name: operand.registers for operand in row.operands}
        per["D"] = f"N/{2 * row['D'].format.per_register}" if len(rows) > 1 else per["D"]
        registers = ", ".join(f"{name} {count}" for name, count in per.items())
    return f"`{pattern(rows)}`", len(rows), registers, row.min_ptx, row.targets, _section_of(row)


def _section_of(row: Instruction) -> str:
    """Return the section of the PTX ISA that the row is from, or its source as it stands."""
    found = re.search(r"PTX ISA [\d.]+, ([\d.]+\d)", row.source)
    return found[1] if found else row.source


def pattern(rows: list[Instruction]) -> str:
    """Return one text for the mnemonics: ``{s8,u8}`` where they differ, ``[.satfinite]``."""
    if len(rows) == 1:
        return rows[0].ptx
    columns = list(zip(*(_words(row) for row in rows), strict=True))
    words = [_alternatives(column) for column in columns]
    if any(".satfinite" in row.ptx for row in rows):
        at = next(i for i, word in enumerate(words) if word == "s32")
        words[at - 1] += "[.satfinite]"
    text = ".".join(words) + "".join(rows[0].ptx.partition(" ")[1:])
    widths = len({row.shape[1] for row in rows}) if rows[0].lanes == 128 else 1
    clamped = 2 if "[.satfinite]" in text else 1
    every = prod(len(set(column)) for column in columns) * widths * clamped
    return text if every == len(rows) else f"{text} ({len(rows)} of {every})"


def _alternatives(column: Iterable[str]) -> str:
    words = list(dict.fromkeys(column))
    return words[0] if len(words) == 1 else "{" + ",".join(words) + "}"


def _registers(row: Instruction) -> str:
    return ", ".join(f"{operand.name} {operand.registers}" for operand in row.operands)


# --- machine code ---------------------------------------------------------------------------------

TARGETS = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120a")


@section(PAGE, "native")
def native() -> str:
    """Return for each target how many rows are one tensor-core instruction, several, or none."""
    lines = []
    for target in TARGETS:
        found = [hardware.code(row, target) for row in layouts.rows()]
        how = [code.how for code in found if code is not None]
        lines.append((target, *(how.count(kind) for kind in ("native", "split", "emulated"))))
    return markdown_table(("target", "native", "split", "no tensor core"), lines)


@section(PAGE, "split")
def split() -> str:
    """Return what is not one instruction on some target, and what it is there."""
    groups: dict[object, list[Instruction]] = {}
    for row in layouts.rows():
        if any(not code.native for code in hardware.codes(row)):
            groups.setdefault((_group(row)[:4], _codes(row)), []).append(row)
    lines = [(f"`{pattern(rows)}`", *_codes(rows[0])) for rows in groups.values()]
    return markdown_table(("instructions", *TARGETS), lines)


def _codes(row: Instruction) -> tuple[str, ...]:
    """Return a row's machine code on each target; signs and fp8 types are the instruction's own."""
    cells = []
    for target in TARGETS:
        code = hardware.code(row, target)
        short = "" if code is None else re.sub(r"(\.[SU][48]|\.E\dM\d|\.SAT)+$", "", code.sass)
        if code is not None and code.how == "emulated":
            short = "none"
        cells.append(re.sub(r"(\.STEP0).*", " in steps", short))
    return tuple(cells)


# --- formulas and pictures ------------------------------------------------------------------------


@section(PAGE, "formulas")
def formulas() -> str:
    """Return the closed formulas, both ways, once for all operands that share them."""
    rows = []
    for title, operand in _distinct():
        size = " x ".join(str(size) for size in operand.axis_sizes)
        forth = _equations(operand.formulas())
        back = _equations(operand.inverse())
        rows.append((title, f"{' x '.join(operand.axis_names)} = {size}", forth, back))
    return markdown_table(
        ("operand", "size", "position of element i", "holder of a position"), rows
    )


def _equations(formulas: dict[str, str]) -> str:
    return "<br>".join(f"`{name} = {text}`" for name, text in formulas.items())


@section(PAGE, "pictures")
def pictures() -> str:
    """Return a picture of one operand of each kind, once for all that look alike."""
    drawn: dict[str, list[str]] = {}
    for name in DRAWN:
        row = layouts.exact(name)
        assert row is not None, name
        for operand in row.operands:
            drawn.setdefault(_picture(operand), []).append(_place_name(row, operand))
    return "\n\n".join(
        f"### {', '.join(dict.fromkeys(names))}\n\n```text\n{picture}\n```"
        for picture, names in drawn.items()
    )


def _distinct() -> list[tuple[str, Operand]]:
    """Return the operands, without those whose places are the same as another's.

    The title names every operand and shape that has these places.
    """
    found: dict[tuple[object, ...], tuple[list[str], Operand]] = {}
    for row in layouts.rows():
        if row.family.startswith("wgmma") and row.shape[1] != WIDEST:
            continue
        for operand in row.operands:
            key = (operand.fragment, operand.axes, operand.matrix_rows)
            names, _ = found.setdefault(key, ([], operand))
            names.append(_place_name(row, operand))
    return [(", ".join(dict.fromkeys(names)), operand) for names, operand in found.values()]


def _place_name(row: Instruction, operand: Operand) -> str:
    if row.family.startswith("wmma"):
        return _wmma_name(row, operand)
    if not row.shape:
        words = row.mnemonic.split(".")
        trans = " trans" if row.transposed else ""
        if not operand.matrix_rows:
            return f"{operand.name} of {words[0]}"
        return f"{words[0]} {words[3]} x{operand.matrices}{trans}"
    m, n, k = row.shape
    sparse = "sparse " if row.sparsity else ""
    bits = operand.format.bits
    if operand.name in "CD":
        deep = f"k{k} f16 in {bits} bits" if operand.matrices > 1 else ""
        return f"{operand.name} of m{m}n{'N' if m == 64 and n == WIDEST else n}{deep}"
    if operand.name == "A":
        layout = f" {row.mnemonic.split('.')[4]}" if operand.matrices > 1 else ""
        return f"{sparse}A of m{m}k{k}, {bits} bits{layout}"
    if operand.name == "B":
        layout = f" {row.mnemonic.split('.')[5]}" if operand.matrices > 1 else ""
        return f"B of n8k{k}, {bits} bits{layout}"
    if operand.name == "E":
        stored = row.by_name["A"].format.bits if "A" in row.by_name else 0
        width = f", {stored} bits" if stored else f" of {row.mnemonic.split('.')[-1]}"
        return f"E of m{m}k{k}{width}"
    return f"{operand.name} of scale_vec::{_vector(operand)}X"


def _wmma_name(row: Instruction, operand: Operand) -> str:
    words = row.mnemonic.split(".")
    shape = next(word for word in words if re.fullmatch(r"m\d+n\d+k\d+", word))
    letter = operand.name if row.family == "wmma.mma" else words[2].upper()
    layouts_ = words[words.index("aligned") + 1 : words.index(shape)]
    layout = layouts_[0] if letter in "ACD" or len(layouts_) == 1 else layouts_[1]
    which = f" {layout}" if letter in "AB" else ""
    return f"wmma {letter} of {shape}, {operand.format.bits} bits{which}"


def _vector(operand: Operand) -> int:
    """Return how many scale factors a row of A or a column of B has."""
    return operand.fragment.cols if operand.name == "SFA" else operand.fragment.rows


def _picture(operand: Operand) -> str:
    """Return the operand (its first matrix) as a grid; a cell says ``lane:i``, who holds it."""
    fragment = operand.fragment
    row_axis, col_axis = operand.axis_names[-2:]
    lines = []
    for row in range(operand.axis_sizes[-2]):
        holders = [fragment.where(row, col)[0] for col in range(fragment.cols)]
        lines.append((row, *(f"{lane}:{i}" for lane, i in holders)))
    header = (f"{row_axis}\\{col_axis}", *(str(col) for col in range(fragment.cols)))
    return "\n".join(table_lines(table(header, lines, numeric=range(len(header)))))
