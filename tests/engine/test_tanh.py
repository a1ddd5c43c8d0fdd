"""The kernels' tanh on float32 numbers of every size: its relative error, and its ends."""

from __future__ import annotations

import numpy as np
import pytest

from attnprobe import compile as compile_
from attnprobe import ptx
from attnprobe.arch import arch
from attnprobe.engine.arrays import take
from attnprobe.engine.plan import Plan, make_plan
from attnprobe.engine.problem import make_problem

BOUND = 2.0**-20  # as kernels/attention/score.cuh says
THREADS = 256
_KERNEL = """
extern "C" __global__ void tanh_of(const float *x, float *y) {
    const int i = blockIdx.x * 256 + threadIdx.x;
    y[i] = tanh_accurate(x[i]);
}
"""


def softcap_plan() -> Plan:
    spec = take("q", np.zeros((1, 128, 1, 64), np.float16)).spec("q")
    return make_plan(make_problem(spec, spec, spec, None, softcap=20.0), arch(80))


@pytest.fixture(scope="module")
def kernel() -> ptx.Program:
    source = softcap_plan().source()
    return ptx.load(compile_.ptx(compile_.Source(source.text + _KERNEL, "tanh.cu")))


def run(kernel: ptx.Program, x: np.ndarray) -> np.ndarray:
    padded = np.zeros(-(-x.size // THREADS) * THREADS, np.float32)
    padded[: x.size] = x
    y = np.zeros_like(padded)
    memory = ptx.GlobalMemory()
    arguments = [memory.map(padded, "x"), memory.map(y, "y")]
    ptx.launch(kernel, "tanh_of", (padded.size // THREADS,), (THREADS,), arguments, memory=memory)
    return y[: x.size]


def test_relative_error_at_every_exponent(kernel: ptx.Program) -> None:
    rng = np.random.default_rng(0)
    mantissas = np.concatenate([rng.integers(0, 1 << 23, 500), [0, 1, (1 << 23) - 1]])
    exponents = np.arange(2, 140)  # whose results are normal numbers, up to 2^13
    x = (exponents[:, None] << 23 | mantissas).astype(np.uint32).view(np.float32).reshape(-1)
    close = rng.uniform(0, 9, 60_000).astype(np.float32)
    x = np.concatenate([x, -x, close, -close])
    exact = np.tanh(x.astype(np.float64))
    error = np.abs(run(kernel, x) / exact - 1)
    worst = int(error.argmax())
    assert error[worst] <= BOUND, (x[worst], np.log2(error[worst]))


def test_ends(kernel: ptx.Program) -> None:
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 3e38], np.float32)
    got = run(kernel, x)
    expected = np.array([0, 0, 1, -1, np.nan, 1], np.float32)
    np.testing.assert_allclose(got, expected, rtol=BOUND)
    assert np.signbit(got[1])
