"""Our kernels on the models' cases: some on the emulator, all on a GPU, every demand made."""

from __future__ import annotations

from dataclasses import replace

import pytest

import attnprobe
from attnprobe.numerics.fills import FILLS
from attnprobe.numerics.model_cases import FULL, SMALL
from attnprobe.numerics.relations import RELATIONS
from tests.conftest import make_backend

# Each has a kernel text of its own, and its compilation is most of the time that it takes.
EMULATED = (
    "GPT-OSS-20B window, prefill, edge +1, small",
    "SmolLM2-135M, decode, edge -1, small",
)
BY_NAME = {case.name: case for case in (*FULL, *SMALL)}


def run(call, backend):
    """Return O and LSE of our kernels, as NumPy arrays."""
    placed = {name: backend.asarray(array) for name, array in call.arrays.items()}
    target = getattr(attnprobe, call.entry)
    O, LSE = target(**placed, **call.options, return_lse=True)
    return backend.asnumpy(O), backend.asnumpy(LSE)


@pytest.mark.parametrize("name", EMULATED)
def test_small_cases_on_the_emulator(name):
    backend = make_backend("emulator")
    call = BY_NAME[name].call(FILLS["rising"])
    first = run(call, backend)
    verdict = call.judge(*first)
    assert verdict.ok, str(verdict)
    (garbage,) = (row for row in RELATIONS if row.name == "garbage")
    calls = garbage.further(call)
    finding = garbage.judge(call, first, calls, [run(each, backend) for each in calls])
    assert finding.ok, finding.text


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_small_cases_on_a_gpu(case):
    backend = make_backend("gpu")
    for name in case.fills:
        for dtype in ("f16", "bf16"):
            call = replace(case, dtype=dtype).call(FILLS[name])
            verdict = call.judge(*run(call, backend))
            assert verdict.ok, f"{name}, {dtype}: {verdict}"


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("case", FULL, ids=lambda case: case.name)
def test_full_cases_on_a_gpu(case):
    call = case.call(FILLS["normal"])
    verdict = call.judge(*run(call, make_backend("gpu")))
    assert verdict.ok, str(verdict)
