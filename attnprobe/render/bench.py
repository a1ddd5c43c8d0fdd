"""A record of timings as a document and as CSV: rates beside the peers', ceilings, aims."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attnprobe.bench import aims, ceilings, session
from attnprobe.bench.compare import ALIKE, FASTER, SLOWER, Change, Comparison
from attnprobe.bench.engines import ENGINES, OURS
from attnprobe.bench.record import Ceiling, Record, Result
from attnprobe.render import csv
from attnprobe.render.document import Block, Document, Heading, Lines, Table, table

_FACTS = ("device", "driver", "nvrtc", "cupy", "torch", "cudnn", "jax", "date", "effort")
_WRITTEN = {"nvrtc": "NVRTC", "cupy": "CuPy", "cudnn": "cuDNN", "jax": "JAX"}
_UNITS = {
    ceilings.FLOP: ("TFLOP/s", 1e12),
    ceilings.EXPONENTIALS: ("T/s", 1e12),
    ceilings.BYTES: ("GB/s", 1e9),
}
TITLES = {
    "prefill": "Prefill, TFLOP/s",
    "decode": "Decode, one query: GB/s of K and V",
    "feature": "Features, µs",
    "host": "Host time of a call, µs",
    "first call": "First call of a process, ms",
}


def document(record: Record) -> Document:
    """Return the record: where, each suite, ceilings, aims."""
    blocks: list[Block] = [Heading("attnprobe bench"), Lines(tuple(about(record)))]
    if record.ceilings:
        blocks += [Heading("Ceilings"), ceiling_table(record.ceilings)]
    for kind in ("prefill", "decode"):
        if record.of_kind(kind):
            blocks += [Heading(TITLES[kind]), rate_table(record, kind)]
    if record.of_kind("feature"):
        blocks += [Heading(TITLES["feature"]), feature_table(record)]
    for kind, scale in (("host", 1.0), ("first call", 1e3)):
        if record.of_kind(kind):
            blocks += [Heading(TITLES[kind]), host_table(record, kind, scale)]
    rows = aim_rows(record)
    if rows:
        met = f"{sum(row[4] == 'yes' for row in rows)} of {len(rows)} are met"
        blocks += [Heading("Aims"), Lines((met,)), table(AIM_HEADER, rows, numeric=(2, 3))]
    wrong = wrong_lines(record)
    if wrong:
        blocks += [Heading("Wrong"), Lines(wrong)]
    said = (*absent_lines(record), *refused_lines(record))
    if said:
        blocks += [Heading("Not timed"), Lines(said)]
    return tuple(blocks)


def about(record: Record) -> Iterable[str]:
    """Yield where and how the record was made."""
    yield facts(record)
    yield f"command: {record.environment.get('command', '-')}"
    yield (
        "Medians of batches, engines in turn on the same N(0, 1) data; ± is 1.4826 times the "
        "median deviation."
    )


def facts(record: Record) -> str:
    """Return device, versions and date on a line."""
    told = record.environment
    bare = ("device", "date", "effort")
    named = (
        told[name] if name in bare else f"{_WRITTEN.get(name, name)} {told[name]}"
        for name in _FACTS
        if name in told
    )
    return ", ".join(named)


def ceiling_table(rows: Sequence[Ceiling]) -> Table:
    """Return the ceilings, a row each."""
    return table(("ceiling", "rate", ""), map(_ceiling, rows), numeric=(1,))


def _ceiling(row: Ceiling) -> tuple[str, str, str]:
    unit, scale = _UNITS[row.unit]
    rate = row.rate / scale
    return row.name, f"{rate:.0f}" if rate >= 100 else f"{rate:.2f}", unit


def engines_of(record: Record, kind: str) -> list[str]:
    """Return the engines that have results of a kind, in the order of the record."""
    having = {row.engine for row in record.of_kind(kind)}
    return [name for name in record.engines if name in having]


def cases_of(record: Record, *kinds: str) -> list[str]:
    """Return the cases of some kinds, in a fixed order: width, mask, length."""
    rows = {row.case: row for row in record.of_kind(*kinds)}

    def place(row: Result) -> tuple[object, ...]:
        shape = (row.head_dim, row.causal, row.dtype != "float16", row.dtype)
        return (*shape, row.kv_format, row.page_size, row.batch * (row.kind == "decode"),
                row.seqlen_k)  # fmt: skip

    return sorted(rows, key=lambda name: place(rows[name]))


def rate(row: Result) -> float:
    """Return what a result is quoted by: TFLOP/s, GB/s or µs."""
    found = row.tflops if row.tflops is not None else row.gbps
    return row.median_us if found is None else found


def rate_header(record: Record, kind: str) -> list[str]:
    """Return the header of ``rate_rows``."""
    return ["case", *engines_of(record, kind), "to best peer", "of ceiling", "max error"]


def rate_rows(record: Record, kind: str) -> list[list[str]]:
    """Return a row for each case: every engine, ours against the best peer, its ceiling, error."""
    engines = engines_of(record, kind)
    rows = []
    for case in cases_of(record, kind):
        cells = [_rate_cell(record.find(case, name)) for name in engines]
        own, peer = record.find(case, OURS), aims.fastest_peer(record, case)
        against = f"{peer.median_us / own.median_us:.2f}x" if own and peer else ""
        share = _share_cell(own)
        error = f"{own.error:.1e}" if own and own.error is not None else ""
        rows.append([case.removeprefix(f"{kind} "), *cells, against, share, error])
    return rows


def rate_table(record: Record, kind: str) -> Table:
    """Return the rates of a kind."""
    header = rate_header(record, kind)
    return table(header, rate_rows(record, kind), numeric=range(1, len(header)))


def _rate_cell(row: Result | None) -> str:
    if row is None:
        return "-"
    spread = 100 * row.sigma_us / row.median_us
    return f"{rate(row):.0f} ±{spread:.1f}%"


def _share_cell(row: Result | None) -> str:
    if row is None or row.ceiling_share is None:
        return ""
    return f"{row.ceiling_share:.2f} {row.ceiling}"


FEATURE_HEADER = ("", "µs", "times as fast", "as", "aim")


def feature_rows(record: Record) -> list[list[str]]:
    """Return a row for each feature of ours: its time, and beside which call how fast it is."""
    rows = []
    for row in record.results:
        if row.engine != OURS or not (row.kind == "feature" or row.beside):
            continue
        figure = aims.factor(record, row.case, row.beside) if row.beside else None
        rows.append(
            [
                row.case.removeprefix("feature "),
                f"{row.median_us:.0f}",
                f"{figure.value:.2f}" if figure else "",
                row.beside.removeprefix("feature "),
                f"{row.aim:.2f}" if row.aim else "",
            ]
        )
    return rows


def feature_table(record: Record) -> Table:
    """Return the features."""
    return table(FEATURE_HEADER, feature_rows(record), numeric=(1, 2, 4))


def host_rows(record: Record, kind: str, scale: float) -> list[list[str]]:
    """Return a row for each call: who, what, its time in ``scale`` microseconds."""
    return [
        [row.engine, row.case.removeprefix(f"{kind} "), f"{row.median_us / scale:.1f}"]
        for row in record.of_kind(kind)
    ]


def host_table(record: Record, kind: str, scale: float) -> Table:
    """Return what calls cost the host."""
    unit = "µs" if scale == 1 else "ms"
    return table(("", "call", unit), host_rows(record, kind, scale), numeric=(2,))


AIM_HEADER = ("aim", "case", "wanted", "reached", "met", "beside")


def aim_rows(record: Record) -> list[list[str]]:
    """Return a row for each aim that the record has the cases of."""
    rows = []
    for aim in aims.AIMS:
        figure = aim.figure(record)
        if figure is None:
            continue
        word = "yes" if aim.reached(figure) else "no"
        bound = "at most " if aim.at_most else ""
        wanted = f"{bound}{aims.shown(aim.wanted, aim.unit)}"
        rows.append(
            [aim.group, aim.name, wanted, aims.shown(figure.value, aim.unit), word, figure.note]
        )
    return rows


def wrong_lines(record: Record) -> tuple[str, ...]:
    """Return whose result was further from float64 than its derived bound."""
    return tuple(
        f"{row.engine}: {row.case}: {row.error_share:.3g} of the bound, max |error| {row.error:.1e}"
        for row in record.results
        if row.error_share is not None and row.error_share > 1
    )


def absent_lines(record: Record) -> tuple[str, ...]:
    """Return who was not there, and what was not begun."""
    lines = [f"{name}: {why}" for name, why in record.absent.items()]
    if record.left_out:
        lines.append(f"no time left for {len(record.left_out)}: {'; '.join(record.left_out)}")
    return tuple(lines)


def refused_lines(record: Record) -> tuple[str, ...]:
    """Return who did not take which cases, and why: a line for each engine and reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for case, told in record.refused.items():
        for engine, why in told.items():
            found.setdefault((engine, why), []).append(case)
    return tuple(
        f"{engine}: {why} ({cases[0] if len(cases) == 1 else f'{len(cases)} cases'})"
        for (engine, why), cases in found.items()
    )


def line(record: Record, name: str, seconds: float) -> str:
    """Return one line on a case that is just done: every engine, and what it took."""
    rows = [row for row in record.results if row.case == name]
    shown = "  ".join(f"{row.engine} {rate(row):.0f}" for row in rows)
    refused = record.refused.get(name, {})
    failed = "".join(f"  [{e} {why}]" for e, why in refused.items() if why.startswith("failed"))
    return f"{name:44s} {shown or '-'}{failed}  ({seconds:.1f} s)"


CSV_HEADER = (
    "case", "kind", "engine", "dtype", "head_dim", "causal", "batch", "heads", "kv_heads",
    "seqlen_q", "seqlen_k", "layout", "page_size", "kv_format", "feature", "median_us", "sigma_us",
    "tflops", "gbps", "error", "error_share", "ceiling", "ceiling_share", "method", "l2", "kernel",
)  # fmt: skip


def as_csv(record: Record) -> str:
    """Return the results as CSV, a line for each case and engine."""
    told = (row.as_json() for row in record.results)
    return csv.dumps(CSV_HEADER, ([row[name] for name in CSV_HEADER] for row in told))


def comparison(found: Comparison) -> Document:
    """Return what got slower, faster, and what is not in both records."""
    counts = ", ".join(f"{len(found.of(word))} {word}" for word in (SLOWER, FASTER, ALIKE))
    lines = [f"{counts}; {len(found.missing)} missing, {len(found.added)} new"]
    lines += [f"measured elsewhere, {line}" for line in found.elsewhere]
    blocks: list[Block] = [Heading("attnprobe bench: comparison"), Lines(tuple(lines))]
    for word in (SLOWER, FASTER):
        if found.of(word):
            blocks += [Heading(word.capitalize()), _changes(found.of(word))]
    for title, keys in (("Missing in the new record", found.missing),
                        ("Only in the new record", found.added)):  # fmt: skip
        if keys:
            blocks += [Heading(title), Lines(tuple(f"{case}: {engine}" for case, engine in keys))]
    return tuple(blocks)


def _changes(changes: Sequence[Change]) -> Table:
    rows = [
        [
            each.old.case,
            each.old.engine,
            f"{each.old.median_us:.1f}",
            f"{each.new.median_us:.1f}",
            f"{100 * each.shift_us / each.old.median_us:+.1f}%",
            f"{100 * each.noise_us / each.old.median_us:.1f}%",
        ]
        for each in changes
    ]
    header = ("case", "engine", "old µs", "new µs", "change", "noise")
    return table(header, rows, numeric=(2, 3, 4, 5))


def listing() -> Document:
    """Return the suites with their cases, and the engines with whether they are here."""
    cases = [
        (suite, case.name, "quick" if case.quick else "")
        for suite, rows in session.CASES.items()
        for case in rows
    ]
    engines = [(engine.name, engine.missing() or "here") for engine in ENGINES]
    return (
        Heading("Cases"),
        table(("suite", "case", ""), cases),
        Heading("Engines"),
        table(("engine", ""), engines),
    )
