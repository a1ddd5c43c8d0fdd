"""Engines: who is there and who is not, what each takes, and how the peers are called."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from attnprobe.bench import checking, inputs
from attnprobe.bench.cases import DECODE, Case, prefill
from attnprobe.bench.engines import ENGINES, chosen, flash_attn
from attnprobe.bench.engines.engine import dense, not_found, version_of
from attnprobe.bench.features import CASES as FEATURES
from attnprobe.engine import attention
from attnprobe.errors import UsageError

BY_NAME = {engine.name: engine for engine in ENGINES}


def test_every_peer_of_the_field_has_a_row() -> None:
    assert list(BY_NAME) == [
        "attnprobe", "attnprobe mma.sync", "torch flash", "torch cuDNN", "torch efficient",
        "flash-attn 2", "flash-attn 3", "flash-attn 4", "FlashInfer",
        "FlashInfer XQA", "JAX cuDNN", "flash-attn 3 in JAX",
    ]  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_who_is_not_there_says_why(engine: Any) -> None:
    reason = engine.missing()
    known = ("not installed", "sees no", "cannot be imported")
    assert reason == "" or any(text in reason for text in known)


def test_a_module_that_is_not_there_is_not_installed() -> None:
    assert not_found("no_such_module_at_all", "its-package") == "its-package is not installed"
    assert not_found("no_such_module_at_all.cute", "its-package") == "its-package is not installed"
    assert not_found("numpy", "numpy") == ""
    assert version_of("no-such-package", "numpy") == {"numpy": np.__version__}
    assert version_of("no-such-package") == {}


def test_a_module_whose_own_needs_are_not_met_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lacking_made_up.py").write_text("import no_such_module_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    reason = not_found("lacking_made_up", "its-package")
    assert reason.startswith("its-package cannot be imported: ModuleNotFoundError")
    assert "no_such_module_at_all" in reason


def test_flash_attn_4_alone_is_not_taken_for_flash_attn_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its wheel has a folder ``flash_attn`` with no more in it than ``cute``."""
    (tmp_path / "flash_attn" / "cute").mkdir(parents=True)
    (tmp_path / "flash_attn" / "cute" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "flash_attn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(flash_attn, "torch_missing", lambda: "")
    assert BY_NAME["flash-attn 2"].missing() == "flash-attn is not installed"
    assert BY_NAME["flash-attn 4"].missing() == ""
    for name in [name for name in sys.modules if name.partition(".")[0] == "flash_attn"]:
        monkeypatch.delitem(sys.modules, name)


def test_engines_are_chosen_by_parts_of_their_names() -> None:
    assert [engine.name for engine in chosen("cuDNN,flash-attn 3")] == [
        "torch cuDNN",
        "flash-attn 3",
        "JAX cuDNN",
        "flash-attn 3 in JAX",
    ]
    assert chosen("") == ENGINES
    with pytest.raises(UsageError, match="'xformers', which is in the name of none: attnprobe"):
        chosen("xformers")


def test_a_dense_engine_takes_plain_arrays_alone() -> None:
    assert dense(prefill(64, 512, True)) == ""
    assert dense(prefill(64, 4096, True, "bfloat16")) == ""
    assert "e4m3" in dense(prefill(64, 4096, True, "e4m3"))
    assert "features" in dense(FEATURES[0])
    paged, e4m3 = DECODE[12], DECODE[15]
    assert (paged.page_size, e4m3.kv_format) == (16, "e4m3")
    assert "pages" in dense(paged)
    assert "e4m3" in dense(e4m3)


def test_flash_attn_2_takes_pages_of_256_and_flash_attn_3_any() -> None:
    pages = {case.page_size: case for case in DECODE if case.page_size}
    two, three, four = (BY_NAME[f"flash-attn {n}"] for n in (2, 3, 4))
    assert [bool(two.refusal(pages[size])) for size in (16, 256)] == [True, False]
    assert not three.refusal(pages[1])
    assert four.refusal(pages[256]) == "its flash_attn_func takes no pages"


def test_the_memory_efficient_backend_and_jax_refuse_what_they_cannot() -> None:
    assert BY_NAME["torch efficient"].refusal(DECODE[0]) == "takes no grouped heads"
    assert BY_NAME["JAX cuDNN"].refusal(DECODE[0])
    assert BY_NAME["JAX cuDNN"].refusal(prefill(64, 512, True)) == ""


@pytest.mark.parametrize("name", ["JAX cuDNN", "flash-attn 3 in JAX"])
@pytest.mark.parametrize("causal", [False, True])
def test_jax_is_asked_for_attention_with_the_mask_of_the_case(
    name: str, causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A JAX that is our own kernel on the emulator, and compiles nothing."""
    used: list[str] = []

    def attend(q: Any, k: Any, v: Any, *, is_causal: bool, implementation: str = "flash") -> Any:
        used.append(implementation)
        return attention(q, k, v, causal=is_causal)

    class Lowered:
        def __init__(self, call: Any) -> None:
            self._call = call

        def lower(self, *arrays: Any) -> Lowered:
            return self

        def compile(self) -> Any:
            return self._call

    jax, flash = ModuleType("jax"), ModuleType("flash_attn3_jax")
    jax.jit = Lowered  # type: ignore[attr-defined]
    jax.dlpack = SimpleNamespace(from_dlpack=lambda array: array)  # type: ignore[attr-defined]
    jax.nn = SimpleNamespace(dot_product_attention=attend)  # type: ignore[attr-defined]
    flash.flash_mha = attend  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "jax", jax)
    monkeypatch.setitem(sys.modules, "flash_attn3_jax", flash)
    given = inputs.make(Case("prefill", 1, 2, 2, 40, 40, 64, causal), 0, np)[0]
    O = BY_NAME[name].make(given)()
    assert checking.error_of(O, checking.expected(given, O.dtype)).share <= 1
    assert used == ["cudnn" if name == "JAX cuDNN" else "flash"]


class Fake:
    """A flash-attn that is our own kernel on the emulator, and notes how it is called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, table: str) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        torch = ModuleType("torch")
        torch.from_dlpack = lambda array: array  # type: ignore[attr-defined]
        module = ModuleType(name)
        module.flash_attn_func = self.func  # type: ignore[attr-defined]
        module.flash_attn_with_kvcache = self.cached  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "torch", torch)
        monkeypatch.setitem(sys.modules, name, module)
        self.table = table

    def func(self, q: Any, k: Any, v: Any, *, causal: bool) -> Any:
        self.calls.append(("func", {"causal": causal}))
        return attention(q, k, v, causal=causal, return_lse=True)

    def cached(self, q: Any, k: Any, v: Any, **more: Any) -> Any:
        self.calls.append(("cached", more))
        if self.table in more:
            k, v = (
                array[more[self.table]].reshape(len(q), -1, *array.shape[2:]) for array in (k, v)
            )
        assert (more["cache_seqlens"] == k.shape[1]).all()
        return attention(q, k, v)


@pytest.mark.parametrize(
    ("name", "module", "table"),
    [
        ("flash-attn 2", "flash_attn.flash_attn_interface", "block_table"),
        ("flash-attn 3", "flash_attn_interface", "page_table"),
    ],
)
@pytest.mark.parametrize(
    "case",
    [
        Case("prefill", 1, 2, 2, 40, 40, 64, True),
        Case("decode", 2, 4, 2, 1, 48, 64),
        Case("decode", 2, 4, 2, 1, 64, 64, layout="paged", page_size=16),
    ],
    ids=["prefill", "decode", "pages"],
)
def test_flash_attn_is_called_as_it_wants_to_be(
    name: str, module: str, table: str, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Fake(monkeypatch, module, table)
    given = inputs.make(case, 0, np)[0]
    engine = BY_NAME[name]
    O = engine.o_of(engine.make(given)())
    assert checking.error_of(O, checking.expected(given, O.dtype)).share <= 1
    ((called, more),) = fake.calls
    assert called == ("cached" if case.kind == "decode" else "func")
    assert (table in more) == (case.layout == "paged")


@pytest.mark.parametrize("queries", [1, 40])
def test_flash_attn_4_has_no_call_for_a_cache_and_is_given_it_as_keys(
    queries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Fake(monkeypatch, "flash_attn.cute", "page_table")
    del sys.modules["flash_attn.cute"].flash_attn_with_kvcache
    kind = "decode" if queries == 1 else "prefill"
    given = inputs.make(Case(kind, 1, 4, 2, queries, 40, 64, queries > 1), 0, np)[0]
    engine = BY_NAME["flash-attn 4"]
    O = engine.o_of(engine.make(given)())
    assert checking.error_of(O, checking.expected(given, O.dtype)).share <= 1
    assert fake.calls == [("func", {"causal": queries > 1})]


def test_all_versions_of_flash_attn_are_in_one_table() -> None:
    assert len(flash_attn.ENGINES) == 3
