"""The report of a record as one HTML page that needs nothing else: plots, aims, every figure."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

from attnprobe.bench.record import Record
from attnprobe.render import bench, plots
from attnprobe.render.document import Table
from attnprobe.render.plot_style import svg
from attnprobe.render.sheet import THEME_BUTTON, sheet

_SHOWN = ("device", "driver", "nvrtc", "cupy", "torch", "cudnn", "jax", "date", "effort", "kernels")
_CSS = """
figure.chart { margin: 18px 0 0; padding: 14px; border-radius: 12px; border: 1px solid var(--line); background: #fff; }
figure.chart img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
.figures td, .figures th { white-space: nowrap; }
td.n { text-align: right; font-family: var(--mono); font-size: 12px; }
td.yes { color: var(--good); font-weight: 650; } td.no { color: var(--bad); font-weight: 650; }
th.n { text-align: right; }
"""  # noqa: E501


def page(record: Record) -> str:
    """Return the page.

    Raises
    ------
    UsageError
        Where matplotlib is missing.
    """
    parts = (
        _head(record),
        "".join(_charts(record)),
        _aims(record),
        _tables(record),
        _words("Wrong", bench.wrong_lines(record)),
        _words("Not timed", (*bench.absent_lines(record), *bench.refused_lines(record))),
        f"<footer><code>{escape(record.environment.get('command', ''))}</code></footer>",
    )
    return sheet(_title(record), "\n".join(parts), _CSS)


def _title(record: Record) -> str:
    return f"attnprobe bench: {record.environment.get('device', '')}"


def _head(record: Record) -> str:
    told = record.environment
    named = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(told[name])}</dd></div>"
        for name in _SHOWN
        if name in told
    )
    says = (
        "Forward attention. Engines in turn on the same N(0, 1) data, medians of batches; each "
        "result is held against float64 before it is timed, and the ceilings are of the same run."
    )
    return (
        f'<header><div><p class="eyebrow">Benchmark report</p><h1>{escape(told["device"])}</h1>'
        f'<p class="says">{escape(says)}</p><dl class="facts">{named}</dl></div>'
        f"{THEME_BUTTON}</header>{_verdict(record)}"
    )


def _verdict(record: Record) -> str:
    rows = bench.aim_rows(record)
    if not rows:
        return ""
    reached = sum(row[4] == "yes" for row in rows)
    kind = "good" if reached == len(rows) else ""
    return (
        f'<section class="verdict {kind}"><b>{reached} of {len(rows)} aims reached</b>'
        f"<span>{len(record.results)} figures, {len(record.engines)} engines</span></section>"
    )


def _charts(record: Record) -> Iterable[str]:
    for plot, figure in plots.drawn(record):
        data = base64.b64encode(svg(figure).encode()).decode()
        yield (
            f'<figure class="chart" id="{plot.name}"><img alt="{escape(plot.says)}" '
            f'src="data:image/svg+xml;base64,{data}"></figure>'
        )


def _aims(record: Record) -> str:
    groups: dict[str, list[list[str]]] = {}
    for row in bench.aim_rows(record):
        groups.setdefault(row[0], []).append(row[1:])
    cards = (
        f"<h3>{escape(name)}</h3>{_html_table(bench.AIM_HEADER[1:], rows, numeric=(1, 2))}"
        for name, rows in groups.items()
    )
    body = "".join(f'<div class="card scroll">{card}</div>' for card in cards)
    return f"<h2>Aims</h2>{body}" if body else ""


def _tables(record: Record) -> str:
    parts = []
    if record.ceilings:
        parts.append(("Ceilings", bench.ceiling_table(record.ceilings)))
    parts += [
        (bench.TITLES[kind], bench.rate_table(record, kind))
        for kind in ("prefill", "decode")
        if record.of_kind(kind)
    ]
    if record.of_kind("feature"):
        parts.append((bench.TITLES["feature"], bench.feature_table(record)))
    parts += [
        (bench.TITLES[kind], bench.host_table(record, kind, scale))
        for kind, scale in (("host", 1.0), ("first call", 1e3))
        if record.of_kind(kind)
    ]
    return "".join(f"<h2>{escape(title)}</h2>{_card(table)}" for title, table in parts)


def _card(table: Table) -> str:
    body = _html_table(table.header, table.rows, tuple(table.numeric))
    return f'<div class="card scroll">{body}</div>'


def _html_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], numeric: Sequence[int]
) -> str:
    head = "".join(
        f'<th class="{"n" if column in numeric else ""}">{escape(text)}</th>'
        for column, text in enumerate(header)
    )
    lines = []
    for row in rows:
        cells = (
            f'<td class="{_class(cell, column in numeric)}">{escape(cell)}</td>'
            for column, cell in enumerate(row)
        )
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<table class="figures"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody>'
        "</table>"
    )


def _class(cell: str, numeric: bool) -> str:
    return cell if cell in ("yes", "no") else "n" if numeric else ""


def _words(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    return (
        f'<h2>{escape(title)}</h2><div class="card"><pre>{escape(chr(10).join(lines))}</pre></div>'
    )
