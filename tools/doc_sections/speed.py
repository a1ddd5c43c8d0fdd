"""README's speed table and the page of records, from benchmarks/results/attention-*.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from doc_sections import markdown_table, section

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "benchmarks" / "results"
OURS = "attnprobe"


def records() -> list[dict[str, Any]]:
    """Return the attention records, oldest first."""
    return [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(RESULTS.glob("attention-*.json"))
    ]


@section("README.md", "speed")
def readme_speed() -> str:
    """The newest record at seqlen 4096: what most people look for."""
    if not records():
        return "No record yet: `make bench` writes one."
    record = records()[-1]
    cases = [case for case in record["cases"] if " S4096 " in case["name"]]
    more = "All cases and ceilings: benchmarks/results/README.md."
    return f"{_where(record)}\n\n{_table(cases)}\n\n{more}"


@section("benchmarks/results/README.md", "attention")
def results_page() -> str:
    """Every case of every record, beside the ceilings of the same run."""
    parts = []
    for record in reversed(records()):
        ceilings = [[row["name"], f"{row['tflop_per_s']:.0f}"] for row in record["ceilings"]]
        parts += [_where(record), _table(record["cases"])]
        parts.append(markdown_table(["ceiling", "TFLOP/s"], ceilings))
    return "\n\n".join(parts) or "No record yet: `make bench` writes one."


def _where(record: dict[str, Any]) -> str:
    e = record["environment"]
    versions = f"NVRTC {e['nvrtc']}, CuPy {e['cupy']}, torch {e['torch']}, cuDNN {e['cudnn']}"
    return (
        f"Forward, TFLOP/s, medians: {e['device']}, driver {e['driver']}, {versions}, {e['date']}, "
        f"`{e['command']}`. FLOP are 4 B H S² D, halved under a causal mask."
    )


def _table(cases: list[dict[str, Any]]) -> str:
    engines = list(cases[0]["engines"]) if cases else [OURS]
    rows = []
    for case in cases:
        rates = [f"{case['engines'][name]['tflop_per_s']:.0f}" for name in engines]
        rows.append([case["name"], *rates, f"{case['max_abs_error']:.1e}"])
    return markdown_table(["case", *engines, "attnprobe's max error"], rows)


@section("benchmarks/results/README.md", "host-cost")
def host_cost() -> str:
    """What one call costs the host, from the newest record."""
    paths = sorted(RESULTS.glob("host-cost-*.json"))
    if not paths:
        return "No record yet: `make bench` writes one."
    record = json.loads(paths[-1].read_text(encoding="utf-8"))
    e = record["environment"]
    rows = [[call["name"], f"{call['median_us']:.1f}"] for call in record["calls"]]
    where = (
        f"{e['device']}, Python {e['python']}, CuPy {e['cupy']}, torch {e['torch']}, {e['date']}"
    )
    parts = [f"{where}, `{e['command']}`.", markdown_table(["call", "µs"], rows)]
    firsts = [
        [row["name"], f"{row['cold_median_ms']:.0f}", f"{row['warm_median_ms']:.0f}"]
        for row in record.get("first_calls", ())
    ]
    if firsts:
        header = ["in a new process", "nothing compiled, ms", "compiled before, ms"]
        parts.append(markdown_table(header, firsts))
    return "\n\n".join(parts)
