"""The faults that the diagnosis knows: one row each."""

from __future__ import annotations

from attnprobe.numerics.diagnosis import fragments, keys, outputs, softmaxes
from attnprobe.numerics.diagnosis.models import Fault

FAULTS: tuple[Fault, ...] = (
    Fault("nan_swallowed", "NaN is lost", outputs.nan_swallowed),
    Fault("nan_spread", "NaN or infinity where none belongs", outputs.nan_spread),
    Fault("zero_output", "O is zero, or rows of it were not written", outputs.zero),
    Fault("rows_exchanged", "rows i and i ^ 8 (or another step) exchanged", outputs.rows_exchanged),
    Fault("rows_shifted", "every row is its neighbour's", outputs.rows_shifted),
    Fault("columns_exchanged", "columns of O exchanged", outputs.columns_exchanged),
    Fault("columns_missing", "columns of O zero, or repeated", outputs.columns_missing),
    Fault("kv_head", "a head reads the wrong K/V head", outputs.another_kv_head),
    Fault("head", "what stands in a head is another head's", outputs.another_head),
    Fault("batch", "O, K or V of another batch", outputs.another_batch),
    Fault("q_fragment", "Q's fragment: quarters, halves, pointer, rows", fragments.q_fragment),
    Fault("k_fragment", "K's fragments: quarters, halves, order of keys", fragments.k_fragment),
    Fault("p_repack", "P handed to the second product in the wrong order", fragments.p_fragment),
    Fault("v_fragment", "V's fragments: quarters, halves, not transposed", fragments.v_fragment),
    Fault("v_shifted", "keys meet the wrong rows of V", fragments.v_shifted),
    Fault("k_shifted", "keys have the wrong rows of K", fragments.k_shifted),
    Fault("channels", "channels missing or doubled in Q K^T", fragments.channels_missing),
    Fault("mask_edge", "the causal mask or the window off by one", keys.mask_edge),
    Fault("mask", "a mask missing, misaligned, or skipped in edge tiles", keys.mask_missing),
    Fault("mask_of_others", "rows or keys masked as others are", keys.mask_of_others),
    Fault("no_key", "rows with no key have a mean of V", keys.no_key),
    Fault("tail", "columns past the last key score 0", keys.tail_counted),
    Fault("key", "the first or last key missing or doubled", keys.key_dropped),
    Fault("tile", "a tile of keys missing or counted twice", keys.tile_counted_wrong),
    Fault("loop_bound", "each tile of queries misses an edge tile", keys.last_seen_tile_missing),
    Fault("stale", "K or V of another tile or page", keys.stale_tile),
    Fault("scale", "the scale twice, missing, in another base", softmaxes.scale_wrong),
    Fault(
        "feature", "softcap, ALiBi, bias or sinks missing or misplaced", softmaxes.feature_ignored
    ),
    Fault("rescale", "O or the sum not rescaled, or by other rows", softmaxes.rescale_missing),
    Fault("normaliser", "O not divided by the sum, or twice", softmaxes.normaliser),
    Fault("sum_of_lanes", "the sum of a row lacks lanes", softmaxes.sum_of_some_lanes),
    Fault("splits", "splits of the keys badly combined", softmaxes.weights_of_splits),
    Fault("lse", "LSE in another base, or without its maximum or sum", softmaxes.lse_wrong),
    Fault("scale_off", "the scale off by some percent", softmaxes.scale_off),
    Fault("factor", "O times a number", softmaxes.factor_of_all, fitted=1),
    Fault(
        "factor_of_rows", "each row times a number of its own", softmaxes.factor_of_rows, fitted=2
    ),
)
