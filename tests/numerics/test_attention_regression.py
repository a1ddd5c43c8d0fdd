"""``attnprobe.attention`` against float64 on every case, on the emulator and on the GPU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import attnprobe
from attnprobe.engine.plan import plans_changed
from attnprobe.numerics import real
from attnprobe.numerics.cases import CASES, LAYOUTS, Case
from attnprobe.numerics.error import check_attention
from attnprobe.numerics.fills import Sizes
from attnprobe.numerics.reference import Features

CASE_FILLS = [
    pytest.param(case, fill, id=f"{case.name}-{fill}") for case in CASES for fill in case.fills
]


def run(backend, q, k, v, features):
    """Return O and LSE of ``attnprobe.attention`` on ``backend``, as NumPy arrays."""
    placed = (backend.asarray(array) for array in (q, k, v))
    O, LSE = attnprobe.attention(*placed, **features.arguments(), return_lse=True)
    return backend.asnumpy(O), backend.asnumpy(LSE)


@pytest.mark.parametrize(("case", "fill"), CASE_FILLS)
def test_attention_is_within_the_bound(case: Case, fill, xp_backend):
    inputs = case.inputs(fill)
    layout = LAYOUTS[case.layout]
    O, LSE = run(xp_backend, *(layout.place(array) for array in inputs), case.features)
    check_attention(O, LSE, *inputs, **case.features.arguments())


@pytest.mark.parametrize("layer", real.LAYERS)
def test_real_layers_are_within_the_bound(layer, xp_backend):
    q, k, v = real.layers()[layer]
    O, LSE = run(xp_backend, q, k, v, Features(causal=True))
    check_attention(O, LSE, q, k, v, causal=True)


UNSEEN = Case("window", Sizes(40, 150, 2), features=Features(window_size=(3, 20)))


@pytest.mark.parametrize("garbage", [np.nan, np.inf])
def test_keys_that_no_query_sees_change_no_bit(garbage, xp_backend):
    """Keys 0 to 106 stand before every window, some in the same key block as keys that are seen."""
    q, k, v = UNSEEN.inputs("normal")
    clean = run(xp_backend, q, k, v, UNSEEN.features)
    k[:, :107], v[:, :107] = garbage, garbage
    for want, got in zip(clean, run(xp_backend, q, k, v, UNSEEN.features), strict=True):
        np.testing.assert_array_equal(want, got)


@pytest.mark.parametrize("planted", ["q", "k", "v"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_stay_in_the_rows_that_see_them(planted, value, xp_backend):
    case = Case("causal", Sizes(80, 90, 2), features=Features(causal=True))
    inputs = dict(zip("qkv", case.inputs("normal"), strict=True))
    inputs[planted][0, 37, 0, 11] = value
    O, LSE = run(xp_backend, **inputs, features=case.features)
    check_attention(O, LSE, **inputs, **case.features.arguments())
    clean = run(xp_backend, *case.inputs("normal"), case.features)
    seeing = (
        slice(37, 38) if planted == "q" else slice(27, None)
    )  # query 27 is the first to see key 37
    spared = np.ones(80, dtype=bool)
    spared[seeing] = False
    np.testing.assert_array_equal(O[0, spared], clean[0][0, spared])
    np.testing.assert_array_equal(LSE[0, :, spared], clean[1][0, :, spared])


def test_a_row_has_the_same_bits_whatever_else_is_in_the_batch(xp_backend):
    case = Case("batch", Sizes(70, 70, 2, 1, batch=3), features=Features(causal=True))
    q, k, v = case.inputs("normal")
    together = run(xp_backend, q, k, v, case.features)
    for b in range(3):
        alone = run(xp_backend, *(array[b : b + 1] for array in (q, k, v)), case.features)
        np.testing.assert_array_equal(together[0][b], alone[0][0])
        np.testing.assert_array_equal(together[1][b], alone[1][0])


def test_layouts_change_no_bit(xp_backend):
    case = Case("layouts", Sizes(65, 70, 4, 2, batch=2))
    inputs = case.inputs("outliers")
    results, rows = {}, {}

    def seen(plan):
        rows[name] = plan.variant
        return plan

    for name, layout in LAYOUTS.items():
        with plans_changed(seen):
            arrays = [layout.place(array) for array in inputs]
            results[name] = run(xp_backend, *arrays, case.features)
    # An array that TMA cannot read goes to another kernel on Hopper, whose P is rounded elsewhere.
    first = {rows[name]: name for name in reversed(LAYOUTS)}
    assert len(first) < len(LAYOUTS) - 1
    for name, (O, LSE) in results.items():
        np.testing.assert_array_equal(O, results[first[rows[name]]][0], err_msg=name)
        np.testing.assert_array_equal(LSE, results[first[rows[name]]][1], err_msg=name)


def test_the_check_sees_a_wrong_feature():
    """The same case with another mask is refused: the check compares with what was asked for."""
    case = next(case for case in CASES if case.name == "causal 65 x 65")
    inputs = case.inputs("normal")
    backend = type("Backend", (), {"asarray": staticmethod(lambda a: a), "asnumpy": np.asarray})
    O, LSE = run(backend, *inputs, case.features)
    with pytest.raises(AssertionError):
        check_attention(O, LSE, *inputs, **replace(case.features, causal=False).arguments())
