"""O and LSE of the attention kernels: the emulator's bits are those that the hardware gave."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

from attnprobe.engine import launch, parts
from attnprobe.errors import UsageError
from attnprobe.numerics import recorded_attention, recorded_launches
from attnprobe.probing import evidence
from attnprobe.ptx import exact_ex2

FILE = evidence.folder() / "attention.json"


@pytest.mark.parametrize("name", recorded_attention.cases())
def test_no_bit_of_o_or_lse_differs(name: str) -> None:
    stored = evidence.load(FILE)["attention"]
    launches = recorded_launches.load(FILE.with_name(recorded_attention.LAUNCHES))
    assert recorded_attention.replay(name, stored[name], launches[name]) == ""


@pytest.mark.usefixtures("any_table")
@pytest.mark.parametrize("name", ["decode, head_dim 64, bf16", "large scale, head_dim 64, f16"])
def test_a_launch_that_is_kept_gives_what_the_plan_gives(name: str, tmp_path: Path) -> None:
    found, _ = recorded_attention.record(name, recorded_attention.on_emulator)
    recorded_launches.save(tmp_path / "kept.xz", {name: recorded_attention.launch_of(name)})
    launched = recorded_launches.load(tmp_path / "kept.xz")[name]
    assert recorded_attention.replay(name, found, launched) == ""
    assert recorded_attention.changed(name, found, launched) == ()
    other = {**launched, "text": launched["text"] + "int another;"}
    with pytest.raises(UsageError, match="kernel changed since the recording"):
        recorded_attention.replay(name, found, other)
    assert recorded_attention.changed(name, {**found, "kernel": "0" * 16}, launched) == ("kernel",)
    assert recorded_attention.changed(name, found, {**launched, "grid": [9, 1, 1]}) == ("plan",)


def test_a_launch_of_another_process_is_of_the_same_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "decode, head_dim 64, f16"
    one = recorded_attention.launch_of(name)
    monkeypatch.setattr(parts, "ARRIVAL_TAG", parts.ARRIVAL_TAG ^ 1 << parts.COUNT_BITS)
    other = recorded_attention.launch_of(name)
    assert one["params"] != other["params"]
    assert recorded_launches.same_plan(one, other)


def test_at_least_forty_cases_cover_widths_formats_and_features() -> None:
    found = recorded_attention.cases()
    assert len(found) >= 40
    cases = [case for case, _ in found.values()]
    assert {(case.sizes.head_dim, case.dtype) for case in cases} == set(recorded_attention.ALL)
    assert any(case.features.softcap for case in cases)
    assert any(case.features.window_size != (-1, -1) for case in cases)
    assert any(case.sizes.num_heads > case.sizes.num_kv_heads for case in cases)
    assert {fill for _, fill in found.values()} == {"normal", "outliers", "real"}


@pytest.fixture
def any_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact_ex2, "_installed", {})
    exact_ex2.install(np.zeros(exact_ex2.SIZE, np.int8))


@pytest.mark.usefixtures("any_table")
def test_a_wrong_bit_a_changed_kernel_and_changed_inputs_show() -> None:
    name = "decode, head_dim 64, f16"
    found, _ = recorded_attention.record(name, recorded_attention.on_emulator)
    assert recorded_attention.compare(name, found) == ""
    wrong = copy.deepcopy(found)
    wrong["LSE"]["hash"] = "0" * 16
    assert "LSE begins" in recorded_attention.compare(name, wrong)
    for what in ("kernel", "plan", "inputs"):
        old = {**found, what: "0" * 16}
        with pytest.raises(UsageError, match=f"{what} changed since the recording; record again"):
            recorded_attention.compare(name, old)


@pytest.mark.usefixtures("any_table")
def test_the_mode_shows_in_the_report_and_changes_some_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = "causal, head_dim 64, f16"
    q, k, v = recorded_attention.inputs(name)
    plan = recorded_attention.plan_of(name, q, k, v)
    results = {}
    for mode in ("fast", "exact"):
        monkeypatch.setenv("ATTNPROBE_MMA", mode)
        o, lse = np.empty_like(q), launch.empty_lse(plan, q)
        report = launch.run_emulator(plan, q, k, v, o, lse, checked=False)
        assert report.mode == ("fast", mode)
        results[mode] = o.astype(np.float64)
    difference = np.abs(results["fast"] - results["exact"])
    assert 0 < difference.max() < 0.01
    with pytest.raises(UsageError, match="'quick' is no mode"):
        launch.run_emulator(plan, q, k, v, o, lse, mma="quick")
