"""Faults planted into the text of the Hopper kernel for e4m3: the emulator names each one."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import ml_dtypes
import numpy as np
import pytest

from attnprobe.arch import arch
from attnprobe.engine import launch
from attnprobe.engine.plan import make_plan
from attnprobe.engine.problem import Problem
from attnprobe.engine.wgmma8 import WGMMA8
from attnprobe.errors import DeadlockError, EmulatorError, RaceError, ToleranceError
from attnprobe.formats import FORMATS
from attnprobe.numerics.error import check_attention

ROWS_Q, ROWS_K = 200, 600  # two tiles of queries, blocks of keys enough to go round the rings
HOPPER = replace(arch(90), multiprocessors=1)
E4M3 = ml_dtypes.float8_e4m3fn


@dataclass(frozen=True)
class Fault:
    """``old`` becomes ``new`` in the kernel; the emulator, or the bound, must say ``what``."""

    old: str
    new: str
    kind: type[Exception]
    what: str
    window: tuple[int, int] = (-1, -1)
    negative: bool = False  # whether every score is to be less than 0
    positive: int = 0  # but for the first so many keys, which come last
    head_dim: int = 64  # of 128 the tile computes blocks in pairs


# fmt: off
FAULTS: dict[str, Fault] = {
    "V is transposed before it has landed": Fault(
        "        V_ring.wait_full();\n        // Lane 0 gives", "        // Lane 0 gives",
        EmulatorError, "still under way|nothing wrote|more arrivals|no barrier orders"),
    "V^T is written while it is read": Fault(
        "        Vt_ring.wait_empty();\n", "",
        EmulatorError, "wgmma that read it|no barrier orders|more arrivals"),
    "V^T is not shown to the tensor core": Fault(
        "        fence_proxy_async_shared();\n        warp_sync();", "        warp_sync();",
        RaceError, "no fence.proxy.async between a write and wgmma"),
    "V^T is used before it is there": Fault(
        "                Vt_ring.wait_full();\n                issue_pv(P, Stage(Vt_ring));",
        "                issue_pv(P, Stage(Vt_ring));",
        EmulatorError, "no barrier orders|nothing wrote|no fence.proxy.async"),
    "V^T is used before it is there, in a pair": Fault(
        "        Vt.wait_full();\n        issue_pv(P, Vt);", "        issue_pv(P, Vt);",
        EmulatorError, "no barrier orders|nothing wrote|no fence.proxy.async", head_dim=128),
    "K is used before it is there, in a pair": Fault(
        "        K.wait_full();\n        issue_qk(K);", "        issue_qk(K);",
        EmulatorError, "no barrier orders|nothing wrote|still under way", head_dim=128),
    "both blocks of a pair take the same stage": Fault(
        "        ring.advance();\n        second = Stage(ring);", "        second = Stage(ring);",
        EmulatorError, "at the mbarrier|no barrier orders|more arrivals|still under way",
        head_dim=128),
    "pairs do not count the rounds of their stages": Fault(
        "                            Vt.advance();\n", "",
        EmulatorError, "no barrier orders|nothing wrote|no fence.proxy.async|mbarrier",
        head_dim=128),
    "a pair begins before the first block that all queries see whole": Fault(
        "if (work.block < work.blocks.end_whole && work.block - 2 >= first_plain) {",
        "if (work.block - 2 >= first_plain - 2 && work.block >= 2) {",
        EmulatorError, "at the mbarrier at shared address|more arrivals", head_dim=128),
    "a warp that has outgrown its maximum waits for itself": Fault(
        "        softmax.powers<0, kHead>(P_next, sums, S, work.exponent_scale);\n",
        "        if (follows) wgmma_wait_group<0>();\n"
        "        softmax.powers<0, kHead>(P_next, sums, S, work.exponent_scale);\n",
        EmulatorError, "have not executed the same wgmma.wait_group", head_dim=128),
    "a warpgroup without rows keeps V^T": Fault(
        "                let_pass(Vt_ring, speaks);\n", "",
        DeadlockError, "at the mbarrier at shared address"),
    "small tiles leave rows out": Fault(
        "whole * kWhole + m * warpgroups * kRows", "whole * kWhole + (m + 1) * warpgroups * kRows",
        ToleranceError, "elements over the bound"),
    "V is given back before it is read": Fault(
        "        const u32_t nonfinite = transpose_share<false>(V_smem, Vt_smem, warp);",
        "        if (lane_id() == 0) mbarrier_arrive(V_ring.empty());\n"
        "        const u32_t nonfinite = transpose_share<false>(V_smem, Vt_smem, warp);",
        EmulatorError, "a bulk copy|more arrivals"),
    "nobody says that there is no more": Fault(
        "    st_shared(smem.notes + V_ring.stage * 4, kNoMore);\n"
        "    mbarrier_arrive(V_ring.full());\n",
        "", DeadlockError, "at the mbarrier at shared address"),
    "only one of two warps says that V^T is there": Fault(
        "Ring<kVtStages>::init(smem.vt_ring, kConsumers * 4, kTransposers);",
        "Ring<kVtStages>::init(smem.vt_ring, kConsumers * 4, 1);",
        EmulatorError, "at the mbarrier at shared address|no barrier orders|nothing wrote"),
    "keys of V^T stand in their own order": Fault(
        "byte_perm(r[i], r[i + 1], 0x6420)", "byte_perm(r[i], r[i + 1], 0x6240)",
        ToleranceError, "elements over the bound"),
    "even and odd columns are exchanged": Fault(
        "group * 8 + i % 2 * 4 + r * 2 + i / 2", "group * 8 + i / 2 * 4 + r * 2 + i % 2",
        ToleranceError, "elements over the bound"),
    "P is taken without its offset, the LSE with it": Fault(
        "static constexpr float kOffset = 8.0f, kSlack = 0.75f;",
        "static constexpr float kOffset = 8.0f, kSlack = 4.0f;",
        ToleranceError, "elements over the bound"),
    "O is not made smaller when the maximum grows": Fault(
        "        return true;\n    }\n\n    // P of S, words",
        "        return false;\n    }\n\n    // P of S, words",
        ToleranceError, "elements over the bound"),
    "no lane asks whether its row has outgrown its maximum": Fault(
        "if (!vote_any(first | second)) return false;", "return false;",
        ToleranceError, "elements over the bound"),
    "a negative maximum is compared as bits": Fault(
        "most < 0.0f ? 0 : __float_as_uint(most) + 1", "__float_as_uint(most) + 1",
        ToleranceError, "elements over the bound", negative=True, positive=200),
    "a row's maximum is that of one lane": Fault(
        "bits[r] = quad_max_s32(lane_max_bits(S, r))", "bits[r] = lane_max_bits(S, r)",
        ToleranceError, "elements over the bound"),
    "bits of negative scores are compared as integers": Fault(
        "if (vote_any(bits[0] < 0 || bits[1] < 0)) {", "if (false) {",
        ToleranceError, "elements over the bound", negative=True),
    "a NaN that a window hides is multiplied by 0": Fault(
        "const bool found = note == kAtEdge && vote_any(nonfinite != 0);",
        "const bool found = false;",
        ToleranceError, "elements over the bound", (50, 0)),
}
# fmt: on


def run(
    window: tuple[int, int],
    old: str = "",
    new: str = "",
    *,
    negative: bool = False,
    positive: int = 0,
    head_dim: int = 64,
) -> None:
    """Judge O of the kernel with ``old`` replaced in its text."""
    e4m3, bf16 = FORMATS["e4m3"], FORMATS["bf16"]
    sizes = (1, ROWS_Q, ROWS_K, 1, 1, head_dim, head_dim)
    problem = Problem(
        *sizes,
        e4m3,
        head_dim**-0.5,
        window,
        0.0,
        True,
        e4m3,
        bf16,
        mappable=True,
        diagonal=ROWS_K - ROWS_Q,
    )
    plan = make_plan(problem, HOPPER)
    assert plan.variant in WGMMA8
    source = plan.source()
    if old:
        assert old in source.text
        source = source.replaced(old, new)
    rng = np.random.default_rng(0)
    q, k, v = (
        rng.standard_normal((1, rows, 1, head_dim)).astype(np.float32)
        for rows in (ROWS_Q, ROWS_K, ROWS_K)
    )
    k[0, :400] *= 2  # in the order of blocks the maximum grows
    k[0, :200] *= 2
    if negative:
        q, k = np.abs(q), -np.abs(k)
        k[0, :positive] *= -1
    if window != (-1, -1):
        v[0, 450, 0, 3] = np.nan  # hidden from most queries by a window
    q, k, v = (x.astype(E4M3) for x in (q, k, v))
    o = np.full(q.shape, np.nan, ml_dtypes.bfloat16)
    lse = np.full((1, 1, ROWS_Q), np.nan, np.float32)
    launch.run_emulator(plan, q, k, v, o, lse, source=source, checked=True)
    check_attention(o, lse, q, k, v, window_size=window)


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize(("window", "head_dim"), [((-1, -1), 64), ((50, 0), 64), ((-1, -1), 128)])
def test_the_kernel_itself_has_no_fault(
    window: tuple[int, int], head_dim: int, negative: bool
) -> None:
    run(window, negative=negative, head_dim=head_dim)


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_named(name: str) -> None:
    fault = FAULTS[name]
    with pytest.raises(fault.kind) as caught:
        run(
            fault.window,
            fault.old,
            fault.new,
            negative=fault.negative,
            positive=fault.positive,
            head_dim=fault.head_dim,
        )
    message = str(caught.value)
    assert re.search(fault.what, message), message
    if issubclass(fault.kind, EmulatorError):
        assert re.search(r"from kernels/\S+:\d+", message), message
