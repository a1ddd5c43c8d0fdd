"""``attnprobe regress``: verdicts, words, files and exit codes, as a user meets them."""

from __future__ import annotations

import json
import re

import pytest

from attnprobe.cli import main

FAULTY = "tests.rig.faulty:"
SMALL = ("--case", "65 x 65", "--case", "whole tiles", "--fill", "normal")


@pytest.fixture(autouse=True)
def _journals(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTNPROBE_STATE", str(tmp_path / "journals"))


def regress(capsys, *args):
    """Return exit code, stdout and stderr."""
    code = main(["regress", *args])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_sound_target_passes(capsys):
    code, out, _ = regress(capsys, "--target", FAULTY + "sound", "--arrays", "numpy", *SMALL)
    assert code == 0
    assert "SOUND" in out.splitlines()[0]
    assert "2 sound" in out
    assert "what is wrong" not in out


def test_a_broken_target_is_refused_and_the_report_says_what_to_do(capsys):
    args = ("--target", FAULTY + "rows_swapped", "--arrays", "numpy", *SMALL)
    code, out, _ = regress(capsys, *args)
    assert code == 1
    assert "REFUSED" in out.splitlines()[0]
    assert "first failing: 65 x 65, fill normal, f16" in out
    assert re.search(r"worst: batch 0, head 0, query \d+, column \d+: .*lane \d+, register \d", out)
    assert "signal to error" in out
    again = next(line for line in out.splitlines() if line.startswith("  attnprobe regress"))
    assert "--case '65 x 65' --fill normal --dtype f16" in again
    code, out, _ = regress(capsys, *_words(again)[2:])
    assert code == 1
    assert "1 refused" in out


def _words(line):
    import shlex

    return shlex.split(line)


@pytest.mark.parametrize(
    ("target", "fault"),
    [("rows_swapped", "rows_exchanged"), ("scaled_twice", "scale_off"), ("lse_in_base_2", "lse")],
)
def test_the_guess_is_right(capsys, target, fault):
    args = ("--target", FAULTY + target, "--arrays", "numpy", "--json", *SMALL)
    code, out, _ = regress(capsys, *args)
    assert code == 1
    assert json.loads(out)["likely"]["fault"] == fault


def test_json_is_one_object_with_all_that_is_known(capsys):
    args = ("--target", FAULTY + "rows_swapped", "--arrays", "numpy", "--json", *SMALL)
    code, out, err = regress(capsys, *args)
    found = json.loads(out)
    assert found["schema"] == "attnprobe.regress/1"
    assert found["exit_code"] == code == 1
    assert found["environment"]["arrays"] == "numpy"
    assert found["counts"]["refused"] == len(found["results"]) == 2
    first = found["results"][0]
    assert first["o_share"] > 100
    assert first["diagnosis"]["place"]["lane"] in range(32)
    assert err == ""


def test_a_page_is_written(capsys, tmp_path):
    page = tmp_path / "report.html"
    args = ("--target", FAULTY + "rows_swapped", "--arrays", "numpy", "--html", str(page), *SMALL)
    code, _, err = regress(capsys, *args)
    assert code == 1
    assert f"wrote {page}" in err
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert "svg" in text


def test_the_dtype_is_that_of_every_case(capsys):
    args = ("--target", FAULTY + "sound", "--arrays", "numpy", "--dtype", "bf16", "--json", *SMALL)
    found = json.loads(regress(capsys, *args)[1])
    assert {each["dtype"] for each in found["results"]} == {"bf16"}


def test_what_does_not_apply_is_named(capsys):
    args = ("--target", FAULTY + "sound", "--arrays", "numpy", "--case", "softcap")
    code, out, _ = regress(capsys, *args)
    assert code == 5
    assert "NOTHING APPLIES" in out
    assert "takes no argument 'softcap'" in out


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("--target", "nobody"), 2, "ours, ours:mma.sync"),
        (("--target", FAULTY + "absent", "--arrays", "numpy", *SMALL), 2, "no attribute"),
        (("--case", "no such case"), 2, "--list shows all"),
        (("--fill", "no_such_fill"), 2, "normal"),
        (("--arrays", "tensorflow"), 2, "numpy, cupy"),
        (("--target", "yardstick", "--record", *SMALL), 3, "only a run on a GPU"),
        (("--target", FAULTY + "hangs_at_63", "--arrays", "numpy", "--case", "63 x 63",
          "--timeout", "0.5"), 6, ""),
    ],
)  # fmt: skip
def test_the_exit_code_says_what_kind_of_failure(capsys, args, code, said):
    found, out, err = regress(capsys, *args)
    assert found == code
    assert said in err
    assert "Traceback" not in out + err


def test_the_list_has_targets_signatures_cases_and_fills(capsys):
    code, out, _ = regress(capsys, "--list")
    assert code == 0
    for word in ("torch:cudnn", "mutant:NAME", "sdpa", "65 x 65", "near_uniform"):
        assert word in out


def test_what_a_resumed_run_found_before_is_said(capsys):
    args = ("--target", FAULTY + "sound", "--arrays", "numpy", *SMALL)
    regress(capsys, *args)
    code, out, _ = regress(capsys, *args, "--resume")
    assert code == 0
    assert "2 of them from before" in out


@pytest.mark.e2e
def test_the_kernel_that_shipped_is_refused_with_the_right_guess(capsys):
    """The story's P repack, on the emulator (and on the GPU where there is one)."""
    args = ("--target", "mutant:p_repack_order", "--case", "65 x 65", "--case", "causal 64 x 64")
    code, out, _ = regress(capsys, *args, "--json")
    assert code == 1
    found = json.loads(out)
    assert found["counts"]["refused"] == len(found["results"]) >= 2
    assert found["likely"]["fault"] == "p_repack"
    assert found["likely"]["jobs"] == found["likely"]["refused"]
