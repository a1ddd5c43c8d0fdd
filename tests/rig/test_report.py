"""What a report concludes from its results."""

from __future__ import annotations

import json

import numpy as np
import pytest

from attnprobe.errors import DeviceError
from attnprobe.rig import record
from attnprobe.rig.explain import _map, levels
from attnprobe.rig.report import (
    CRASHED,
    DECLINED,
    ERROR,
    REFUSED,
    SOUND,
    TIMEOUT,
    Report,
    Result,
)


def result(case, verdict, fault="", explains=0.9, certain=True):
    guess = {"fault": fault, "text": f"it is {fault}", "explains": explains, "certain": certain}
    found = {"guesses": [guess], "rows": {"query": [0], "share": [2.0]}} if fault else {}
    return Result(case, "normal", "f16", verdict, reason="why", lines=("x",), diagnosis=found)


def report(*results):
    facts = {"device": "NVIDIA H200", "driver": "1.2"}
    return Report("ours", "a target", facts, "attnprobe regress", "2026-01-01", 1.0, results)


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ((SOUND,), 0),
        ((SOUND, DECLINED), 0),
        ((DECLINED,), 5),
        ((SOUND, REFUSED), 1),
        ((SOUND, ERROR), 1),
        ((SOUND, CRASHED), 1),
        ((SOUND, TIMEOUT, REFUSED), 6),
        ((), 5),
    ],
)
def test_the_exit_code_says_the_worst(verdicts, code):
    assert report(*(result(str(i), v) for i, v in enumerate(verdicts))).exit_code == code


def test_the_likely_fault_is_that_which_explains_most():
    found = report(
        result("a", REFUSED, "scale", 0.3, False),
        result("b", REFUSED, "swap"),
        result("c", REFUSED, "swap"),
        result("d", REFUSED),
    )
    assert found.likely.fault == "swap"
    assert (found.likely.jobs, found.likely.refused) == (2, 4)
    assert found.telling.case == "b", "the first that the likely fault explains"


def test_without_a_guess_the_first_failure_is_told():
    found = report(result("a", SOUND), result("b", ERROR), result("c", REFUSED))
    assert found.likely is None
    assert found.telling.case == "b"
    assert report(result("a", SOUND)).telling is None


def test_a_result_goes_through_json():
    before = result("a", REFUSED, "swap")
    assert Result.of_json(json.loads(json.dumps(before.as_json()))) == before


def test_a_record_has_the_verdicts_and_few_pictures(tmp_path):
    results = [result(str(i), REFUSED, "swap") for i in range(5)] + [result("s", SOUND)]
    path = record.keep(report(*results), tmp_path)
    assert path.name == "regress-ours-nvidia-h200.json"
    kept = json.loads(path.read_text())
    assert kept["environment"]["driver"] == "1.2"
    assert kept["command"] == "attnprobe regress"
    assert [each["verdict"] for each in kept["results"]] == [REFUSED] * 5 + [SOUND]
    assert kept["results"][0]["diagnosis"]["guesses"][0]["fault"] == "swap"
    assert "rows" not in kept["results"][0]["diagnosis"]
    assert "diagnosis" not in kept["results"][4]


def test_only_a_gpu_is_recorded():
    with pytest.raises(DeviceError, match="numpy"):
        record.check_possible("numpy")
    record.check_possible("cupy")


def test_a_map_keeps_the_worst_of_what_it_joins():
    head = np.zeros((1000, 64))
    head[777, 5], head[3, 60], head[4, 4] = 1e12, 1.0, 10.0
    packed = _map(head)
    found = levels(json.loads(json.dumps(packed)))
    rows, columns = packed["step"]
    assert (rows, columns) == (3, 1)
    assert found[777 // 3, 5] == 255
    assert found[1, 60] == 0, "at the bound is within it"
    assert 30 < found[1, 4] < 60
    assert (found > 0).sum() == 2
