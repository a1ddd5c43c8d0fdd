"""``attnprobe cache`` and ``attnprobe warmup``: what they list, compile, keep and refuse."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from attnprobe import cache, nvrtc
from attnprobe.backends.gpu import usable
from attnprobe.cache import Built, Store
from attnprobe.cli import main
from attnprobe.engine.kernels import Wanted
from attnprobe.errors import CompileError

MIB = 1 << 20
SHAPE = ["--head-dim", "128", "--heads", "32", "--kv-heads", "8", "--arch", "sm_90", "--jobs", "1"]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    folder = tmp_path / "store"
    monkeypatch.setenv("ATTNPROBE_CACHE_DIR", str(folder))
    monkeypatch.setenv("ATTNPROBE_CACHE", "1")
    return Store(folder, 512 * MIB)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Texts and options that NVRTC is asked to compile, in place of compiling them."""
    asked: list[tuple[str, str]] = []

    def compile_text(text: str, name: str, options: Any, kind: str) -> tuple[bytes, str]:
        asked.append((text, " ".join(options)))
        return b"\x7fELF of " + text.encode()[:20], "log"

    monkeypatch.setattr(nvrtc, "compile_text", compile_text)
    return asked


def run(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> str:
    assert main(list(argv)) == code
    return capsys.readouterr().out


def test_an_empty_cache_says_where_it_is(capsys: pytest.CaptureFixture[str], store: Store) -> None:
    assert run(capsys, "cache") == f"0 kernels, 0 bytes of 512.0 MB: {store.folder}\n"


def test_entries_are_listed_the_last_used_first(
    capsys: pytest.CaptureFixture[str], store: Store
) -> None:
    facts = {"kernel": "attention/fwd.cu", "target": "sm_90a", "macros": {"ATTN_HEAD_DIM": "64"}}
    for age, key in enumerate(("aa" * 32, "bb" * 32, "cc" * 32)):
        store.write(key, Built(random.Random(age).randbytes(3000), ""), facts)
        os.utime(store.folder / f"{key}{cache.SUFFIX}", (2e9 - age, 2e9 - age))
    lines = run(capsys, "cache").splitlines()
    assert [line[:12] for line in lines[:3]] == ["a" * 12, "b" * 12, "c" * 12]
    for word in ("attention/fwd.cu", "sm_90a", "3.1 KB", "head_dim 64", "2033-05-1"):
        assert word in lines[0]
    total = sum(entry.size for entry in store.entries())
    assert lines[3] == f"3 kernels, {total / 1024:.1f} KB of 512.0 MB: {store.folder}"


def test_json_has_whole_keys_and_bytes(capsys: pytest.CaptureFixture[str], store: Store) -> None:
    store.write("ab" * 32, Built(b"data", ""), {"kernel": "a.cu", "target": "sm_80"})
    told = json.loads(run(capsys, "cache", "--json"))
    (entry,) = told["entries"]
    assert (entry["key"], entry["kernel"], entry["target"]) == ("ab" * 32, "a.cu", "sm_80")
    assert told["total_bytes"] == entry["bytes"] == store.entries()[0].size
    assert (told["folder"], told["limit_bytes"]) == (str(store.folder), 512 * MIB)


def test_a_damaged_entry_is_listed_as_such(
    capsys: pytest.CaptureFixture[str], store: Store
) -> None:
    store.write("ab" * 32, Built(b"data", ""), {"kernel": "a.cu"})
    (store.folder / f"{'ab' * 32}{cache.SUFFIX}").write_bytes(b"\0" * 9)
    assert "(damaged)" in run(capsys, "cache")


def test_clear_removes_all_and_says_so(capsys: pytest.CaptureFixture[str], store: Store) -> None:
    store.write("ab" * 32, Built(b"data", ""), {})
    size = store.entries()[0].size
    assert run(capsys, "cache", "--clear") == (
        f"1 kernels removed, {size} bytes freed: {store.folder}\n"
    )
    assert store.entries() == []
    told = json.loads(run(capsys, "cache", "--clear", "--json"))
    assert (told["removed"], told["bytes"]) == (0, 0)


@pytest.mark.parametrize("argv", [["cache"], ["warmup", *SHAPE]], ids=lambda argv: argv[0])
def test_a_cache_that_is_off_is_a_usage_error(
    argv: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTNPROBE_CACHE", "0")
    assert main(argv) == 2
    assert "ATTNPROBE_CACHE=0" in capsys.readouterr().err


def test_warmup_compiles_what_the_engine_will_ask_for(
    capsys: pytest.CaptureFixture[str], store: Store, compiled: list[tuple[str, str]]
) -> None:
    from attnprobe.arch import arch
    from attnprobe.commands.shape_options import Sequences, problem_of
    from attnprobe.compile import cubin, device_target
    from attnprobe.engine import make_plan

    out = run(capsys, "warmup", *SHAPE, "--causal", "--calls", "prefill")
    asked = len(compiled)
    assert asked >= 1
    assert out.count(" compiled ") == asked
    # What engine/kernels.py does for a device of that arch finds all of it.
    from argparse import Namespace

    options = Namespace(
        head_dim=128, v_head_dim=None, heads=32, kv_heads=8, batch=1, dtype="float16", causal=True,
        window="-1,-1", softcap=0.0, softmax_scale=None, unaligned=False,
        kv_format=None, num_splits=None,
    )  # fmt: skip
    plan = make_plan(problem_of(options, Sequences(4096, 4096)), arch(90))
    for step in plan.steps:
        source = plan.source(step.source)
        wanted = Wanted(source, step.entry, step.shared_bytes, plan.variant.suffix, 0)
        assert cubin(wanted.source, device_target(90, wanted.suffix))[0].startswith(b"\x7fELF")
    assert len(compiled) == asked


def test_a_second_warmup_compiles_nothing(
    capsys: pytest.CaptureFixture[str], store: Store, compiled: list[tuple[str, str]]
) -> None:
    run(capsys, "warmup", *SHAPE)
    count = len(compiled)
    told = json.loads(run(capsys, "warmup", *SHAPE, "--json"))
    assert len(compiled) == count == len(told["kernels"])
    assert {kernel["state"] for kernel in told["kernels"]} == {"kept"}
    assert "128" in {kernel["macros"].get("ATTN_HEAD_DIM") for kernel in told["kernels"]}


def test_each_kind_of_call_has_its_text(
    capsys: pytest.CaptureFixture[str], store: Store, compiled: list[tuple[str, str]]
) -> None:
    for calls, macro in (("varlen", "ATTN_VARLEN_Q 1"), ("paged", "ATTN_PAGED 1")):
        compiled.clear()
        run(capsys, "warmup", *SHAPE, "--calls", calls)
        assert any(f"#define {macro}\n" in text for text, _ in compiled)
    assert any("attention_append_kv" in text for text, _ in compiled)  # pages are appended to


def test_all_covers_the_common_widths_dtypes_and_causal(
    capsys: pytest.CaptureFixture[str], store: Store, compiled: list[tuple[str, str]]
) -> None:
    run(capsys, "warmup", "--all", "--arch", "80", "--jobs", "1", "--calls", "prefill")
    heads = {text.partition("#line")[0] for text, _ in compiled}
    for width in (64, 128, 256):
        for element in ("f16_t", "bf16_t"):
            for window in (0, 1):
                lines = (f"HEAD_DIM {width}", f"ELEMENT {element}", f"WINDOW {window}")
                wanted = [f"#define ATTN_{line}\n" for line in lines]
                assert any(all(line in head for line in wanted) for head in heads), wanted
    assert {options.split("-arch=")[1].split()[0] for _, options in compiled} == {"sm_80"}


def test_a_kernel_that_nvrtc_refuses_is_said_and_the_others_go_on(
    capsys: pytest.CaptureFixture[str], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compile_text(text: str, name: str, options: Any, kind: str) -> tuple[bytes, str]:
        if "ATTN_PAGED 1" in text:
            raise CompileError(f"{name}: refused")
        return b"\x7fELF", ""

    monkeypatch.setattr(nvrtc, "compile_text", compile_text)
    assert main(["warmup", *SHAPE, "--calls", "paged,prefill"]) == 4
    told = capsys.readouterr()
    assert "refused" in told.err
    assert " compiled " in told.out


@pytest.mark.parametrize(
    ("argv", "code", "word"),
    [
        (["--arch", "90"], 2, "--head-dim"),
        ([*SHAPE, "--calls", "prefill,training"], 2, "'training'"),
        (["--head-dim", "128", "--arch", "H100"], 2, "sm_90"),
        (["--head-dim", "72", "--arch", "90"], 2, "80"),
        (["--head-dim", "128", "--arch", "75"], 5, "sm_80"),
    ],
)
def test_mistakes_are_said(
    capsys: pytest.CaptureFixture[str], store: Store, argv: list[str], code: int, word: str
) -> None:
    assert main(["warmup", *argv]) == code
    assert word in capsys.readouterr().err


@pytest.mark.skipif(not usable(), reason="there is a GPU")
def test_without_a_gpu_the_arch_must_be_said(
    capsys: pytest.CaptureFixture[str], store: Store
) -> None:
    assert main(["warmup", "--head-dim", "128"]) == 3
    assert "--arch" in capsys.readouterr().err
