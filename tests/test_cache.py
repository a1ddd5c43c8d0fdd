"""The store of compiled kernels: what is found again, and what disk and other processes do."""

from __future__ import annotations

import logging
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from attnprobe import cache, nvrtc
from attnprobe import compile as compile_
from attnprobe.cache import Built, Store
from attnprobe.compile import Source
from attnprobe.errors import CompileError

MIB = 1 << 20
BUILT = Built(bytes(range(256)) * 40, "ptxas info : 12 registers, ü")
SMALL = Source('extern "C" __global__ void f(int *out) { *out = 1; }', "small.cu")
PATIENCE = 60.0  # seconds until a process that nobody answers gives up


def filled(folder: Path, *keys: str, limit: int = MIB) -> Store:
    store = Store(folder, limit)
    for key in keys:
        store.write(key, BUILT, {"kernel": key})
    return store


def file_of(store: Store, key: str) -> Path:
    return store.folder / f"{key}{cache.SUFFIX}"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store for this test alone."""
    folder = tmp_path / "store"
    monkeypatch.setenv("ATTNPROBE_CACHE_DIR", str(folder))
    monkeypatch.setenv("ATTNPROBE_CACHE", "1")
    return folder


@pytest.fixture
def compiles(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds of what NVRTC was asked to compile, as they come."""
    asked: list[str] = []
    compile_text = nvrtc.compile_text

    def noted(text: str, name: str, options: Any, kind: str) -> tuple[bytes, str]:
        asked.append(kind)
        return compile_text(text, name, options, kind)

    monkeypatch.setattr(nvrtc, "compile_text", noted)
    return asked


def test_what_was_written_is_read(tmp_path: Path) -> None:
    store = filled(tmp_path / "deep" / "store", "a")
    assert store.read("a") == BUILT
    assert store.read("b") is None
    assert [(entry.key, entry.facts["kernel"]) for entry in store.entries()] == [("a", "a")]


def test_a_second_process_would_find_it(tmp_path: Path) -> None:
    filled(tmp_path, "a")
    assert Store(tmp_path, MIB).read("a") == BUILT


def test_a_kernel_is_compiled_once_and_then_found(here: Path, compiles: list[str]) -> None:
    first = compile_.cubin(SMALL, "sm_90")
    assert compile_.cubin(SMALL, "sm_90") == first
    assert compiles == ["CUBIN"]
    assert first[0].startswith(b"\x7fELF")
    assert "registers" in first[1]
    (entry,) = cache.Store(here, MIB).entries()
    assert (entry.facts["kernel"], entry.facts["target"]) == ("small.cu", "sm_90")


@pytest.mark.parametrize(
    "other",
    [
        lambda: compile_.build(Source(SMALL.text + " ", SMALL.name), "CUBIN", "sm_90"),
        lambda: compile_.build(Source(SMALL.text, "other.cu"), "CUBIN", "sm_90"),
        lambda: compile_.build(SMALL, "CUBIN", "sm_90a"),
        lambda: compile_.build(SMALL, "PTX", "compute_90"),
        lambda: compile_.build(SMALL, "CUBIN", "sm_90", ("-lineinfo",)),
    ],
    ids=["text", "name", "target", "kind", "option"],
)
def test_anything_that_a_compile_depends_on_makes_another_entry(
    here: Path, compiles: list[str], other: Any
) -> None:
    compile_.build(SMALL, "CUBIN", "sm_90")
    other()
    assert len(compiles) == len(Store(here, MIB).entries()) == 2


def test_another_nvrtc_makes_another_entry(
    here: Path, compiles: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_.build(SMALL, "CUBIN", "sm_90")
    newer = nvrtc.Identity((99, 0), 1, nvrtc.identity().ccs)
    monkeypatch.setattr(nvrtc, "identity", lambda: newer)
    monkeypatch.setattr(nvrtc, "loaded_identity", lambda: newer)
    compile_.build(SMALL, "CUBIN", "sm_90")
    assert len(compiles) == 2


def test_a_kernel_that_nvrtc_refuses_leaves_no_entry(here: Path) -> None:
    for _ in range(2):
        with pytest.raises(CompileError, match=r"bad.cu\(1\)"):
            compile_.cubin(Source("int f( {", "bad.cu"), "sm_90")
    assert Store(here, MIB).entries() == []


def test_ptx_names_no_folder_of_the_process_that_compiled_it(here: Path) -> None:
    text = compile_.build(SMALL, "PTX", "compute_90", ("-lineinfo",)).data.decode()
    assert '.file\t1 "small.cu"' in text
    assert os.getcwd() not in text


@pytest.mark.parametrize("place", [0, 20, 70, 100, 400, -1])
def test_one_wrong_bit_is_seen_and_the_entry_made_anew(
    here: Path, compiles: list[str], caplog: pytest.LogCaptureFixture, place: int
) -> None:
    good = compile_.cubin(SMALL, "sm_90")[0]
    (path,) = here.glob(f"*{cache.SUFFIX}")
    raw = bytearray(path.read_bytes())
    raw[place] ^= 4
    path.write_bytes(raw)
    assert compile_.cubin(SMALL, "sm_90")[0] == good
    assert compiles == ["CUBIN", "CUBIN"]
    assert "is damaged" in caplog.text
    assert compile_.cubin(SMALL, "sm_90")[0] == good
    assert len(compiles) == 2


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_file_cut_short_is_seen(tmp_path: Path, share: float) -> None:
    store = filled(tmp_path, "a")
    path = file_of(store, "a")
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    assert store.read("a") is None
    assert not path.exists()


def test_a_damaged_entry_can_be_listed(tmp_path: Path) -> None:
    store = filled(tmp_path, "a")
    file_of(store, "a").write_bytes(b"\xff\x00")
    (entry,) = store.entries()
    assert (entry.key, entry.size, entry.facts) == ("a", 2, {})


@pytest.mark.parametrize("inside", ["a file", "/proc"])
def test_a_folder_that_cannot_be_made_is_said_once_and_lived_with(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    compiles: list[str],
    inside: str,
) -> None:
    (tmp_path / "a file").write_text("")
    folder = tmp_path / inside / "store"  # an absolute path takes the place of tmp_path
    monkeypatch.setenv("ATTNPROBE_CACHE_DIR", str(folder))
    cache._store.cache_clear()  # it remembers what it said already
    for _ in range(2):
        assert compile_.cubin(SMALL, "sm_90")[0].startswith(b"\x7fELF")
    assert compiles == ["CUBIN", "CUBIN"]
    told = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [f"cannot be kept in {folder}" in record.getMessage() for record in told] == [True]


FULL_DISK = f"""\
import resource, signal
from pathlib import Path
from attnprobe.cache import Built, Store
resource.setrlimit(resource.RLIMIT_FSIZE, (512, resource.RLIM_INFINITY))
store = Store(Path("store"), {MIB})
built = Built(bytes(i * i % 251 for i in range(100_000)), "")
for key in "ab":
    store.write(key, built, {{}})
    assert store.read(key) is None
assert list(Path("store").iterdir()) == [], list(Path("store").iterdir())
"""


def test_a_disk_that_takes_only_half_of_a_file_leaves_nothing_of_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(cache.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("cannot be kept") == 1


def test_past_the_limit_what_was_used_longest_ago_goes(tmp_path: Path) -> None:
    one = filled(tmp_path / "other", "x")
    size = file_of(one, "x").stat().st_size
    store = filled(tmp_path / "store", "a", "b", "c", limit=int(4.5 * size))
    for age, key in enumerate("cba"):
        os.utime(file_of(store, key), (1000.0 - age, 1000.0 - age))
    assert store.read("a") == BUILT  # used now, so "b" is the oldest
    store.write("d", BUILT, {})
    store.write("e", BUILT, {})
    assert sorted(entry.key for entry in store.entries()) == ["a", "c", "d", "e"]
    assert sum(entry.size for entry in store.entries()) <= store.limit


def test_entries_of_other_processes_count_too(tmp_path: Path) -> None:
    size = file_of(filled(tmp_path / "other", "x"), "x").stat().st_size
    limit = int(10.5 * size)
    first, second = Store(tmp_path / "store", limit), Store(tmp_path / "store", limit)
    for number in range(2 * cache._RECOUNT):
        (first, second)[number % 2].write(f"{number:03d}", BUILT, {})
    held = first.entries()
    assert sum(entry.size for entry in held) <= limit + cache._RECOUNT * size
    first.write("last", BUILT, {})
    assert {"last"} <= {entry.key for entry in first.entries()}


def test_what_is_larger_than_the_store_is_not_kept(tmp_path: Path) -> None:
    store = filled(tmp_path, "a", limit=100)
    assert store.read("a") is None
    assert list(tmp_path.iterdir()) == []


def test_clear_takes_everything_and_says_how_much(tmp_path: Path) -> None:
    store = filled(tmp_path, "a", "b")
    held = sum(path.stat().st_size for path in tmp_path.iterdir())
    (tmp_path / "nvrtc-0.json").write_text("{}")
    assert store.clear() == (2, held)
    assert list(tmp_path.iterdir()) == []
    assert store.clear() == (0, 0)


def test_files_that_a_dead_process_left_are_removed(tmp_path: Path) -> None:
    old, young = tmp_path / "dead-1.tmp", tmp_path / "busy-1.tmp"
    for path in (old, young):
        path.write_bytes(b"half of a ker")
    os.utime(old, (1000.0, 1000.0))
    filled(tmp_path, "a")
    assert not old.exists()
    assert young.exists()


def test_it_can_be_turned_off(
    here: Path, compiles: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTNPROBE_CACHE", "0")
    assert cache.store() is None
    compile_.cubin(SMALL, "sm_90")
    compile_.cubin(SMALL, "sm_90")
    assert len(compiles) == 2
    assert not here.exists()


def test_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ATTNPROBE_CACHE_DIR", raising=False)
    monkeypatch.setenv("HOME", "/nobody")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache.folder() == Path("/xdg/attnprobe")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert cache.folder() == Path("/nobody/.cache/attnprobe")
    monkeypatch.setenv("ATTNPROBE_CACHE_DIR", "chosen")
    assert cache.folder() == Path("chosen")


@pytest.mark.parametrize(
    ("given", "size_mb"), [("", 512), ("2", 2), ("0.5", 0.5), ("many", 512), ("-1", 512)]
)
def test_how_much_it_may_hold(
    monkeypatch: pytest.MonkeyPatch, here: Path, given: str, size_mb: float
) -> None:
    monkeypatch.setenv("ATTNPROBE_CACHE_SIZE_MB", given)
    store = cache.store()
    assert store is not None
    assert store.limit == int(size_mb * MIB)


def test_keys_of_different_lists_differ() -> None:
    lists = [("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), ("", "abc")]
    assert len({cache.key_of(parts) for parts in lists}) == len(lists)


def _race(folder: str, number: int, start: Any) -> str:
    """Write and read two entries over and over; return "" or what was wrong."""
    store = Store(Path(folder), 64 * MIB)
    whole = {
        key: Built(bytes([index]) * 300_000 + os.urandom(8), key) for index, key in enumerate("ab")
    }
    start.wait(PATIENCE)
    for turn in range(150):
        key = "ab"[(turn + number) % 2]
        store.write(key, whole[key], {})
        found = store.read("ab"[turn % 2])
        if found is not None and (found.log, len(found.data)) != ("ab"[turn % 2], 300_008):
            return f"turn {turn}: {found.log} {len(found.data)}"
        if found is None:
            return f"turn {turn}: nothing"
    return ""


def test_two_processes_never_read_half_an_entry(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(2) as pool:
        start = manager.Barrier(2)
        for key in "ab":
            Store(tmp_path, 64 * MIB).write(key, Built(bytes(300_008), key), {})
        calls = [pool.apply_async(_race, (str(tmp_path), each, start)) for each in range(2)]
        assert [call.get(PATIENCE) for call in calls] == ["", ""]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.kernel", "b.kernel"]


def _compile_at_once(folder: str, start: Any) -> bytes:
    os.environ["ATTNPROBE_CACHE_DIR"] = folder
    nvrtc.nvrtc()
    start.wait(PATIENCE)
    return compile_.cubin(SMALL, "sm_90")[0]


def test_two_processes_that_miss_at_once_both_get_the_kernel(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(2) as pool:
        start = manager.Barrier(2)
        calls = [pool.apply_async(_compile_at_once, (str(tmp_path), start)) for _ in range(2)]
        first, second = (call.get(PATIENCE) for call in calls)
    assert first == second
    assert len(Store(tmp_path, MIB).entries()) == 1
    assert not list(tmp_path.glob("*.tmp"))
