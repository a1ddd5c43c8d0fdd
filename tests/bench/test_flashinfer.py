"""FlashInfer's engine: what its wrappers are told, and what they are given."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from attnprobe.bench import checking, inputs
from attnprobe.bench.cases import DECODE, Case, prefill
from attnprobe.bench.engines import flashinfer
from attnprobe.engine import attention
from attnprobe.formats import FORMATS

ENGINE, XQA = flashinfer.ENGINES


def attend(q: Any, cache: tuple[Any, Any], pages: Any, keys: Any, scale: float | None) -> Any:
    """Return O of one query for each sequence on its pages, (batch, heads, head_dim)."""
    sequences = []
    for number, (of_sequence, count) in enumerate(zip(pages, keys, strict=True)):
        k, v = (array[of_sequence].reshape(1, -1, *array.shape[2:])[:, :count] for array in cache)
        k, v = k.astype(q.dtype), v.astype(q.dtype)  # every number of e4m3 is one of float16
        query = q[None, number : number + 1]
        sequences.append(attention(query, k, v, softmax_scale=scale)[0])
    return np.concatenate(sequences)


class FlashInfer:
    """A FlashInfer that is our own kernel on the emulator.

    Its two wrappers have the parameters of FlashInfer's, in their order, as far as they are used.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.planned: list[dict[str, Any]] = []
        self.workspaces: list[Any] = []
        torch, module = ModuleType("torch"), ModuleType("flashinfer")
        values: dict[str, Any] = {
            "from_dlpack": lambda array: array,
            "int32": np.int32,
            "uint8": np.uint8,
            "float8_e4m3fn": FORMATS["e4m3"].dtype,
            "arange": lambda stop, *, dtype, device: np.arange(stop, dtype=dtype),
            "full": lambda shape, value, *, dtype, device: np.full(shape, value, dtype),
            "zeros": lambda count, *, dtype, device: np.zeros(1, dtype),
        }
        for name, value in values.items():
            setattr(torch, name, value)
        owner = self

        class Wrapper:
            def __init__(
                self, float_workspace_buffer: Any, kv_layout: str, use_tensor_cores: bool = False
            ) -> None:
                assert kv_layout == "NHD"
                owner.workspaces.append(float_workspace_buffer)
                self.use_tensor_cores = use_tensor_cores

        class Prefill(Wrapper):
            def plan(
                self,
                qo_indptr: Any,
                kv_indptr: Any,
                num_qo_heads: int,
                num_kv_heads: int,
                head_dim_qk: int,
                *,
                causal: bool = False,
                q_data_type: Any = "float16",
                kv_data_type: Any = None,
            ) -> None:
                owner.planned.append({"causal": causal})
                self.told = (num_qo_heads, num_kv_heads, head_dim_qk, q_data_type, kv_data_type)
                self.ends, self.causal = (qo_indptr, kv_indptr), causal

            def run(self, q: Any, k: Any, v: Any) -> Any:
                assert self.told == (q.shape[1], k.shape[1], q.shape[2], q.dtype, k.dtype)
                sequences = []
                for (q0, q1), (k0, k1) in zip(*map(pairwise, self.ends), strict=True):
                    rows = (q[None, q0:q1], k[None, k0:k1], v[None, k0:k1])
                    sequences.append(attention(*rows, causal=self.causal)[0])
                return np.concatenate(sequences)

        class Decode(Wrapper):
            def plan(
                self,
                indptr: Any,
                indices: Any,
                last_page_len: Any,
                num_qo_heads: int,
                num_kv_heads: int,
                head_dim: int,
                page_size: int,
                *,
                q_data_type: Any = "float16",
                kv_data_type: Any = None,
            ) -> None:
                owner.planned.append({"page_size": page_size, "matrix": self.use_tensor_cores})
                self.told = (num_qo_heads, num_kv_heads, head_dim, q_data_type, kv_data_type)
                self.ends, self.indices, self.last = indptr, indices, last_page_len
                self.size = page_size

            def run(self, q: Any, paged_kv_cache: tuple[Any, Any]) -> Any:
                heads = (q.shape[1], paged_kv_cache[0].shape[2])
                assert self.told == (*heads, q.shape[2], q.dtype, paged_kv_cache[0].dtype)
                assert paged_kv_cache[0].shape[1] == self.size
                pages = [self.indices[start:stop] for start, stop in pairwise(self.ends)]
                keys = [
                    (len(each) - 1) * self.size + last
                    for each, last in zip(pages, self.last, strict=True)
                ]
                return attend(q, paged_kv_cache, pages, keys, None)

        def trtllm_batch_decode_with_kv_cache(
            query: Any,
            kv_cache: tuple[Any, Any],
            workspace_buffer: Any,
            block_tables: Any,
            seq_lens: Any,
            max_seq_len: int,
            bmm1_scale: float = 1.0,
            bmm2_scale: float = 1.0,
            *,
            kv_layout: str = "HND",
            backend: str = "auto",
        ) -> Any:
            assert (kv_layout, backend, bmm2_scale) == ("NHD", "xqa", 1.0)
            assert not workspace_buffer.any()
            assert max_seq_len == seq_lens.max()
            owner.workspaces.append(workspace_buffer)
            return attend(query, kv_cache, block_tables, seq_lens, bmm1_scale)

        decode = ModuleType("flashinfer.decode")
        decode.trtllm_batch_decode_with_kv_cache = (  # type: ignore[attr-defined]
            trtllm_batch_decode_with_kv_cache
        )
        monkeypatch.setitem(sys.modules, "flashinfer.decode", decode)
        module.BatchPrefillWithRaggedKVCacheWrapper = Prefill  # type: ignore[attr-defined]
        module.BatchDecodeWithPagedKVCacheWrapper = Decode  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "torch", torch)
        monkeypatch.setitem(sys.modules, "flashinfer", module)
        # one for all of a process; here each test has its own
        fresh = flashinfer._workspace.__wrapped__
        monkeypatch.setattr(flashinfer, "_workspace", cache(fresh))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("causal", [False, True])
def test_prefill_is_sequences_one_after_the_other(
    causal: bool, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FlashInfer(monkeypatch)
    given = inputs.make(Case("prefill", 2, 2, 2, 40, 40, 64, causal, dtype), 0, np)[0]
    O = ENGINE.make(given)()
    assert O.shape == given.q.shape
    assert checking.error_of(O, checking.expected(given, O.dtype)).share <= 1
    assert fake.planned == [{"causal": causal}]


@pytest.mark.parametrize("heads", [2, 4])
@pytest.mark.parametrize("size", [0, 1, 16])
def test_decode_is_pages_whether_the_cache_has_them_or_not(
    size: int, heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FlashInfer(monkeypatch)
    layout = "paged" if size else "padded"
    case = Case("decode", 3, heads, 2, 1, 48, 64, layout=layout, page_size=size)
    given = inputs.make(case, 0, np)[0]
    O = ENGINE.make(given)()
    assert O.shape == given.q.shape
    assert checking.error_of(O, checking.expected(given, O.dtype)).share <= 1
    assert fake.planned == [{"page_size": size or 16, "matrix": heads > 2}]


@pytest.mark.parametrize(("keys", "size"), [(512, 256), (384, 128), (40, 8)])
def test_a_cache_in_one_piece_is_told_as_pages_that_divide_it(
    keys: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FlashInfer(monkeypatch)
    given = inputs.make(Case("decode", 2, 4, 2, 1, keys, 64), 0, np)[0]
    O = ENGINE.make(given)()
    assert checking.error_of(O, checking.expected(given, O.dtype)).share <= 1
    assert fake.planned == [{"page_size": size, "matrix": True}]


def test_a_cache_of_e4m3_gets_its_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FlashInfer(monkeypatch)
    given = inputs.make(Case("decode", 2, 4, 2, 1, 48, 64, kv_format="e4m3"), 0, np)[0]
    assert given.k.dtype == np.uint8
    O = ENGINE.make(given)()
    assert checking.error_of(O, checking.expected(given, O.dtype)).share <= 1
    assert len(fake.planned) == 1


@pytest.mark.parametrize("size", [0, 16])
def test_xqa_is_given_the_scale_and_no_plan(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FlashInfer(monkeypatch)
    layout = "paged" if size else "padded"
    case = Case("decode", 3, 4, 2, 1, 48, 64, layout=layout, page_size=size)
    given = inputs.make(case, 0, np)[0]
    O = XQA.make(given)()
    assert O.shape == given.q.shape
    assert checking.error_of(O, checking.expected(given, O.dtype)).share <= 1
    assert not fake.planned


def test_xqa_counts_in_memory_that_nobody_else_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FlashInfer(monkeypatch)
    given = inputs.make(Case("decode", 1, 4, 2, 1, 48, 64), 0, np)[0]
    ENGINE.make(given)()
    XQA.make(given)()
    of_wrapper, of_xqa = fake.workspaces
    assert of_wrapper is not of_xqa


def test_a_call_is_planned_when_it_is_made_and_not_when_it_is_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = FlashInfer(monkeypatch)
    given = inputs.make(Case("decode", 1, 4, 2, 1, 48, 64), 0, np)[0]
    call = ENGINE.make(given)
    assert len(fake.planned) == 1
    assert (call() == call()).all()
    assert len(fake.planned) == 1


def test_the_copies_of_a_case_share_one_workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FlashInfer(monkeypatch)
    case = Case("decode", 1, 4, 2, 1, 48, 64)
    copies = inputs.make(case, int(case.cache_bytes), np)
    assert len(copies) == 3
    calls = [ENGINE.make(each) for each in copies]
    first, *others = fake.workspaces
    assert len(others) == 2
    assert all(each is first for each in others)
    answers = [call() for call in calls]
    for given, O in zip(copies, answers, strict=True):
        assert checking.error_of(O, checking.expected(given, O.dtype)).share <= 1


def test_what_it_takes() -> None:
    pages = {case.page_size: case for case in DECODE if case.page_size}
    assert [ENGINE.refusal(pages[size]) for size in (1, 16, 256)] == ["", "", ""]
    assert ENGINE.refusal(DECODE[0]) == ""
    assert ENGINE.refusal(replace(DECODE[0], kv_format="e4m3")) == ""
    assert ENGINE.refusal(replace(DECODE[0], kv_format="int8")) == "takes no int8 cache"
    assert ENGINE.refusal(prefill(256, 4096, True, "bfloat16")) == ""
    assert ENGINE.refusal(prefill(128, 4096, True, "e4m3")) == "e4m3 is not taken"
    sixteen, one = XQA.refusal(pages[16]), XQA.refusal(pages[1])
    assert (sixteen, one) == ("", "pages of 16, 32, 64, 128 keys are taken")
    assert XQA.refusal(DECODE[0]) == ""
    assert XQA.refusal(prefill(128, 4096, True)) == "takes decode alone"
    assert "e4m3" in XQA.refusal(replace(DECODE[0], kv_format="e4m3"))
