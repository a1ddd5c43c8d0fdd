"""What a scene is: one small problem for mutants, and a tile in place of the plan's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from attnprobe.arch import EMULATED_ARCH, Arch, arch
from attnprobe.engine.decode import DecodeVariant
from attnprobe.engine.row_of_tile import ROWS, WARPS
from attnprobe.engine.variants import MmaVariant, Variant
from attnprobe.engine.wgmma import WgmmaVariant
from attnprobe.mutants.mutant import MAIN_KERNEL
from attnprobe.mutants.staging import Staged, as_it_is
from attnprobe.numerics.calls import Call
from attnprobe.numerics.cases import Case
from attnprobe.numerics.fills import Sizes

# How the faulty kernel was tested: one shape of whole tiles, no mask, O alone, and a fixed limit on
# the greatest |error|. 5e-3 is the error that the kernel was reported with. There are several key
# blocks, or nothing would be rescaled.
OLD_SIZES = Sizes(seqlen_q=128, seqlen_k=384, num_heads=2, num_kv_heads=1, head_dim=64)
OLD_LIMIT = 5e-3

FAR_APART = "far_apart"  # a layout of its own (places.py): batch entries of Q past 32-bit offsets


@dataclass(frozen=True)
class Tile:
    """A tile in place of the plan's: queries and keys of a block, warps, parts of V.

    Attributes
    ----------
    parts, sharers, apart, bulk, meets : of the mma.sync kernel (``MmaVariant``), whatever the
        plan's row has.
    """

    block_m: int = 64
    block_n: int = 32
    warps: int = 2
    v_parts: int = 1
    stages: int = 2
    parts: int = 1
    sharers: int = 1
    apart: bool = False
    bulk: bool = False
    meets: bool = True

    def placed(self, variant: Variant) -> Variant:
        """Return ``variant`` with this tile."""
        placed = replace(
            variant,
            block_m=self.block_m,
            block_n=self.block_n,
            warps=self.warps,
            v_parts=self.v_parts,
            blocks_per_sm=1,
        )
        if isinstance(placed, MmaVariant):
            return replace(
                placed,
                parts=self.parts,
                sharers=self.sharers,
                apart=self.apart,
                bulk=self.bulk,
                meets=self.meets,
            )
        if isinstance(placed, DecodeVariant):
            return replace(placed, stages=self.stages)
        return placed

    @property
    def shown(self) -> str:
        """Queries and keys of a block, for a table."""
        return f"{self.block_m} x {self.block_n}"

    def arch(self, own: Arch) -> Arch:
        """Return the arch that the plan is made for, where the call runs on ``own``."""
        return own


# Of a multiprocessor: with one, a warpgroup would get more registers than its threads can have.
MOST_COMPUTING = 2


@dataclass(frozen=True)
class HopperTile(Tile):
    """A tile of the Hopper kernel.

    Attributes
    ----------
    consumers : warpgroups that compute, 64 queries each; block_m and warps follow from it.
    q_stages : tiles of Q in shared memory.
    multiprocessors : of the device that the plan takes for granted: with few, each block computes
        several tiles.
    passes : whether warpgroups let blocks pass that their own queries do not see.
    """

    block_n: int = 32
    consumers: int = 1
    q_stages: int = 1
    multiprocessors: int = 1
    passes: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "block_m", ROWS * self.consumers)
        object.__setattr__(self, "warps", (self.consumers + 1) * WARPS)

    def placed(self, variant: Variant) -> Variant:
        """Return ``variant`` with this tile."""
        assert isinstance(variant, WgmmaVariant)
        return replace(
            variant,
            block_m=self.block_m,
            block_n=self.block_n,
            warps=self.warps,
            blocks_per_sm=MOST_COMPUTING // self.consumers,
            consumers=self.consumers,
            stages=self.stages,
            q_stages=self.q_stages,
            turns=True,
            passes=self.passes,
        )

    def arch(self, own: Arch) -> Arch:
        """Return the Hopper that the plan is made for."""
        return replace(own, multiprocessors=self.multiprocessors)


def with_wgmma(own: Arch) -> Arch:
    """Return the arch that a call on ``own`` can be planned for: the emulator runs wgmma too."""
    emulated = arch(EMULATED_ARCH)
    return emulated if own == emulated.portable else own


@dataclass(frozen=True)
class Scene:
    """One problem that mutants are run on.

    Attributes
    ----------
    what : what it is there for.
    case : the problem; its name is the scene's.
    out_layout : row of LAYOUTS for O.
    tile : in place of the plan's; None keeps it.
    kernel : the file whose variants serve it.
    num_splits : parts of the keys of a decode kernel.
    staged : makes of the case's call what is called: a row of staging.py.
    """

    what: str
    case: Case
    out_layout: str = "contiguous"
    tile: Tile | None = field(default_factory=Tile)
    kernel: str = MAIN_KERNEL
    num_splits: int | None = None
    staged: Callable[[Call], Staged] = as_it_is

    @property
    def name(self) -> str:
        """What a mutant's ``seen_on`` names."""
        return self.case.name
