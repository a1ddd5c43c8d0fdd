"""Model cases keep what can break when they are made small, and stand on the tile edges."""

from __future__ import annotations

import numpy as np
import pytest

from attnprobe.engine.variants import VARIANTS
from attnprobe.numerics.fills import FILLS
from attnprobe.numerics.model_cases import FULL, OFFSETS, SMALL
from attnprobe.numerics.model_shapes import MOST_GROUP, SHAPES, small
from attnprobe.numerics.plain import Plain

BY_NAME = {shape.name: shape for shape in SHAPES}


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_small_shape_keeps_ratios_widths_features_and_edges(shape):
    less = small(shape)
    kept = ("head_dim", "v_head_dim", "softcap", "sinks", "causal", "layout", "tiles")
    assert [getattr(less, name) for name in kept] == [getattr(shape, name) for name in kept]
    assert less.group == min(shape.group, MOST_GROUP)
    assert less.num_kv_heads == min(shape.num_kv_heads, 2)
    assert less.length <= shape.length
    assert less.length // less.edge == 2
    assert bool(less.window) == bool(shape.window)
    if shape.window:
        assert less.window % less.edge == shape.window % shape.edge
        assert less.window < less.length  # so that the window hides something
        assert shape.window < shape.length
    assert small(less) == less


def test_lengths_stand_around_the_edges_of_a_tile_that_a_kernel_has():
    tiles = {row.block_m for row in VARIANTS} | {row.block_n for row in VARIANTS}
    for cases in (FULL, SMALL):
        for case in cases:
            shape = BY_NAME[case.name.split(",")[0]]
            assert shape.edge in tiles
            offset = int(case.name.split("edge ")[1].split(",")[0])
            ends = [n for _, n in case.lengths] or [case.sizes.seqlen_k]
            edges = {*shape.tiles, shape.edge, 16}
            # All but the sequence of one key, and the half of a packed batch.
            near = [n for n in ends if any((n - offset) % tile == 0 for tile in edges)]
            assert len(near) >= max(1, len(ends) - 2), case.name
    offsets = {int(case.name.split("edge ")[1].split(",")[0]) for case in SMALL}
    assert offsets == set(OFFSETS)


def test_small_and_full_cases_are_pairs():
    assert [case.name + ", small" for case in FULL] == [case.name for case in SMALL]
    assert len({case.name for case in FULL}) == len(FULL) > 80
    for full, less in zip(FULL, SMALL, strict=True):
        assert full.entry == less.entry
        assert full.layout == less.layout
        assert set(full.features.arguments()) == set(less.features.arguments())
    scores = [case.sizes.seqlen_q * case.sizes.seqlen_k * case.sizes.num_heads for case in SMALL]
    assert max(scores) < 3e6


@pytest.mark.parametrize("case", SMALL[1::8], ids=lambda case: case.name)
def test_sound_results_pass(case):
    call = case.call(FILLS["normal"])
    assert call.judge(*Plain().run(call.entry, call.arguments())).ok


def test_a_case_with_sinks_has_them_for_every_head():
    case = next(case for case in SMALL if case.name.startswith("GPT-OSS-20B window, decode"))
    assert np.shape(case.features.sinks) == (case.sizes.num_heads,) == (16,)
    assert case.features.window_size == (127, 0)
