"""All mutants: the rows of every family, found by name."""

from __future__ import annotations

from attnprobe.errors import UsageError
from attnprobe.mutants.mutant import Mutant
from attnprobe.mutants.rows.appending import APPENDING
from attnprobe.mutants.rows.bulk import BULK
from attnprobe.mutants.rows.bytes8 import BYTES
from attnprobe.mutants.rows.combining import COMBINING
from attnprobe.mutants.rows.copies import COPIES
from attnprobe.mutants.rows.dependence import DEPENDENCE
from attnprobe.mutants.rows.features import FEATURES
from attnprobe.mutants.rows.fragments import FRAGMENTS
from attnprobe.mutants.rows.hopper import HOPPER
from attnprobe.mutants.rows.hopper_rows import HOPPER_ROWS
from attnprobe.mutants.rows.hopper_sequences import HOPPER_SEQUENCES
from attnprobe.mutants.rows.hopper_tiles import HOPPER_TILES
from attnprobe.mutants.rows.indexing import INDEXING
from attnprobe.mutants.rows.masks import MASKS
from attnprobe.mutants.rows.pipeline import PIPELINE
from attnprobe.mutants.rows.planes import PLANES
from attnprobe.mutants.rows.plans import PLANS
from attnprobe.mutants.rows.sequences import SEQUENCES
from attnprobe.mutants.rows.sharing import SHARING
from attnprobe.mutants.rows.softmax import SOFTMAX
from attnprobe.mutants.rows.splits import SPLITS

MUTANTS: tuple[Mutant, ...] = (
    *FRAGMENTS,
    *MASKS,
    *SOFTMAX,
    *COPIES,
    *INDEXING,
    *FEATURES,
    *SEQUENCES,
    *SPLITS,
    *COMBINING,
    *DEPENDENCE,
    *PLANS,
    *HOPPER,
    *HOPPER_ROWS,
    *PIPELINE,
    *HOPPER_TILES,
    *HOPPER_SEQUENCES,
    *BYTES,
    *APPENDING,
    *PLANES,
    *SHARING,
    *BULK,
)
FAMILIES: tuple[str, ...] = tuple(dict.fromkeys(row.family for row in MUTANTS))


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
