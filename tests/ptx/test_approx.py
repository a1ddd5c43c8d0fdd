"""ex2 follows the hardware's rule; the other approximations are within a unit of the truth."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, getcontext

import numpy as np
import pytest

from tests.ptx.harness import evaluate

getcontext().prec = 60


def bits(values: np.ndarray) -> list[int]:
    return [int(x) for x in np.asarray(values, np.float32).view(np.uint32)]


def floats(raw: list[int]) -> np.ndarray:
    return np.array(raw, np.uint32).view(np.float32)


def _rule(x: float) -> float:
    """The measured rule, in integers and decimals; the table is correct rounding."""
    steps = int(abs(Decimal(x)) * (1 << 23))
    fixed = steps if x >= 0 else (-steps if steps % (1 << 23) == 0 else -steps - 1)
    fraction, whole = fixed % (1 << 23), fixed >> 23
    mantissa = np.float32(float(Decimal(2) ** (Decimal(fraction) / (1 << 23))))
    value = float(mantissa) * 2.0**whole
    return 0.0 if value < 2.0**-126 else value


def test_ex2_follows_the_measured_rule() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate(
        [
            rng.uniform(-130, 127.9, 300),
            rng.normal(size=200) * 2.0 ** rng.integers(-28, 6, 200),
            np.arange(-128, 128),
            [-0.0, 2.0**-30, -(2.0**-30), 2.0**-23, -(2.0**-23), -(2.0**-24), 1 - 2.0**-24],
        ]
    ).astype(np.float32)
    got = floats(evaluate("ex2.approx.ftz.f32 d, a;", "f32", ["f32"], [bits(x)]))
    expected = np.array([_rule(float(value)) for value in x], np.float32)
    np.testing.assert_array_equal(got.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("ftz", [".ftz", ""])
def test_ex2_at_the_edges(ftz: str) -> None:
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 128, 1000, -200, 1e-40], np.float32)
    got = floats(evaluate(f"ex2.approx{ftz}.f32 d, a;", "f32", ["f32"], [bits(x)]))
    np.testing.assert_array_equal(
        got, np.array([1, 1, np.inf, 0, np.nan, np.inf, np.inf, 0, 1], np.float32)
    )
    (small,) = floats(
        evaluate(f"ex2.approx{ftz}.f32 d, a;", "f32", ["f32"], [bits(np.array([-130.0]))])
    )
    assert small == (0 if ftz else np.float32(2.0**-130))


@pytest.mark.parametrize(
    ("text", "function", "low", "high"),
    [
        ("lg2.approx.f32", np.log2, 1e-20, 1e20),
        ("rcp.approx.ftz.f32", lambda x: 1 / x, 1e-20, 1e20),
        ("rsqrt.approx.f32", lambda x: 1 / np.sqrt(x), 1e-20, 1e20),
        ("sqrt.approx.f32", np.sqrt, 1e-20, 1e20),
        ("sin.approx.f32", np.sin, -3, 3),
        ("cos.approx.f32", np.cos, -3, 3),
        ("tanh.approx.f32", np.tanh, -4, 4),
    ],
)
def test_within_a_unit_of_the_true_value(
    text: str, function: Callable[[np.ndarray], np.ndarray], low: float, high: float
) -> None:
    rng = np.random.default_rng(1)
    x = (
        np.exp(rng.uniform(np.log(low), np.log(high), 256))
        if low > 0
        else rng.uniform(low, high, 256)
    ).astype(np.float32)
    got = floats(evaluate(f"{text} d, a;", "f32", ["f32"], [bits(x)]))
    true = function(x.astype(np.float64))
    assert (np.abs(got - true) <= np.spacing(np.abs(true).astype(np.float32))).all()


def test_edges_of_the_others() -> None:
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -1, 1e-40], np.float32)
    cases = {
        "lg2.approx.ftz.f32": [-np.inf, -np.inf, np.inf, np.nan, np.nan, np.nan, -np.inf],
        "rcp.approx.ftz.f32": [np.inf, -np.inf, 0, -0.0, np.nan, -1, np.inf],
        "rsqrt.approx.ftz.f32": [np.inf, -np.inf, 0, np.nan, np.nan, np.nan, np.inf],
        "sqrt.approx.ftz.f32": [0, -0.0, np.inf, np.nan, np.nan, np.nan, 0],
    }
    for text, expected in cases.items():
        got = floats(evaluate(f"{text} d, a;", "f32", ["f32"], [bits(x)]))
        np.testing.assert_array_equal(got, np.array(expected, np.float32), err_msg=text)


@pytest.mark.parametrize("kind", ["f16x2", "bf16x2"])
@pytest.mark.parametrize(("name", "function"), [("ex2.approx", np.exp2), ("tanh.approx", np.tanh)])
def test_packed_functions_round_the_true_value(
    kind: str, name: str, function: Callable[[np.ndarray], np.ndarray]
) -> None:
    ftz = ".ftz" if kind == "bf16x2" and name == "ex2.approx" else ""
    x = (
        np.random.default_rng(3)
        .normal(size=(64, 2))
        .astype(np.float16 if kind == "f16x2" else np.float32)
    )
    if kind == "f16x2":
        raw = x.view(np.uint32)[:, 0]
    else:
        halves = (x.view(np.uint32) >> 16).astype(np.uint16)
        raw, x = halves.view(np.uint32)[:, 0], (halves.astype(np.uint32) << 16).view(np.float32)
    got = np.array(
        evaluate(f"{name}{ftz}.{kind} d, a;", kind, [kind], [[int(r) for r in raw]]), np.uint32
    )
    pairs = got.view(np.uint16).reshape(64, 2)
    result = (
        pairs.view(np.float16)
        if kind == "f16x2"
        else (pairs.astype(np.uint32) << 16).view(np.float32)
    )
    true = function(x.astype(np.float64))
    relative = 2.0 ** (-11 if kind == "f16x2" else -8)
    assert (np.abs(result - true) <= np.abs(true) * relative * 1.01).all()
