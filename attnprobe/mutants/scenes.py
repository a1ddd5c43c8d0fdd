"""The scenes on which mutants are seen: a small problem each, with a tile of its own.

A kernel's text is the same whatever its tile; small tiles cut a short problem into several blocks
of queries and keys, so that every step of the loops is taken and the emulator is quick. The scene
of the first faults keeps the shape of the test that let them through, and the plan's own tile.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.mutants.mutant import DECODE_KERNEL, HOPPER_KERNEL
from attnprobe.mutants.scene import FAR_APART, OLD_SIZES, HopperTile, Scene, Tile
from attnprobe.mutants.staging import appended, halves, of_bytes
from attnprobe.numerics.calls import Pages
from attnprobe.numerics.cases import Case
from attnprobe.numerics.fills import Sizes
from attnprobe.numerics.reference import Features

_SEED = 7


def _numbers(*shape: int) -> npt.NDArray[Any]:
    return np.random.default_rng(_SEED).standard_normal(shape)


def _bias(dtype: Any, rows: int = 40, keys: int = 52) -> npt.NDArray[Any]:
    """N(0, 4) for two heads, with one in eight keys hidden, the last key often."""
    bias = 2.0 * _numbers(2, rows, keys)
    hidden = np.random.default_rng(_SEED + 1).random(bias.shape) < 0.125
    hidden[:, ::2, -1] = True
    return np.where(hidden, -np.inf, bias).astype(dtype)


def _window(left: int, right: int) -> Features:
    return Features(window_size=(left, right))


# head_dim 32 keeps the unrolled code short; "story", "wide" and "odd_width" have other widths.
_PLAIN = Sizes(70, 100, 2, 1, 32)
_HEADS = Sizes(40, 70, 4, 2, 32, batch=2)
_PAIR = Sizes(40, 70, 2, 1, 32, batch=2)
_SHORT = Sizes(40, 70, 2, 1, 32)
_LENGTHS_ASIDE = Sizes(0, 0, 2, 1, 32)
_CAUSAL = Features(causal=True)
_SLOPES = Features(alibi_slopes=np.array([[0.5, 0.06], [0.02, 0.3]]))
# Bias and mask are read element by element, which is slow on the emulator: a smaller problem.
_PLANES, _PLANE_TILE = Sizes(40, 52, 2, 1, 32), Tile(32, 16, 2)
# Lengths of packed sequences: one without keys, one without queries, one longer than a tile.
_LENGTHS = ((23, 41), (70, 75), (0, 9), (12, 0), (1, 33))
_QUERIES = ((20, 41), (20, 75), (20, 33))
_MANY = tuple((1 + i % 3, 2 + i % 5) for i in range(36))  # more than the lanes of a warp

# Few queries: the decode kernel, a tile of 16 rows, three splits of the keys.
_FEW = Sizes(3, 150, 4, 2, 32, batch=2)
_FEW_LENGTHS = ((2, 41), (2, 75), (2, 110))
_DECODE_TILE = Tile(16, 16, 2, stages=2)


# The Hopper kernel: two blocks compute all tiles, of 64 queries and 32 keys; where two warpgroups
# compute, one block does.
_TILES = Sizes(70, 70, 2, 1, 64)
_SIDES = Features(causal=True, q_offset=-5)
_ROTATED_LENGTHS = ((3, 41), (3, 75), (3, 110))


def _hopper(what: str, case: Case, out_layout: str = "contiguous", **tile: Any) -> Scene:
    return Scene(what, case, out_layout, HopperTile(**tile), HOPPER_KERNEL)


def _split(what: str, case: Case, num_splits: int = 3) -> Scene:
    return Scene(what, case, tile=_DECODE_TILE, kernel=DECODE_KERNEL, num_splits=num_splits)


# fmt: off
_ROWS: tuple[Scene, ...] = (
    Scene("the shape of the test that let the first faults through",
          Case("story", OLD_SIZES), tile=None),
    Scene("four blocks of keys with a tail, two of queries", Case("plain", _PLAIN)),
    Scene("more keys than queries, masked by the diagonal",
          Case("causal", _PLAIN, features=_CAUSAL)),
    Scene("causal, and the first 30 queries see no key",
          Case("no_keys", Sizes(70, 40, 2, 1, 32), features=_CAUSAL)),
    Scene("a chunk of 40 queries that stands at 25",
          Case("offset", _SHORT, features=Features(causal=True, q_offset=25))),
    Scene("a window of 20 keys back and 9 ahead",
          Case("window", Sizes(90, 110, 2, 1, 32), features=_window(20, 9))),
    Scene("a window of 40 keys back, open ahead",
          Case("window_back", Sizes(70, 140, 2, 1, 32), features=_window(40, -1))),
    Scene("a boolean mask for each head",
          Case("mask", _PLANES, features=Features(mask=_numbers(2, 40, 52) > -1.0)),
          tile=_PLANE_TILE),
    Scene("two batch entries, four query heads on two", Case("heads", _HEADS)),
    Scene("V half as wide as K", Case("widths", Sizes(40, 70, 4, 2, 32, batch=2, v_head_dim=16))),
    Scene("arrays with the heads outside", Case("heads_first", _HEADS, layout="heads_first")),
    Scene("rows, heads and columns with gaps between them", Case("gaps", _HEADS, layout="gaps")),
    Scene("O with gaps between rows, heads and columns", Case("out_gaps", _HEADS), "gaps"),
    Scene("rows that start at odd elements",
          Case("unaligned", _PAIR, layout="unaligned"), "unaligned"),
    Scene("two batch entries of Q more than 2^31 elements apart",
          Case(FAR_APART, Sizes(40, 40, 2, 1, 32, batch=2))),
    Scene("head_dim 256", Case("wide", Sizes(40, 40, head_dim=256)), tile=Tile(32, 16, 2)),
    Scene("head_dim 80: copies do not fill whole rows of threads",
          Case("odd_width", Sizes(40, 70, head_dim=80)), tile=Tile(32, 16, 2)),
    Scene("rows of K two panels long, rows of V one",
          Case("panels", Sizes(40, 70, head_dim=80, v_head_dim=32))),
    Scene("two blocks share the columns of O", Case("parts", _SHORT), tile=Tile(v_parts=2)),
    Scene("bfloat16", Case("bf16", _SHORT, "bf16")),
    Scene("two warps share rows, and go through the keys apart from others",
          Case("pairs", Sizes(70, 230, 2, 1, 32), features=_CAUSAL),
          tile=Tile(64, 32, 4, sharers=2, apart=True)),
    Scene("two warps share rows, all warps together",
          Case("pairs_together", Sizes(70, 100, 2, 1, 32)), tile=Tile(64, 32, 4, sharers=2)),
    Scene("blocks of keys in two parts",
          Case("key_parts", Sizes(70, 200, 2, 1, 32), features=_CAUSAL),
          tile=Tile(64, 64, 2, parts=2)),
    Scene("blocks of keys by bulk copies: two batch entries, four query heads on two, causal",
          Case("bulk", Sizes(70, 110, 4, 2, 32, batch=2), features=_CAUSAL),
          tile=Tile(bulk=True)),
    Scene("the same, and two warps share rows, and drift apart from others",
          Case("bulk_pairs", Sizes(70, 230, 2, 1, 32), features=_CAUSAL),
          tile=Tile(64, 32, 4, sharers=2, bulk=True, meets=False)),
    Scene("blocks of keys by bulk copies, two panels each",
          Case("bulk_panels", Sizes(40, 100, head_dim=80)), tile=Tile(32, 16, 2, bulk=True)),
    Scene("blocks of keys by bulk copies out of packed sequences",
          Case("bulk_varlen", _LENGTHS_ASIDE, lengths=_LENGTHS), tile=Tile(bulk=True)),
    Scene("softcap on large scores, causal",
          Case("softcap", _PLAIN, features=Features(0.5, True, softcap=5.0))),
    Scene("slopes of their own for two batch entries and two heads",
          Case("alibi", _PAIR, features=_SLOPES)),
    Scene("a bias for each head, in 16 bits, with -inf",
          Case("bias", _PLANES, features=Features(bias=_bias(np.float16))), tile=_PLANE_TILE),
    Scene("a bias for each head, in 32 bits, with -inf",
          Case("bias_f32", _PLANES, features=Features(bias=_bias(np.float32))), tile=_PLANE_TILE),
    Scene("a bias for each head, of an odd number of keys",
          Case("bias_odd", Sizes(40, 51, 2, 1, 32),
               features=Features(bias=_bias(np.float16, 40, 51))), tile=_PLANE_TILE),
    Scene("a mask for each head, and no block of keys that a window or the end cuts",
          Case("mask_whole", Sizes(40, 48, 2, 1, 32),
               features=Features(mask=_numbers(2, 40, 48) > -1.0)), tile=_PLANE_TILE),
    Scene("a bias and a mask for each head",
          Case("planes_both", _PLANES,
               features=Features(bias=_bias(np.float32), mask=_numbers(2, 40, 52) > -1.0)),
          tile=_PLANE_TILE),
    Scene("a sink for each head", Case("sinks", _PLAIN, features=Features(sinks=(3.0, 6.0)))),
    Scene("a softmax scale for each head",
          Case("head_scales", _PLAIN, features=Features((0.1, 0.3)))),
    Scene("a negative softmax scale with a softcap",
          Case("negative", _PLAIN, features=Features(-0.2, softcap=9.0))),
    Scene("packed sequences, two of them empty on one side",
          Case("varlen", _LENGTHS_ASIDE, lengths=_LENGTHS)),
    Scene("packed sequences, causal",
          Case("varlen_causal", _LENGTHS_ASIDE, features=_CAUSAL, lengths=_LENGTHS)),
    Scene("more packed sequences than a warp has lanes",
          Case("varlen_many", _LENGTHS_ASIDE, lengths=_MANY)),
    Scene("a cache in pages of 16 tokens, in disorder",
          Case("paged", _LENGTHS_ASIDE, features=_CAUSAL, lengths=_QUERIES, pages=Pages(16))),
    Scene("a cache in pages of 5 tokens, in disorder",
          Case("paged_odd", _LENGTHS_ASIDE, lengths=_QUERIES, pages=Pages(5))),
    Scene("a cache in one piece with a length for each sequence",
          Case("cache", _LENGTHS_ASIDE, lengths=_QUERIES, pages=Pages(0))),
    _split("three queries, their keys in three parts", Case("decode", _FEW)),
    _split("three queries, the keys in one part", Case("decode_whole", _FEW), 1),
    _split("three queries, causal, in more parts than there are tiles of keys",
           Case("decode_causal", Sizes(3, 70, 4, 2, 32, batch=2), features=_CAUSAL), 9),
    _split("three queries with sinks, their keys in more parts than are combined at once",
           Case("decode_parts", Sizes(3, 1100, 2, 1, 32), features=Features(sinks=(3.0, 4.0))), 67),
    _split("more blocks than the emulator runs at once",
           Case("decode_waves", Sizes(1, 64, 40, 20, 16, batch=5)), 2),
    _split("four queries against three keys: one sees none",
           Case("decode_no_keys", Sizes(4, 3, 4, 2, 32), features=_CAUSAL), 2),
    _split("three queries with a sink for each head",
           Case("decode_sinks", _FEW, features=Features(sinks=(3.0, 6.0, 1.0, 4.0)))),
    _split("two queries against a cache in pages of 5 tokens",
           Case("decode_paged", _LENGTHS_ASIDE, features=_CAUSAL, lengths=_FEW_LENGTHS,
                pages=Pages(5)), 1),
    _hopper("two tiles of queries to a head, the last one short", Case("hopper", _TILES)),
    _hopper("two warpgroups that take turns, more stages of Q and of keys",
            Case("hopper_turns", Sizes(140, 100, 1, 1, 64)), consumers=2, q_stages=2, stages=3),
    _hopper("two blocks, two batch entries, four query heads on two",
            Case("hopper_heads", Sizes(64, 40, 4, 2, 64, batch=2))),
    _hopper("causal, more keys than queries: tiles of different lengths, heads in three groups",
            Case("hopper_causal", Sizes(70, 80, 5, 1, 64), features=_CAUSAL)),
    _hopper("causal, and the first 80 queries see no key",
            Case("hopper_no_keys", Sizes(150, 70, 1, 1, 64), features=_CAUSAL)),
    _hopper("a window of 23 keys back and 9 ahead: V is looked at before it is used",
            Case("hopper_window", Sizes(100, 120, 1, 1, 64), features=_window(23, 9))),
    _hopper("rows of Q and K two panels long, rows of V one",
            Case("hopper_panels", Sizes(70, 70, 1, 1, 128, v_head_dim=64))),
    _hopper("rows of V two panels long, of Q and K one and a half",
            Case("hopper_wide_v", Sizes(70, 70, 1, 1, 80, v_head_dim=128))),
    _hopper("two warpgroups under a window: each lets the blocks pass that the other alone sees",
            Case("hopper_passes", Sizes(290, 300, 1, 1, 64), features=_window(40, 0)),
            consumers=2, passes=True),
    _hopper("packed sequences, causal, two of them empty on one side",
            Case("hopper_packed", Sizes(0, 0, 2, 1, 64), features=_CAUSAL,
                 lengths=((70, 41), (75, 60), (0, 9), (12, 0)))),
    _hopper("packed queries, keys in pages of 48 tokens",
            Case("hopper_paged", Sizes(0, 0, 2, 1, 64),
                 lengths=((40, 55), (66, 70)), pages=Pages(48))),
    _hopper("softcap on large scores and slopes, causal",
            Case("hopper_softcap", Sizes(70, 90, 1, 1, 64),
                 features=Features(0.5, True, softcap=5.0, alibi_slopes=np.array([0.3])))),
    _hopper("a bias for each head, in 16 bits, with -inf, that lanes read",
            Case("hopper_bias", _TILES, features=Features(bias=_bias(np.float16, 70, 70)))),
    _hopper("a bias for each head, in 16 bits, with -inf, in tiles",
            Case("hopper_bias_tile", Sizes(70, 104, 2, 1, 64),
                 features=Features(bias=_bias(np.float16, 70, 104)))),
    _hopper("a mask for each head, and no block of keys that a window or the end cuts",
            Case("hopper_mask", Sizes(70, 64, 2, 1, 64),
                 features=Features(mask=_numbers(2, 70, 64) > -1.0))),
    _hopper("a sink for each head, bfloat16",
            Case("hopper_sinks", Sizes(70, 70, 2, 1, 64), "bf16",
                 Features(sinks=(3.0, 6.0)))),
    _hopper("O at odd elements, one block of keys",
            Case("hopper_out_unaligned", Sizes(70, 30, 1, 1, 64)),
            "unaligned"),
    _split("three queries, K and V in e4m3",
           Case("decode_e4m3", Sizes(3, 70, 4, 2, 48, batch=2, v_head_dim=32))),
    _split("three queries, K and V in e4m3, bfloat16",
           Case("decode_e4m3_bf16", Sizes(3, 70, 4, 2, 48, v_head_dim=32), "bf16")),
    _split("three queries, K and V in int8",
           Case("decode_int8", Sizes(3, 70, 4, 2, 32, batch=2, v_head_dim=48))),
    _split("three queries, K and V in int8, bfloat16",
           Case("decode_int8_bf16", Sizes(3, 70, 4, 2, 32), "bf16")),
    _split("three keys appended to pages of 5 tokens, half of each row rotated",
           Case("append", _LENGTHS_ASIDE, features=_CAUSAL, lengths=_ROTATED_LENGTHS,
                pages=Pages(5)), 1),
    _split("three keys appended to a cache in one piece, pairs beside each other rotated",
           Case("append_interleaved", Sizes(0, 0, 4, 2, 32, v_head_dim=16), "bf16", _CAUSAL,
                lengths=_ROTATED_LENGTHS, pages=Pages(0)), 1),
    _split("three keys appended in e4m3",
           Case("append_e4m3", Sizes(0, 0, 4, 2, 32), features=_CAUSAL, lengths=_ROTATED_LENGTHS,
                pages=Pages(16)), 1),
    _split("three keys appended in int8",
           Case("append_int8", Sizes(0, 0, 4, 2, 32), features=_CAUSAL, lengths=_ROTATED_LENGTHS,
                pages=Pages(16)), 1),
    Scene("two sides merged; some queries see none of one side, or of both",
          Case("merge", Sizes(40, 60, 2, 1, 80, batch=2), features=_SIDES)),
    Scene("two sides merged in float32",
          Case("merge_f32", Sizes(40, 60, 2, 1, 34, batch=2), features=_SIDES)),
)
# fmt: on
# What is called is not the case's own call.
_STAGED = {
    "decode_e4m3": of_bytes("e4m3"),
    "decode_e4m3_bf16": of_bytes("e4m3"),
    "decode_int8": of_bytes("int8"),
    "decode_int8_bf16": of_bytes("int8"),
    "append": appended(3, 16),
    "append_interleaved": appended(3, 32, interleaved=True),
    "append_e4m3": appended(3, 32, kv_format="e4m3"),
    "append_int8": appended(3, 16, kv_format="int8"),
    "merge": halves(15),
    "merge_f32": halves(15, np.float32),
}
SCENES: dict[str, Scene] = {
    row.name: replace(row, staged=_STAGED.get(row.name, row.staged)) for row in _ROWS
}
