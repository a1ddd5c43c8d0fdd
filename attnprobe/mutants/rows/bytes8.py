"""Mutants of K and V in 8 bits: their widening, their fragments, their descales."""

from __future__ import annotations

from attnprobe.mutants.mutant import DECODE_KERNEL, Mutant
from attnprobe.mutants.rows.edits import Edited

_row = Edited("bytes", DECODE_KERNEL)

_V_FRAGMENT = "widen4<Element>(Kv{}, bytes[2 * c], V_frag[0], V_frag[2]);"
_V_DESCALE = "kv_head * p.v_descale_head_stride];"
_K_DESCALE = "head / p.heads_per_kv_head * p.k_descale_head_stride];"

BYTES: tuple[Mutant, ...] = (
    _row(
        "bytes_in_order",
        "the bytes of a register are widened in their order, and not the even ones first",
        "byte_perm(bytes, 0, 0x3120)",
        "byte_perm(bytes, 0, 0x3210)",
        "decode_e4m3",
    ),
    _row(
        "bytes_even_twice",
        "the even bytes stand in place of the odd ones too",
        "static_cast<u16_t>(pairs >> 16)",
        "static_cast<u16_t>(pairs)",
        "decode_e4m3",
    ),
    _row(
        "bytes_shift",
        "exponent and mantissa of e4m3 go one bit too high",
        "kE4m3Shift = 4;",
        "kE4m3Shift = 3;",
        "decode_e4m3_bf16",
    ),
    _row(
        "bytes_bias",
        "e4m3 is scaled by 2^119 instead of 2^120: the biases differ by 120",
        "kE4m3Scale = 0x7b807b80",
        "kE4m3Scale = 0x7b007b00",
        "decode_e4m3_bf16",
    ),
    _row(
        "bytes_mantissa",
        "the last bit of e4m3's mantissa is cut off",
        "kE4m3Magnitude = 0x07f007f0",
        "kE4m3Magnitude = 0x07e007e0",
        "decode_e4m3_bf16",
    ),
    _row(
        "bytes_sign",
        "the sign of e4m3 is lost",
        "(halves & 0x80008000u) | (halves",
        "(halves",
        "decode_e4m3_bf16",
    ),
    _row(
        "bytes_even_where_odd",
        "even bytes are taken from where the odd ones stand",
        "widen_e4m3_upper<T>(bytes << 8)",
        "widen_e4m3_upper<T>(bytes)",
        "decode_e4m3_bf16",
    ),
    _row(
        "bytes_nan",
        "NaN of e4m3 becomes 480",
        "if (nan != 0) {",
        "if (false) {",
        "decode_e4m3_bf16",
        by=("nan_in_k", "nan_in_v"),
    ),
    _row(
        "bytes_nan_of_even",
        "NaN in the first of four bytes of e4m3 becomes 480",
        "even |= (nan >> 7 & 0x00010001u)",
        "even |= (nan >> 23 & 0x00010001u) << 16",
        "decode_e4m3_bf16",
        by=("nan_in_v",),
    ),
    _row(
        "bytes_unsigned",
        "int8 is taken for bytes from 0 to 255",
        "bytes ^ 0x80808080u",
        "bytes",
        "decode_int8",
    ),
    _row(
        "bytes_offset",
        "128 too much stays in every int8",
        "0xe480e480u",
        "0xe400e400u",
        "decode_int8",
        count=2,
    ),
    _row(
        "bytes_negative",
        "negative int8 lose the 256 that their sign bit stands for",
        "(bytes & 0x00800080u) | 0xc300c300u",
        "0xc300c300u",
        "decode_int8_bf16",
    ),
    _row(
        "bytes_k_halves",
        "even and odd elements of K meet each other's elements of Q",
        "{even, odd});",
        "{odd, even});",
        "decode_e4m3",
    ),
    _row(
        "bytes_k_chunks",
        "the chunks of K and its next eight keys are mixed up",
        "bytes[2 * i + c]",
        "bytes[i + 2 * c]",
        "decode_e4m3",
    ),
    _row(
        "bytes_v_columns",
        "even columns of the first eight keys of V stand in place of the odd ones",
        _V_FRAGMENT,
        _V_FRAGMENT.replace("V_frag[0], V_frag[2]", "V_frag[2], V_frag[0]"),
        "decode_e4m3",
    ),
    _row(
        "bytes_v_keys",
        "keys 8-15 of V stand in place of keys 0-7 and the other way round",
        "bytes[2 * c + 1], V_frag[1]",
        "bytes[2 * c], V_frag[1]",
        "decode_e4m3",
    ),
    _row(
        "bytes_v_chunk",
        "the second chunk of V is added to columns of the first",
        "4 * pair + 2 * c, P_frag",
        "4 * pair + c, P_frag",
        "decode_e4m3",
    ),
    _row(
        "bytes_odd_chunk",
        "behind a last odd chunk of a row another one is read",
        "(2 * pair + 1 < kChunks ? pairs : last)",
        "pairs",
        "decode_e4m3",
        "decode_int8",
    ),
    _row(
        "bytes_k_descale_of_query_head",
        "the descale of K is that of the query head's number",
        _K_DESCALE,
        "head * p.k_descale_head_stride];",
        "decode_e4m3",
    ),
    _row(
        "bytes_k_descale_of_first_batch",
        "the descale of K is that of the first batch entry",
        "p.k_descale[batch * p.k_descale_batch_stride +",
        "p.k_descale[",
        "decode_int8",
    ),
    _row(
        "bytes_v_descale_of_first_head",
        "the descale of V is that of the first head",
        _V_DESCALE,
        "0];",
        "decode_int8",
    ),
    _row(
        "bytes_v_descale_of_first_batch",
        "the descale of V is that of the first batch entry",
        "p.v_descale[sequence.batch * p.v_descale_batch_stride +",
        "p.v_descale[",
        "decode_e4m3",
    ),
)
