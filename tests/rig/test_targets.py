"""Targets by name: found, fingerprinted, loaded, or refused with what there is."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from attnprobe.engine.plan import Plan, make_plan, plans_changed
from attnprobe.errors import AttnprobeError, DeviceError, UsageError
from attnprobe.numerics.fills import E4M3_FILLS, FILLS, Sizes
from attnprobe.numerics.reference import Features, attention
from attnprobe.rig import suite, targets
from attnprobe.rig.libraries import LIBRARIES, library, memory_of
from attnprobe.rig.targets import TARGETS, find
from tests.engine.hopper import HOPPER, make

SIZES = Sizes(33, 40, 2, 1, 32)


@pytest.mark.parametrize("row", TARGETS, ids=lambda row: row.name)
def test_a_ready_made_target_attends_or_says_what_is_missing(row):
    q, k, v = FILLS["normal"](SIZES, np.float16)
    try:
        opened = row.open()
    except (DeviceError, ImportError) as missing:
        assert "torch" in str(missing) or "flash_attn" in str(missing)  # noqa: PT017
        return
    O, _ = opened.attend(q, k, v)
    assert np.abs(O.astype(float) - attention(q, k, v).o).max() < 5e-3


def test_a_target_is_found_by_its_path():
    opened = find("tests.rig.faulty:sound").open("numpy")
    q, k, v = FILLS["normal"](SIZES, np.float16)
    O, LSE = opened.attend(q, k, v, Features(causal=True))
    exact = attention(q, k, v, Features(causal=True))
    assert np.abs(O.astype(float) - exact.o).max() < 5e-3
    assert np.abs(LSE - exact.lse).max() < 1e-4


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("our", "ours, ours:mma.sync, ours:e4m3, yardstick"),
        ("mutant:p_repack", "p_repack_order"),
        ("no.such.module:f", "no module 'no.such.module'"),
        ("tests.rig.faulty:nothing", "has no attribute 'nothing'"),
        ("tests.rig.faulty:not_callable", "int, not a callable"),
    ],
)
def test_a_wrong_name_is_answered(name, said):
    with pytest.raises(UsageError, match=said):
        find(name).fingerprint() and find(name).open("numpy")


def test_a_ready_made_target_keeps_its_signature():
    with pytest.raises(UsageError, match="'sdpa'"):
        find("torch:flash", "flash")


def test_the_fingerprint_follows_the_source(tmp_path, monkeypatch):
    module = tmp_path / "of_mine.py"
    module.write_text("def f(q, k, v): return q\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = find("of_mine:f").fingerprint()
    assert before == find("of_mine:f").fingerprint()
    assert before != find("of_mine:f", "sdpa").fingerprint()
    module.write_text("def f(q, k, v): return k\n")
    assert before != find("of_mine:f").fingerprint()


def test_the_fingerprint_of_a_package_has_all_its_files(tmp_path, monkeypatch):
    package = tmp_path / "kit"
    (package / "kernels").mkdir(parents=True)
    (package / "__init__.py").write_text("def f(q, k, v): return q\n")
    (package / "kernels" / "fwd.cu").write_text("int a;\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = find("kit:f").fingerprint()
    (package / "kernels" / "fwd.cu").write_text("int b;\n")
    assert before != find("kit:f").fingerprint()


def test_our_own_files_are_in_the_fingerprint_of_ours():
    names = {path.name for path in targets.package_files()}
    assert {"fwd_mma.cu", "online_softmax.cuh", "api.py"} <= names


def test_libraries_that_cannot_be_used_say_why():
    with pytest.raises(UsageError, match="numpy, cupy, torch"):
        library("tensorflow")
    for name, row in LIBRARIES.items():
        if reason := row.missing():
            with pytest.raises(AttnprobeError, match=name):
                library(name)
            assert len(reason) > 10


def test_memory_is_that_which_an_array_is_a_view_of():
    base = np.arange(240, dtype=np.float16).reshape(4, 5, 12)
    view = base[::-1, 1::2, 3:7]
    memory = memory_of(view)
    again = np.lib.stride_tricks.as_strided(
        memory.flat[memory.first :], view.shape, [step * 2 for step in memory.steps]
    )
    np.testing.assert_array_equal(again, view)
    assert memory.flat.size == 240


def test_memory_of_an_owner_in_another_order_is_a_copy_in_this_one() -> None:
    owner = np.asfortranarray(np.arange(12).reshape(3, 4))
    memory = memory_of(owner[1:])
    assert (memory.first, memory.steps) == (0, (4, 1))
    assert memory.flat.tolist() == owner[1:].ravel().tolist()


def test_memory_is_of_the_views_dtype_and_not_of_its_owners():
    """CuPy has no dtype for e4m3: such an array goes to it as bytes."""
    owner = np.arange(12, dtype=np.uint8).reshape(3, 4).view(ml_dtypes.float8_e4m3fn)
    memory = memory_of(owner.copy().view(np.uint8)[1:])
    assert (memory.flat.dtype, memory.first, memory.steps) == (np.uint8, 4, (4, 1))


def test_every_job_of_a_target_with_a_format_is_in_it() -> None:
    jobs = suite.select("full", dtype=find("ours:e4m3").dtype)
    assert len(jobs) > 100
    assert {job.case.dtype for job in jobs} == {"e4m3"}
    assert {job.fill for job in jobs} <= set(E4M3_FILLS)


def test_the_mma_sync_kernel_is_taken_where_the_plan_would_take_another() -> None:
    assert make_plan(make(128), HOPPER).variant.entry == "attention_fwd_wgmma"
    with find("ours:mma.sync").around():
        assert make_plan(make(128), HOPPER).variant.entry == "attention_fwd_mma"


def test_e4m3_is_judged_as_what_was_given() -> None:
    row = find("ours:e4m3")
    (job,) = suite.select("quick", cases=("causal 65 x 65",), fills=("normal",), dtype=row.dtype)
    call = job.case.call(FILLS[job.fill])
    seen: list[str] = []

    def noted(plan: Plan) -> Plan:
        seen.append(plan.variant.entry)
        return plan

    with plans_changed(noted):
        result = row.open("numpy").run(call)
    assert seen == ["attention_fwd_wgmma_fp8"]
    assert call.judge(*result).ok


@pytest.mark.gpu
def test_bytes_of_e4m3_come_and_go() -> None:
    wide = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).reshape(2, 2, 64)
    part = wide[:, :, 3:40:2]
    cupy = library("cupy")
    there = cupy.put(part)
    assert there.strides == part.strides
    np.testing.assert_array_equal(cupy.get(there), part.view(np.uint8))
