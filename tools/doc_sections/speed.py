"""README's speed table, the page of records and docs/features.md's timings, from the records."""

from __future__ import annotations

from pathlib import Path

from attnprobe.bench import aims
from attnprobe.bench.engines import OURS
from attnprobe.bench.record import Record, load
from attnprobe.render import bench
from attnprobe.render.document import Table
from doc_sections import markdown_table, section

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGE = "benchmarks/results/README.md"
NONE = "No record yet: `attnprobe bench --json FILE` writes one."
README_SEQLEN = 4096  # what most people look for


def records() -> list[tuple[Path, Record]]:
    """Return the records, oldest first."""
    found = [(path, load(path)) for path in sorted(RESULTS.glob("*.json"))]
    return sorted(found, key=lambda item: item[1].environment["date"])


def having(*kinds: str) -> list[tuple[Path, Record]]:
    """Return the records that have results of one of ``kinds``, oldest first."""
    return [item for item in records() if item[1].of_kind(*kinds)]


def newest(*kinds: str) -> tuple[Path, Record] | None:
    """Return the newest record that has results of one of ``kinds``, or None."""
    found = having(*kinds)
    return found[-1] if found else None


@section("README.md", "speed")
def readme_speed() -> str:
    """The newest record at one length."""
    found = newest("prefill")
    if found is None:
        return NONE
    _, record = found
    header, rows = _rates(record, "prefill")
    shown = [row for row in rows if f" S{README_SEQLEN} " in row[0]]
    more = "All cases, ceilings and aims: benchmarks/results/README.md."
    lead = "Forward, TFLOP/s, medians: FLOP are 4 B H S² D, halved under a causal mask."
    return f"{lead}\n{_where(record)}\n\n{markdown_table(header, shown)}\n\n{more}"


@section(PAGE, "aims")
def reached() -> str:
    """Every aim, with the figure of the newest record that has its cases."""
    every = [record for _, record in reversed(records())]
    lines = []
    for aim in aims.AIMS:
        found = ((record, aim.figure(record)) for record in every)
        record, figure = next(((r, f) for r, f in found if f is not None), (None, None))
        bound = "at most " if aim.at_most else ""
        line = [aim.group, aim.name, f"{bound}{aims.shown(aim.wanted, aim.unit)}"]
        if record is None or figure is None:
            lines.append([*line, "not measured", "", ""])
            continue
        word = "yes" if aim.reached(figure) else "no"
        value = aims.shown(figure.value, aim.unit)
        lines.append([*line, value, word, f"{figure.note} {record.environment['date']}".strip()])
    return markdown_table([*bench.AIM_HEADER[:-1], "beside, date"], lines)


@section(PAGE, "plots")
def plots() -> str:
    """The plots of the newest record that has some in plots/."""
    for path, record in reversed(records()):
        pictures = sorted((RESULTS / "plots" / path.stem).glob("*.svg"))
        if pictures:
            where = f"Of {path.name}: {bench.facts(record)}."
            links = [f"![{p.stem}](plots/{path.stem}/{p.name})" for p in pictures]
            return "\n\n".join([where, *links])
    return "No plots yet: `attnprobe bench --render RECORD --plots DIR` draws them."


@section(PAGE, "prefill")
def prefill() -> str:
    """Every case of the newest record, beside the ceilings of the same run."""
    return _page_of("prefill")


@section(PAGE, "decode")
def decode() -> str:
    """Every cell of the newest record, beside the ceilings of the same run."""
    return _page_of("decode")


def _page_of(kind: str) -> str:
    found = newest(kind)
    if found is None:
        return NONE
    path, record = found
    parts = [_where(record, path), markdown_table(*_rates(record, kind))]
    if record.ceilings:
        parts.append(_markdown(bench.ceiling_table(record.ceilings)))
    said = [*bench.absent_lines(record), *bench.refused_lines(record)]
    if said:
        parts.append("Not timed:\n\n" + "\n".join(f"- {line}" for line in said))
    return "\n\n".join(parts)


@section(PAGE, "host")
def host() -> str:
    """What one call costs the host, and a process's first call."""
    parts = []
    for kind, scale in (("host", 1.0), ("first call", 1e3)):
        found = newest(kind)
        if found is not None:
            path, record = found
            parts += [_where(record, path), _markdown(bench.host_table(record, kind, scale))]
    return "\n\n".join(parts) or NONE


@section("docs/features.md", "timings")
def timings() -> str:
    """The newest record that has every feature beside the plain call."""
    found = having("feature")
    whole = [item for item in found if not any(_is_feature(name) for name in item[1].left_out)]
    if not found:
        return NONE
    path, record = (whole or found)[-1]
    shapes = {
        f"batch {r.batch}, {r.seqlen_q} queries, {r.seqlen_k} keys, {r.heads} heads of {r.head_dim}"
        for r in record.of_kind("feature")
    }
    where = f"{_where(record, path)} {'; '.join(sorted(shapes))}, {OURS} alone."
    return f"{where}\n\n{_markdown(bench.feature_table(record))}"


def _is_feature(case: str) -> bool:
    return case.startswith("feature ")


def _where(record: Record, path: Path | None = None) -> str:
    file = f"{path.name}: " if path else ""
    return f"{file}{bench.facts(record)}, `{record.environment['command']}`."


def _rates(record: Record, kind: str) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of a kind, without columns that are empty."""
    header, rows = bench.rate_header(record, kind), bench.rate_rows(record, kind)
    kept = [n for n in range(len(header)) if any(row[n] for row in rows)]
    return [header[n] for n in kept], [[row[n] for n in kept] for row in rows]


def _markdown(table: Table) -> str:
    return markdown_table(table.header, table.rows)
