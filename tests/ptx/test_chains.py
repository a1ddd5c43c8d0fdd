# ruff: noqa: E501
"""Chains of products that are summed at once give what the single products would, wherever they are cut."""

from __future__ import annotations

import numpy as np
import pytest

from attnprobe import layouts, ptx
from attnprobe.ptx import fused
from tests.ptx.harness import kernel, run

_ROW = layouts.find("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32")
_DECLARE = ".reg .b32 t, a<16>, b<16>; .reg .f32 c<32>, d<32>, x; .reg .b64 p, w; .reg .pred q;"


def product(d: int, a: int, b: int, c: int) -> str:
    """Return one mma on registers numbered from d, a, b, c."""
    groups = [[f"{name}{start + i}" for i in range(count)] for name, start, count in
              (("d", d, 4), ("a", a, 4), ("b", b, 2), ("d", c, 4))]  # fmt: skip
    return f"{_ROW.ptx} {', '.join('{' + ', '.join(group) + '}' for group in groups)};"


def results(code: str, used: int) -> np.ndarray:
    """Run products on small whole numbers and return registers d0 ... of all lanes."""
    loads = ["mov.u32 t, %tid.x; ld.param.u64 p, [in]; mul.wide.u32 w, t, 128; add.u64 p, p, w;"]
    loads += [
        f"ld.global.b32 a{i}, [p+{4 * i}]; ld.global.b32 b{i}, [p+{4 * i + 64}];" for i in range(16)
    ]
    loads += [
        f"cvt.rn.f32.u32 d{i}, t; add.f32 d{i}, d{i}, 0f{np.float32(i).view(np.uint32):08X};"
        for i in range(32)
    ]
    stores = [f"ld.param.u64 p, [out]; mul.wide.u32 w, t, {4 * used}; add.u64 p, p, w;"]
    stores += [f"st.global.f32 [p+{4 * i}], d{i};" for i in range(used)]
    values = np.random.default_rng(4).integers(-3, 4, (64, 64)).astype(np.float16)
    out = np.zeros((64, used), np.float32)
    text = kernel("\n".join([*loads, code, *stores]), ".param .u64 in, .param .u64 out", _DECLARE)
    run(text, [values, out], block=(64,))
    return out


_CODES = {
    "a chain": [product(0, 0, 0, 0), product(0, 4, 2, 0), product(0, 8, 4, 0)],
    "tiles that share A": [product(4 * n, 4 * k, 2 * n + k, 4 * n) for k in range(3) for n in range(4)],
    "tiles that share A and B": [
        product(4 * (2 * m + n), 4 * (m + k), 2 * n + k, 4 * (2 * m + n))
        for k in range(2) for m in range(2) for n in range(2)
    ],
    "read in between": [product(0, 0, 0, 0), "add.f32 x, d1, d2;", product(0, 4, 2, 0), "mov.f32 d9, x;"],
    "an old value is read later": [product(0, 0, 0, 4), product(8, 4, 2, 0), "add.f32 d20, d1, d9;"],
    "moved in between": [
        product(0, 0, 0, 0), *(f"mov.f32 d{i + 12}, d{i};" for i in range(4)), product(12, 4, 2, 12)],
    "moved in another order": [
        product(0, 0, 0, 0), *(f"mov.f32 d{i + 12}, d{3 - i};" for i in range(4)), product(12, 4, 2, 12)],
    "across blocks": [product(0, 0, 0, 0), "bar.sync 0;", product(0, 4, 2, 0)],
    "a loop": ["mov.u32 t, 0; L:", product(0, 0, 0, 0), product(4, 4, 0, 0),
               "add.u32 t, t, 1; setp.lt.u32 q, t, 3; @q bra L; mov.u32 t, %tid.x;"],
    "operands overwritten": [product(0, 0, 0, 0), "mov.b32 a1, b9; mov.b32 b0, a7;", product(0, 0, 0, 0)],
    "D from another C": [product(0, 0, 0, 4), product(8, 0, 2, 4), product(4, 4, 0, 0)],
    "guarded": ["setp.ne.u32 q, 1, 2;", product(0, 0, 0, 0), "@q " + product(0, 4, 2, 0)],
}  # fmt: skip


@pytest.mark.parametrize("name", _CODES)
def test_a_chain_is_the_sum_of_its_products(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "\n".join(_CODES[name])
    together = results(code, 24)
    assert np.abs(together).max() > 10
    monkeypatch.setattr("attnprobe.ptx.ops.matrix.fusible", lambda row: False)
    monkeypatch.setattr("attnprobe.ptx.program._LOADED", type(ptx.program._LOADED)())
    alone = results(code, 24)
    np.testing.assert_array_equal(together, alone)  # whole numbers: every order gives the same


def test_only_float32_chains_are_summed_at_once() -> None:
    kinds = {
        row["C"].format.name for row in layouts.rows() if row.family == "mma" and fused.fusible(row)
    }
    assert kinds == {"f32"}
