"""What real devices showed: the broken kernel is refused, and every difference is explained."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from attnprobe.rig.suite import every_case

ROOT = Path(__file__).resolve().parents[2]
RECORDS = sorted((ROOT / "tests" / "recorded").glob("regress-*.json"))


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def written():
    """Return tools/doc_sections/regress.py as a module."""
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        path = ROOT / "tools" / "doc_sections" / "regress.py"
        spec = importlib.util.spec_from_file_location("regress_section", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(ROOT / "tools"))


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_record_says_where_and_how_it_was_made(path):
    record = read(path)
    assert {"device", "driver", "python"} <= set(record["environment"])
    assert record["command"].startswith("attnprobe regress")
    assert record["date"]
    assert len(record["results"]) > 20


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_every_difference_is_explained(path, written):
    record = read(path)
    if record["target"].startswith("mutant:"):
        return
    failed = {written.job_of(each) for each in written.failures(record)}
    assert {job for job in failed if not written.explanation(record["target"], job)} == set()
    if record["target"] == "ours":
        assert failed == set()


def test_every_explanation_is_of_something_that_was_seen(written):
    seen = [
        (record["target"], written.job_of(each))
        for record in map(read, RECORDS)
        for each in written.failures(record)
    ]
    for row in written.EXPLAINED:
        for target in row.targets:
            assert any(written.explanation(*one) is row for one in seen if one[0] == target), row
    assert {job.rpartition("/")[0] for _, job in seen} <= set(every_case())


def test_the_broken_kernel_was_refused_with_the_right_guess(written):
    (record,) = (read(path) for path in RECORDS if "mutant" in path.stem)
    assert record["exit_code"] == 1
    assert record["likely"]["fault"] == "p_repack"
    assert record["seconds"] < 60
