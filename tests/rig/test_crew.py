"""Workers: what hangs is ended, what dies is replaced, and the others go on."""

from __future__ import annotations

import os
import time

import pytest

from attnprobe.rig import suite
from attnprobe.rig.crew import MOST_HUNG, Crew, Order, StartFailed
from attnprobe.rig.report import CRASHED, DECLINED, ERROR, REFUSED, SOUND, TIMEOUT

PLAIN = ("63 x 63", "64 x 64", "65 x 65")
FAULTY = "tests.rig.faulty:"


def results(target, cases=PLAIN, timeout=20.0, size=2, **order):
    """Return case -> result, and the crew."""
    jobs = list(suite.select(cases=cases, fills=("normal",)))
    crew = Crew(Order(FAULTY + target, arrays="numpy", **order), size, timeout, lambda facts: None)
    return {result.case: result for result in crew.run(jobs)}, crew


def test_a_call_that_hangs_is_ended_and_the_others_go_on():
    begin = time.monotonic()
    found, crew = results("hangs_at_63", timeout=1.0)
    assert [found[case].verdict for case in PLAIN] == [TIMEOUT, SOUND, SOUND]
    assert "within 1 s" in found["63 x 63"].reason
    assert crew.hung == 1
    assert time.monotonic() - begin < 60


def test_a_run_in_which_everything_hangs_is_given_up(tmp_path, monkeypatch):
    numbers = tmp_path / "hung"
    monkeypatch.setenv("HUNG_PROCESSES", str(numbers))
    cases = (*PLAIN, "whole tiles", "127 x 127", "129 x 257")
    found, crew = results("hangs", cases, timeout=0.5)
    assert crew.hung >= MOST_HUNG
    assert len(found) + crew.left == len(cases)
    for number in numbers.read_text().split():
        with pytest.raises(ProcessLookupError):
            os.kill(int(number), 0)


def test_a_process_that_dies_is_replaced():
    found, _ = results("dies_at_63", size=1)
    assert [found[case].verdict for case in PLAIN] == [CRASHED, SOUND, SOUND]
    assert "SIGABRT" in found["63 x 63"].reason
    assert "words on stdout" in "".join(found["63 x 63"].lines)


def test_what_a_target_raises_is_a_verdict():
    found, _ = results("raises")
    assert {each.verdict for each in found.values()} == {ERROR}
    assert found["64 x 64"].reason.startswith("RuntimeError: CUDA error: an illegal memory access")


def test_an_error_that_outlasts_its_call_is_blamed_on_that_call_alone():
    found, _ = results("ends_the_context_at_63", size=1)
    assert [found[case].verdict for case in PLAIN] == [ERROR, SOUND, SOUND]


def test_what_a_target_does_not_serve_is_named():
    found, _ = results("serves_none")
    assert {each.verdict for each in found.values()} == {DECLINED}
    assert found["64 x 64"].reason == "the target says: head_dim 17 only"


def test_another_dtype_than_asked_for_is_refused():
    found, _ = results("in_float64")
    assert {each.verdict for each in found.values()} == {REFUSED}
    assert "float64" in found["64 x 64"].reason


def test_a_target_that_writes_to_its_arguments_is_an_error():
    found, _ = results("writes_to_q")
    assert {each.verdict for each in found.values()} == {ERROR}
    assert "its argument q" in found["64 x 64"].reason


def test_a_target_that_cannot_be_loaded_ends_the_run():
    with pytest.raises(StartFailed, match="no attribute 'absent'") as raised:
        results("absent")
    assert raised.value.exit_code == 2


def test_workers_end_with_the_run():
    """Also where the run is left in the middle, as Ctrl-C does."""
    jobs = list(suite.select(cases=PLAIN, fills=("normal",)))
    crew = Crew(Order(FAULTY + "sound", arrays="numpy"), 2, 20.0, lambda facts: None)
    run = crew.run(jobs)
    next(run)
    processes = [worker.process for worker in crew._workers]
    run.close()
    assert processes
    assert all(process.poll() is not None for process in processes)


def test_jobs_of_one_kernel_go_to_one_worker():
    jobs = list(suite.select(cases=("63 x 63", "64 x 64", "causal 64 x 64", "causal 129 x 129")))
    assert len({job.kernel for job in jobs}) == 2
    crew = Crew(Order(FAULTY + "sound", arrays="numpy"), 2, 20.0, lambda facts: None)

    class Busy:
        def __init__(self, job):
            self.job = job

    first, second = Busy(None), Busy(None)
    crew._workers = [first, second]
    waiting = list(jobs)
    first.job = crew._next(first, waiting)
    second.job = crew._next(second, waiting)
    assert first.job.kernel != second.job.kernel
    assert crew._next(first, waiting).kernel == first.job.kernel
    assert crew._next(second, waiting).kernel == second.job.kernel
