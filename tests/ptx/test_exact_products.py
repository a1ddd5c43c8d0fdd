"""Exact products against a slow oracle in rational arithmetic, for every row that has them."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from attnprobe import layouts
from attnprobe.errors import UnsupportedError
from attnprobe.layouts import Instruction
from attnprobe.probing import tiles, warpgroup_arithmetic
from attnprobe.ptx import exact_kinds, exact_plan
from tests.ptx import product_oracle as oracle

Array = npt.NDArray[Any]

ROWS = [row for row in layouts.rows() if row.family == "mma" and exact_kinds.known(row)]
GROUPS = [warpgroup_arithmetic.twin(row) for row in warpgroup_arithmetic.rows()]


def kind(row: Instruction) -> tuple[str | bool, ...]:
    """Return what makes an arithmetic: the types, without the shapes and the signs of integers."""
    a, b, d = (row[name].format.ptx for name in "ABD")
    return row.family, a, b if b[0] == "e" else "", d, "satfinite" in row.ptx, "xor" in row.ptx


KINDS = list({kind(row): row for row in (*ROWS, *GROUPS)}.values())
ELEMENTS = 24  # of each regime that are worked out by hand


def element(row: Instruction, a: list[int], b: list[int], c: int) -> int:
    """Return one element of D by the oracle."""
    form_a, form_b, out = (row[name].format.ptx for name in "ABD")
    if out == "s32":
        return integer(row, a, b, c)
    if out == "f64":
        return oracle.fma_chain(a, b, c)
    emin = -133 if out == "f32" else -21
    if form_a in ("e4m3", "e5m2") and row.family == "wgmma":
        return oracle.step(a, b, c, (form_a, form_b, out), 13, emin, short=True)
    if form_a in ("e4m3", "e5m2"):
        total = 0
        for half in ((0, 1), (2, 3)):
            k = [i for i in range(len(a)) if i % 4 in half]
            forms = (form_a, form_b, out)
            total = oracle.step([a[i] for i in k], [b[i] for i in k], total, forms, 25, emin)
        return oracle.add(total, c, out)
    return oracle.step(a, b, c, (form_a, form_b, out), 25, emin)


def integer(row: Instruction, a: list[int], b: list[int], c: int) -> int:
    def value(bits: int, form: str) -> int:
        width = int(form[1:])
        return bits - (1 << width) if form[0] == "s" and bits >> width - 1 else bits

    form_a, form_b = row["A"].format.ptx, row["B"].format.ptx
    total = value(c, "s32")
    for x, y in zip(a, b, strict=True):
        if form_a == "b1":
            total += x ^ y if "xor" in row.ptx else x & y
        else:
            total += value(x, form_a) * value(y, form_b)
    if "satfinite" in row.ptx:
        total = min(max(total, -(2**31)), 2**31 - 1)
    return total % 2**32


def chosen_elements(row: Instruction, regime: str, tile_count: int) -> list[tuple[int, int, int]]:
    rng = np.random.default_rng(zlib.crc32(f"{row.ptx}{regime}".encode()))
    m, n, _ = row.shape
    picked = rng.integers(0, (tile_count, m, n), (ELEMENTS, 3))
    return [(int(t), int(i), int(j)) for t, i, j in picked]


@pytest.mark.parametrize("row", KINDS, ids=lambda row: row.ptx)
def test_every_bit_is_the_oracle_s(row: Instruction) -> None:
    for regime in tiles.regimes(row):
        a, b, c = tiles.make(row, regime, 0, 40)
        d = exact_plan.tiles(row, a, b, c)
        for t, i, j in chosen_elements(row, regime, len(a)):
            expected = element(row, a[t, i].tolist(), b[t, :, j].tolist(), int(c[t, i, j]))
            actual = int(d[t, i, j])
            where = f"{regime}, tile {t}, [{i}, {j}]: {actual:#x}, the oracle says {expected:#x}"
            assert actual == expected, where


@pytest.mark.parametrize("field", ["fraction", "block"])
def test_a_wrong_parameter_shows_in_the_bits(field: str) -> None:
    row = layouts.find("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32")
    right = exact_kinds.arithmetic(row)
    assert isinstance(right, exact_kinds.Floats)
    value = {"fraction": 24, "block": 8}[field]
    wrong = replace(right, rule=replace(right.rule, **{field: value}))
    a, b, c = tiles.make(row, "wide", 0, 50)
    differing = exact_plan.multiplied(wrong, a, b, c) != exact_plan.tiles(row, a, b, c)
    assert differing.mean() > 0.02


def test_k_is_cut_into_the_blocks_of_the_chip() -> None:
    """c = 2**24 and sixteen products of 0.75: every block of 8 loses its 6 or keeps part of it."""
    row = layouts.find("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32")
    a = np.full((1, 16, 16), np.float16(0.75).view(np.uint16))
    b = np.full((1, 16, 8), np.float16(1).view(np.uint16))
    c = np.full((1, 16, 8), np.float32(2.0**24).view(np.uint32))
    gains = {
        cc: exact_plan.tiles(row, a, b, c, cc).view(np.float32)[0, 0, 0] - 2.0**24
        for cc in (80, 90)
    }
    assert gains == {80: 0.0, 90: 8.0}


def test_what_is_not_known_to_the_bit_is_refused() -> None:
    row = layouts.find("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32")
    with pytest.raises(UnsupportedError, match="no arithmetic is known for sm_75"):
        exact_kinds.arithmetic(row, 75)
    load = next(item for item in layouts.rows() if item.family == "ldmatrix")
    with pytest.raises(UnsupportedError, match="not known to the bit"):
        exact_kinds.arithmetic(load)
