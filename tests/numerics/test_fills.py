"""The fills are what their rows say, the same for one seed; the real layers are the model's."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from attnprobe.errors import UsageError
from attnprobe.formats import FORMATS
from attnprobe.numerics import real, reference
from attnprobe.numerics.fills import FILLS, Sizes, fill
from attnprobe.numerics.fills_plain import activations, on_nvfp4, on_q4, on_q8
from attnprobe.numerics.fills_scores import MARGINS
from attnprobe.numerics.oracle import CHECKS

HASHES = Path(__file__).resolve().parent.parent / "recorded" / "fill_hashes.json"

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


def test_the_encoders_layers_are_small_and_whole():
    layers = real.load(real.MINILM)
    assert tuple(layers) == (0, 5)
    for arrays in layers.values():
        assert all(array.shape == (1, 53, 12, 32) for array in arrays)
        assert all(1 < np.abs(array).max() < 20 for array in arrays)
    q, k, v = FILLS["real_minilm"](Sizes(53, 53, 12, 12, 32), np.float16, seed=1)
    for got, want in zip((q, k, v), layers[5], strict=True):
        np.testing.assert_array_equal(got, want)


def probabilities(q, k, v, **features):
    """P of head 0, float64 (seqlen_q, seqlen_k), and its scores."""
    asked = reference.Features(**features)
    head = next(reference.heads(q, k, v))
    rows = reference.softmax(head, asked.seen(head), asked)
    return rows.probabilities, rows.scores


def test_peaked_rows_are_won_by_their_margin():
    q, k, v = FILLS["peaked"](Sizes(40, 200), np.float16)
    _, scores = probabilities(q, k, v)
    ordered = np.sort(scores, axis=1)
    margins = ordered[:, -1] - ordered[:, -2]
    np.testing.assert_allclose(margins, np.resize(MARGINS, 40), rtol=2e-3)


@pytest.mark.parametrize("seqlen_k", [50, 1000])
def test_the_sink_takes_seven_tenths(seqlen_k):
    q, k, v = FILLS["sink"](Sizes(400, seqlen_k, head_dim=128), np.float16)
    mass = probabilities(q, k, v)[0][:, 0]
    assert abs(np.median(mass) - 0.7) < 0.03
    assert 0.5 < mass.min() < mass.max() < 0.9


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_rising_maxima_step_just_under_and_over_powers_of_two(dtype):
    """Each row's maxima of 16, 32, 64 or 128 keys rise by one step, eight times, up or down."""
    q, k, v = FILLS["rising"](Sizes(160, 9 * 128), dtype)
    _, scores = probabilities(q, k, v)
    found = set()
    for row in scores / np.log(2):
        # The first key of each 16 stands on the level; levels change where a tile begins.
        leaders = row[::16]
        steps = np.diff(leaders)
        moved = np.flatnonzero(np.abs(steps) > 2**-6)
        assert len(moved) == 8, moved
        tile = 16 * (moved[1] - moved[0])
        np.testing.assert_allclose(steps[moved], steps[moved[0]], rtol=2e-3)
        exponent = np.round(np.log2(abs(steps[moved[0]])))
        over = abs(steps[moved[0]]) > 2**exponent
        assert abs(abs(steps[moved[0]]) / 2**exponent - 1) < 2**-7
        found.add((int(tile), int(exponent), bool(over), bool(steps[moved[0]] > 0)))
        assert (np.delete(row, np.arange(0, len(row), 16)).max()) < leaders.max()
    assert {tile for tile, *_ in found} == {16, 32, 64, 128}
    assert {exponent for _, exponent, *_ in found} == set(range(-3, 7))
    assert {(over, up) for *_, over, up in found} == {(a, b) for a in (0, 1) for b in (0, 1)}


@pytest.mark.parametrize(
    ("name", "level"), [("scores_minus_100", -100), ("scores_plus_1000", 1000)]
)
def test_scores_are_where_the_row_says(name, level):
    q, k, v = FILLS[name](Sizes(30, 60, head_dim=128), np.float16)
    _, scores = probabilities(q, k, v)
    assert abs(scores.mean() - level) < 0.01 * abs(level)
    assert 0.5 < scores.std() < 1.5


def test_one_hot_output_names_the_key():
    sizes = Sizes(40, 150)
    q, k, v = FILLS["one_hot"](sizes, np.float16)
    P, _ = probabilities(q, k, v)
    assert (P.max(axis=1) == 1).all()
    O = reference.attention(q, k, v).o[0, :, 0]
    channel, value = O.argmax(axis=1), O.max(axis=1)
    np.testing.assert_array_equal((value - 1) * 64 + channel, P.argmax(axis=1))


def test_half_of_the_winning_keys_are_seen_under_a_causal_mask():
    q, k, v = FILLS["one_hot"](Sizes(100, 100), np.float16)
    winners = probabilities(q, k, v)[0].argmax(axis=1)
    assert 0.5 < (winners <= np.arange(100)).mean() < 0.9


def test_grids_have_few_values_in_a_block():
    rng = np.random.default_rng(1)
    values = activations(rng, (50, 64))
    for change, block, most in ((on_nvfp4, 16, 15), (on_q4, 32, 16), (on_q8, 32, 255)):
        blocks = change(values).reshape(-1, block)
        assert all(len(set(row.tolist())) <= min(most, block) for row in blocks)
        step = {on_nvfp4: 0.3, on_q4: 0.15, on_q8: 0.01}[change]
        greatest = np.abs(values.reshape(-1, block)).max(axis=1)
        error = np.abs(blocks - values.reshape(-1, block)).max(axis=1)
        assert (error <= step * greatest).all()
        assert error.max() > 0


def test_extremes_reach_the_ends_of_the_format():
    q, k, v = FILLS["extremes"](Sizes(30, 60), np.float16)
    assert set(np.abs(q).ravel().tolist()) == {65504.0}
    assert 0 < np.abs(k[k != 0]).min() == 2.0**-24
    assert np.abs(v).max() == 65504.0
    assert np.abs(probabilities(q, k, v)[1]).max() < 20


def test_fills_have_the_same_bits_everywhere():
    """Hashes of all fills at one size: another machine or NumPy must draw the same numbers."""
    found = {}
    for name, row in FILLS.items():
        arrays = row(Sizes(20, 40, 4, 2, 32, batch=2), np.float16, seed=7)
        data = b"".join(array.tobytes() for array in arrays)
        found[name] = hashlib.sha256(data).hexdigest()[:12]
    kept = json.loads(HASHES.read_text(encoding="utf-8"))
    assert found == kept


def test_every_row_says_what_it_is_and_what_it_shows():
    for name, row in FILLS.items():
        assert row.name == name
        assert row.what
        assert row.why
        assert row.formats
        assert set(row.checks) <= {check.name for check in CHECKS}
    assert len({row.why for row in FILLS.values()}) == len(FILLS)


def test_an_unknown_fill_is_answered_with_those_that_there_are():
    with pytest.raises(UsageError, match="near_uniform, normal, outliers, "):
        fill("uniform")
