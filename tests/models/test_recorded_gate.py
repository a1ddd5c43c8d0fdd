"""Records of the gate on hardware: judged by today's limits, and our engine's whole and passing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attnprobe.models import checks, gate, texts

RECORDED = Path(__file__).resolve().parents[1] / "recorded"
RECORDS = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted(RECORDED.glob("gate-*.json"))
}
OURS = [name for name in RECORDS if name.startswith("gate-ours-")]


def test_there_is_a_record_of_our_engine() -> None:
    assert OURS


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_says_where_it_was_made_and_is_judged_by_the_limits_of_today(name: str) -> None:
    record = RECORDS[name]
    assert record["schema"] == checks.SCHEMA
    assert {"device", "date", "command"} <= set(record["environment"])
    today = {row.name: row.most for row in (checks.LOGIT, checks.NLL, checks.TEXT,
                                            checks.EMBEDDING, checks.COSINE)}  # fmt: skip
    for model in record["models"]:
        for check in model["checks"]:
            assert check["limit"] == today[check["figure"]]
            within = check["value"] is not None and check["value"] <= check["limit"]
            assert (check["verdict"] == "ok") == within


@pytest.mark.parametrize("name", OURS)
def test_our_engine_ran_the_whole_gate_and_passed(name: str) -> None:
    record = RECORDS[name]
    assert record["ok"]
    decoder, encoder = record["models"]
    assert decoder["sizes"]["tokens"] >= 200
    assert decoder["sizes"]["decoded_one_by_one"] == gate.FULL.decoded
    assert [answer["question"] for answer in decoder["answers"]] == list(texts.QUESTIONS)
    assert all(answer["same"] for answer in decoder["answers"])
    assert encoder["sizes"]["sentences"] == len(texts.SENTENCES)
    parts = [check["part"] for model in record["models"] for check in model["checks"]]
    assert sorted(set(parts)) == ["decode", "packed", "padded", "prefill", "text"]
    verdicts = {check["verdict"] for model in record["models"] for check in model["checks"]}
    assert verdicts == {"ok"}
