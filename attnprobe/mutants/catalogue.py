"""The mutants: one row each, a small change to the kernel text that makes it wrong.

The rows here are the faults that a hand-written m16n8k16 attention kernel once shipped with while
every test was green. An edit names a piece of the kernel text that must stand there exactly once,
so a mutant that no longer applies is an error and not a kernel that passes.
"""

from __future__ import annotations

from dataclasses import dataclass

from attnprobe.errors import UsageError


@dataclass(frozen=True)
class Edit:
    """One replacement in the kernel text; ``old`` stands there exactly once."""

    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """One mutant.

    Attributes
    ----------
    name : what tests and tables call it.
    breaks : what is wrong in it.
    edits : applied one after the other.
    slipped : whether near-uniform data under the old tolerance let this very fault through.
    """

    name: str
    breaks: str
    edits: tuple[Edit, ...]
    slipped: bool

    def __post_init__(self) -> None:
        if not self.edits or any(edit.old == edit.new for edit in self.edits):
            raise ValueError(f"mutant {self.name} changes nothing")


_REPACK_1 = "P_frag[m][1] = pack2<Element>(P_acc[m][2 * k][2], P_acc[m][2 * k][3]);"
_REPACK_2 = "P_frag[m][2] = pack2<Element>(P_acc[m][2 * k + 1][0], P_acc[m][2 * k + 1][1]);"
_LOAD_Q = "ldmatrix_x4(Q_frag[m], Q_smem.at(m * 16, k));"
_RESCALE = "O_acc[m][d][{i}] *= rescale[m][{row}];"
_STORE = "pack2<T>(O_acc[m][d][2 * r] * factor, O_acc[m][d][2 * r + 1] * factor)"

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "p_repack_order",
        "P is handed to the second product with a[1] and a[2] exchanged: (row, k >= 8) stands "
        "where (row + 8, k < 8) belongs",
        (
            Edit(_REPACK_1, _REPACK_1.replace("[m][1]", "[m][2]", 1)),
            Edit(_REPACK_2, _REPACK_2.replace("[m][2]", "[m][1]", 1)),
        ),
        slipped=True,
    ),
    Mutant(
        "q_same_pointer",
        "all 32 lanes pass lane 0's address to the ldmatrix.x4 that loads Q: every row is row 0",
        (
            Edit(
                _LOAD_Q,
                _LOAD_Q.replace(
                    "Q_smem.at(m * 16, k)", "__shfl_sync(kFullMask, Q_smem.at(m * 16, k), 0)"
                ),
            ),
        ),
        slipped=True,
    ),
    Mutant(
        "q_ldmatrix_order",
        "the four ldmatrix results of Q become a[0..3] in another order than their addresses",
        (
            Edit(
                _LOAD_Q,
                "{ u32_t r[4]; ldmatrix_x4(r, Q_smem.at(m * 16, k)); Q_frag[m][0] = r[0]; "
                "Q_frag[m][1] = r[2]; Q_frag[m][2] = r[1]; Q_frag[m][3] = r[3]; }",
            ),
        ),
        slipped=True,
    ),
    Mutant(
        "rescale_rows_swapped",
        "O of row g is rescaled by the factor of row g + 8, and the other way round",
        tuple(
            Edit(_RESCALE.format(i=i, row=i // 2), _RESCALE.format(i=i, row=1 - i // 2))
            for i in range(4)
        ),
        slipped=True,
    ),
    Mutant(
        "store_rows_swapped",
        "O of row g is stored as row g + 8, and the other way round",
        (
            Edit(
                _STORE,
                _STORE.replace("[2 * r]", "[2 - 2 * r]").replace("[2 * r + 1]", "[3 - 2 * r]"),
            ),
        ),
        slipped=True,
    ),
)


def find(name: str) -> Mutant:
    """Return the mutant called ``name``.

    Raises
    ------
    UsageError
        If there is none; lists those that there are.
    """
    for row in MUTANTS:
        if row.name == name:
            return row
    raise UsageError(f"no mutant {name!r}; there are: {', '.join(row.name for row in MUTANTS)}")
