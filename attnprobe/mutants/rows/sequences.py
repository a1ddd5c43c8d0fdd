"""Mutants of sequences: packed rows, lengths, tiles of sequences, pages of a cache."""

from __future__ import annotations

from functools import partial

from attnprobe.mutants.mutant import Argument, Edit, Mutant

_mutant = partial(Mutant, family="sequences")

_ROWS_Q = "result.q_row = q_rows.x;"
_ROWS_K = "result.k_row = k_rows.x;"
_LENGTH_Q = "result.seqlen_q = q_rows.y - q_rows.x;"
_LENGTH_K = "result.seqlen_k = k_rows.y - k_rows.x;"
_USED = "result.seqlen_k = clamped(p.seqused_k[batch], 0, result.seqlen_k);"
_NEXT = "return {begin, clamped(cu_seqlens[batch + 1], begin, rows)};"
_PAGE = "const int page = clamped(pages[index], 0, num_pages - 1);"
_IN_PAGE = "page * page_stride + (number - index * page_size) * row_stride;"
_TABLE = "p.block_table + sequence.batch * p.block_table_batch_stride;"
_O_ROWS = "sequence.q_row * p.o_row_stride +"
_LSE_ROWS = "head * p.lse_head_stride + sequence.q_row;"
_STALE = "garbage in pages and rows that nobody uses: FlashMLA's tests fill both with NaN"

SEQUENCES: tuple[Mutant, ...] = (
    _mutant(
        "packed_q_row",
        "every packed sequence begins at row 0 of Q and O",
        (Edit(_ROWS_Q, "result.q_row = 0;"),),
        ("varlen",),
    ),
    _mutant(
        "packed_k_row",
        "every packed sequence reads K and V from row 0 on",
        (Edit(_ROWS_K, "result.k_row = 0;"),),
        ("varlen",),
    ),
    _mutant(
        "packed_k_row_of_next",
        "a packed sequence reads the keys of the next one",
        (Edit(_ROWS_K, "result.k_row = k_rows.y;"),),
        ("varlen",),
    ),
    _mutant(
        "packed_q_one_row_more",
        "the last row of a packed sequence of queries is the first of the next",
        (Edit(_LENGTH_Q, _LENGTH_Q.replace("q_rows.x;", "q_rows.x + 1;")),),
        ("varlen_causal",),
    ),
    _mutant(
        "packed_q_one_row_less",
        "the last query of every packed sequence is not computed",
        (Edit(_LENGTH_Q, _LENGTH_Q.replace("q_rows.x;", "q_rows.x - 1;")),),
        ("varlen",),
    ),
    _mutant(
        "packed_keys_of_all",
        "a packed sequence sees all keys from its first to the end of the last sequence",
        (
            Edit(_LENGTH_K, "result.seqlen_k = p.rows_k - k_rows.x;"),
            Edit(_USED, ""),
        ),
        ("varlen",),
    ),
    _mutant(
        "packed_keys_from_zero",
        "the length of a packed sequence of keys is where it ends",
        (Edit(_LENGTH_K, "result.seqlen_k = k_rows.y;"), Edit(_USED, "")),
        ("varlen",),
    ),
    _mutant(
        "packed_o_row",
        "O of every packed sequence is stored from row 0 on",
        (Edit(_O_ROWS, "0 * p.o_row_stride +"),),
        ("varlen",),
    ),
    _mutant(
        "packed_lse_row",
        "LSE of every packed sequence is stored from row 0 on",
        (Edit(_LSE_ROWS, "head * p.lse_head_stride;"),),
        ("varlen",),
    ),
    _mutant(
        "used_keys_ignored",
        "all keys that there is room for are seen, not those in use",
        (Edit(_USED, ""),),
        ("varlen", "cache"),
        ("garbage_nan", "garbage_huge"),
        field=_STALE,
    ),
    _mutant(
        "used_keys_one_more",
        "one key behind those in use is seen",
        (Edit(_USED, _USED.replace("p.seqused_k[batch]", "p.seqused_k[batch] + 1")),),
        ("varlen", "paged", "cache"),
        field=_STALE,
    ),
    _mutant(
        "used_keys_one_less",
        "the last key in use is not seen",
        (Edit(_USED, _USED.replace("p.seqused_k[batch]", "p.seqused_k[batch] - 1")),),
        ("paged_odd",),
    ),
    _mutant(
        "used_keys_of_first",
        "every sequence has as many keys in use as the first",
        (Edit(_USED, _USED.replace("p.seqused_k[batch]", "p.seqused_k[0]")),),
        ("cache",),
    ),
    _mutant(
        "alignment_by_room",
        "the last query is aligned with the last key that there is room for, not with the last in "
        "use",
        (
            Edit(
                "result.diagonal += result.seqlen_k - result.seqlen_q;",
                "result.diagonal += p.rows_k - result.seqlen_q;",
            ),
        ),
        ("varlen_causal", "paged"),
        field="flash-attention: causal decode with cache_seqlens",
    ),
    _mutant(
        "tiles_found_one_late",
        "the search for a tile's sequence takes the sequence before",
        (Edit("ballot(before + end > slot);", "ballot(before + end >= slot);"),),
        ("varlen",),
    ),
    _mutant(
        "tiles_not_summed",
        "the search for a tile's sequence adds neighbours only once: sequences from the third on "
        "are missed",
        (
            Edit(
                "for (int step = 1; step < kWarpSize; step *= 2) {",
                "for (int step = 1; step < 2; step *= 2) {",
            ),
        ),
        ("varlen",),
    ),
    _mutant(
        "tiles_of_first_32",
        "the search for a tile's sequence forgets the sequences before the latest 32",
        (Edit("before += shfl_idx(end, kWarpSize - 1);", ""),),
        ("varlen_many",),
    ),
    _mutant(
        "tile_number_of_all",
        "a tile is numbered among those of all sequences, not of its own",
        (Edit("return {first + lane, slot - begin, true};", "return {first + lane, slot, true};"),),
        ("varlen",),
    ),
    _mutant(
        "page_of_neighbour",
        "the block table is read one entry too far",
        (Edit(_PAGE, _PAGE.replace("pages[index]", "pages[index + 1]")),),
        ("paged",),
    ),
    _mutant(
        "page_table_ignored",
        "pages are taken in order, as if the block table counted up",
        (Edit(_PAGE, _PAGE.replace("pages[index]", "index")),),
        ("paged",),
    ),
    _mutant(
        "page_table_of_first",
        "every sequence reads the block table of the first",
        (Edit(_TABLE, "p.block_table;"),),
        ("paged",),
    ),
    _mutant(
        "page_row",
        "the row within a page is that within a tile of keys",
        (
            Edit(
                _IN_PAGE,
                "page * page_stride + (number % 32) * row_stride;",
            ),
        ),
        ("paged",),
    ),
    _mutant(
        "page_size_power_of_two",
        "the page of a key is found by a shift, for the next power of two above the page size",
        (
            Argument("page_magic", "1", lambda f: 1),
            Argument("page_shift", "log2", lambda f: (int(f["page_size"]) - 1).bit_length()),
        ),
        ("paged_odd",),
        field="flash-attention #828: pages of any size",
    ),
    _mutant(
        "page_stride_contiguous",
        "K and V of a page are read with the strides of a cache in one piece",
        (Edit(_IN_PAGE, "page * page_stride + number * row_stride;"),),
        ("paged",),
    ),
    _mutant(
        "page_believed",
        "an entry of the block table is not cut to the pages that there are",
        (Edit(_PAGE, "const int page = pages[index];"),),
        ("paged",),
        (),
        equivalent="only entries of keys in use are looked up, and a call whose entries for those "
        "name no page is refused by nothing but this cut: for every allowed call both are the same",
    ),
)
