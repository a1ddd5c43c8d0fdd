"""The plots of a record, as SVG and PNG: rate over length, roofline, time over length, decode.

Drawn by matplotlib, an optional dependency (extra "bench"); lines are named where they end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import atan2, degrees
from pathlib import Path
from typing import Any

from attnprobe.bench import aims, ceilings
from attnprobe.bench.cases import DECODE_LENGTHS, DECODE_SHAPES, HEAD_DIMS, Case, decode
from attnprobe.bench.engines import OURS, OURS_MMA
from attnprobe.bench.record import Record, Result
from attnprobe.errors import UsageError
from attnprobe.render.bench import engines_of
from attnprobe.render.plot_style import (
    INK,
    LINE,
    SOFT,
    STYLE,
    check_installed,
    figure_of,
    length,
    look,
    name_ends,
    name_lengths,
    panels,
    png,
    roof,
    svg,
)


@dataclass(frozen=True)
class Plot:
    """One plot: the name of its files, what it shows, and how it is drawn on a figure."""

    name: str
    says: str
    draw: Callable[[Record], Any | None]


def drawn(record: Record) -> Iterable[tuple[Plot, Any]]:
    """Yield the plots that the record has data for, each with its figure."""
    check_installed()
    import matplotlib

    for plot in PLOTS:
        with matplotlib.rc_context(STYLE):
            figure = plot.draw(record)
        if figure is not None:
            yield plot, figure


def write(record: Record, folder: Path) -> list[Path]:
    """Write the plots into ``folder`` and return the files.

    Raises
    ------
    UsageError
        Where matplotlib is missing, or there is nothing to draw.
    """
    written: list[Path] = []
    for plot, figure in drawn(record):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{plot.name}.svg"
        path.write_text(svg(figure), encoding="utf-8")
        path.with_suffix(".png").write_bytes(png(figure))
        written += [path, path.with_suffix(".png")]
    if not written:
        raise UsageError("the record has no prefill and no decode: there is nothing to draw")
    return written


def _prefill(record: Record, head_dim: int, causal: bool, engine: str) -> list[Result]:
    """Return the float16 results of a width and a mask, shortest first."""
    rows = (
        row
        for row in record.of_kind("prefill")
        if (row.head_dim, row.causal, row.engine, row.dtype)
        == (head_dim, causal, engine, "float16")
    )
    return sorted(rows, key=lambda row: row.seqlen_k)


def _mask(causal: bool) -> str:
    return "causal" if causal else "full"


# --- the plots ------------------------------------------------------------------------------------


def _rate_over_length(record: Record) -> Any | None:
    """Draw TFLOP/s over the length: a panel for each width and mask."""
    keys = sorted({row.seqlen_k for row in record.of_kind("prefill") if row.dtype == "float16"})
    if not keys:
        return None
    note = (
        "FLOP are 4 B H S² D, halved under a causal mask; heads x head_dim = 2048, "
        "batch x seqlen = 16384. Medians; bars: ± one robust standard deviation."
    )
    figure = figure_of(13.5, 8.2, "Prefill, float16: TFLOP/s over the length", record, note)
    grid = panels(figure, 2, len(HEAD_DIMS), sharey=True)
    best = max(row.tflops or 0.0 for row in record.of_kind("prefill"))
    roofs = {name: record.ceiling(name) for name in (ceilings.WGMMA, ceilings.MMA)}
    top = max([best, *(rate / 1e12 for rate in roofs.values() if rate)])
    for line, causal in enumerate((False, True)):
        for column, head_dim in enumerate(HEAD_DIMS):
            axes = grid[line][column]
            axes.set_title(f"head_dim {head_dim}, {_mask(causal)}")
            name_lengths(axes, keys)
            axes.set_ylim(0, top * 1.07)
            if line:
                axes.set_xlabel("seqlen (queries and keys)")
            if not column:
                axes.set_ylabel("TFLOP/s")
            for name, rate in roofs.items():
                if rate:
                    roof(axes, rate / 1e12, f"{name} {rate / 1e12:.0f}")
            _rate_lines(axes, record, head_dim, causal)
    return figure


def _rate_lines(axes: Any, record: Record, head_dim: int, causal: bool) -> None:
    ends: list[tuple[str, float, float, str]] = []
    for engine in engines_of(record, "prefill"):
        rows = _prefill(record, head_dim, causal, engine)
        if not rows:
            continue
        own = look(engine)
        rates = [row.tflops or 0.0 for row in rows]
        axes.errorbar(
            [row.seqlen_k for row in rows],
            rates,
            yerr=[
                rate * row.sigma_us / row.median_us for rate, row in zip(rates, rows, strict=True)
            ],
            color=own.colour,
            marker=own.marker,
            markersize=4.5 if engine == OURS else 3.5,
            linewidth=own.width,
            elinewidth=0.8,
            zorder=own.order,
        )
        ends.append((f"{engine} {rates[-1]:.0f}", rows[-1].seqlen_k, rates[-1], own.colour))
    if ends:
        name_ends(axes, ends, 7.5)
    else:
        axes.text(0.5, 0.3, "not measured", transform=axes.transAxes, ha="center", color=SOFT)


def _roofline(record: Record) -> Any | None:
    """Draw every case under the roofs of the card."""
    read = record.ceiling(ceilings.READ)
    roofs = [(n, r) for n in (ceilings.WGMMA, ceilings.MMA) if (r := record.ceiling(n))]
    rows = [
        row
        for row in record.of_kind("prefill", "decode")
        if row.engine == OURS and not row.beside and row.dtype != "e4m3"
    ]
    if not rows or read is None or not roofs:
        return None
    note = "Bytes: Q, K and V read once, O written once. The roofs are measured in the same run."
    figure = figure_of(9.5, 6.4, "Roofline", record, note)
    axes = panels(figure, 1, 1)[0][0]
    axes.set_position((0.075, 0.155, 0.745, 0.735))
    low, high = 1.0, 3e4
    for number, (_, rate) in enumerate(roofs):
        knee = rate / read
        axes.plot(
            [low, knee, high],
            [low * read / 1e12, rate / 1e12, rate / 1e12],
            color=SOFT,
            linewidth=1.4 if number == 0 else 0.9,
            linestyle="-" if number == 0 else (0, (5, 3)),
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(low, high)
    axes.set_ylim(1, 2 * roofs[0][1] / 1e12)
    ends = [(f"{name} {rate / 1e12:.0f}", high, rate / 1e12, SOFT) for name, rate in roofs]
    name_ends(axes, ends, 8)
    axes.set_xlabel("arithmetic intensity, FLOP per byte of memory traffic")
    axes.set_ylabel("TFLOP/s")
    left, right = axes.transData.transform([(low, low * read), (10 * low, 10 * low * read)])
    slope = degrees(atan2(right[1] - left[1], right[0] - left[0]))
    axes.annotate(
        f"memory read, {read / 1e12:.2f} TB/s", xy=(14, 14 * read / 1e12), xytext=(8, -6),
        textcoords="offset points", rotation=slope, rotation_mode="anchor", fontsize=8, color=SOFT,
    )  # fmt: skip
    _roofline_points(axes, rows)
    return figure


def _roofline_points(axes: Any, rows: Sequence[Result]) -> None:
    """Draw our cases, a colour and a marker for each kind, and name the groups."""
    groups = (
        ("decode", "decode", "#D55E00", "s"),
        ("prefill", "prefill, full", "#0072B2", "o"),
        ("prefill", "prefill, causal", "#009E73", "^"),
    )
    for kind, name, colour, marker in groups:
        chosen = [
            row
            for row in rows
            if row.kind == kind and (kind == "decode" or row.causal == name.endswith("causal"))
        ]
        if not chosen:
            continue
        points = [_intensity_and_rate(row) for row in chosen]
        axes.scatter(*zip(*points, strict=True), s=22, marker=marker, facecolor=colour,
                     edgecolor="white", linewidth=0.4, zorder=4, label=name)  # fmt: skip
    axes.legend(loc="lower right", fontsize=8, title=f"{OURS}, every case", title_fontsize=8)


def _intensity_and_rate(row: Result) -> tuple[float, float]:
    """Return FLOP per byte, and TFLOP/s."""
    names = Case.__dataclass_fields__
    case = Case(**{name: getattr(row, name) for name in names if hasattr(row, name)})
    return case.flop / case.bytes, case.flop / row.median_us / 1e6


def _time_over_length(record: Record) -> Any | None:
    """Draw the time of one sequence over its length: log-log, a panel for each width."""
    keys = sorted({row.seqlen_k for row in record.of_kind("prefill") if row.dtype == "float16"})
    if len(keys) < 2:
        return None
    note = (
        "Time of a call over its batch (batch x seqlen = 16384). The dotted line doubles the "
        "length and quadruples the time."
    )
    figure = figure_of(13.5, 5.0, "Prefill, float16: time of one sequence over its length", record,
                     note)  # fmt: skip
    grid = panels(figure, 1, len(HEAD_DIMS), sharey=True)
    for column, head_dim in enumerate(HEAD_DIMS):
        axes = grid[0][column]
        axes.set_title(f"head_dim {head_dim}")
        name_lengths(axes, keys)
        axes.set_yscale("log")
        axes.set_xlabel("seqlen (queries and keys)")
        if not column:
            axes.set_ylabel("ms per sequence")
    for column, head_dim in enumerate(HEAD_DIMS):
        _time_lines(grid[0][column], record, head_dim)
    return figure


def _time_lines(axes: Any, record: Record, head_dim: int) -> None:
    ends: list[tuple[str, float, float, str]] = []
    for causal in (False, True):
        own = _prefill(record, head_dim, causal, OURS)
        peers = [aims.fastest_peer(record, row.case) for row in own]
        series = [(OURS, own, look(OURS).colour, "-", 2.2)]
        if all(peers):
            series.append(("fastest peer", [p for p in peers if p], "#E69F00", "-", 1.2))
        for name, rows, colour, style, width in series:
            if not rows:
                continue
            x = [row.seqlen_k for row in rows]
            y = [row.median_us / row.batch / 1e3 for row in rows]
            axes.plot(x, y, color=colour, linestyle=style, linewidth=width, marker="^" if causal
                      else "o", markersize=3.5, zorder=4 if name == OURS else 3)  # fmt: skip
            ends.append((f"{name}, {_mask(causal)} {y[-1]:.3g}", x[-1], y[-1], colour))
            if name == OURS and not causal:
                first = y[-1] / (x[-1] / x[0]) ** 2
                axes.plot([x[0], x[-1]], [first, y[-1]], color=SOFT, linewidth=0.8, linestyle=":")
    if ends:
        axes.autoscale_view()
        name_ends(axes, ends, 7.5)


def _decode(record: Record) -> Any | None:
    """Draw GB/s of every decode cell as dots on a line, with the read rate of the card."""
    cells = [decode(shape, length) for shape in DECODE_SHAPES for length in DECODE_LENGTHS]
    cells = [case for case in cells if record.find(case.name, OURS)]
    if not cells:
        return None
    note = (
        "Bytes of K and V over the time; copies keep small cases out of the L2 cache. "
        "Right: ours, and its share of the memory read rate."
    )
    figure = figure_of(9.5, 2.1 + 0.34 * len(cells), "Decode, float16, one query: GB/s of K and V",
                     record, note)  # fmt: skip
    axes = panels(figure, 1, 1)[0][0]
    box = axes.get_position()
    axes.set_position((0.22, box.y0, 0.66, box.height - 0.1 / figure.get_figheight()))
    read = record.ceiling(ceilings.READ)
    if read:
        axes.axvline(read / 1e9, color=SOFT, linewidth=0.9, linestyle=(0, (5, 3)))
        axes.annotate(
            f"memory read {read / 1e9:.0f}", xy=(read / 1e9, 1), xycoords=("data", "axes fraction"),
            xytext=(0, 4), textcoords="offset points", ha="right", fontsize=8, color=SOFT,
        )  # fmt: skip
    engines = [name for name in engines_of(record, "decode") if name != OURS_MMA]
    for engine in reversed(engines):
        found = [(y, record.find(case.name, engine)) for y, case in enumerate(cells)]
        own = look(engine)
        axes.scatter(
            [row.gbps or 0.0 for _, row in found if row],
            [y for y, row in found if row],
            s=58 if engine == OURS else 34,
            marker=own.marker,
            color=own.colour,
            edgecolor="white",
            linewidth=0.5,
            zorder=own.order,
            label=engine,
        )
    names = [_cell(case.head_dim, case.heads, case.kv_heads, case.batch, case.seqlen_k)
             for case in cells]  # fmt: skip
    axes.set_yticks(range(len(cells)), names)
    axes.tick_params(axis="y", labelsize=8.5, labelcolor=INK, length=0)
    axes.set_ylim(len(cells) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("GB/s")
    for y, case in enumerate(cells):
        axes.axhline(y, color=LINE, linewidth=0.6, zorder=0)
        ours = record.find(case.name, OURS)
        if ours is not None and ours.gbps is not None:
            share = f"  {100e9 * ours.gbps / read:.0f} %" if read else ""
            _beside(axes, y, f"{ours.gbps:.0f}{share}", look(OURS).colour)
    _beside(axes, -0.62, OURS, look(OURS).colour)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(engines), fontsize=8,
                handletextpad=0.2, columnspacing=1.4, reverse=True)  # fmt: skip
    return figure


def _beside(axes: Any, y: float, text: str, colour: str) -> None:
    """Write a figure right of the axes."""
    axes.annotate(
        text, xy=(1, y), xycoords=("axes fraction", "data"), xytext=(10, 0),
        textcoords="offset points", va="center", fontsize=8, color=colour, annotation_clip=False,
    )  # fmt: skip


def _cell(head_dim: int, heads: int, kv_heads: int, batch: int, keys: int) -> str:
    return f"d{head_dim} {heads}/{kv_heads}  batch {batch}, {length(keys)} keys"


PLOTS: tuple[Plot, ...] = (
    Plot("rate-over-length", "TFLOP/s of every engine over the length", _rate_over_length),
    Plot("decode", "GB/s of every decode cell", _decode),
    Plot("roofline", "Every case of ours under the roofs of the card", _roofline),
    Plot("time-over-length", "Time of one sequence over its length, log-log", _time_over_length),
)
