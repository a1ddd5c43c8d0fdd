"""How tensor cores add: one row per chip, from which the rule of an instruction follows.

A unit takes a block of products and the accumulator, aligns all of them to the largest exponent,
cuts each to a fixed number of fraction bits, adds exactly, and converts once. Only the row of
sm_90 is measured by this project (docs/product-numerics.md); the others are from the literature.

Source: Fasi, Higham, Mikaitis, Pranesh, "Numerical behavior of NVIDIA tensor cores", PeerJ CS 2021;
Khattak, Mikaitis, arXiv 2510.15884 and 2512.07004; MMA-Sim, arXiv 2511.10909.
"""

from __future__ import annotations

from dataclasses import dataclass

from attnprobe.errors import UnsupportedError

_RECORDED = "probes/recorded/sm_90/arithmetic"
_MMA_PAPERS = "Fasi et al. 2021; Khattak & Mikaitis 2510.15884, 2512.07004; MMA-Sim 2511.10909"


@dataclass(frozen=True)
class Rule:
    """What one product instruction does to floating-point numbers.

    The defaults of the last five fields are what tensor cores do; the other values are hypotheses
    that the questions of probes/arithmetic/ tell apart.

    Attributes
    ----------
    fraction : bits below the largest exponent that every term keeps (F).
    block : products that one step adds to the accumulator; blocks run in the order of k.
    emin : the largest exponent is at least this; None for no such bound.
    output : format of the result of every step, "f32" or "f16".
    result_bits : fraction bits of an f32 result; 13 where the unit gives e8m13.
    terms : what happens to the bits below the cut: "truncate", "nearest" or "floor".
    final : how the sum becomes f32: "truncate" or "nearest". f16 is always rounded to nearest even.
    late_c : the accumulator is added after the products, rounded on its own.
    zero_exponent : exponent that a product with a zero factor takes part with; None: it does not.
    flush : subnormal inputs and results count as zero.
    """

    fraction: int
    block: int
    emin: int | None
    output: str
    result_bits: int = 23
    terms: str = "truncate"
    final: str = "truncate"
    late_c: bool = False
    zero_exponent: int | None = None
    flush: bool = False


@dataclass(frozen=True)
class Chip:
    """One chip's tensor cores.

    Attributes
    ----------
    name, cc : product family and compute capability.
    fraction : F of f16, bf16 and tf32.
    block16, block32 : products per step of 16-bit and of tf32 operands; block32 is 0 without tf32.
    emin_f32, emin_f16 : least alignment exponent with f32 and with f16 results.
    fp8 : "f16" where fp8 is unpacked to f16 (two products of half the k, the accumulator added by
        an FADD), "native" with the fields below, "" without fp8.
    fp8_block, fp8_fraction, fp8_result_bits : of a native fp8 product.
    group_fp8 : block, fraction and result bits of fp8 under wgmma; None without wgmma.
    measured : whether this project holds recorded answers of the chip.
    source : where the numbers are from.
    """

    name: str
    cc: int
    fraction: int
    block16: int
    block32: int
    emin_f32: int | None
    emin_f16: int | None
    fp8: str
    fp8_block: int
    fp8_fraction: int
    fp8_result_bits: int
    group_fp8: tuple[int, int, int] | None
    measured: bool
    source: str

    def rule(self, kind: str, output: str) -> Rule:
        """Return the rule for operands of 16 bits ("16"), tf32 ("tf32"), fp8 under mma.sync ("fp8")
        or under wgmma ("group fp8").

        Raises
        ------
        UnsupportedError
            If the chip has no such product.
        """
        emin = self.emin_f32 if output == "f32" else self.emin_f16
        if kind == "group fp8":
            if self.group_fp8 is None:
                raise UnsupportedError(f"{self.name} has no wgmma")
            group_block, fraction, bits = self.group_fp8
            return Rule(fraction, group_block, emin, output, bits)
        if kind == "fp8":
            if self.fp8 != "native":
                raise UnsupportedError(f"{self.name} has no fp8 product of its own under mma.sync")
            bits = self.fp8_result_bits
            return Rule(self.fp8_fraction, self.fp8_block, emin, output, bits)
        block = self.block32 if kind == "tf32" else self.block16
        if not block:
            raise UnsupportedError(f"{self.name} has no {kind} product")
        return Rule(self.fraction, block, emin, output)


# fmt: off
CHIPS: tuple[Chip, ...] = (
    Chip("V100", 70, 23, 4, 0, None, -19, "", 0, 0, 0, None, False, _MMA_PAPERS),
    Chip("A100", 80, 24, 8, 4, -132, -20, "", 0, 0, 0, None, False, _MMA_PAPERS),
    Chip("RTX 30, A40", 86, 24, 8, 4, -132, -20, "", 0, 0, 0, None, False, _MMA_PAPERS),
    Chip("Ada", 89, 24, 8, 4, -132, -20, "native", 16, 13, 13, None, False, _MMA_PAPERS),
    Chip("Hopper", 90, 25, 16, 8, -133, -21, "f16", 0, 0, 0, (32, 13, 13), True, _RECORDED),
    Chip("B200", 100, 25, 16, 8, -133, -21, "f16", 0, 0, 0, None, False, _MMA_PAPERS),
)
# fmt: on


def chip(cc: int) -> Chip:
    """Return the row of compute capability ``cc``.

    Raises
    ------
    UnsupportedError
        If there is none.
    """
    for row in CHIPS:
        if row.cc == cc:
            return row
    known = ", ".join(f"sm_{row.cc}" for row in CHIPS)
    raise UnsupportedError(f"no arithmetic is known for sm_{cc}; there is {known}")
