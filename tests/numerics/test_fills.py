"""The fills are what their rows say, the same for one seed; the real layers are the model's."""

from __future__ import annotations

import numpy as np
import pytest

from attnprobe.errors import UsageError
from attnprobe.formats import FORMATS
from attnprobe.numerics import real, reference
from attnprobe.numerics.fills import FILLS, Sizes, fill

SIZES = Sizes(50, 200, 6, 2, 128, batch=2)


@pytest.mark.parametrize("name", FILLS)
def test_a_fill_has_the_asked_shape_and_dtype_and_repeats_by_seed(name):
    fill = FILLS[name]
    dtype = FORMATS[fill.formats[-1]].dtype
    first, again = (fill(SIZES, dtype, seed=3) for _ in range(2))
    shapes = (SIZES.q_shape, SIZES.k_shape, SIZES.v_shape)
    for a, b, shape in zip(first, again, shapes, strict=True):
        assert a.shape == shape
        assert a.dtype == dtype
        assert a.tobytes() == b.tobytes()
    assert fill.nonfinite != all(np.isfinite(a.astype(float)).all() for a in first)
    other = fill(SIZES, dtype, seed=4)
    assert any((a != b).any() for a, b in zip(first, other, strict=True))
    assert (first[1] != first[2]).any()


def test_near_uniform_rows_of_the_result_look_alike():
    """The reason that it is a bad example: swap any two rows and nothing is seen."""
    q, k, v = FILLS["near_uniform"](Sizes(128, 128), np.float16)
    O = reference.attention(q, k, v).o[0, :, 0]
    assert np.ptp(O, axis=0).max() < 1e-3
    q, k, v = FILLS["normal"](Sizes(128, 128), np.float16)
    O = reference.attention(q, k, v).o[0, :, 0]
    assert np.ptp(O, axis=0).min() > 0.1


def test_outliers_are_rare_and_large():
    q, _, _ = FILLS["outliers"](Sizes(2000, 1), np.float16)
    large = np.abs(q.astype(float)) > 6
    assert 0.0002 < large.mean() < 0.001


def test_real_fill_starts_with_the_layer_and_its_own_shape_is_the_layer():
    q, k, v = FILLS["real"](Sizes(96, 96, 9, 3), np.float16, seed=2)
    for got, want in zip((q, k, v), real.layers()[15], strict=True):
        np.testing.assert_array_equal(got, want)


def test_real_layers_are_those_of_the_model():
    layers = real.layers()
    assert tuple(layers) == real.LAYERS == (0, 9, 15, 21, 29)
    greatest = 0.0
    for q, k, v in layers.values():
        assert (q.shape, k.shape, v.shape) == ((1, 96, 9, 64), (1, 96, 3, 64), (1, 96, 3, 64))
        assert q.dtype == k.dtype == v.dtype == np.float16
        assert not q.flags.writeable
        scores = (
            np.einsum("bihd,bjhd->bhij", *(a.astype(float) for a in (q, np.repeat(k, 3, 2)))) / 8
        )
        greatest = max(greatest, np.abs(scores[:, :, np.tri(96, dtype=bool)]).max())
    assert 10 < greatest < 40


def test_an_unknown_fill_is_answered_with_those_that_there_are():
    with pytest.raises(UsageError, match="near_uniform, normal, outliers, "):
        fill("uniform")
