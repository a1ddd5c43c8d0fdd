"""The table of ex2.approx: correct rounding against decimals, the packed file, the rule's ends."""

from __future__ import annotations

from decimal import Decimal, getcontext

import numpy as np
import pytest

from attnprobe.ptx import exact_ex2


def correctly_rounded(f: int) -> int:
    """Return the bits of 2**(f / 2**23) by 60-digit decimals."""
    getcontext().prec = 60
    value = Decimal(2) ** (Decimal(f) / Decimal(2**23))
    return 0x3F800000 + int(((value - 1) * 2**23).to_integral_value(rounding="ROUND_HALF_EVEN"))


def test_the_powers_are_correctly_rounded() -> None:
    found = exact_ex2.rounded()
    products = np.exp2(np.arange(exact_ex2.SIZE) / exact_ex2.SIZE)
    rest = np.abs((products.view(np.int64) & (1 << 29) - 1) - (1 << 28))
    nearest_to_a_middle = np.argsort(rest)[:40]
    anywhere = np.random.default_rng(0).integers(0, exact_ex2.SIZE, 200)
    for f in [0, 1, exact_ex2.SIZE - 1, *nearest_to_a_middle.tolist(), *anywhere.tolist()]:
        assert int(found[f]) == correctly_rounded(f), f


def test_packing_keeps_every_difference() -> None:
    differences = np.random.default_rng(1).integers(-1, 2, 100_000).astype(np.int8)
    assert (exact_ex2.unpack(exact_ex2.pack(differences)) == differences).all()


@pytest.fixture
def all_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact_ex2, "_installed", {})
    exact_ex2.install(np.zeros(exact_ex2.SIZE, np.int8))


@pytest.mark.usefixtures("all_rounded")
@pytest.mark.parametrize(
    ("x", "result"),
    [
        (0.0, 1.0),
        (-0.0, 1.0),
        (1.0, 2.0),
        (-1.0, 0.5),
        (127.0, 2.0**127),
        (128.0, np.inf),
        (3e38, np.inf),
        (np.inf, np.inf),
        (-126.0, 2.0**-126),
        (-126.00001, 0.0),
        (-3e38, 0.0),
        (-np.inf, 0.0),
        (2.0**-24, 1.0),
        (-(2.0**-24), 1.0),
    ],
)
def test_the_rule_at_its_ends(x: float, result: float) -> None:
    assert exact_ex2.ex2_f32(np.float32([x]))[0] == np.float32(result)


@pytest.mark.usefixtures("all_rounded")
def test_a_negative_argument_looks_up_the_complement_of_its_fraction() -> None:
    """-2**-23 * 1.5 is cut to one step, whose complement is two steps below 0."""
    x = np.float32([-1.5 * 2.0**-23])
    assert exact_ex2.fixed_point(x).tolist() == [-2]
    assert exact_ex2.ex2_f32(x).view(np.uint32)[0] == exact_ex2.rounded()[-2] - (1 << 23)


def test_nan_is_the_canonical_nan(all_rounded: None) -> None:
    x = np.uint32([0x7F800001, 0xFFC12345]).view(np.float32)
    assert exact_ex2.ex2_f32(x).view(np.uint32).tolist() == [0x7FFFFFFF] * 2
