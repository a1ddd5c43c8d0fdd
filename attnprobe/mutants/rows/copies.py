"""Mutants of the copies to shared memory: barriers, waits, stages, swizzles, zero filling."""

from __future__ import annotations

from functools import partial

from attnprobe.mutants.mutant import Edit, Mutant

_mutant = partial(Mutant, family="copies")

_WAIT = "        cp_async_wait_group<kPlaneTiles>();\n"
_BARRIER = "nonfinite = __syncthreads_or(found);"
_COMMIT = "cp_async_commit_group();"
_CHUNK = "load_chunk(smem + T::place(row, chunk)"
_COPY = "cp_async_16(smem, inside ? gmem : anywhere, inside ? kChunkBytes : 0);"
_AT = "panel + (swizzle ^ bytes);"

COPIES: tuple[Mutant, ...] = (
    _mutant(
        "barrier_missing",
        "the barrier of the loop is missing: a tile is read before all warps have filled it, and "
        "refilled before all have read it",
        (Edit(_BARRIER, "nonfinite = found;"),),
        ("plain",),
    ),
    _mutant(
        "barrier_not_at_the_end",
        "the last block of the loop has no barrier",
        (
            Edit(
                _BARRIER,
                "nonfinite = block > begin_block ? __syncthreads_or(found) : found;",
            ),
        ),
        ("plain",),
    ),
    _mutant(
        "barrier_before_the_wait",
        "the barrier stands before the wait: each thread waits for its own copies only, after it",
        (
            Edit(_WAIT, "        __syncthreads();\n"),
            Edit(_BARRIER, "cp_async_wait_group<0>(); nonfinite = found;"),
        ),
        ("plain",),
    ),
    _mutant(
        "wait_missing",
        "no thread waits for its copies",
        (Edit(_WAIT, ""),),
        ("plain",),
    ),
    _mutant(
        "wait_for_all_but_one",
        "the wait leaves the latest group of copies in flight: the one that is needed",
        (Edit(_WAIT, _WAIT.replace("<kPlaneTiles>", "<1>")),),
        ("plain",),
    ),
    _mutant(
        "commit_missing",
        "copies are issued and not committed, first and in the loop: no wait covers them",
        (Edit(_COMMIT, ";", 5),),
        ("plain",),
    ),
    _mutant(
        "stage_not_toggled",
        "every block is computed from the first buffer",
        (Edit("const u32_t stage = turn % kStages;", "const u32_t stage = 0;"),),
        ("plain",),
    ),
    _mutant(
        "next_stage_is_this",
        "the copies of the next block go to the buffer that is being read",
        (Edit("next = stage ^ 1;", "next = stage;", 2),),
        ("plain",),
    ),
    _mutant(
        "one_stage",
        "there is room for one stage, and the code uses two: K of stage 1 is V of stage 0",
        (Edit("constexpr int kStages = 2;", "constexpr int kStages = 1;"),),
        ("plain",),
    ),
    _mutant(
        "v_stage_by_size_of_k",
        "the second stage of V is looked for where it would be if V were as wide as K",
        (
            Edit(
                "V_tile = V_tiles + stage * VTile::kBytes;",
                "V_tile = V_tiles + stage * KTile::kBytes;",
                3,
            ),
        ),
        ("panels",),
    ),
    _mutant(
        "swizzle_of_write",
        "chunks are written where the swizzle of the next row puts them",
        (
            Edit(
                _CHUNK,
                _CHUNK.replace("(row, chunk)", "(row + 1, chunk) - T::kRowBytes"),
                2,
            ),
        ),
        ("plain",),
    ),
    _mutant(
        "swizzle_of_read",
        "the swizzle of a fragment is advanced by adding, where it must be by XOR",
        (Edit(_AT, _AT.replace("swizzle ^", "swizzle +")),),
        ("plain",),
    ),
    _mutant(
        "swizzle_of_read_missing",
        "fragments are read as if tiles were not swizzled",
        (Edit("swizzle = swizzled_chunk(row, chunk);", "swizzle = chunk * kChunkBytes;"),),
        ("plain",),
    ),
    _mutant(
        "swizzle_of_four_rows",
        "the swizzle repeats after four rows instead of eight, for writes and reads",
        (Edit("(chunk ^ (row % 8)) * kChunkBytes;", "(chunk ^ (row % 4)) * kChunkBytes;"),),
        ("plain",),
        (),
        equivalent="writes and reads go through the same function, which still maps the chunks of "
        "a row one to one: every element is found where it was put. Only two rows of a matrix now "
        "share banks: slower, never wrong",
    ),
    _mutant(
        "row_step",
        "the row of a pass is off: the second pass of a tile is loaded again from the first rows",
        (Edit("            gmem += kRowsPerPass * rows.row_stride;\n", "", 2),),
        ("plain",),
    ),
    _mutant(
        "half_chunks",
        "each copy moves 8 of its 16 bytes",
        (Edit(_COPY, _COPY.replace("inside ? kChunkBytes : 0", "inside ? kChunkBytes / 2 : 0")),),
        ("plain",),
    ),
    _mutant(
        "rows_past_the_end_read",
        "rows past the end of Q, K and V are read instead of filled with zeros",
        (Edit(_COPY, "cp_async_16(smem, gmem, kChunkBytes);"),),
        ("plain",),
        ("garbage_nan",),
        field="flash-attention #1745: NaN beyond the length",
    ),
    _mutant(
        "tail_uninitialised",
        "rows past the end are neither read nor filled: the tile keeps what stood there",
        (Edit(_COPY, "if (inside) cp_async_16(smem, gmem, kChunkBytes);"),),
        ("plain",),
    ),
    _mutant(
        "tail_of_first_row",
        "rows past the end become copies of row 0 instead of zeros",
        (Edit(_COPY, "cp_async_16(smem, inside ? gmem : anywhere, kChunkBytes);"),),
        ("plain",),
        (),
        equivalent="rows of Q past the end are computed and never stored; keys past the end get a "
        "score of -inf whatever K holds, so their P is 0, and what is not finite in V is taken out "
        "of masked blocks and given to rows that see its key: no row sees these",
    ),
    _mutant(
        "unaligned_pairs",
        "the slow copy for odd addresses exchanges the halves of each register",
        (
            Edit(
                "gmem[2 * i] | static_cast<u32_t>(gmem[2 * i + 1]) << 16;",
                "gmem[2 * i + 1] | static_cast<u32_t>(gmem[2 * i]) << 16;",
            ),
        ),
        ("unaligned",),
    ),
    _mutant(
        "unaligned_store",
        "the slow store for odd addresses writes the first element twice",
        (Edit("static_cast<u16_t>(pair >> 16);", "static_cast<u16_t>(pair);"),),
        ("unaligned",),
    ),
)
