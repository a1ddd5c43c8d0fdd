"""Loaded kernels: made once whoever asks, one at a time per kernel, and for the device's target."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from attnprobe import compile as compile_
from attnprobe import nvrtc
from attnprobe.compile import Source
from attnprobe.engine.kernels import Once, Wanted
from attnprobe.errors import CompileError

PATIENCE = 30.0  # seconds until a thread that nobody woke gives up


def wanted(text: str, device: int = 0) -> Wanted:
    return Wanted(Source(text, "made_up.cu"), "entry", 0, "", device)


def test_threads_that_want_one_kernel_get_the_same_and_it_is_made_once() -> None:
    together = threading.Barrier(8)
    made: list[Wanted] = []

    def make(key: Wanted) -> object:
        made.append(key)
        return object()

    loaded = Once(make, 4)

    def ask(_: int) -> object:
        together.wait(PATIENCE)
        return loaded.get(wanted("one"))

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    assert len({id(each) for each in found}) == 1
    assert made == [wanted("one")]


def test_a_kernel_in_the_making_holds_up_nobody_who_wants_another() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def make(key: Wanted) -> str:
        if key.source.text == "slow":
            begun.set()
            assert go_on.wait(PATIENCE)
        return key.source.text

    loaded = Once(make, 4)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(loaded.get, wanted("slow"))
        assert begun.wait(PATIENCE)
        assert loaded.get(wanted("quick")) == "quick"
        go_on.set()
        assert slow.result(PATIENCE) == "slow"


def test_after_a_failure_the_next_call_tries_again() -> None:
    answers = iter([CompileError("refused"), "kernel"])

    def make(key: Wanted) -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    loaded = Once(make, 4)
    with pytest.raises(CompileError, match="refused"):
        loaded.get(wanted("text"))
    assert loaded.get(wanted("text")) == "kernel"


def test_every_device_has_its_own() -> None:
    loaded = Once(lambda key: key.device, 4)
    assert [loaded.get(wanted("text", device)) for device in (0, 1, 0)] == [0, 1, 0]


def test_what_was_used_longest_ago_is_dropped_first() -> None:
    made: list[str] = []

    def make(key: Wanted) -> str:
        made.append(key.source.text)
        return key.source.text

    loaded = Once(make, 2)
    for text in ("a", "b", "a", "c", "a", "b"):
        assert loaded.get(wanted(text)) == text
    assert made == ["a", "b", "c", "b"]


def test_a_device_gets_its_own_target_or_the_nearest_older_one() -> None:
    assert compile_.device_target(90, "a") == "sm_90a"
    newest = nvrtc.identity().ccs[-1]
    assert compile_.device_target(newest // 10 * 10 + 9) == f"sm_{newest}"


def test_a_target_of_one_arch_alone_has_no_older_stand_in() -> None:
    newest = nvrtc.identity().ccs[-1]
    with pytest.raises(CompileError, match=rf"does not compile for sm_{newest // 10}9a"):
        compile_.device_target(newest // 10 * 10 + 9, "a")


def test_kernels_of_one_arch_alone_compile_for_it() -> None:
    text = (
        'extern "C" __global__ void f() { asm volatile("setmaxnreg.inc.sync.aligned.u32 240;"); }'
    )
    source = Source(text, "f.cu")
    assert ".target sm_90a" in compile_.ptx(source, 90, suffix="a")
    assert compile_.cubin(source, compile_.device_target(90, "a"))[0].startswith(b"\x7fELF")
