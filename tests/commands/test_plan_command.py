"""``attnprobe plan``."""

from __future__ import annotations

import json
from typing import Any

import pytest

from attnprobe.cli import main


def facts(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    shape = ["--head-dim", "128", "--seqlen", "300", "--heads", "8", "--causal", "--json"]
    assert main(["plan", *shape, *argv]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def test_json_has_all_facts(capsys: pytest.CaptureFixture[str]) -> None:
    told = facts(capsys, "--arch", "86")
    assert told["kernel"] == "attention_fwd_mma"
    assert told["tile"] == "64 queries x 32 keys"
    assert told["blocks"] == 5 * 8
    assert told["features"] == ["aligned", "window"]
    assert ["128x48" in reason for reason in told["passed_over"]].count(True) == 1


def test_the_arch_may_be_said_as_compilers_say_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert facts(capsys, "--arch", "sm_90a") == facts(capsys, "--arch", "90")


@pytest.mark.parametrize(
    ("argv", "feature"), [(["--packed"], "varlen_q"), (["--page-size", "16"], "paged")]
)
def test_sequences_may_be_packed_or_in_pages(
    capsys: pytest.CaptureFixture[str], argv: list[str], feature: str
) -> None:
    assert feature in facts(capsys, *argv)["features"]


def test_few_queries_are_split_over_the_keys(capsys: pytest.CaptureFixture[str]) -> None:
    shape = ["--head-dim", "128", "--seqlen", "8192", "--seqlen-q", "1", "--heads", "32"]
    assert main(["plan", *shape, "--kv-heads", "8", "--kv-format", "e4m3", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["kernel"] == "attention_decode_split"
    assert told["tile"].startswith("16 rows (query, head) x ")
    splits = told["num_splits"]
    assert splits > 1
    assert told["launches"] == [f"attention_decode_split, {8 * splits} blocks"]
    assert main(["plan", *shape, "--kv-heads", "8", "--num-splits", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_splits"] == 1


def test_text_says_why_a_faster_tile_was_passed_over(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["plan", "--head-dim", "256", "--seqlen", "1024", "--arch", "89", "--unaligned"]) == 0
    )
    out = capsys.readouterr().out
    assert "64 queries x 32 keys" in out
    assert "192 KiB" in out
    assert "aligned" not in [
        line.split()[-1] for line in out.splitlines() if line.startswith("features")
    ]


def test_q_k_and_v_may_be_e4m3(capsys: pytest.CaptureFixture[str]) -> None:
    told = facts(capsys, "--dtype", "e4m3")
    assert told["kernel"] == "attention_fwd_wgmma_fp8"
    assert {"ATTN_OUT bf16_t", "ATTN_Q_DESCALE 1", "ATTN_SCALED 0"} <= set(told["defines"])


@pytest.mark.parametrize(
    ("argv", "word", "code"),
    [
        (["--head-dim", "72"], "80", 2),
        (["--head-dim", "64", "--window", "3"], "LEFT,RIGHT", 2),
        (["--head-dim", "64", "--arch", "75"], "sm_80", 5),
        (["--head-dim", "64", "--dtype", "e4m3", "--arch", "89"], "give q in float16", 5),
        (["--head-dim", "64", "--heads", "6", "--kv-heads", "4"], "nearest that does: 3", 2),
    ],
)
def test_refusals(
    argv: list[str], word: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--seqlen", "64", *argv]) == code
    assert word in capsys.readouterr().err
