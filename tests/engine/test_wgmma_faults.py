"""Faults planted into the Hopper kernel's own text: the emulator names each one."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
import pytest

from attnprobe.arch import arch
from attnprobe.engine import launch
from attnprobe.engine.plan import make_plan
from attnprobe.engine.problem import Problem
from attnprobe.engine.wgmma import WGMMA
from attnprobe.errors import DeadlockError, EmulatorError, RaceError
from attnprobe.formats import FORMATS

ROWS_Q, ROWS_K = 200, 300  # two tiles of queries, blocks of keys enough to go round the rings
HOPPER = replace(arch(90), multiprocessors=1)


@dataclass(frozen=True)
class Fault:
    """``old`` becomes ``new`` in the kernel; the emulator must say ``what``."""

    old: str
    new: str
    kind: type[EmulatorError]
    what: str
    window: tuple[int, int] = (-1, -1)


# fmt: off
FAULTS: dict[str, Fault] = {
    "V is used before it has landed": Fault(
        "                V_ring.wait_full();\n                issue_pv(accumulate);",
        "                issue_pv(accumulate);",
        RaceError, r"wgmma that read it(.|\n)*after(.|\n)*a bulk copy that copied to it"),
    "K is loaded before it is given back": Fault(
        "            K_ring.wait_empty();\n", "",
        EmulatorError, "still reads that|still under way there|no barrier orders|more arrivals"),
    "K is given back before the product is complete": Fault(
        "                wgmma_wait_group<1>();\n",
        "                give_back_k(work);\n                wgmma_wait_group<1>();\n",
        EmulatorError, r"a bulk copy that copied to it(.|\n)*after(.|\n)*wgmma that read it"),
    "K is given back before it is known whether S is computed again": Fault(
        "                softmax.step_below(S, p.exponent_scale);\n",
        "                give_back_k(work);\n"
        "                softmax.step_below(S, p.exponent_scale);\n",
        EmulatorError, "more arrivals|no barrier orders|still under way here|"
        r"a bulk copy that copied to it(.|\n)*after(.|\n)*wgmma that read it"),
    "V is given back before the product is complete": Fault(
        "                softmax.add_sums();\n",
        "                finish_pv();\n                softmax.add_sums();\n",
        EmulatorError, r"a bulk copy that copied to it(.|\n)*after(.|\n)*wgmma that read it"),
    "P is packed while the last product reads it": Fault(
        "        wgmma_wait_group<0>();\n        finish_pv();\n"
        "        registers_change(S);\n        pack_p(P, S);\n",
        "        pack_p(P, S);\n        wgmma_wait_group<0>();\n        finish_pv();\n",
        EmulatorError, "this writes a register of a wgmma that nobody has waited for|"
        "uses a register of a wgmma"),
    "O is rescaled while it is summed": Fault(
        "                softmax.add_sums();\n",
        "                registers_change(O);\n                O[0] *= softmax.row_sum[0];\n"
        "                registers_change(O);\n                softmax.add_sums();\n",
        EmulatorError, "a register of a wgmma that nobody has waited for"),
    "each warp decides whether S is computed again": Fault(
        "searches = again = warpgroup_any(warpgroup, softmax.outgrown());",
        "searches = again = warp_id() % 4 == 0;",
        EmulatorError, "wgmma|barrier"),
    "products are not committed": Fault(
        "        product_pv(O, P, smem.V + V_ring.stage * kVBytes, accumulate);\n"
        "        wgmma_commit_group();",
        "        product_pv(O, P, smem.V + V_ring.stage * kVBytes, accumulate);",
        EmulatorError, "of a wgmma that nobody has waited for"),
    "the scores' registers are not fenced": Fault(
        "        registers_change(S);\n        wgmma_fence();\n", "        registers_change(S);\n",
        EmulatorError, "no wgmma.fence stands before the first wgmma"),
    "P and the rescaled O are not fenced": Fault(
        "        registers_change(O);\n        wgmma_fence();\n", "        registers_change(O);\n",
        EmulatorError, "no wgmma.fence stands between this and the latest access to"),
    "nobody gives V back": Fault(
        "        if (speaks) mbarrier_arrive(V_ring.empty());\n        V_ring.advance();\n    };",
        "        V_ring.advance();\n    };",
        DeadlockError, "at the mbarrier at shared address"),
    "K is loaded before the last warp gives it back": Fault(
        "Ring<kStages>::init(smem.k_ring, kConsumers * 4);",
        "Ring<kStages>::init(smem.k_ring, kConsumers * 4 - 1);",
        EmulatorError, r"a bulk copy that copied to it(.|\n)*after(.|\n)*wgmma that read it"),
    "the barrier waits for half of the bytes": Fault(
        "mbarrier_arrive_expect_tx(barrier, kRows * kPanels * kPanelRowBytes);",
        "mbarrier_arrive_expect_tx(barrier, kRows * kPanels * kPanelRowBytes / 2);",
        EmulatorError, "at the mbarrier at shared address"),
    "copies do not see the barriers": Fault(
        "        fence_mbarrier_init();\n", "",
        RaceError, "no fence.mbarrier_init or fence.proxy.async"),
    "barriers are used before all see them": Fault(
        "    __syncthreads();\n    if (warp_id() < 4)", "    if (warp_id() < 4)",
        EmulatorError, "no barrier orders that behind its mbarrier.init|is not initialised"),
    "the turn is not passed on": Fault(
        "                turns.pass_on();\n                accumulate = true;",
        "                accumulate = true;", DeadlockError, r"at barrier \d"),
    "zeros in V are not shown to the tensor core": Fault(
        "            fence_proxy_async_shared();\n", "",
        RaceError, "no fence.proxy.async between a write and wgmma", window=(50, 0)),
    "V is looked at before it has landed": Fault(
        "            mbarrier_wait(smem.v_landed + stage * 8, landed_phases >> stage & 1);\n", "",
        EmulatorError, "shared memory that nothing wrote|a bulk copy is still under way here",
        window=(50, 0)),
}
# fmt: on


def run(window: tuple[int, int], old: str = "", new: str = "") -> np.ndarray:
    """Return O of the Hopper kernel, with ``old`` replaced in its text."""
    f16 = FORMATS["f16"]
    problem = Problem(
        1, ROWS_Q, ROWS_K, 1, 1, 64, 64, f16, 0.125, window, 0.0, True, f16, f16, mappable=True
    )
    plan = make_plan(problem, HOPPER)
    assert plan.variant in WGMMA
    plan = replace(plan, variant=replace(plan.variant, turns=True))  # whose faults are looked for
    source = plan.source()
    if old:
        assert old in source.text
        source = source.replaced(old, new)
    rng = np.random.default_rng(0)
    q, k, v = (
        rng.standard_normal((1, rows, 1, 64)).astype(np.float16)
        for rows in (ROWS_Q, ROWS_K, ROWS_K)
    )
    k[0, :100] *= 8  # the last blocks that are computed: rows of O are rescaled for them
    if window != (-1, -1):
        v[0, 60, 0, 3] = np.inf  # hidden from most queries by a window
    o = np.full_like(q, np.nan)
    launch.run_emulator(plan, q, k, v, o, None, source=source, checked=True)
    return o


@pytest.mark.parametrize("window", [(-1, -1), (50, 0)])
def test_the_kernel_itself_has_no_fault(window: tuple[int, int]) -> None:
    o = run(window)
    assert not np.isnan(o).any()


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_named(name: str) -> None:
    fault = FAULTS[name]
    with pytest.raises(fault.kind) as caught:
        run(fault.window, fault.old, fault.new)
    message = str(caught.value)
    assert re.search(fault.what, message), message
    assert re.search(r"from kernels/\S+:\d+", message), message
