"""A run on a made-up machine: order, budget, and going on where it was cut off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from attnprobe.bench import record, session
from attnprobe.bench.cases import Case
from attnprobe.bench.engines import ENGINES, OURS
from attnprobe.bench.engines.engine import Engine
from attnprobe.bench.record import Ceiling, Record, Result
from attnprobe.bench.session import HOST
from attnprobe.errors import UsageError
from tests.bench import made_up


@dataclass
class MadeUp:
    """A machine that times nothing; every case takes ``seconds`` of a clock of its own."""

    seconds: float = 0.0
    breaks_at: str = ""
    now: float = 0.0
    timed: list[str] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=lambda: dict(made_up.ENVIRONMENT))
    compiled: int = 0

    def environment(self) -> dict[str, str]:
        return self.facts

    def compile_ahead(self, cases: Sequence[Case]) -> int:
        self.compiled = len(cases)
        return len(cases)

    def ceilings(self) -> tuple[Ceiling, ...]:
        self.timed.append("ceilings")
        return made_up.CEILINGS

    def time(
        self, case: Case, engines: Sequence[Engine], found: Sequence[Ceiling]
    ) -> tuple[list[Result], dict[str, str]]:
        if case.name == self.breaks_at:
            raise KeyboardInterrupt
        assert found == made_up.CEILINGS
        self.timed.append(case.name)
        self.now += self.seconds
        return made_up.results_of(case, [OURS]), {"JAX cuDNN": "made up"}

    def host(self) -> list[Result]:
        self.timed.append(HOST)
        self.now += self.seconds
        return made_up.host_results()


HERE = Engine(OURS, "cupy", "", lambda: "", lambda: {"attnprobe": "9"}, lambda case: "",
              lambda inputs: lambda: None)  # fmt: skip
GONE = Engine("gone", "torch", "", lambda: "gone is not\ninstalled", dict, lambda case: "",
              lambda inputs: lambda: None)  # fmt: skip


def plan(path: Path, suites: str = "prefill", **more: Any) -> session.Plan:
    names = session.suites_of(suites)
    cases = session.choose(names, "d64", quick=False)
    return session.Plan(names, cases, (HERE, GONE), path, "attnprobe bench", **more)


def run(machine: MadeUp, wanted: session.Plan) -> tuple[Record, list[str]]:
    shown: list[str] = []
    found = session.run(wanted, machine, lambda record, name, seconds: shown.append(name))
    return found, shown


def test_a_run_times_every_case_once_and_keeps_it(tmp_path: Path) -> None:
    machine, wanted = MadeUp(), plan(tmp_path / "r.json", "prefill,host")
    found, shown = run(machine, wanted)
    names = [case.name for case in wanted.cases]
    assert machine.compiled == len(names)
    assert machine.timed == shown
    assert sorted(machine.timed) == sorted(["ceilings", *names, HOST])
    kept = record.load(wanted.path)
    assert kept.done == found.done
    assert kept.left_out == ()
    assert kept.refused[names[0]] == {"JAX cuDNN": "made up"}
    assert kept.environment["attnprobe"] == "9"


def test_the_host_suite_comes_after_what_matters_most(tmp_path: Path) -> None:
    machine, wanted = MadeUp(), plan(tmp_path / "r.json", "prefill,host")
    run(machine, wanted)
    first = [case.name for case in wanted.cases if case.rank == 0]
    assert machine.timed[1 : len(first) + 2] == [*first, HOST]


def test_who_is_not_there_is_listed_with_the_reason(tmp_path: Path) -> None:
    found, _ = run(MadeUp(), plan(tmp_path / "r.json"))
    assert found.absent == {"gone": "gone is not installed"}
    assert found.engines == (OURS,)


def test_the_record_is_whole_after_every_case(tmp_path: Path) -> None:
    wanted = plan(tmp_path / "r.json")
    cut = wanted.cases[3].name
    with pytest.raises(KeyboardInterrupt):
        run(MadeUp(breaks_at=cut), wanted)
    kept = record.load(wanted.path)
    assert kept.done == tuple(case.name for case in wanted.cases[:3])
    assert kept.left_out == tuple(case.name for case in wanted.cases[3:])
    assert kept.ceilings == made_up.CEILINGS


def test_going_on_times_what_is_missing_and_nothing_twice(tmp_path: Path) -> None:
    wanted = plan(tmp_path / "r.json", resume=True)
    with pytest.raises(KeyboardInterrupt):
        run(MadeUp(breaks_at=wanted.cases[3].name), wanted)
    machine = MadeUp()
    found, _ = run(machine, wanted)
    assert machine.timed == [case.name for case in wanted.cases[3:]]
    assert found.done == tuple(case.name for case in wanted.cases)
    assert found.left_out == ()
    whole, _ = run(MadeUp(), replace(wanted, resume=False))
    assert {(r.case, r.engine) for r in found.results} == {
        (r.case, r.engine) for r in whole.results
    }


def test_without_resume_a_record_is_begun_anew(tmp_path: Path) -> None:
    wanted = plan(tmp_path / "r.json")
    run(MadeUp(), wanted)
    machine = MadeUp()
    run(machine, wanted)
    assert len(machine.timed) == 1 + len(wanted.cases)


@pytest.mark.parametrize("name", ["device", "kernels", "nvrtc"])
def test_a_record_from_elsewhere_is_not_gone_on_with(name: str, tmp_path: Path) -> None:
    wanted = plan(tmp_path / "r.json", resume=True)
    run(MadeUp(), wanted)
    other = MadeUp(facts={**made_up.ENVIRONMENT, name: "another"})
    with pytest.raises(UsageError, match=f"{name} .* -> another"):
        run(other, wanted)
    assert other.timed == []


def test_a_budget_leaves_the_least_important_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = MadeUp(seconds=1.0)
    monkeypatch.setattr(session.time, "monotonic", lambda: machine.now)
    wanted = plan(tmp_path / "r.json", budget_s=4.0)
    found, _ = run(machine, wanted)
    assert found.done == tuple(case.name for case in wanted.cases[:4])
    assert found.left_out == tuple(case.name for case in wanted.cases[4:])
    assert {case.rank for case in wanted.cases[:4]} == {0}


def test_the_rows_are_those_of_the_engines() -> None:
    assert ENGINES[0].name == OURS
