"""docs/models.md: what the gate found on hardware, from tests/recorded/gate-*.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from doc_sections import markdown_table, section

RECORDED = Path(__file__).resolve().parent.parent.parent / "tests" / "recorded"
OURS = "ours"


@section("docs/models.md", "gate")
def gate() -> str:
    """Every record: ours first, with its answers and times, then the others' figures."""
    paths = sorted(RECORDED.glob("gate-*.json"))
    records = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    records.sort(key=lambda record: (record["target"] != OURS, record["target"]))
    if not records:
        return "No record yet: `attnprobe gate --record` on a GPU writes one."
    return "\n\n".join([_where(records[0]), _figures(records), *map(_answers, records[:1])])


def _where(record: dict[str, Any]) -> str:
    e = record["environment"]
    sizes = "; ".join(
        f"{model['model']}: "
        + ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in model["sizes"].items())
        for model in record["models"]
    )
    versions = f"NVRTC {e['nvrtc']}, CuPy {e['cupy']}"
    where = f"{e['device']}, driver {e['driver']}, {versions}, {e['date']}, `{e['command']}`"
    return f"{where}. {sizes}."


def _figures(records: list[dict[str, Any]]) -> str:
    header = ["model", "part", "figure", "limit", *(f"`{r['target']}`" for r in records)]
    lines = []
    for number, model in enumerate(records[0]["models"]):
        for place, check in enumerate(model["checks"]):
            others = [record["models"][number]["checks"][place] for record in records]
            lines.append([model["model"], check["part"], check["figure"], f"{check['limit']:g}"])
            lines[-1] += [_cell(other) for other in others]
    return markdown_table(header, lines)


def _cell(check: dict[str, Any]) -> str:
    if check["verdict"] == "declined":
        return "declined"
    value = "NaN" if check["value"] is None else f"{check['value']:.2g}"
    return value if check["verdict"] == "ok" else f"**{value}, refused**"


def _answers(record: dict[str, Any]) -> str:
    lines = []
    for model in record["models"]:
        for answer in model["answers"]:
            same = "the same with float64" if answer["same"] else "NOT the same with float64"
            lines.append(
                f'- {answer["question"]} "{answer["text"]}" ({same}; closest choice won by '
                f"{answer['least_margin']:.3f})"
            )
    spent = ", ".join(
        f"{model['model']} {part} {seconds:.1f} s"
        for model in record["models"]
        for part, seconds in model["seconds"].items()
    )
    return "\n".join(lines) + f"\n\nTime with both attentions: {spent}."
