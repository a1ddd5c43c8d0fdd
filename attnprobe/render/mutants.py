"""The kill matrix as a document: mutants by fills, a letter a cell, and the sums of its columns."""

from __future__ import annotations

from attnprobe.mutants.catalogue import find
from attnprobe.mutants.outcome import LETTERS, NOT_RUN, SURVIVED
from attnprobe.mutants.record import Record
from attnprobe.render.document import Document, Heading, Lines, Table, table


def matrix(record: Record) -> Table:
    """Return a row for each mutant: a letter for each fill, in the order of ``fills``."""
    families = list(dict.fromkeys(find(line.name).family for line in record.lines))
    rows, groups = [], []
    for line in record.lines:
        mutant = find(line.name)
        said = "equivalent" if line.equivalent else f"{len(record.killed_by(line))}"
        rows.append((line.name, mutant.family, line.cells, said))
        groups.append(families.index(mutant.family))
    header = ("mutant", "family", _ruler(len(record.fills)), "killed by")
    return table(header, rows, numeric=(3,), groups=groups)


def _ruler(count: int) -> str:
    """Two lines over the cells: tens and ones of the column's number."""
    tens = "".join(str(i // 10) if i % 10 == 0 else " " for i in range(1, count + 1))
    ones = "".join(str(i % 10) for i in range(1, count + 1))
    return f"{tens}\n{ones}" if count > 9 else ones


def fills(record: Record) -> Table:
    """Return a row for each fill: its column, how many mutants it kills and how many it misses."""
    faulty = len(record.faulty)
    rows = []
    for number, fill in enumerate(record.fills, start=1):
        killed = sum(fill in record.killed_by(line) for line in record.faulty)
        missed = len(record.missed_by(fill))
        rows.append((number, fill, killed, missed, "yes" if fill in record.cover else ""))
    header = ("column", "fill", f"kills of {faulty}", "misses", "in the smallest set")
    return table(header, rows, numeric=(0, 2, 3))


def legend(record: Record) -> Lines:
    """Return what the letters in the cells of ``record`` mean."""
    used = {cell for line in record.lines for cell in line.cells}
    lines = [f"{letter}  {text}" for letter, (_, text) in LETTERS.items() if letter in used]
    lines.append(f"{SURVIVED}  survives: nothing refuses it")
    if NOT_RUN in used:
        lines.append(f"{NOT_RUN}  not run, or the fill is not made for this number format")
    return Lines(tuple(lines))


def summary(record: Record) -> Lines:
    """Return the sums: how many are killed, by how few fills, and what the old test missed."""
    faulty = record.faulty
    killed = [line for line in faulty if line.killed]
    alive = [line.name for line in faulty if not line.killed]
    old = [line.name for line in faulty if line.old_rule]
    cover = record.cover
    lines = [
        f"{len(record.lines)} mutants, {len(record.lines) - len(faulty)} of them equivalent; "
        f"{len(killed)} of the {len(faulty)} others are killed",
        f"smallest set of fills that kills all of these (exact): {len(cover)}: {', '.join(cover)}",
    ]
    if "near_uniform" in record.fills:
        lines += [
            f"near_uniform misses {len(record.missed_by('near_uniform'))}; under the old test's "
            f"fixed limit on O it misses {len(old)}",
        ]
    if alive:
        lines.append(f"alive: {', '.join(alive)}")
    return Lines(tuple(lines))


def document(record: Record) -> Document:
    """Return the whole: matrix, fills, letters, sums."""
    title = f"Kill matrix on {record.environment['device']}"
    return (Heading(title), matrix(record), fills(record), legend(record), summary(record))
