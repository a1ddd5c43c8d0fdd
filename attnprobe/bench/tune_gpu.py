"""The device of a search: arrays of a problem, candidates compiled, held against float64, timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from attnprobe import compile as compile_
from attnprobe.bench import inputs, timing, tune_space
from attnprobe.bench.cases import Case
from attnprobe.bench.timing import Sampler
from attnprobe.engine.plan import Plan, plans_changed
from attnprobe.engine.problem import Problem
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
    """

    problem: Problem
    options: dict[str, Any]

    def compile(self, plans: Sequence[Plan]) -> list[str]:
        """Compile plans in parallel and return for each why it is ruled out, or ""."""
        from attnprobe.engine.warmup import compile_all, texts_of

        wanted = [texts_of([plan])[0] for plan in plans]
        outcomes = list(compile_all(wanted))
        faults = []
        for each in outcomes:
            if each.error:
                line = next((n for n in each.error.splitlines() if "error" in n.lower()), "error")
                faults.append(f"does not compile: {line.strip()[:100]}")
            else:
                _, log = compile_.cubin(each.wanted.source, each.wanted.target)
                faults.append(tune_space.fault_of(log))
        return faults

    def sampler(self, plan: Plan) -> Sampler:
        """Return the warm sampler of a plan.

        Raises
        ------
        ToleranceError
            If its result is wrong.
        """

        def change(_: Plan) -> Plan:
            return plan

        def on(call: Callable[[], Any]) -> Callable[[], Any]:
            def run() -> Any:
                with plans_changed(change):
                    return call()

            return run

        calls = [on(call) for call in self._calls]
        self._check(calls[0]())
        return timing.sampler("cupy", calls, BATCH_S)

    @property
    def _case(self) -> Case:
        """The problem as a case, as far as one can say it: for the number of copies."""
        problem = self.problem
        kv = _NAMES[problem.kv_format.name]
        kv_format = "" if problem.kv_format == problem.format else kv
        return Case(
            "decode" if problem.seqlen_q == 1 else "prefill",
            problem.batch,
            problem.num_heads,
            max(1, problem.num_kv_heads),
            problem.seqlen_q,
            problem.seqlen_k,
            problem.head_dim,
            dtype=_NAMES[problem.format.name],
            kv_format=kv_format,
        )

    @cached_property
    def _arrays(self) -> list[tuple[Any, Any, Any]]:
        """Q, K and V, as many copies as keep them out of the L2 cache."""
        import cupy

        problem, case = self.problem, self._case
        kv_shape = (problem.batch, problem.seqlen_k)
        q_shape = (problem.batch, problem.seqlen_q)
        if problem.layout.varlen_q:  # sizes are of all sequences together
            q_shape, kv_shape = (1, problem.seqlen_q), (1, problem.seqlen_k)
        elif problem.layout.page_size:
            kv_shape = (problem.layout.num_pages, problem.layout.page_size)
        q = inputs.normal((*q_shape, problem.num_heads, problem.head_dim), case.dtype, 1)
        count = inputs.copies_of(case, int(cupy.cuda.Device().attributes["L2CacheSize"]))
        dtype, heads = case.kv_format or case.dtype, problem.num_kv_heads

        def made(number: int, width: int, which: int) -> Any:
            return inputs.normal((*kv_shape, heads, width), dtype, 2 * number + which)

        return [
            (q, made(n, problem.head_dim, 2), made(n, problem.v_head_dim, 3)) for n in range(count)
        ]

    @cached_property
    def _ends(self) -> Any:
        import cupy

        return cupy.linspace(0, self.problem.seqlen_q, self.problem.batch + 1).astype(np.int32)

    @cached_property
    def _table(self) -> Any:
        """The block table, a permutation of all pages."""
        import cupy

        layout = self.problem.layout
        order = np.random.default_rng(1).permutation(layout.num_pages).astype(np.int32)
        return cupy.asarray(order.reshape(self.problem.batch, -1))

    @cached_property
    def _calls(self) -> list[Callable[[], Any]]:
        """A call for each copy."""
        return [self._call(*arrays) for arrays in self._arrays]

    def _call(self, q: Any, k: Any, v: Any) -> Callable[[], Any]:
        import cupy

        from attnprobe.engine import attention, attention_paged, attention_varlen

        options, layout = dict(self.options), self.problem.layout
        kv_format = _KV_NAMES.get(self.problem.kv_format.name)
        if kv_format:
            descale = cupy.full(self.problem.num_kv_heads, self._descale, np.float32)
            options |= {"kv_format": kv_format, "k_descale": descale, "v_descale": descale}
        if layout.varlen_q:
            q, k, v, ends = q[0], k[0], v[0], self._ends
            return lambda: attention_varlen(q, k, v, ends, ends, **options)
        if layout.page_size:
            used = cupy.full(self.problem.batch, self.problem.seqlen_k, np.int32)
            return lambda: attention_paged(q, k, v, self._table, used, **options)
        return lambda: attention(q, k, v, **options)

    @property
    def _descale(self) -> float:
        return 1 / inputs.INT8_SCALE if self.problem.kv_format.name == "s8" else 1.0

    @cached_property
    def _expected(self) -> Expected:
        """What the last queries of the last head must be."""
        import cupy

        problem = self.problem
        q, k, v = self._arrays[0]
        queries = slice(-min(CHECKED_ROWS, problem.seqlen_q), None)
        keys = slice(None)
        if problem.layout.varlen_q:
            ends = cupy.asnumpy(self._ends)
            keys = slice(int(ends[-2]), int(ends[-1]))
        rows: list[Any] = []
        for array in (k, v):
            if problem.layout.page_size:
                head = array[self._table[-1], :, -1].reshape(-1, array.shape[-1])
            else:
                head = array[-1, keys, -1]
            rows.append(self._widened(cupy.asnumpy(head))[None, :, None])
        given = {name: value for name, value in self.options.items() if name != "num_splits"}
        last = cupy.asnumpy(q[-1, queries, -1])[None, :, None]
        return expect(last, rows[0], rows[1], Features(**given))

    def _widened(self, array: Any) -> Any:
        """Return 8-bit elements as the numbers that they stand for."""
        name = self.problem.kv_format.name
        if name not in _KV_NAMES:
            return array
        held = array.view(self.problem.kv_format.dtype)
        return held.astype(np.float32) * np.float32(self._descale)

    def _check(self, result: Any) -> None:
        import cupy

        rows = self._expected.exact.o.shape[1]
        O = result if result.ndim == 4 else result[None]
        report = compare_to(self._expected, cupy.asnumpy(O[-1, -rows:, -1])[None, :, None])
        if not report.ok:
            raise ToleranceError(f"wrong result: {report.o.share:.3g} of the bound")


def described(problem: Problem) -> Problem:
    """Return the problem as it will be called: an 8-bit cache comes with its descales."""
    if problem.kv_format.name not in _KV_NAMES or problem.k_descale:
        return problem
    return replace(problem, k_descale=True, v_descale=True)
