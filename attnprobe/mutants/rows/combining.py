"""Mutants of the end of decode: the last block of a tile is found, and combines its splits."""

from __future__ import annotations

from functools import partial

from attnprobe.mutants.mutant import DECODE_KERNEL, Edit, Mutant

_decode = partial(Mutant, family="splits", kernel=DECODE_KERNEL)

_WEIGHT = "weights[i] = ex2_approx((LSE[i] - shift) * kLog2e);"
_MERGED = "const float merged = sum == 0.0f ? -infinity() : top + logf(sum);"
_SINK = "if (target < 0) sum += ex2_approx((p.sinks[row.at.head] - shift) * kLog2e);"
_LANDED = (
    "if (end < here) { cp_async_wait_group<1>(); } else { cp_async_wait_group<0>(); } "
    "__syncwarp(); // every lane's copies are visible"
)
_FACTOR = "const float factor = shfl_idx(own, part % kWarpSize + j);"
_LAST = "before == static_cast<u64_t>(expected - 1);"
_ADD = "atom.acq_rel.gpu.global.add.u64 %0"
_OPENED = "if (threadIdx.x == 0) found.open(p, parts, split);"
_RANGE = "count = min(kParts, p.num_splits - first);"
_BASE_FIELD = "SGLang #40903: splits merged with LSE of another base"

COMBINING: tuple[Mutant, ...] = (
    _decode(
        "combine_equal_weights",
        "splits are averaged as if each had the same share",
        (Edit(_WEIGHT, "weights[i] = LSE[i] == -infinity() ? 0.0f : 1.0f;"),),
        ("decode", "decode_causal"),
    ),
    _decode(
        "combine_base_2",
        "weights are 2^LSE, where LSE is natural",
        (Edit(_WEIGHT, _WEIGHT.replace(" * kLog2e", "")),),
        ("decode",),
        field=_BASE_FIELD,
    ),
    _decode(
        "combine_first_missing",
        "the first split does not count in O",
        (Edit(_FACTOR, _FACTOR.replace("shfl", "part + j == 0 ? 0.0f : shfl")),),
        ("decode",),
    ),
    _decode(
        "combine_last_missing",
        "the last split does not count in O",
        (Edit(_FACTOR, _FACTOR.replace("shfl", "part + j + 1 == count ? 0.0f : shfl")),),
        ("decode",),
    ),
    _decode(
        "combine_not_awaited",
        "parts are added before they have landed",
        (Edit(_LANDED, "__syncwarp();"),),
        ("decode",),
    ),
    _decode(
        "combine_half_not_awaited",
        "the second half of the parts is added when the first has landed",
        (Edit(_LANDED, "cp_async_wait_group<1>(); __syncwarp();"),),
        ("decode_parts",),
    ),
    _decode(
        "combine_rest_not_zero",
        "what stands behind the last part in shared memory is not set to 0",
        (Edit("i + part < here ? kChunkBytes : 0);", "kChunkBytes);"),),
        ("decode",),
    ),
    _decode(
        "combine_without_max",
        "weights are exp(LSE) without the greatest LSE taken off",
        (
            Edit(
                "const float shift = top == -infinity() ? 0.0f : top; #pragma",
                "const float shift = 0.0f; top = 0.0f;\n#pragma",
            ),
        ),
        ("decode",),
        ("scores_plus_1000", "scores_minus_100"),
    ),
    _decode(
        "combine_empty_guard",
        "where no split saw a key, -inf - -inf is computed",
        (
            Edit(
                "const float shift = top == -infinity() ? 0.0f : top; #pragma",
                "const float shift = top;\n#pragma",
            ),
        ),
        ("decode_no_keys",),
        field="flashinfer #4051: merging two empty states gave NaN",
    ),
    _decode(
        "combine_empty_divided",
        "where no split saw a key, 0 is divided by 0",
        (
            Edit(
                "const float factor = sum == 0.0f ? 0.0f : __frcp_rn(sum);",
                "const float factor = __frcp_rn(sum);",
            ),
        ),
        ("decode_no_keys",),
        field="flashinfer #4051: merging two empty states gave NaN",
    ),
    _decode(
        "combine_lse_of_greatest",
        "LSE is the greatest of the splits' own",
        (Edit(_MERGED, _MERGED.replace("top + logf(sum)", "top")),),
        ("decode",),
    ),
    _decode(
        "combine_sink_per_split",
        "the sink joins the sum once for each split",
        (Edit(_SINK, _SINK.replace("sum += ", "sum += p.num_splits * ")),),
        ("decode_sinks",),
    ),
    _decode(
        "combine_sink_missing",
        "the sink does not join the sum of the splits",
        (Edit(_SINK, ""),),
        ("decode_sinks",),
    ),
    _decode(
        "combine_sink_twice",
        "the sink joins the sum of each 64 splits and that of what comes out of them",
        (Edit(_SINK, _SINK.replace("if (target < 0) ", "")),),
        ("decode_parts",),
    ),
    _decode(
        "combine_further_overwritten",
        "what comes out of each 64 splits is stored in one place",
        (
            Edit(
                "int target = ranges > 1 ? p.num_splits + range : -1;",
                "int target = ranges > 1 ? p.num_splits : -1;",
            ),
        ),
        ("decode_parts",),
    ),
    _decode(
        "combine_range_too_long",
        "the last 64 splits are taken to be 64, whatever is left of them",
        (Edit(_RANGE, "count = kParts;"),),
        ("decode_parts",),
    ),
    _decode(
        "arrive_last_but_one",
        "the last block but one combines",
        (Edit(_LAST, _LAST.replace("- 1", "- 2")),),
        ("decode",),
    ),
    _decode(
        "arrive_one_too_many",
        "one arrival more than there are blocks is waited for: nobody combines",
        (Edit(_LAST, _LAST.replace("expected - 1", "expected")),),
        ("decode",),
    ),
    _decode(
        "arrive_unopened",
        "arrivals are counted from what the memory held",
        (Edit(_OPENED, ""),),
        ("decode",),
    ),
    _decode(
        "arrive_opened_again",
        "every block sets the count to 0 before it computes, also where others have arrived",
        (
            Edit(
                "if ((found ^ p.arrival_tag) >> kCountBits != 0) atom_cas_relaxed(word, found, "
                "p.arrival_tag);",
                "atom_cas_relaxed(word, found, p.arrival_tag);",
            ),
        ),
        ("decode_waves",),
    ),
    _decode(
        "arrive_relaxed",
        "arrivals are counted, and order nothing",
        (Edit(_ADD, _ADD.replace("acq_rel", "relaxed")),),
        ("decode",),
    ),
    _decode(
        "arrive_without_acquire",
        "the last block does not acquire what the others released",
        (Edit(_ADD, _ADD.replace("acq_rel", "release")),),
        ("decode",),
    ),
    _decode(
        "arrive_without_release",
        "blocks do not release what they wrote before they arrive",
        (Edit(_ADD, _ADD.replace("acq_rel", "acquire")),),
        ("decode",),
    ),
    _decode(
        "arrive_in_block",
        "arrivals have the scope of a block",
        (Edit(_ADD, _ADD.replace("gpu", "cta")),),
        ("decode",),
    ),
    _decode(
        "arrive_before_all_wrote",
        "a block arrives before all its warps have written",
        (Edit("__syncthreads();  // the block has written all that it leaves", ""),),
        ("decode",),
    ),
    _decode(
        "arrive_flag_early",
        "warps read whether theirs is the last block before it is written",
        (Edit("__syncthreads(); return *flag != 0;", "return *flag != 0;"),),
        ("decode",),
    ),
)
