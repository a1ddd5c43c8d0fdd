"""The table of tuned tiles: what is kept is taken, what no longer fits is ignored."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnprobe.arch import arch
from attnprobe.bench.cases import DECODE, prefill
from attnprobe.bench.problems import problem_of
from attnprobe.cli import main
from attnprobe.engine import attention, launch, tuned
from attnprobe.engine.plan import make_plan, plan_of_rows, plans_changed
from attnprobe.engine.tuned import Entry, facts, shape_class

HOPPER = arch(90)
PROBLEM = problem_of(prefill(128, 4096, True))


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Turn the table on, in a folder of its own; return its file."""
    monkeypatch.setenv("ATTNPROBE_TUNED", "1")
    monkeypatch.setenv("ATTNPROBE_CACHE_DIR", str(tmp_path))
    file = tuned.path()
    assert file is not None
    return file


def entry(problem: Any = PROBLEM, where: Any = HOPPER, **changes: Any) -> Entry:
    row = plan_of_rows(problem, where).variant
    return Entry(
        shape_class(problem, where),
        facts(row),
        changes or {"block_n": 64},
        tuned.text_of(row.source),
        "made up",
    )


def test_without_a_table_plans_are_those_of_the_rows(table: Path) -> None:
    plan = make_plan(PROBLEM, HOPPER)
    assert plan == plan_of_rows(PROBLEM, HOPPER)
    assert not plan.tuned


def test_a_tile_that_is_kept_is_taken_and_the_plan_says_so(table: Path) -> None:
    tuned.write([entry()])
    plan = make_plan(PROBLEM, HOPPER)
    assert plan.tuned
    assert plan.variant.block_n == 64
    assert plan.variant.why == "tuned: made up"
    assert "another was tuned" in plan.passed_over[-1]
    assert plan.defines["ATTN_BLOCK_N"] == 64
    own = plan_of_rows(PROBLEM, HOPPER)
    assert plan.shared_bytes < own.shared_bytes


def test_tests_see_no_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ATTNPROBE_CACHE_DIR", str(tmp_path))
    assert tuned.path() is None
    with pytest.raises(OSError, match="turned off"):
        tuned.write([])


def test_without_a_store_there_is_no_table(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNPROBE_CACHE", "0")
    assert tuned.path() is None


@pytest.mark.parametrize("length", [3000, 4096, 5700])
def test_lengths_nearby_are_of_the_same_class(length: int, table: Path) -> None:
    tuned.write([entry()])
    near = replace(PROBLEM, seqlen_q=length, seqlen_k=length)
    assert make_plan(near, HOPPER).tuned


@pytest.mark.parametrize(
    "change",
    [
        {"seqlen_q": 8192, "seqlen_k": 8192},
        {"batch": 16},
        {"head_dim": 112},
        {"window": (-1, -1)},
        {"window": (512, 0)},
        {"softcap": 30.0},
        {"num_kv_heads": 8},
        {"mappable": False},
    ],
    ids=str,
)
def test_other_problems_are_of_other_classes(change: dict[str, Any], table: Path) -> None:
    tuned.write([entry()])
    assert not make_plan(replace(PROBLEM, **change), HOPPER).tuned


def test_another_device_is_another_class() -> None:
    classes = {
        shape_class(PROBLEM, each)
        for each in (HOPPER, HOPPER.portable, arch(80), replace(HOPPER, multiprocessors=114))
    }
    assert len(classes) == 4


def test_an_entry_whose_row_is_gone_is_ignored(table: Path) -> None:
    made = entry()
    tuned.write([replace(made, base={**made.base, "block_n": 120})])
    assert not make_plan(PROBLEM, HOPPER).tuned
    assert tuned.why_not(tuned.table()[made.shape_class]) == "the row that it changes is gone"


def test_an_entry_of_another_kernel_text_is_ignored(table: Path) -> None:
    tuned.write([replace(entry(), text="0" * 16)])
    assert not make_plan(PROBLEM, HOPPER).tuned
    assert "changed since" in tuned.why_not(replace(entry(), text="0" * 16))


def test_an_entry_with_a_field_that_no_row_has_is_ignored(table: Path) -> None:
    tuned.write([entry(kneading=3)])
    assert not make_plan(PROBLEM, HOPPER).tuned


def test_an_entry_that_does_not_fit_is_ignored(table: Path) -> None:
    tuned.write([entry(stages=9)])
    assert not make_plan(PROBLEM, HOPPER).tuned


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "another"}',
                                  '{"schema": "attnprobe.tuned/1", "entries": [{}]}'])  # fmt: skip
def test_a_damaged_table_is_ignored_and_said(
    text: str, table: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table.parent.mkdir(parents=True)
    table.write_text(text, encoding="utf-8")
    assert not make_plan(PROBLEM, HOPPER).tuned
    assert "is ignored" in caplog.text


def test_a_table_that_changes_is_read_again(table: Path) -> None:
    tuned.write([entry(block_n=64)])
    assert make_plan(PROBLEM, HOPPER).variant.block_n == 64
    tuned.write([entry(block_n=112), entry(problem_of(DECODE[0]), stages=2)])
    assert make_plan(PROBLEM, HOPPER).variant.block_n == 112
    assert make_plan(problem_of(DECODE[0]), HOPPER).variant.stages == 2  # type: ignore[attr-defined]


def test_a_change_of_plans_comes_after_the_table(table: Path) -> None:
    tuned.write([entry()])
    with plans_changed(lambda plan: plan_of_rows(plan.problem, plan.arch)):
        assert not make_plan(PROBLEM, HOPPER).tuned


def test_a_tuned_tile_computes_the_same_on_the_emulator(table: Path) -> None:
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((1, 100, 2, 64)).astype(np.float16) for _ in range(3))
    plans = []
    with plans_changed(lambda plan: plans.append(plan) or plan):  # type: ignore[func-returns-value]
        before = attention(q, k, v, causal=True)
        problem = plans[0].problem
        tuned.write([entry(problem, launch.emulated_arch(), block_n=32, parts=1)])
        after = attention(q, k, v, causal=True)
    assert [plan.tuned for plan in plans] == [False, True]
    assert plans[1].variant.block_n == 32
    assert np.abs(before.astype(np.float32) - after.astype(np.float32)).max() < 4e-3


SHAPE = ("--head-dim", "128", "--seqlen", "4096", "--heads", "16", "--batch", "4", "--causal")


def test_plan_shows_that_a_tile_is_tuned(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *SHAPE, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tuned"] is False
    tuned.write([entry()])
    assert main(["plan", *SHAPE, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    rows = plan_of_rows(PROBLEM, HOPPER).variant.block_m
    assert (told["tuned"], told["tile"]) == (True, f"{rows} queries x 64 keys")


def test_the_table_is_listed_and_forgotten(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tuned.write([entry(), replace(entry(), shape_class="gone", text="0" * 16)])
    assert main(["tune", "--list"]) == 0
    shown = capsys.readouterr().out
    assert "block_n 64: made up" in shown
    assert shown.count("ignored: the kernel has changed since") == 1
    assert main(["tune", "--list", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["entries"]) == 2
    assert main(["tune", "--forget"]) == 0
    assert "2 forgotten, 0 kept" in capsys.readouterr().out
    assert not make_plan(PROBLEM, HOPPER).tuned


def test_clearing_the_kernels_leaves_the_table(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned.write([entry()])
    assert main(["cache", "--clear"]) == 0
    assert make_plan(PROBLEM, HOPPER).tuned


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        ([], 2, "--head-dim is missing"),
        (["--head-dim", "64", "--unaligned"], 2, "--unaligned is not tuned"),
    ],
)
def test_tune_refuses(
    argv: list[str], code: int, message: str, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", *argv]) == code
    assert message in capsys.readouterr().err


def test_tune_is_refused_where_the_table_is_turned_off(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "--list"]) == 2
    assert "ATTNPROBE_TUNED=0" in capsys.readouterr().err
