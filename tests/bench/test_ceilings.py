"""Ceilings: each loop does the work that is counted, and the right one bounds a case."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from attnprobe import compile as compile_
from attnprobe import ptx
from attnprobe.bench import ceilings, inputs
from attnprobe.bench.cases import DECODE, prefill
from attnprobe.bench.ceilings import EX2, MMA, READ, WGMMA
from attnprobe.layouts.catalogue import find
from attnprobe.layouts.lookup import operand
from tests.bench.made_up import CEILINGS

LOOPS = {loop.name: loop for loop in ceilings.LOOPS}
ROUNDS = 2


def launched(source: compile_.Source, entry: str, threads: int, arrays: list[Any], *numbers: Any,
             suffix: str = "") -> None:  # fmt: skip
    """Run one block on the emulator; the last array is written."""
    memory = ptx.GlobalMemory()
    places = [
        memory.map(array, name=str(number), writable=number == len(arrays) - 1).address
        for number, array in enumerate(arrays)
    ]
    program = ptx.load(compile_.ptx(source, 90, suffix=suffix))
    arguments = [*(np.uint64(place) for place in places), *numbers]
    ptx.launch(program, entry, (1, 1, 1), (threads, 1, 1), arguments, memory=memory)


def halves(words: np.ndarray) -> np.ndarray:
    return words.view(np.float16).astype(np.float64)


def test_the_mma_loop_does_the_products_that_are_counted() -> None:
    """Each warp adds the same A B to 16 accumulators in every round: D is rounds times A B."""
    loop = LOOPS[MMA]
    rng = np.random.default_rng(1)
    operands = rng.standard_normal(2 * loop.operands).astype(np.float16).view(np.uint32)
    sums = np.zeros(loop.threads, np.float32)
    launched(loop.source, loop.entry, loop.threads, [operands, sums], np.int32(ROUNDS))
    row = find("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32")
    registers = halves(operands).reshape(loop.threads, 6, 2)
    for warp in range(loop.threads // 32):
        lanes = registers[32 * warp : 32 * warp + 32]
        A = operand(row, "A").fragment.scatter(lanes[:, :4].reshape(32, 8))
        B = operand(row, "B").fragment.scatter(lanes[:, 4:].reshape(32, 4))
        held = operand(row, "D").fragment.gather(A @ B)
        expected = 16 * ROUNDS * held.sum(axis=1)
        np.testing.assert_allclose(sums[32 * warp : 32 * warp + 32], expected, rtol=1e-4, atol=1e-2)
    products = 16 * loop.threads // 32 * ROUNDS
    assert loop.per_block * ROUNDS == products * 2 * 16 * 8 * 16


def test_the_wgmma_loop_does_the_products_that_are_counted() -> None:
    """Images are random, so which element is where does not matter to the sum over a warpgroup."""
    loop = LOOPS[WGMMA]
    rng = np.random.default_rng(2)
    operands = rng.standard_normal(2 * loop.operands).astype(np.float16).view(np.uint32)
    sums = np.zeros(loop.threads, np.float32)
    launched(loop.source, loop.entry, loop.threads, [operands, sums], np.int32(ROUNDS), suffix="a")
    rows = halves(operands).reshape(-1, 8, 8, 8)  # 8 rows of 8 chunks of 8 elements: one swizzle
    unswizzled = np.empty_like(rows)
    for row in range(8):
        for chunk in range(8):
            unswizzled[:, row, chunk] = rows[:, row, chunk ^ row]
    matrices = unswizzled.reshape(-1, 64)
    B = matrices[128:]
    for group in range(2):
        D = matrices[64 * group : 64 * group + 64] @ B.T
        found = sums[128 * group : 128 * group + 128].astype(np.float64).sum()
        assert found == pytest.approx(ROUNDS * D.sum(), rel=1e-4, abs=0.5)
    assert loop.per_block == 2 * 2 * 64 * 256 * 64


def test_the_ex2_loop_computes_what_is_counted() -> None:
    loop = LOOPS[EX2]
    values = np.random.default_rng(3).standard_normal(loop.operands).astype(np.float32)
    sums = np.zeros(loop.threads, np.float32)
    launched(loop.source, loop.entry, loop.threads, [values, sums], np.int32(ROUNDS))
    chains = values[:, None].astype(np.float64) * np.arange(1, 9)
    for _ in range(ROUNDS):
        chains = 2.0**-chains
    np.testing.assert_allclose(sums, chains.sum(axis=1), rtol=1e-4)
    assert loop.per_block == loop.threads * 8


def test_the_read_loop_reads_every_word_once() -> None:
    words = np.random.default_rng(4).integers(0, 2**32, 3 * 256 * 4 * 4, np.uint32)
    sums = np.zeros(256, np.uint32)
    source = compile_.load_source("bench/read_loop.cu", {"BENCH_UNDER_WAY": 4})
    launched(source, "read_loop", 256, [words, sums], np.int64(3))
    expected = np.bitwise_xor.reduce(words.reshape(12, 256, 4).transpose(1, 0, 2), axis=(1, 2))
    np.testing.assert_array_equal(sums, expected)


@pytest.mark.parametrize(
    ("name", "count"), [("f16", 2000), ("bf16", 1001), ("e4m3", 2000), ("s8", 2000)]
)
def test_random_numbers_are_normal_and_those_of_the_seed(name: str, count: int) -> None:
    source = inputs.normal_source(name)
    made = []
    for seed in (1, 1, 2):
        out = np.zeros(count, inputs.HELD[name])
        scale = inputs.INT8_SCALE if name == "s8" else 1.0
        arguments = (np.int64(count), np.uint64(seed), np.float32(scale))
        launched(source, "normal", 256, [out], *arguments)
        values = out.view(inputs.FORMATS[name].dtype).astype(np.float64) / scale
        made.append(values)
    np.testing.assert_array_equal(made[0], made[1])
    assert (made[0] != made[2]).mean() > 0.9
    mean, variance = made[0].mean(), made[0].var()
    assert abs(mean) < 5 / count**0.5
    assert abs(variance - 1) < 5 * (2 / count) ** 0.5
    assert abs(np.corrcoef(made[0][:-1], made[0][1:])[0, 1]) < 5 / count**0.5


@pytest.mark.parametrize("cc", [80, 90, 120])
def test_loops_compile_for_what_they_are_for_without_spills(cc: int) -> None:
    texts = ceilings.texts(cc)
    assert (len(texts) == len(ceilings.LOOPS) + 2) == (cc == 90)
    for source, suffix in texts:
        _, log = compile_.cubin(source, compile_.device_target(cc, suffix))
        assert set(re.findall(r"(\d+) bytes spill", log)) == {"0"}, log
        assert not re.findall(r"C75\d\d.*", log), log


def test_the_greatest_of_products_exponentials_and_bytes_bounds_a_case() -> None:
    long = prefill(128, 16384, False)
    assert ceilings.binding(long, "", CEILINGS) == (WGMMA, long.flop / 890e12)
    assert ceilings.binding(long, "wgmma", CEILINGS) == (WGMMA, long.flop / 890e12)
    assert ceilings.binding(long, "mma.sync", CEILINGS) == (MMA, long.flop / 640e12)
    assert ceilings.binding(long, "", CEILINGS[:1]) == (MMA, long.flop / 640e12)
    cell = DECODE[3]
    assert ceilings.binding(cell, "", CEILINGS) == (READ, cell.bytes / 4.45e12)
    eight_bit = prefill(128, 16384, False, "e4m3")  # whose product has no loop: exponentials
    assert ceilings.binding(eight_bit, "", CEILINGS) == (EX2, eight_bit.scores / 4.1e12)
    assert ceilings.binding(long, "", ()) is None


def test_every_ceiling_has_a_maker_and_only_hopper_has_wgmma() -> None:
    names = [MMA, WGMMA, EX2, ceilings.LIBRARY, READ]
    assert list(ceilings.calls(90)) == names
    assert list(ceilings.calls(80)) == [name for name in names if name != WGMMA]
