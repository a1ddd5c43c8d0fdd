"""The device of a search: arrays of a problem, candidates compiled, held against float64, timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from attnprobe import compile as compile_
from attnprobe.bench import timing, tune_space
from attnprobe.bench.inputs import INT8_SCALE, copies_of, normal, to_numpy
from attnprobe.bench.timing import Sampler
from attnprobe.engine.plan import Plan, plans_changed
from attnprobe.engine.problem import Problem
from attnprobe.engine.warmup import Outcome, compile_all, texts_of
from attnprobe.errors import ToleranceError
from attnprobe.numerics.error import Expected, expect
from attnprobe.numerics.error import compare as compare_to
from attnprobe.numerics.reference import Features

BATCH_S = 0.004
CHECKED_ROWS = 16
_NAMES = {"f16": "float16", "bf16": "bfloat16", "e4m3": "e4m3", "s8": "int8"}
_KV_NAMES = {"e4m3": "e4m3", "s8": "int8"}


@dataclass(frozen=True)
class GpuBench:
    """The current device, for one problem.

    Attributes
    ----------
    problem : what is tuned; sequences of equal lengths.
    options : numbers of the call: causal, window_size, softcap, softmax_scale, num_splits.
    xp : whose arrays the calls get: CuPy's, or NumPy's for the emulator, which times nothing.
    """

    problem: Problem
    options: dict[str, Any]
    xp: Any

    def compile(self, plans: Sequence[Plan]) -> list[str]:
        """Compile plans in parallel and return for each why it is ruled out, or ""."""
        return [_fault(each) for each in compile_all([texts_of([plan])[0] for plan in plans])]

    def sampler(self, plan: Plan) -> Sampler:
        """Return the warm sampler of a plan.

        Raises
        ------
        ToleranceError
            If its result is wrong.
        """
        calls = self.calls(plan)
        self.check(calls[0]())
        return timing.sampler("cupy", calls, BATCH_S)

    def calls(self, plan: Plan) -> list[Callable[[], Any]]:
        """Return a call for each copy of the arrays, run by ``plan`` whatever would be planned."""

        def on(call: Callable[[], Any]) -> Callable[[], Any]:
            def run() -> Any:
                with plans_changed(lambda _: plan):
                    return call()

            return run

        return [on(self._call(*arrays)) for arrays in self._arrays]

    def check(self, result: Any) -> None:
        """Hold the last queries of the last head against float64.

        Raises
        ------
        ToleranceError
            If they are wrong.
        """
        rows = self._expected.exact.o.shape[1]
        O = result if result.ndim == 4 else result[None]
        report = compare_to(self._expected, to_numpy(O[-1, -rows:, -1])[None, :, None])
        if not report.ok:
            raise ToleranceError(f"wrong result: {report.o.share:.3g} of the bound")

    @property
    def _dtypes(self) -> tuple[str, str]:
        """Return the dtypes of q, and of K and V."""
        return _NAMES[self.problem.format.name], _NAMES[self.problem.kv_format.name]

    @cached_property
    def _arrays(self) -> list[tuple[Any, Any, Any]]:
        """Q, K and V, as many copies as keep K and V out of the L2 cache."""
        problem, layout = self.problem, self.problem.layout
        q_shape: tuple[int, int] = (problem.batch, problem.seqlen_q)
        kv_shape: tuple[int, int] = (problem.batch, problem.seqlen_k)
        if layout.varlen_q:  # sizes are of all sequences together
            q_shape, kv_shape = (1, problem.seqlen_q), (1, problem.seqlen_k)
        elif layout.page_size:
            kv_shape = (layout.num_pages, layout.page_size)
        dtype, kv_dtype = self._dtypes
        q = normal((*q_shape, problem.num_heads, problem.head_dim), dtype, 1, self.xp)

        def made(number: int, width: int, which: int) -> Any:
            shape = (*kv_shape, problem.num_kv_heads, width)
            return normal(shape, kv_dtype, 2 * number + which, self.xp)

        first = (q, made(0, problem.head_dim, 2), made(0, problem.v_head_dim, 3))
        count = copies_of(sum(array.nbytes for array in first[1:]), self._l2_bytes)
        more = range(1, count)
        return [
            first,
            *((q, made(n, problem.head_dim, 2), made(n, problem.v_head_dim, 3)) for n in more),
        ]

    @property
    def _l2_bytes(self) -> int:
        if self.xp is np:
            return 0
        return int(self.xp.cuda.Device().attributes["L2CacheSize"])

    @cached_property
    def _ends(self) -> Any:
        """Where packed sequences begin and end."""
        step = self.problem.seqlen_q // self.problem.batch
        return self.xp.arange(self.problem.batch + 1, dtype=np.int32) * step

    @cached_property
    def _table(self) -> Any:
        """The block table, a permutation of all pages."""
        order = np.random.default_rng(1).permutation(self.problem.layout.num_pages)
        return self.xp.asarray(order.astype(np.int32).reshape(self.problem.batch, -1))

    def _call(self, q: Any, k: Any, v: Any) -> Callable[[], Any]:
        from attnprobe.engine import attention, attention_paged, attention_varlen

        options, problem = dict(self.options), self.problem
        kv_format = _KV_NAMES.get(problem.kv_format.name)
        if kv_format:
            descale = self.xp.full(problem.num_kv_heads, self._descale, np.float32)
            options |= {"kv_format": kv_format, "k_descale": descale, "v_descale": descale}
        if problem.layout.varlen_q:
            q, k, v, ends = q[0], k[0], v[0], self._ends
            return lambda: attention_varlen(q, k, v, ends, ends, **options)
        if problem.layout.page_size:
            used = self.xp.full(problem.batch, problem.seqlen_k, np.int32)
            return lambda: attention_paged(q, k, v, self._table, used, **options)
        return lambda: attention(q, k, v, **options)

    @property
    def _descale(self) -> float:
        return 1 / INT8_SCALE if self.problem.kv_format.name == "s8" else 1.0

    @cached_property
    def _expected(self) -> Expected:
        """What the last queries of the last head must be."""
        problem = self.problem
        q, k, v = self._arrays[0]
        long_q = problem.seqlen_q // (problem.batch if problem.layout.varlen_q else 1)
        rows = min(CHECKED_ROWS, long_q)
        given = {name: value for name, value in self.options.items() if name != "num_splits"}
        last = to_numpy(q[-1, -rows:, -1])[None, :, None]
        return expect(last, self._keys(k), self._keys(v), Features(**given))

    def _keys(self, array: Any) -> Any:
        """Return K or V of the last sequence and head, (1, seqlen_k, 1, width), as numbers."""
        problem = self.problem
        if problem.layout.page_size:
            rows = array[self._table[-1], :, -1].reshape(-1, array.shape[-1])
        else:
            first = -(problem.seqlen_k // problem.batch) if problem.layout.varlen_q else 0
            rows = array[-1, first:, -1]
        found = to_numpy(rows)[None, :, None]
        if problem.kv_format.name not in _KV_NAMES:
            return found
        return found.view(problem.kv_format.dtype).astype(np.float32) * np.float32(self._descale)


def _fault(outcome: Outcome) -> str:
    """Return why a compiled text is ruled out, or ""."""
    if outcome.error:
        lines = outcome.error.splitlines()
        line = next((line for line in lines if "error" in line.lower()), "error")
        return f"does not compile: {line.strip()[:100]}"
    _, log = compile_.cubin(outcome.wanted.source, outcome.wanted.target)
    return tune_space.fault_of(log)


def described(problem: Problem) -> Problem:
    """Return the problem as it will be called: an 8-bit cache comes with its descales."""
    if problem.kv_format.name not in _KV_NAMES or problem.k_descale:
        return problem
    return replace(problem, k_descale=True, v_descale=True)
