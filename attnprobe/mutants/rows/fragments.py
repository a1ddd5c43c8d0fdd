"""Mutants of the fragments: which lane and register holds which element of Q, K, V, P and O."""

from __future__ import annotations

from functools import partial

from attnprobe.mutants.mutant import Edit, Mutant

_mutant = partial(Mutant, family="fragments")

_P = "P_frag[m][{to}] = pack2<Element>(P_acc[m][{n}][{i}], P_acc[m][{n}][{j}]);"
_P0 = _P.format(to=0, n="2 * k", i=0, j=1)
_P1 = _P.format(to=1, n="2 * k", i=2, j=3)
_P2 = _P.format(to=2, n="2 * k + 1", i=0, j=1)
_P3 = _P.format(to=3, n="2 * k + 1", i=2, j=3)
_P_BELOW = "P_frag[n / 2][m][n % 2 * 2 + r] = pack2<Element>(p0, p1);"
_LOAD_Q = "ldmatrix_x4(Q_frag[k][m], Q_smem.at(m * 16, k));"
_LOAD_K = "ldmatrix_x4(K_frag, K_smem.at(n * 8, k));"
_LOAD_V = "ldmatrix_x4_trans(V_frag, V_smem.at(row, d / 2 * kSharers));"
_RESCALE = "O_acc[m][d][{i}] *= rescale[m][{row}];"
_STORE = "pack2<Out>(O_acc[at] * factor, O_acc[at + 1] * factor)"
_LANE_ROW = "kOrder == QuadOrder::rows_then_chunks ? lane % 16 : lane % 8 + lane / 16 * 8"

FRAGMENTS: tuple[Mutant, ...] = (
    _mutant(
        "p_repack_order",
        "P is handed to the second product with a[1] and a[2] exchanged: (row, k >= 8) stands "
        "where (row + 8, k < 8) belongs",
        (
            Edit(_P1, _P1.replace("P_frag[m][1]", "P_frag[m][2]")),
            Edit(_P2, _P2.replace("P_frag[m][2]", "P_frag[m][1]")),
            Edit(_P_BELOW, _P_BELOW.replace("n % 2 * 2 + r", "n % 2 + 2 * r")),
        ),
        ("story",),
        slipped=True,
    ),
    _mutant(
        "p_repack_halves",
        "the two 16x8 blocks of P enter the A fragment in the wrong order: k and k + 8 change "
        "places",
        (
            Edit(_P0, _P.format(to=2, n="2 * k", i=0, j=1)),
            Edit(_P1, _P.format(to=3, n="2 * k", i=2, j=3)),
            Edit(_P2, _P.format(to=0, n="2 * k + 1", i=0, j=1)),
            Edit(_P3, _P.format(to=1, n="2 * k + 1", i=2, j=3)),
            Edit(_P_BELOW, _P_BELOW.replace("n % 2 * 2", "(1 - n % 2) * 2")),
        ),
        ("plain",),
    ),
    _mutant(
        "p_pack_halves",
        "the two halves of one register of P are exchanged: neighbouring keys change places",
        (Edit(_P0, _P.format(to=0, n="2 * k", i=1, j=0)),),
        ("plain",),
    ),
    _mutant(
        "p_block_repeated",
        "the second block of P is packed from the first: half of the keys counts twice, half not",
        (
            Edit(_P2, _P.format(to=2, n="2 * k", i=0, j=1)),
            Edit(_P3, _P.format(to=3, n="2 * k", i=2, j=3)),
            Edit(
                _P_BELOW,
                "if (n % 2 == 0) P_frag[n / 2][m][r] = P_frag[n / 2][m][2 + r] = "
                "pack2<Element>(p0, p1);",
            ),
        ),
        ("plain",),
    ),
    _mutant(
        "q_same_pointer",
        "all 32 lanes pass lane 0's address to the ldmatrix.x4 that loads Q: every row is row 0",
        (
            Edit(
                _LOAD_Q,
                "ldmatrix_x4(Q_frag[k][m], __shfl_sync(kFullMask, Q_smem.at(m * 16, k), 0));",
            ),
        ),
        ("story",),
        slipped=True,
    ),
    _mutant(
        "q_ldmatrix_order",
        "the four ldmatrix results of Q become a[0..3] in another order than their addresses",
        (
            Edit(
                _LOAD_Q,
                "{ u32_t r[4]; ldmatrix_x4(r, Q_smem.at(m * 16, k)); Q_frag[k][m][0] = r[0]; "
                "Q_frag[k][m][1] = r[2]; Q_frag[k][m][2] = r[1]; Q_frag[k][m][3] = r[3]; }",
            ),
        ),
        ("story",),
        slipped=True,
    ),
    _mutant(
        "q_tile_repeated",
        "every 16 rows of a warp read the first 16 of Q",
        (Edit(_LOAD_Q, "ldmatrix_x4(Q_frag[k][m], Q_smem.at(0, k));"),),
        ("plain",),
    ),
    _mutant(
        "k_ldmatrix_order",
        "the lanes address K as they address Q: the middle two matrices change places",
        (
            Edit(
                "using KAddress = FragmentAddress<KTile, QuadOrder::chunks_then_rows,",
                "using KAddress = FragmentAddress<KTile, QuadOrder::rows_then_chunks,",
            ),
        ),
        ("plain",),
    ),
    _mutant(
        "k_fragment_pairs",
        "the B fragments of two key blocks are taken crosswise from the four registers",
        (
            Edit("{K_frag[0], K_frag[1]}", "{K_frag[0], K_frag[2]}", 2),
            Edit("{K_frag[2], K_frag[3]}", "{K_frag[1], K_frag[3]}", 2),
        ),
        ("plain",),
    ),
    _mutant(
        "k_fragment_halves",
        "the two registers of one B fragment of K are exchanged: d and d + 8 meet",
        (Edit("{K_frag[0], K_frag[1]}", "{K_frag[1], K_frag[0]}", 2),),
        ("plain",),
    ),
    _mutant(
        "k_tile_repeated",
        "every pair of key blocks of a tile reads the first 16 keys",
        (Edit(_LOAD_K, "ldmatrix_x4(K_frag, K_smem.at(0, k));", 2),),
        ("plain",),
    ),
    _mutant(
        "v_not_transposed",
        "V is loaded by ldmatrix without .trans",
        (Edit(_LOAD_V, _LOAD_V.replace("_trans", "")),),
        ("plain",),
    ),
    _mutant(
        "v_ldmatrix_order",
        "the lanes address V as they address K: keys k + 8 stand where columns d + 8 belong",
        (
            Edit(
                "using VAddress = FragmentAddress<VTile, QuadOrder::rows_then_chunks,",
                "using VAddress = FragmentAddress<VTile, QuadOrder::chunks_then_rows,",
            ),
        ),
        ("plain",),
    ),
    _mutant(
        "v_columns_repeated",
        "the second product reads the first 16 columns of V for all columns of O",
        (Edit(_LOAD_V, "ldmatrix_x4_trans(V_frag, V_smem.at(row, 0));"),),
        ("plain",),
    ),
    _mutant(
        "lane_rows_of_k",
        "lanes 16 to 31 address the same eight rows as lanes 0 to 15",
        (Edit(_LANE_ROW, _LANE_ROW.replace("lane % 8 + lane / 16 * 8", "lane % 8")),),
        ("plain",),
    ),
    _mutant(
        "rescale_rows_swapped",
        "O of row g is rescaled by the factor of row g + 8, and the other way round",
        tuple(
            Edit(_RESCALE.format(i=i, row=i // 2), _RESCALE.format(i=i, row=1 - i // 2))
            for i in range(4)
        ),
        ("story",),
        ("rising",),
        slipped=True,
    ),
    _mutant(
        "rescale_upper_rows_only",
        "rows g + 8 of O keep their old scale when the maximum moves",
        tuple(Edit(_RESCALE.format(i=i, row=1), "") for i in (2, 3)),
        ("plain",),
        ("rising",),
    ),
    _mutant(
        "store_rows_swapped",
        "O of row g is stored as row g + 8, and the other way round",
        (Edit("const int at = first + i + 2 * r;", "const int at = first + i + 2 - 2 * r;"),),
        ("story",),
        slipped=True,
    ),
    _mutant(
        "store_columns_swapped",
        "the two columns of O that a lane holds are stored in the wrong order",
        (Edit(_STORE, "pack2<Out>(O_acc[at + 1] * factor, O_acc[at] * factor)"),),
        ("plain",),
    ),
    _mutant(
        "store_quad_lane",
        "the lanes of a quad store their columns in reverse order",
        (
            Edit(
                "columns.column(first / 4 + g * 4 + quad_lane)",
                "columns.column(first / 4 + g * 4 + 3 - quad_lane)",
            ),
        ),
        ("plain",),
    ),
)
