"""A stopped run goes on where it stopped, and no result outlives what it was made from."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from attnprobe.errors import UsageError
from attnprobe.rig import session, suite
from attnprobe.rig.crew import Order
from attnprobe.rig.journal import Journal
from attnprobe.rig.report import SOUND, Result

ROOT = Path(__file__).resolve().parents[2]
CASES = ("63 x 63", "64 x 64", "65 x 65", "127 x 127")


def run(target="sound", *, resume=False, cases=CASES, fills=("normal",), stop_after=99):
    """Return the report, and the cases that were run for it."""
    ran = []

    def show(result, done, total):
        ran.append(result.case)
        if len(ran) == stop_after:
            raise KeyboardInterrupt

    jobs = tuple(suite.select(cases=cases, fills=fills))
    order = Order(f"tests.rig.faulty:{target}", arrays="numpy")
    plan = session.Plan(order, jobs, "attnprobe regress", 1, 20.0, resume)
    try:
        return session.run(plan, show), ran
    except KeyboardInterrupt:
        return None, ran


def test_a_stopped_run_goes_on_where_it_stopped():
    stopped, first = run(stop_after=2)
    assert stopped is None
    report, second = run(resume=True)
    assert sorted(first + second) == sorted(CASES)
    assert report.resumed == 2
    assert [result.case for result in report.results] == list(CASES)
    assert report.exit_code == 0


def test_without_resume_a_run_begins_anew():
    run(stop_after=2)
    report, ran = run()
    assert len(ran) == len(CASES)
    assert report.resumed == 0


def test_a_finished_run_is_told_again_without_running():
    before, _ = run()
    after, ran = run(resume=True)
    assert ran == []
    assert after.results == before.results
    assert after.environment == before.environment
    assert after.environment["device"] == "CPU"


def test_another_target_shares_nothing():
    run()
    _, ran = run("scaled_twice", resume=True)
    assert len(ran) == len(CASES)


def test_other_options_share_what_is_the_same():
    run(cases=CASES[:2])
    _, ran = run(resume=True)
    assert sorted(ran) == sorted(CASES[2:])


@pytest.mark.parametrize(
    ("arrays", "free", "expected"),
    [("numpy", 0, 16), ("cupy", 141 << 30, 16), ("torch", 24 << 30, 6), ("cupy", 0, 2)],
)
def test_there_are_as_many_processes_as_cores_and_memory_allow(arrays, free, expected, monkeypatch):
    monkeypatch.setattr(session, "processors", lambda: 64)
    monkeypatch.setattr(session, "free_bytes", lambda: free)
    assert session._workers(session.Plan(Order("ours"), (), ""), arrays) == expected


def test_the_longest_jobs_begin_first():
    _, ran = run()
    works = [suite.every_case()[name].work for name in ran]
    assert works == sorted(works, reverse=True)
    assert len(set(works)) == len(CASES)


def test_a_changed_source_shares_nothing(tmp_path, monkeypatch):
    module = tmp_path / "changing.py"
    module.write_text("from tests.rig.faulty import sound\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    jobs = tuple(suite.select(cases=CASES[:1], fills=("normal",)))
    plan = session.Plan(Order("changing:sound", arrays="numpy"), jobs, "", 1, 20.0, True)
    assert session.run(plan, lambda *_: None).resumed == 0
    assert session.run(plan, lambda *_: None).resumed == 1
    module.write_text("from tests.rig.faulty import sound  # edited\n")
    assert session.run(plan, lambda *_: None).resumed == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_killed_goes_on(how, tmp_path, journals):
    """The journal is there whichever way the process ends, and no worker is left behind."""
    hung = tmp_path / "hung"
    command = [
        sys.executable, "-m", "attnprobe", "regress", "--target", "tests.rig.faulty:hangs",
        "--arrays", "numpy", "--case", "64 x 64", "--fill", "normal", "--workers", "1",
    ]  # fmt: skip
    environment = {**os.environ, "HUNG_PROCESSES": str(hung)}
    # A job in the background of a shell ignores SIGINT, and so do its children.
    listening = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, preexec_fn=listening
    )
    worker = _when(lambda: hung.exists() and hung.read_text().strip())
    process.send_signal(how)
    said = process.communicate(timeout=60)[1].decode()
    assert process.returncode == (-signal.SIGKILL if how == signal.SIGKILL else 130)
    assert how == signal.SIGKILL or "go on with --resume" in said
    assert list(journals.glob("*.jsonl"))
    assert _when(lambda: not _alive(int(worker)))


def _when(true):
    """Return the first true value of ``true()`` within half a minute."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if value := true():
            return value
        time.sleep(0.05)
    raise AssertionError("it did not come about")


def _alive(number):
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


# --- the journal ----------------------------------------------------------------------------------

RESULT = Result("64 x 64", "normal", "f16", SOUND, o_share=0.25, lines=("a", "b"))


def test_a_journal_gives_back_what_was_put_in(tmp_path):
    journal = Journal(tmp_path / "of" / "a run.jsonl")
    assert journal.read() == {}
    journal.begin()
    journal.add(RESULT)
    assert journal.read() == {"64 x 64/normal/f16": RESULT}


def test_a_line_that_was_cut_short_is_lost_alone(tmp_path):
    journal = Journal(tmp_path / "run.jsonl")
    journal.begin()
    journal.add(RESULT)
    text = journal.path.read_text()
    journal.path.write_text(text + "\n" + text.splitlines()[-1][:40])
    other = Result("65 x 65", "normal", "f16", SOUND)
    journal.add(other)
    assert list(journal.read().values()) == [RESULT, other]


@pytest.mark.parametrize("text", ["", "no json", '{"schema": "another/1"}\n{}', "[1]"])
def test_what_is_no_journal_is_not_read(tmp_path, text):
    path = tmp_path / "run.jsonl"
    path.write_text(text)
    assert Journal(path).read() == {}


def test_a_job_that_does_not_exist_is_answered():
    with pytest.raises(UsageError, match="case/fill/dtype"):
        suite.find("no such case/normal/f16")


# --- the suite ------------------------------------------------------------------------------------


def test_sizes_of_run_grow_and_name_no_job_twice():
    names = [[job.name for job in suite.select(size)] for size in suite.SIZES]
    assert all(len(set(each)) == len(each) for each in names)
    assert len(names[0]) < len(names[1]) < len(names[2])
    assert {job.split("/")[0] for job in names[0]} <= set(suite.every_case())


def test_every_fill_is_asked_in_a_full_run():
    from attnprobe.numerics.fills import FILLS

    assert {job.fill for job in suite.select("full")} == set(FILLS)


def test_a_whole_name_chooses_one_case_and_a_part_chooses_all():
    assert {job.case.name for job in suite.select(cases=("65 x 65",))} == {"65 x 65"}
    assert len({job.case.name for job in suite.select(cases=("65 x",))}) >= 2


def test_a_fill_meets_no_format_that_it_is_not_made_for():
    assert not suite.select(cases=("65 x 65",), fills=("subnormals",), dtype="bf16")


def test_further_calls_are_made_where_they_are_cheap():
    relations = {job.relations for job in suite.select("quick")}
    assert relations == {("garbage",)}
    full = {job.fill: job.relations for job in suite.select("full")}
    assert full["normal"] == suite.ALL_RELATIONS
    assert full["peaked"] == ("garbage",)
    assert {job.relations for job in suite.select("quick", on_gpu=True)} == {("garbage", "repeat")}
