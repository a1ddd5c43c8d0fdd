# ruff: noqa: E501
"""mbarriers: phases, counts and bytes; who waits for what; what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from attnprobe.errors import DeadlockError, EmulatorError, MemoryFault, RaceError
from tests.ptx.hopper import run


def go(code: str, threads: int = 64, **options: object) -> np.ndarray:
    out = np.zeros(256, np.uint32)
    run(code, [np.arange(4096, dtype=np.uint32), out], threads=threads, **options)  # type: ignore[arg-type]
    return out


def test_phases_alternate_and_the_one_before_the_first_is_complete() -> None:
    code = """
    if (t == 0) {
        wait(bar, 1); out[0] = 1;
        arrive(bar); wait(bar, 0); out[1] = 1;
        arrive(bar); wait(bar, 1); out[2] = 1;
    }"""
    assert list(go(code)[:3]) == [1, 1, 1]


@pytest.mark.parametrize("cc", [90, 100])
@pytest.mark.parametrize("checked", [True, False])
def test_a_ring_hands_data_back_and_forth(cc: int, checked: bool) -> None:
    """Warp 0 fills, warp 1 empties, eight times through two stages, with warps at other places."""
    code = """
    volatile u32 *b = box;
    if (warp == 0) {
        for (int i = 0; i < 8; ++i) {
            wait(bar + 16 + i % 2 * 8, i / 2 % 2 ^ 1);
            b[i % 2 * 32 + lane] = i * 100 + lane; __syncwarp();
            if (lane == 0) arrive(bar + i % 2 * 8);
        }
    } else {
        u32 sum = 0;
        for (int i = 0; i < 8; ++i) {
            wait(bar + i % 2 * 8, i / 2 % 2);
            sum += b[i % 2 * 32 + (lane ^ 5)]; __syncwarp();
            if (lane == 0) arrive(bar + 16 + i % 2 * 8);
        }
        out[lane] = sum;
    }"""
    lanes = np.arange(32) ^ 5
    assert (go(code, cc=cc, checked=checked)[:32] == 2800 + 8 * lanes).all()


def test_blocks_of_a_chunk_have_barriers_of_their_own() -> None:
    code = """
    if (warp == 0 && lane < blockIdx.x) arrive(bar);
    if (warp == 1) { wait(bar, (blockIdx.x & 1) ^ 1); if (lane == 0) out[blockIdx.x] = 7; }"""
    out = np.zeros(8, np.uint32)
    run(code, [out, out], threads=64, grid=5)
    assert list(out) == [7] * 5 + [0] * 3


def test_counts_states_and_other_forms() -> None:
    code = """
    if (t == 0) {
        u64 state; u32 done;
        ASM("mbarrier.inval.shared::cta.b64 [%0];" :: "r"(bar));
        init(bar, 5);
        asm volatile("mbarrier.arrive.shared::cta.b64 %0, [%1], 3;" : "=l"(state) : "r"(bar) : "memory");
        asm volatile("mbarrier.arrive_drop.shared::cta.b64 _, [%0];" :: "r"(bar) : "memory");
        asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 _, [%0];" :: "r"(bar) : "memory");
        asm volatile("{.reg .pred p; mbarrier.test_wait.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p;}" : "=r"(done) : "r"(bar), "l"(state) : "memory");
        out[0] = done;
        asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0], 4;" :: "r"(bar) : "memory");  // one was dropped for good
        wait(bar, 1); out[1] = 1;
        ASM("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], 32;" :: "r"(bar));
        asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0], 4;" :: "r"(bar) : "memory");
        ASM("mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%0], 32;" :: "r"(bar));
        wait(bar, 0); out[2] = 1;
        asm volatile("mbarrier.arrive.b64 %0, [%1];" : "=l"(state) : "l"(bars + 1) : "memory");
        wait(bar + 8, 0); out[3] = 1;
    }"""
    assert list(go(code)[:4]) == [1, 1, 1, 1]


def test_a_look_that_nobody_answers_is_false_and_the_program_goes_on() -> None:
    """Warp 0 only looks whether the phase is complete, and completes it itself afterwards."""
    code = """
    u32 done;
    asm volatile("{.reg .pred p; mbarrier.test_wait.parity.shared::cta.b64 p, [%1], 0; selp.u32 %0, 1, 0, p;}" : "=r"(done) : "r"(bar) : "memory");
    out[t] = done;
    if (t == 0) arrive(bar);
    wait(bar, 0);
    out[32 + t] = 1;"""
    out = go(code, 32)
    assert not out[:32].any()
    assert out[32:64].all()


def test_waiting_for_nobody_is_a_deadlock_that_says_what_is_missing() -> None:
    with pytest.raises(DeadlockError) as caught:
        go("if (t == 0) expect(bar, 64);\nif (warp == 1) wait(bar, 0);")
    message = str(caught.value)
    assert "no warp can run" in message
    assert "block (0, 0, 0): warp 1, lanes 0-31 at the mbarrier at shared address" in message
    assert "phase 0 waits for 0 of 1 arrivals and 64 bytes" in message
    assert "mbarrier.try_wait.parity" in message


def test_a_deadlock_of_a_ring_names_every_waiting_warp() -> None:
    code = (
        "if (warp == 0) { wait(bar, 0); arrive(bar + 8); } else { wait(bar + 8, 0); arrive(bar); }"
    )
    with pytest.raises(DeadlockError, match=r"warp 0, lanes 0-31(.|\n)*warp 1, lanes 0-31"):
        go(code)


_WRONG = {
    "never initialised": ("if (t == 0) arrive(at);", EmulatorError, "is not initialised"),
    "initialised twice": ("if (t == 0) init(bar, 1);", EmulatorError, "is initialised already"),
    "no arrivals": ("if (t == 0) init(at, 0);", EmulatorError, "cannot wait for 0 arrivals"),
    "more arrivals than bytes let": (
        "if (t == 0) { expect(bar, 32); arrive(bar); }",
        EmulatorError,
        "gets more arrivals than its phase waits for",
    ),
    "misaligned": ("if (t == 0) arrive(bar + 4);", MemoryFault, "misaligned"),
    "out of bounds": ("if (t == 0) arrive(1 << 20);", MemoryFault, "out of bounds"),
    "used before a barrier": (
        "if (t == 0) { init(at, 1); }\nif (t == 32) arrive(at);",
        RaceError,
        "no barrier orders that behind its mbarrier.init",
    ),
}


@pytest.mark.parametrize("name", _WRONG)
def test_misuse_is_an_error(name: str) -> None:
    code, kind, what = _WRONG[name]
    with pytest.raises(kind, match=what):
        go(code)


_RACES = {
    "read without waiting": "if (warp == 0) { b[lane] = 1; __syncwarp(); if (lane == 0) arrive(bar); }\nelse out[lane] = b[lane];",
    "wait for the phase before": "if (warp == 0) { b[lane] = 1; __syncwarp(); if (lane == 0) arrive(bar); }\nelse { wait(bar, 1); out[lane] = b[lane]; }",
    "written after arriving": "if (warp == 0) { if (lane == 0) arrive(bar);\n b[lane] = 1; }\nelse { wait(bar, 0); out[lane] = b[lane]; }",
    "another barrier": "if (warp == 0) { b[lane] = 1; __syncwarp(); if (lane == 0) { arrive(bar); arrive(bar + 8); } }\nelse if (warp == 1) { wait(bar, 0); out[lane] = b[lane]; }\nelse { b[lane] = 5; }",
}


@pytest.mark.parametrize("name", _RACES)
def test_what_no_phase_orders_is_a_race(name: str) -> None:
    with pytest.raises(RaceError, match="race: no barrier orders two accesses"):
        go("volatile u32 *b = box;\nb[t] = 0; __syncthreads();\n" + _RACES[name], 96)


def test_registers_of_setmaxnreg_are_counted() -> None:
    good = 'if (t < 128) ASM("setmaxnreg.dec.sync.aligned.u32 24;" ::); else ASM("setmaxnreg.inc.sync.aligned.u32 240;" ::);'
    go(good, 384)
    with pytest.raises(EmulatorError, match="ask for 66560 registers"):
        go(good.replace("u32 24;", "u32 40;"), 384)
    with pytest.raises(EmulatorError, match=r"from 24 to 16|multiple of 8"):
        go('ASM("setmaxnreg.dec.sync.aligned.u32 20;" ::);', 128)
