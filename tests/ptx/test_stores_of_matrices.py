# ruff: noqa: E501
"""stmatrix and movmatrix by their rows, and clusters of one block."""

from __future__ import annotations

import numpy as np
import pytest

from attnprobe import layouts
from attnprobe.backends.emulator import EmulatorBackend
from attnprobe.errors import RaceError
from attnprobe.probing import definition, session
from attnprobe.probing.report import MATCH
from tests.ptx.hopper import run

MOVES = [
    (row, definition.find(f"{row.family}_layout"))
    for row in layouts.rows("stmatrix", "movmatrix")
    if row.runs_on(90)
]


@pytest.mark.parametrize(("row", "question"), MOVES, ids=lambda item: getattr(item, "ptx", ""))
def test_the_probes_find_what_the_rows_say(
    row: layouts.Instruction, question: definition.Question
) -> None:
    assert session.ask(row, question, EmulatorBackend()).verdict == MATCH


STORE = 'ASM("stmatrix.sync.aligned.m8n8.x1.shared.b16 [%0], {%1};" :: "r"(at + lane % 8 * 16), "r"(lane));\n'


def test_rows_that_are_stored_are_written_by_the_warp() -> None:
    out = np.zeros(128, np.uint32)
    run(
        STORE + "__syncthreads(); out[t] = box[t % 32];",
        [out, out],
        threads=64,
        ready="if (warp == 1) { __syncthreads(); out[t] = box[t % 32]; return; }",
    )
    assert (out[32:64] == np.arange(32)).all()
    with pytest.raises(RaceError, match="race: no barrier orders two accesses"):
        run(STORE, [out, out], threads=64)


def test_a_block_is_a_cluster_of_its_own() -> None:
    code = """
    u32 rank, count, number, there;
    asm volatile("mov.u32 %0, %%cluster_ctarank; mov.u32 %1, %%cluster_nctarank; mov.u32 %2, %%clusterid.x;" : "=r"(rank), "=r"(count), "=r"(number));
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(at), "r"(rank));
    out[blockIdx.x * 4] = rank; out[blockIdx.x * 4 + 1] = count; out[blockIdx.x * 4 + 2] = number; out[blockIdx.x * 4 + 3] = there == at;"""
    out = np.zeros(12, np.uint32)
    run(code, [out, out], threads=32, grid=3, ready="")
    assert out.reshape(3, 4).tolist() == [[0, 1, 0, 1], [0, 1, 1, 1], [0, 1, 2, 1]]
