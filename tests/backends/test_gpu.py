"""On a real GPU: every row matches, and the emulator and the records say the same bits."""

import pytest

from attnprobe.backends.emulator import EmulatorBackend
from attnprobe.backends.recorded import RecordedBackend
from attnprobe.layouts import Instruction
from attnprobe.probing import definition, generate, session
from attnprobe.probing.report import MATCH
from tests.probing.kinds import KINDS

PAIRS = session.pairs(KINDS, definition.questions())


def named(value: object) -> str:
    return getattr(value, "ptx", "") or getattr(value, "name", "")


@pytest.mark.gpu
@pytest.mark.parametrize(("row", "question"), PAIRS, ids=named)
def test_the_gpu_agrees_with_the_row_the_emulator_and_the_record(
    row: Instruction, question: definition.Question
) -> None:
    from attnprobe.backends.gpu import GpuBackend

    gpu = GpuBackend()
    result = session.ask(row, question, gpu)
    assert (result.verdict, result.reason, result.differences) == (MATCH, "", ())
    if question.compare == "product_bound":
        return  # the order of a sum is the hardware's own
    emulated = session.ask(row, question, EmulatorBackend()).verdict == MATCH
    others = [RecordedBackend(), *([EmulatorBackend()] if emulated else [])]
    for fill in question.fills:
        launch = generate.launch(row, question, fill)
        measured = gpu.run(launch).arrays
        for backend in others:
            for array, other in zip(measured, backend.run(launch).arrays, strict=True):
                assert (array == other).all(), (backend.name, fill.name)
