"""griddepcontrol: what a launch beside the one before it may do, and when."""

from __future__ import annotations

import numpy as np
import pytest

from attnprobe.errors import MemoryFault, RaceError
from tests.ptx.cuda import run_cuda

WAIT = 'asm volatile("griddepcontrol.wait;" ::: "memory");'
GO = 'asm volatile("griddepcontrol.launch_dependents;" ::: "memory");'
ASK = 'asm volatile("cp.async.bulk.prefetch.L2.global [%0], {};" :: "l"(x + {}) : "memory");'
_KERNEL = """
#line 1 "test/kernel.cu"
extern "C" __global__ void k(const int *x, int *y) {{
    __shared__ alignas(16) int copied[64];
    const int t = threadIdx.x;
    {body}
}}"""
SUM = "y[t] = x[t] + 1;"
COPY = (
    'asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" :: "r"(smem(copied + t)), "l"(x + t));'
)
LAND = 'asm volatile("cp.async.wait_all;" ::: "memory");'


def run(body: str, *, dependent: bool = True, **options: bool) -> np.ndarray:
    x, y = np.arange(64, dtype=np.int32), np.full(64, -1, np.int32)
    run_cuda(_KERNEL.format(body=body), [x, y], block=(64,), dependent=dependent, **options)
    return y


SOUND = {
    "first of all": WAIT + SUM,
    "and dependents at once": WAIT + GO + SUM,
    "behind what is in shared memory": f"copied[t] = 1; {WAIT} y[t] = x[t] + copied[t];",
    "on every way": f"if (t < 40) {{ {WAIT} {SUM} }} else {{ {WAIT} {SUM} }}",
    "behind a hint": ASK.format(256, 0) + WAIT + SUM,
    "twice": WAIT + SUM + WAIT,
}
EARLY = {
    "a read": f"const int own = x[t]; {WAIT} y[t] = own + 1;",
    "a write": f"y[t] = 0; {WAIT} {SUM}",
    "an atomic operation": f"atomicAdd(y + t, 1); {WAIT}",
    "a copy": f"{COPY} {WAIT} {LAND} y[t] = copied[t];",
    "no wait at all": SUM,
    "a read on one way": f"if (t < 40) {{ {WAIT} }} y[t] = x[t] + 1; {WAIT}",
    "dependents": GO + WAIT + SUM,
}


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("name", SOUND)
def test_behind_the_wait_all_may_be_touched(name: str, checked: bool) -> None:
    assert np.array_equal(run(SOUND[name], checked=checked), np.arange(64) + 1)


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("name", EARLY)
def test_what_comes_before_the_wait_is_found(name: str, checked: bool) -> None:
    with pytest.raises(RaceError, match=r"no griddepcontrol\.wait comes before this") as caught:
        run(EARLY[name], checked=checked)
    message = str(caught.value)
    assert "warp" in message
    assert "test/kernel.cu:" in message


def test_threads_that_end_without_a_wait_are_found() -> None:
    with pytest.raises(RaceError, match=r"ends without griddepcontrol\.wait") as caught:
        run(f"if (t >= 40) return; {WAIT} {SUM}")
    assert "warp 1, lanes 8-31" in str(caught.value)


@pytest.mark.parametrize("name", EARLY)
def test_a_launch_that_begins_behind_the_one_before_need_not_wait(name: str) -> None:
    run(EARLY[name], dependent=False)


@pytest.mark.parametrize(("size", "first"), [(272, 0), (16, 64), (16, -4)])
def test_a_hint_names_bytes_of_an_array(size: int, first: int) -> None:
    with pytest.raises(MemoryFault, match="array 0"):
        run(ASK.format(size, first) + WAIT + SUM)


def test_a_hint_names_whole_chunks() -> None:
    with pytest.raises(MemoryFault, match="misaligned"):
        run(ASK.format(8, 0) + WAIT + SUM)
