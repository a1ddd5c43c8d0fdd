"""``attnprobe plan``."""

from __future__ import annotations

import json

import pytest

from attnprobe.cli import main


def test_json_has_all_facts(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["plan", "--head-dim", "128", "--seqlen", "300", "--heads", "8", "--causal", "--json"])
        == 0
    )
    facts = json.loads(capsys.readouterr().out)
    assert facts["kernel"] == "attention_fwd_mma"
    assert facts["tile"] == "128 queries x 64 keys"
    assert facts["blocks"] == 3 * 8
    assert facts["features"] == ["aligned", "window"]
    assert facts["passed_over"] == []


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


@pytest.mark.parametrize(
    ("argv", "word", "code"),
    [
        (["--head-dim", "72"], "80", 2),
        (["--head-dim", "64", "--window", "3"], "LEFT,RIGHT", 2),
        (["--head-dim", "64", "--arch", "75"], "sm_80", 5),
        (["--head-dim", "64", "--heads", "6", "--kv-heads", "4"], "nearest that does: 3", 2),
    ],
)
def test_refusals(
    argv: list[str], word: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--seqlen", "64", *argv]) == code
    assert word in capsys.readouterr().err
