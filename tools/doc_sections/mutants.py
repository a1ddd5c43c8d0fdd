"""The tables of docs/mutants.md: the rows of the mutants, and the recorded kill matrices."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

from attnprobe.mutants.catalogue import FAMILIES, MUTANTS, find
from attnprobe.mutants.matrix import TAME
from attnprobe.mutants.outcome import LETTERS, SURVIVED
from attnprobe.mutants.record import Record, load
from attnprobe.mutants.scenes import SCENES
from attnprobe.render import mutants as tables
from attnprobe.render import text
from doc_sections import markdown_table, section

PAGE = "docs/mutants.md"
RECORDED = Path(__file__).resolve().parents[2] / "tests" / "recorded"
EMULATOR = "mutants-emulator.json"
NOT_RECORDED = "No matrix is recorded."
OLD_FILLS = (TAME, "normal", "outliers", "real")  # of the first tests, where recorded


@cache
def records() -> tuple[Record, ...]:
    """Return the recorded matrices: the emulator's, then those of GPUs."""
    paths = sorted(RECORDED.glob("mutants-*.json"), key=lambda path: (path.name != EMULATOR, path))
    return tuple(map(load, paths))


@section(PAGE, "summary")
def summary() -> str:
    """Return the sums of each record."""
    rows = []
    for record in records():
        killed = sum(line.killed for line in record.faulty)
        tame = len(record.missed_by(TAME)) if TAME in record.fills else "-"
        rows.append(
            (
                record.environment["device"],
                record.environment.get("date", ""),
                len(record.faulty),
                killed,
                tame,
                sum(line.old_rule for line in record.faulty),
                f"{len(record.cover)}: {', '.join(f'`{fill}`' for fill in record.cover)}",
            )
        )
    header = (
        "where",
        "date",
        "faulty mutants",
        "killed",
        "missed by near_uniform",
        "missed by the old test",
        "smallest set of fills that kills the same",
    )
    return markdown_table(header, rows)


@section(PAGE, "story")
def story() -> str:
    """Return the faults of the story under the old limit and under the bound."""
    if not records():
        return NOT_RECORDED
    record = records()[0]
    lines = {line.name: line for line in record.lines}
    fills = [fill for fill in OLD_FILLS if fill in record.fills]
    rows = []
    for mutant in (row for row in MUTANTS if row.slipped and row.name in lines):
        line = lines[mutant.name]
        cells = dict(zip(record.fills, line.cells, strict=True))
        rows.append(
            (
                f"`{mutant.name}`",
                "passes" if line.old_rule else "refused",
                *("passes" if cells[fill] == SURVIVED else "refused" for fill in fills),
            )
        )
    header = ("mutant", f"{TAME}, old limit", *(f"{fill}, bound" for fill in fills))
    return markdown_table(header, rows)


@section(PAGE, "fills")
def fills() -> str:
    """Return how many mutants each fill kills and misses, in every record."""
    if not records():
        return NOT_RECORDED
    first = records()[0]
    rows = []
    for number, fill in enumerate(first.fills, start=1):
        kills: list[object] = []
        for record in records():
            missed = len(record.missed_by(fill))
            alone = sum(record.killed_by(line) == (fill,) for line in record.faulty)
            total = sum(fill in record.killed_by(line) for line in record.faulty)
            kills += [total, missed, alone or ""]
        rows.append((number, f"`{fill}`", *kills))
    names = [_short(record) for record in records()]
    header = [f"{what}, {name}" for name in names for what in ("kills", "misses", "alone kills")]
    return markdown_table(("column", "fill", *header), rows)


def _short(record: Record) -> str:
    device = record.environment["device"]
    return "emulator" if "emulator" in device else device


@section(PAGE, "matrix")
def matrix() -> str:
    """Return the matrix of the emulator, a line for each mutant."""
    if not records():
        return NOT_RECORDED
    record = records()[0]
    lines = [*text.block_lines(tables.matrix(record)), "", *tables.legend(record).lines]
    return "\n".join(["```text", *lines, "```"])


@section(PAGE, "missed")
def missed() -> str:
    """Return what near-uniform data let pass, by family."""
    if not records():
        return NOT_RECORDED
    names = records()[0].missed_by(TAME)
    rows = []
    for family in FAMILIES:
        own = [name for name in names if find(name).family == family]
        total = sum(find(line.name).family == family for line in records()[0].faulty)
        shown = ", ".join(f"`{name}`" for name in own)
        if total:
            rows.append((family, f"{len(own)} of {total}", shown))
    return markdown_table(("family", "missed", "which"), rows)


@section(PAGE, "gpu")
def gpu() -> str:
    """Return where a GPU and the emulator differ: mutants that one of them kills more widely."""
    if not records():
        return NOT_RECORDED
    first, *others = records()
    found = {line.name: line for line in first.lines}
    parts = []
    for record in others:
        rows = []
        for line in record.lines:
            on_gpu, emulated = set(record.killed_by(line)), set(first.killed_by(found[line.name]))
            if on_gpu != emulated:
                how = Counter(found[line.name].cells).most_common(1)[0][0]
                said = LETTERS[how][1] if how in LETTERS else "survives"
                rows.append((f"`{line.name}`", len(emulated), len(on_gpu), said))
        header = ("mutant", "fills that kill it, emulator", f"{_short(record)}", "on the emulator")
        parts.append(markdown_table(header, rows))
    return "\n\n".join(parts) or "No GPU's matrix is recorded."


@section(PAGE, "rows")
def rows() -> str:
    """Return every mutant: what it breaks, where it is seen, what must refuse it."""
    parts = []
    for family in FAMILIES:
        cells = [
            (
                f"`{row.name}`",
                row.breaks + (f" ({row.field})" if row.field else ""),
                row.subject,
                ", ".join(row.seen_on),
                ", ".join(f"`{fill}`" for fill in row.refused_by) or "nothing: equivalent",
            )
            for row in MUTANTS
            if row.family == family
        ]
        header = ("mutant", "what is wrong", "change of", "seen on", "must be refused by")
        parts.append(f"### {family}\n\n" + markdown_table(header, cells))
    return "\n\n".join(parts)


@section(PAGE, "timing")
def timing() -> str:
    """Return the mutants of timing, by family."""
    named = {
        family: [f"`{row.name}`" for row in MUTANTS if row.timing and row.family == family]
        for family in FAMILIES
    }
    return markdown_table(
        ("family", "mutants of timing"), [(k, ", ".join(v)) for k, v in named.items() if v]
    )


@section(PAGE, "equivalent")
def equivalent() -> str:
    """Return the mutants that nothing can refuse, with the argument."""
    cells = [(f"`{row.name}`", row.breaks, row.equivalent) for row in MUTANTS if row.equivalent]
    return markdown_table(("mutant", "the change", "why nothing can tell"), cells)


@section(PAGE, "scenes")
def scenes() -> str:
    """Return the problems that mutants are run on."""
    cells = []
    for scene in SCENES.values():
        case, tile = scene.case, scene.tile
        sizes = case.sizes
        lengths = (
            f"{len(case.lengths)} sequences"
            if case.lengths
            else f"{sizes.seqlen_q} x {sizes.seqlen_k}"
        )
        heads = f"{sizes.num_heads}/{sizes.num_kv_heads}"
        shown = "the plan's" if tile is None else tile.shown
        cells.append((f"`{scene.name}`", scene.what, lengths, heads, sizes.head_dim, shown))
    return markdown_table(
        ("scene", "what it is", "queries x keys", "heads", "head_dim", "tile"), cells
    )
