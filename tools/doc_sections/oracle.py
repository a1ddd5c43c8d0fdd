"""Tables of docs/oracle.md: fills, demands, models' shapes, phases, faults, from their rows."""

from __future__ import annotations

from attnprobe.numerics.diagnosis.faults import FAULTS
from attnprobe.numerics.fills import FILLS
from attnprobe.numerics.model_cases import PHASES
from attnprobe.numerics.model_shapes import SHAPES, ModelShape, small
from attnprobe.numerics.oracle import CHECKS
from attnprobe.numerics.relations import RELATIONS
from doc_sections import markdown_table, section

PAGE = "docs/oracle.md"


@section(PAGE, "fills")
def fills() -> str:
    """Every fill: what it is, what it shows, what may be asked beyond the bound."""
    rows = [
        (
            f"`{fill.name}`",
            fill.what,
            fill.why,
            ", ".join([*fill.checks, *([] if len(fill.formats) > 1 else fill.formats)]),
        )
        for fill in FILLS.values()
    ]
    return markdown_table(("fill", "what it is", "what it shows", "extra"), rows)


@section(PAGE, "checks")
def checks() -> str:
    """Every demand on one result."""
    rows = [
        (row.name, row.what, "every result" if row.always else "fills that allow it")
        for row in CHECKS
    ]
    return markdown_table(("demand", "what must hold", "asked of"), rows)


@section(PAGE, "relations")
def relations() -> str:
    """Every demand on several results."""
    rows = [(row.name, row.what, row.why) for row in RELATIONS]
    return markdown_table(("demand", "what must hold", "what it shows"), rows)


@section(PAGE, "shapes")
def shapes() -> str:
    """The models' attention, and its size on the emulator."""
    return markdown_table(
        ("layer", "heads", "head_dim", "window", "asks for", "tokens", "small", "source"),
        [_shape(row) for row in SHAPES],
    )


def _shape(row: ModelShape) -> tuple[object, ...]:
    less = small(row)
    asks = [
        *(["causal"] if row.causal else ["no mask"]),
        *([f"softcap {row.softcap:g}"] if row.softcap else []),
        *(["sinks"] if row.sinks else []),
        *([f"{row.layout} rows"] if row.layout != "contiguous" else []),
    ]
    width = f"{row.head_dim}, V {row.v_head_dim}" if row.v_head_dim else f"{row.head_dim}"
    window = f", window {less.window}" if less.window else ""
    return (
        row.name,
        f"{row.num_heads}/{row.num_kv_heads}",
        width,
        row.window or "",
        ", ".join(asks),
        row.length,
        f"{less.num_heads}/{less.num_kv_heads}, {less.length} tokens{window}",
        row.source,
    )


@section(PAGE, "phases")
def phases() -> str:
    """The ways in which a model calls its attention."""
    rows = [
        (row.name, row.what, ", ".join(f"{offset:+d}" for offset in row.offsets)) for row in PHASES
    ]
    return markdown_table(("phase", "lengths", "keys past the edge"), rows)


@section(PAGE, "faults")
def faults() -> str:
    """The faults that the diagnosis knows."""
    return markdown_table(
        ("fault", "what is wrong"), [(f"`{row.name}`", row.what) for row in FAULTS]
    )
