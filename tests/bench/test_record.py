"""Records: what is written is what is read, medians and spread, and files that are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attnprobe.bench import record
from attnprobe.bench.record import Record, Result
from attnprobe.errors import UsageError
from tests.bench import made_up

WANTED = {
    "engine", "kind", "dtype", "head_dim", "causal", "batch", "heads", "kv_heads", "seqlen_q",
    "seqlen_k", "median_us", "tflops", "gbps", "samples_us", "error",
}  # fmt: skip


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "record.json"
    record.save(made_up.record(), path)
    once = record.load(path)
    assert len(once.results) == len(made_up.record().results)
    record.save(once, path)
    assert record.load(path) == once
    assert [each.name for each in path.parent.iterdir()] == ["record.json"]


def test_a_record_has_an_object_for_each_case_and_engine(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    record.save(made_up.record(), path)
    told = json.loads(path.read_text("utf-8"))
    assert all(set(row) >= WANTED for row in told["results"])
    pairs = [(row["case"], row["engine"]) for row in told["results"]]
    assert len(set(pairs)) == len(pairs)
    assert {"device", "driver", "nvrtc", "kernels", "date", "command"} <= set(told["environment"])


def test_a_result_is_one_line_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    made = made_up.record()
    record.save(made, path)
    lines = [line for line in path.read_text("utf-8").splitlines() if '"median_us"' in line]
    assert len(lines) == len(made.results)


def test_median_and_spread_are_those_of_the_samples() -> None:
    row = Result("case", "prefill", "engine", samples_us=(10.0, 12.0, 11.0, 100.0, 9.0))
    assert row.median_us == 11.0
    assert row.sigma_us == pytest.approx(1.4826 * 1.0)  # distances 1, 1, 0, 89, 2


def test_rates_follow_from_the_median() -> None:
    made = made_up.record()
    for row in made.of_kind("prefill"):
        case = next(case for case in made_up.PREFILL if case.name == row.case)
        assert row.tflops == pytest.approx(case.flop / row.median_us / 1e6)
        assert row.gbps is None
    for row in made.of_kind("decode"):
        case = next(case for case in made_up.DECODE if case.name == row.case)
        assert row.gbps == pytest.approx(case.cache_bytes / row.median_us / 1e3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no record"),
        ("[]", "no record"),
        ('{"schema": "attnprobe.gate/1"}', "'attnprobe.gate/1', 'attnprobe.bench/1' is wanted"),
        ('{"schema": "attnprobe.bench/1"}', "no record"),
    ],
)
def test_a_file_that_is_none_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        record.load(path)


def test_a_file_that_is_not_there_or_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        record.load(tmp_path / "none.json")
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="cannot be written"):
        record.save(Record(), tmp_path / "file" / "record.json")
