"""One element of D written out: facts of the manual, and sums over registers that are right."""

from __future__ import annotations

import numpy as np
import pytest

from attnprobe import layouts
from attnprobe.errors import UsageError
from attnprobe.layouts.lookup import Held
from attnprobe.layouts.questions.dot import dot

M = "mma.sync.aligned."
F16 = M + "m16n8k16.row.col.f32.f16.f16.f32"
SPARSE = "mma.sp.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32"


def places(held: tuple[Held, ...]) -> list[tuple[int, int, int]]:
    return [(each.lane, each.register, each.part) for each in held]


def test_the_last_element_of_m16n8k16() -> None:
    """D[15][7] is c3 of lane 31; row 15 of A is a1 and a3 of lanes 28 to 31."""
    found = dot(F16, (15, 7))
    assert places(found.d) == places(found.c) == [(31, 3, 0)]
    assert [places(term.a)[0] for term in found.terms] == [
        (28 + k % 8 // 2, 1 + 2 * (k // 8), k % 2) for k in range(16)
    ]
    assert [places(term.b[0])[0] for term in found.terms] == [
        (28 + k % 8 // 2, k // 8, k % 2) for k in range(16)
    ]


@pytest.mark.parametrize(
    "ptx",
    [
        F16,
        M + "m16n8k32.row.col.f32.e4m3.e4m3.f32",
        M + "m16n8k64.row.col.s32.s4.s4.s32",
        M + "m16n8k8.row.col.f64.f64.f64.f64",
    ],
)
def test_the_sum_over_registers_is_the_product_of_the_matrices(ptx: str) -> None:
    row = layouts.find(ptx)
    m, n, k = row.shape
    rng = np.random.default_rng(0)
    a, b = rng.integers(-4, 4, (m, k)), rng.integers(-4, 4, (k, n))
    held = {"A": row["A"].fragment.gather(a), "B": row["B"].fragment.gather(b)}

    def value(each: Held) -> int:
        element = row[each.operand].element(each.register, each.part)
        return int(held[each.operand][each.lane, element])

    for at in ((0, 0), (m - 1, n - 1), (3, 5)):
        found = dot(ptx, at)
        assert [term.k for term in found.terms] == [(each,) for each in range(k)]
        total = sum(value(term.a[0]) * value(term.b[0][0]) for term in found.terms)
        assert total == (a @ b)[at]


def test_a_sparse_a_names_the_k_that_the_metadata_choose_from() -> None:
    found = dot(SPARSE, (0, 0))
    assert len(found.terms) == 16
    assert [term.k for term in found.terms[:4]] == [(0, 1, 2, 3)] * 2 + [(4, 5, 6, 7)] * 2
    assert all(len(term.b) == 4 for term in found.terms)


def test_a_pair_of_4_bit_elements_keeps_its_order() -> None:
    found = dot("mma.sp.sync.aligned.m16n8k64.row.col.s32.s4.s4.s32", (0, 0))
    assert [term.k for term in found.terms[:4]] == [
        (0, 2, 4, 6), (1, 3, 5, 7), (0, 2, 4, 6), (1, 3, 5, 7)
    ]  # fmt: skip


def test_each_quad_pair_of_m8n8k4_sums_in_matrices_of_its_own() -> None:
    """Quad pair 2 is lanes 8 to 11 and 24 to 27; the manual gives it products of its own."""
    found = dot(M + "m8n8k4.row.col.f32.f16.f16.f32", (2, 5, 3))
    lanes = {each.lane for term in found.terms for held in (term.a, *term.b) for each in held}
    assert lanes | {found.d[0].lane} <= {8, 9, 10, 11, 24, 25, 26, 27}
    assert {term.a[0].position[:2] for term in found.terms} == {(2, 5)}
    assert [term.b[0][0].position for term in found.terms] == [(2, k, 3) for k in range(4)]


def test_a_b_in_shared_memory_has_no_holder() -> None:
    found = dot("wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 with a in registers", (63, 7))
    assert places(found.d) == [(127, 3, 0)]
    assert found.c == ()
    assert all(term.b == () and len(term.a) == 1 for term in found.terms)


@pytest.mark.parametrize(
    ("ptx", "at", "message"),
    [
        (F16, (16, 0), "16,0 is outside operand D: m is 0 to 15, n is 0 to 7"),
        ("ldmatrix.sync.aligned.m8n8.x4.shared.b16", (0, 0), "is no product"),
        (F16, (0, 0, 0), "is no position of operand D; give m,n"),
    ],
)
def test_what_has_no_sum_is_refused(ptx: str, at: tuple[int, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        dot(ptx, at)
