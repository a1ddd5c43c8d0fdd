"""GPU architectures: one row each, with what the planner and the compiler must know about it."""

from __future__ import annotations

from dataclasses import replace

from attnprobe.errors import UnsupportedError
from attnprobe.frozen import dataclass

KIB = 1024


@dataclass(frozen=True)
class Arch:
    """One compute capability.

    Attributes
    ----------
    cc : compute capability as an integer, 90 for sm_90.
    name : name of a product family.
    smem_per_block : dynamic shared memory that one block may ask for, bytes.
    smem_per_sm : shared memory of one multiprocessor, bytes.
    ptx : least PTX version that can target it.
    multiprocessors : of the product that comes first in ``name``; a plan for a device counts its
        own.
    suffix : "a" where the arch-specific instruction set has its own target.

    Source: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability";
    PTX ISA, ".target" and release notes; for the multiprocessors the products' data sheets.
    """

    cc: int
    name: str
    smem_per_block: int
    smem_per_sm: int
    ptx: str
    multiprocessors: int
    suffix: str = ""

    @property
    def portable(self) -> Arch:
        """The same without the instructions of its own target: what later GPUs run as well."""
        return replace(self, suffix="")

    @property
    def sm(self) -> str:
        """The real target without suffix: ``sm_90``."""
        return f"sm_{self.cc}"

    @property
    def compute(self) -> str:
        """The virtual target that NVRTC takes: ``compute_90``."""
        return f"compute_{self.cc}"


ARCHES: tuple[Arch, ...] = (
    Arch(80, "Ampere (A100)", 163 * KIB, 164 * KIB, "7.0", 108),
    Arch(86, "Ampere (RTX 30, A40)", 99 * KIB, 100 * KIB, "7.1", 84),
    Arch(87, "Ampere (Orin)", 163 * KIB, 164 * KIB, "7.4", 16),
    Arch(89, "Ada (RTX 40, L40)", 99 * KIB, 100 * KIB, "7.8", 128),
    Arch(90, "Hopper (H100, H200)", 227 * KIB, 228 * KIB, "7.8", 132, suffix="a"),
    Arch(100, "Blackwell (B200)", 227 * KIB, 228 * KIB, "8.6", 148, suffix="a"),
    Arch(120, "Blackwell (RTX 50, RTX PRO)", 99 * KIB, 100 * KIB, "8.7", 170, suffix="a"),
)

EMULATED_ARCH = 90  # what the emulator pretends to be: the arch of the recorded dumps


def arch(cc: int) -> Arch:
    """Return the row for compute capability ``cc``, or for the nearest older one of the same major.

    Raises
    ------
    UnsupportedError
        For an arch older than sm_80 or of an unknown major.
    """
    fitting = [row for row in ARCHES if row.cc <= cc and row.cc // 10 == cc // 10]
    if not fitting:
        known = ", ".join(row.sm for row in ARCHES)
        raise UnsupportedError(f"sm_{cc} is not supported; supported: {known}")
    return max(fitting, key=lambda row: row.cc)
