"""``attnprobe bench``: what works without a GPU, and what is refused how."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from attnprobe.backends.gpu import usable
from attnprobe.bench import record
from attnprobe.bench.cases import DECODE, PREFILL
from attnprobe.cli import main
from attnprobe.commands.bench import default_path
from attnprobe.render import plot_style
from tests.bench import made_up

FEW = (*PREFILL[:2], DECODE[0])


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "old.json"
    record.save(made_up.record(FEW), path)
    return path


@pytest.fixture
def slower(tmp_path: Path) -> Path:
    path = tmp_path / "slower.json"
    record.save(made_up.record(FEW, slower=1.2), path)
    return path


@pytest.mark.skipif(not usable(), reason="there is a GPU, and this would time it")
@pytest.mark.parametrize("argv", [[], ["--quick"], ["--compare", "OLD"]])
def test_without_a_gpu_timing_is_refused(
    argv: list[str], old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *[str(old) if word == "OLD" else word for word in argv]]) == 3
    said = capsys.readouterr()
    assert "needs a GPU" in said.err
    assert "--render and --compare read records anywhere" in said.err
    assert said.out == ""


def test_a_record_is_shown_anywhere(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--render", str(old)]) == 0
    shown = capsys.readouterr().out
    assert "NVIDIA Made-Up" in shown
    assert "d64 full S512 B32 H32 float16" in shown


def test_a_record_becomes_files(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="draws the plots; comes with the extra 'test'")
    files = {name: tmp_path / name for name in ("r.csv", "r.html", "plots")}
    argv = ["--csv", files["r.csv"], "--html", files["r.html"], "--plots", files["plots"]]
    assert main(["bench", "--render", str(old), *map(str, argv)]) == 0
    assert files["r.csv"].read_text("utf-8").startswith("case,kind,engine,")
    assert files["r.html"].read_text("utf-8").startswith("<!doctype html>")
    assert len(list(files["plots"].glob("*.svg"))) == len(list(files["plots"].glob("*.png"))) > 2
    assert capsys.readouterr().err.count("wrote") == 2 + len(list(files["plots"].iterdir()))


def test_two_records_are_compared_and_what_got_slower_is_the_exit_code(
    old: Path, slower: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "--compare", str(old), str(old)]) == 0
    assert "0 slower, 0 faster" in capsys.readouterr().out
    assert main(["bench", "--compare", str(old), str(slower)]) == 1
    shown = capsys.readouterr().out
    assert "3 slower" in shown
    assert "+20.0%" in shown
    assert main(["bench", "--compare", str(slower), str(old)]) == 0
    assert "3 faster" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--compare", "a", "b", "c"], "takes OLD and NEW, and 3 are given"),
        (["--render", "OLD", "--compare", "OLD"], "do not go together"),
        (["--render", "none.json"], "none.json cannot be read"),
        (["--compare", "none.json", "OLD"], "none.json cannot be read"),
        (["--suite", "decod"], "--suite has 'decod'"),
        (["--suite", "decode", "--cases", "d96"], "no case of --suite decode holds 'd96'"),
    ],
)
def test_mistakes_are_said(
    argv: list[str], message: str, old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *[str(old) if word == "OLD" else word for word in argv]]) == 2
    assert message in capsys.readouterr().err


def test_plots_without_matplotlib_are_refused_before_anything_is_timed(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        plot_style.importlib.util,
        "find_spec",
        lambda name, *more: None if name == "matplotlib" else real(name, *more),
    )
    page = tmp_path / "page.html"
    assert main(["bench", "--html", str(page)]) == 2
    assert "attnprobe[bench]" in capsys.readouterr().err
    assert main(["bench", "--render", str(old), "--csv", str(tmp_path / "r.csv")]) == 0
    assert not page.exists()


def test_the_list_has_every_case_and_engine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--list"]) == 0
    shown = capsys.readouterr().out
    for part in ("prefill d256 causal S16384", "decode d64", "feature softcap", "flash-attn 4"):
        assert part in shown


def test_the_record_has_a_place_of_its_own_for_each_device(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ATTNPROBE_STATE", str(tmp_path))
    assert default_path("NVIDIA H200") == tmp_path / "bench" / "nvidia-h200.json"
    monkeypatch.delenv("ATTNPROBE_STATE")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_path("X") == tmp_path / "attnprobe" / "bench" / "x.json"


@pytest.mark.gpu
def test_a_real_run_keeps_a_record_and_goes_on_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "real.json"
    argv = ["bench", "--quick", "--suite", "decode", "--engines", "attnprobe", "--json", str(path)]
    assert main(argv) == 0
    told = json.loads(path.read_text("utf-8"))
    assert {row["engine"] for row in told["results"]} == {"attnprobe"}
    assert all(row["median_us"] > 0 and row["error_share"] <= 1 for row in told["results"])
    assert {row["unit"] for row in told["ceilings"]} == {"FLOP", "exponentials", "bytes"}
    capsys.readouterr()
    assert main([*argv, "--resume"]) == 0
    assert capsys.readouterr().err.count("decode d128") == 0  # nothing was left to time
