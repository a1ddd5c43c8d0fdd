"""Texts compiled ahead are loaded, once for all launches in a row, and nothing else is compiled."""

from types import SimpleNamespace

import numpy as np
import pytest

from attnprobe import layouts
from attnprobe.backends import ahead
from attnprobe.backends.gpu import GpuBackend
from attnprobe.compile import Source
from attnprobe.probing import definition, generate, session
from tests.probing.kinds import KINDS

GOOD = Source('extern "C" __global__ void k(int *p) { *p = 1; }', "good.cu")
BAD = Source('extern "C" __global__ void k(int *p) { nonsense }', "bad.cu")


class Device:
    """A CuPy with no GPU behind it: counts what is loaded and what is compiled."""

    def __init__(self) -> None:
        self.loaded: list[bytes] = []
        self.compiled: list[str] = []
        self.launched: list[tuple] = []
        self.cuda = SimpleNamespace(function=SimpleNamespace(Module=self.module))

    def module(self):
        return SimpleNamespace(load=self.loaded.append, get_function=self.function)

    def RawModule(self, code, options):
        self.compiled.append(code)
        return SimpleNamespace(get_function=self.function)

    def function(self, name):
        return lambda grid, block, args, shared_mem: self.launched.append((name, grid, block))

    asarray = asnumpy = staticmethod(np.asarray)


@pytest.fixture
def backend() -> GpuBackend:
    made = GpuBackend.__new__(GpuBackend)
    made._cupy, made._modules, made._cubins = Device(), {}, {}
    made._loaded, made.cc = ("", None), 90
    made.__dict__["_environment"] = {"device": "none"}
    return made


def test_a_text_that_is_refused_gives_nothing_and_the_others_their_cubins() -> None:
    good, bad, again = ahead.cubins([(GOOD, "sm_90"), (BAD, "sm_90"), (GOOD, "sm_80")], 1)
    assert good[:4] == again[:4] == b"\x7fELF"
    assert good != again
    assert bad == b""


def test_processes_give_the_same_cubins_in_order() -> None:
    wanted = [(GOOD, target) for target in ("sm_80", "sm_90", "sm_86") for _ in range(6)]
    assert ahead.cubins(wanted, 2) == ahead.cubins(wanted, 1)


def test_launches_take_the_cubin_and_load_it_once(backend: GpuBackend) -> None:
    row = layouts.find("stmatrix.sync.aligned.m8n8.x1.shared.b16")
    (pair,) = session.pairs([row], definition.questions())
    assert session.compile_ahead([pair], backend) == 1
    assert session.compile_ahead([pair], backend) == 0  # it is there already
    for fill in pair[1].fills:
        backend.run(generate.launch(row, pair[1], fill))
    device = backend._cupy
    assert [data[:4] for data in device.loaded] == [b"\x7fELF"]
    assert device.compiled == []
    assert device.launched == [("stmatrix", (1, 1, 1), (32, 1, 1))] * 2


def test_what_was_not_compiled_ahead_is_compiled_when_it_is_launched(backend: GpuBackend) -> None:
    row = layouts.find("stmatrix.sync.aligned.m8n8.x1.shared.b16")
    ((_, question),) = session.pairs([row], definition.questions())
    backend.run(generate.launch(row, question, question.fills[0]))
    assert len(backend._cupy.compiled) == 1
    assert backend._cupy.loaded == []


def test_instructions_of_other_gpus_are_not_compiled_ahead(backend: GpuBackend) -> None:
    rows = [row for row in layouts.rows("stmatrix") if not row.runs_on(90)]
    assert session.compile_ahead(session.pairs(rows, definition.questions()), backend) == 0


def test_every_kind_of_row_has_one_text_for_each_kernel() -> None:
    for row in KINDS:
        pairs = session.pairs([row], definition.questions())
        texts = {generate.source(row, question).text for _, question in pairs}
        assert len(texts) == len({question.kernel for _, question in pairs})
