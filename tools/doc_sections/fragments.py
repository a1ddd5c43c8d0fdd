"""The tables of docs/fragments.md: the rows, their formulas, and pictures of the operands."""

from __future__ import annotations

from attnprobe import layouts
from attnprobe.layouts import Instruction, Operand
from attnprobe.render.document import table
from attnprobe.render.text import table_lines
from doc_sections import markdown_table, section

PAGE = "docs/fragments.md"


@section(PAGE, "instructions")
def instructions() -> str:
    """Return the table of all rows."""
    header = ("instruction", "registers a lane", "PTX ISA", "targets", "source")
    return markdown_table(
        header,
        [
            (f"`{row.ptx}`", _registers(row), row.min_ptx, row.targets, row.source)
            for row in layouts.rows()
        ],
    )


def _registers(row: Instruction) -> str:
    return ", ".join(f"{operand.name} {operand.registers}" for operand in row.operands)


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
    """Return a picture of each operand, once for all that look alike."""
    titles: dict[str, list[str]] = {}
    for title, operand in _distinct():
        titles.setdefault(_picture(operand), []).append(title)
    return "\n\n".join(
        f"### {', '.join(names)}\n\n```text\n{picture}\n```" for picture, names in titles.items()
    )


def _distinct() -> list[tuple[str, Operand]]:
    """Return the operands, without those whose places are the same as another's of that shape.

    The title names every instruction shape and operand that has these places.
    """
    found: dict[tuple[object, ...], tuple[list[str], Operand]] = {}
    for row in layouts.rows():
        for operand in row.operands:
            key = (operand.fragment, operand.axes, operand.matrix_rows)
            names, _ = found.setdefault(key, ([], operand))
            names.append(_place_name(row, operand))
    return [(", ".join(dict.fromkeys(names)), operand) for names, operand in found.values()]


def _place_name(row: Instruction, operand: Operand) -> str:
    if row.shape:
        shape = "".join(f"{axis}{size}" for axis, size in zip("mnk", row.shape, strict=True))
        return f"{operand.name} of {shape}"
    count, trans = operand.axis_sizes[0], " trans" if row.transposed else ""
    return (
        f"{row.family} x{count}{trans}" if operand.matrix_rows else f"{operand.name} of {row.ptx}"
    )


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
