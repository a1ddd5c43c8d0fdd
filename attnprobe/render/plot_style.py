"""How plots look: colours, fonts, captions, names at the ends of lines; and how they are written.

The same figure gives the same bytes with the same matplotlib: no date, no random ids, no link to
anywhere. No engine is told by colour alone.
"""

from __future__ import annotations

import importlib.util
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from attnprobe.bench.engines import ENGINES, OURS
from attnprobe.bench.record import Record
from attnprobe.errors import UsageError
from attnprobe.render.bench import facts

# Source of the colours: Okabe and Ito, "Color Universal Design", 2008; and five of our own.
_COLOURS = (
    "#0072B2", "#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#8C564B", "#D55E00", "#6A4C93",
    "#555555", "#7F9A48", "#A0522D", "#1F8A8A",
)  # fmt: skip
_MARKERS = ("o", "o", "s", "D", "v", "P", "^", "X", "h", "<", ">", "p")
INK, SOFT, LINE = "#1b1d22", "#6b7079", "#d9dbde"
_DPI = 144
STYLE: Any = {
    "svg.hashsalt": "attnprobe",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": SOFT,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
}


def check_installed() -> None:
    """Return where matplotlib can be imported.

    Raises
    ------
    UsageError
        Where it is not installed; says what installs it.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError(
            "plots are drawn by matplotlib, which is not installed: pip install "
            "'attnprobe[bench]'; --json and --csv need nothing"
        )


@dataclass(frozen=True)
class Look:
    """How an engine is drawn."""

    colour: str
    marker: str
    width: float
    order: int


def look(engine: str) -> Look:
    """Return how an engine is drawn: the same in every plot and record."""
    names = [row.name for row in ENGINES]
    number = names.index(engine) if engine in names else len(names) - 1
    own = engine == OURS
    return Look(
        _COLOURS[number % len(_COLOURS)],
        _MARKERS[number % len(_MARKERS)],
        2.4 if own else 1.3,
        5 if own else 3,
    )


def svg(figure: Any) -> str:
    """Return a figure as SVG without declaration, metadata or links."""
    import matplotlib

    out = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context(STYLE):
        figure.savefig(out, format="svg", metadata=nothing)
    text = re.sub(r"<\?xml.*?\?>\s*|<!DOCTYPE.*?>\s*", "", out.getvalue(), flags=re.DOTALL)
    return re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)


def png(figure: Any) -> bytes:
    """Return a figure as PNG."""
    import matplotlib

    out = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(out, format="png", dpi=_DPI, metadata={"Software": None})
    return out.getvalue()


def figure_of(width: float, height: float, title: str, record: Record, more: str = "") -> Any:
    """Return a figure with a title and a caption that says where the record is from."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor="white")
    figure.text(0.012, 1 - 0.16 / height, title, fontsize=13, weight="bold", color=INK, va="top")
    figure.text(0.012, 0.09 / height, caption(record, more), fontsize=7.5, color=SOFT, va="bottom")
    return figure


def caption(record: Record, more: str) -> str:
    told = facts(record)
    return f"{told}\n{more}" if more else told


def panels(figure: Any, rows: int, columns: int, **more: Any) -> Any:
    height = figure.get_figheight()
    return figure.subplots(
        rows,
        columns,
        squeeze=False,
        gridspec_kw={
            "top": 1 - 0.75 / height,
            "bottom": 1.0 / height,
            "left": 0.055,
            "right": 0.885,
            "wspace": more.pop("wspace", 0.62),
            "hspace": 0.34,
        },
        **more,
    )


def length(keys: int) -> str:
    return f"{keys // 1024}k" if keys >= 1024 else str(keys)


def name_lengths(axes: Any, keys: Sequence[int]) -> None:
    """Make x a logarithmic axis of lengths, each named."""
    axes.set_xscale("log", base=2)
    axes.set_xlim(keys[0] / 1.2, keys[-1] * 1.2)
    axes.set_xticks(keys, [length(each) for each in keys])
    axes.minorticks_off()


def apart(wanted: Sequence[float], gap: float) -> list[float]:
    """Return places near the wanted ones that are at least ``gap`` apart, in the same order."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    groups = [[i] for i in order]

    def middle(group: list[int]) -> float:
        return sum(wanted[i] for i in group) / len(group)

    merged = True
    while merged:
        merged = False
        for number in range(len(groups) - 1):
            low, high = groups[number], groups[number + 1]
            if middle(high) - middle(low) < gap * (len(low) + len(high)) / 2:
                groups[number : number + 2] = [low + high]
                merged = True
                break
    places = [0.0] * len(wanted)
    for group in groups:
        start = middle(group) - gap * (len(group) - 1) / 2
        for place, i in enumerate(group):
            places[i] = start + gap * place
    return places


def name_ends(axes: Any, ends: Sequence[tuple[str, float, float, str]], size: float) -> None:
    """Write names right of the ends of lines: (text, x, y, colour), apart from each other.

    Limits and scales of the axes must be final. Distances are in points, 72 to the inch.
    """
    figure = axes.figure
    box = axes.get_position()
    height, width = box.height * figure.get_figheight() * 72, box.width * figure.get_figwidth() * 72
    where = [axes.transData.transform((x, y))[1] for _, x, y, _ in ends]
    low, high = axes.transAxes.transform([(0, 0), (0, 1)])[:, 1]
    shares = [(y - low) / (high - low) for y in where]
    placed = apart(shares, 1.22 * size / height)
    for (text, x, _, colour), share, own in zip(ends, placed, shares, strict=True):
        end = axes.transAxes.inverted().transform(axes.transData.transform((x, 1.0)))[0]
        axes.annotate(
            text,
            xy=(end + 5 / width, own),
            xytext=(end + 17 / width, share),
            xycoords="axes fraction",
            textcoords="axes fraction",
            fontsize=size,
            color=colour,
            va="center",
            weight="bold" if colour == look(OURS).colour else "normal",
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 0,
                        "shrinkB": 0},
            annotation_clip=False,
        )  # fmt: skip


def roof(axes: Any, y: float, text: str) -> None:
    """Draw a ceiling as a line that is named at its left end."""
    axes.axhline(y, color=SOFT, linewidth=0.9, linestyle=(0, (5, 3)))
    axes.annotate(
        text, xy=(0.012, y), xycoords=("axes fraction", "data"), xytext=(0, 2),
        textcoords="offset points", fontsize=7, color=SOFT, va="bottom",
    )  # fmt: skip
