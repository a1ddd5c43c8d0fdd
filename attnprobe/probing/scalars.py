"""Scalar instructions of the attention kernels, asked of a backend on random words to the bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.backends.base import Backend, Launch
from attnprobe.compile import load_source
from attnprobe.probing.tiles import Words

Array = npt.NDArray[Any]

THREADS = 256
COUNT = 1 << 18  # words of each operand in one regime
_SIGN, _MANTISSA = np.uint32(0x80000000), np.uint32(0x007FFFFF)


@dataclass(frozen=True)
class Scalar:
    """One instruction.

    Attributes
    ----------
    ptx : as PTX writes it.
    inputs, output : asm constraints of the operands: "f" a float, "r" a word.
    """

    ptx: str
    inputs: str
    output: str = "f"

    @property
    def macro(self) -> dict[str, object]:
        """OPERATION(d, a, b, c) for kernels/probe/scalar.cu."""
        names = "abc"[: len(self.inputs)]
        places = ", ".join(f"%{number}" for number in range(len(names) + 1))
        read = ", ".join(
            f'"{kind}"({_as(kind, name)})' for kind, name in zip(self.inputs, names, strict=True)
        )
        asm = f'asm volatile("{self.ptx} {places};" : "={self.output}"(result) : {read})'
        kind = {"f": "float", "r": "unsigned int"}[self.output]
        back = "__float_as_uint(result)" if self.output == "f" else "result"
        return {
            "THREADS": THREADS,
            "OPERATION(d, a, b, c)": f"do {{ {kind} result; {asm}; d = {back}; }} while (0)",
        }


def _as(kind: str, name: str) -> str:
    return f"__uint_as_float({name})" if kind == "f" else name


# Every floating-point instruction that NVRTC makes of kernels/attention/, and ex2's relatives.
SCALARS: tuple[Scalar, ...] = (
    Scalar("ex2.approx.ftz.f32", "f"),
    Scalar("rcp.rn.ftz.f32", "f"),
    Scalar("add.rn.ftz.f32", "ff"),
    Scalar("sub.rn.ftz.f32", "ff"),
    Scalar("mul.rn.ftz.f32", "ff"),
    Scalar("fma.rn.ftz.f32", "fff"),
    Scalar("max.ftz.f32", "ff"),
    Scalar("neg.ftz.f32", "f"),
    Scalar("cvt.rn.f16x2.f32", "ff", "r"),
    Scalar("cvt.rn.bf16x2.f32", "ff", "r"),
    Scalar("cvt.rzi.ftz.s32.f32", "f", "r"),
    Scalar("cvt.rn.f32.s32", "r"),
    Scalar("cvt.rn.f32.u32", "r"),
)

REGIMES = ("every", "near", "small", "flushed", "moderate")


def words(ptx: str, regime: str) -> tuple[Array, Array, Array]:
    """Return the three inputs of a regime: uint32, (COUNT,).

    every: any 32 bits. near: exponents of the three close together, so that sums cancel. small:
    near the least normal numbers. flushed: products near them. moderate: exponents -30 ... 7.
    """
    stream = Words(f"{ptx}|{regime}")
    raw = [(stream.take((COUNT,)) >> np.uint64(32)).astype(np.uint32) for _ in range(3)]
    if regime == "every":
        return raw[0], raw[1], raw[2]
    choice = stream.take((COUNT,))
    exponents = [_exponents(regime, choice, number) for number in range(3)]
    a, b, c = (
        word & (_SIGN | _MANTISSA) | exponent.astype(np.uint32) << np.uint32(23)
        for word, exponent in zip(raw, exponents, strict=True)
    )
    if regime == "near":
        b = np.where(choice & np.uint64(1), a ^ _SIGN ^ (b & np.uint32(3)), b)
    return a, b, c


def _exponents(regime: str, choice: Array, number: int) -> Array:
    """Return biased exponents 0 ... 254 of operand ``number``."""
    own = (choice >> np.uint64(8 * number + 8)).astype(np.int64) & 0xFF
    shared = (choice >> np.uint64(40)).astype(np.int64) & 0xFF
    if regime == "near":
        close: Array = np.clip(shared + own % 5 - 2, 0, 254)
        return close
    if regime == "small":
        return own % 6
    if regime == "moderate":
        return 97 + own % 38
    # flushed: the exponents of a and b add up to one near the least, c is near it too
    first = 20 + shared % 100
    low: Array = (first, 127 - first + own % 8, own % 8)[number]
    return low


def ask(scalar: Scalar, regime: str, backend: Backend) -> Array:
    """Return what ``backend`` gives: uint32, (COUNT,)."""
    return run(scalar, words(scalar.ptx, regime), backend, f"{scalar.ptx}|{regime}")


def run(scalar: Scalar, inputs: tuple[Array, Array, Array], backend: Backend, label: str) -> Array:
    """Return ``scalar`` of words: uint32, as many as there are; a multiple of ``THREADS``."""
    launch = Launch(
        source=load_source("probe/scalar.cu", scalar.macro),
        entry="scalar",
        grid=(inputs[0].size // THREADS, 1, 1),
        block=(THREADS, 1, 1),
        inputs=inputs,
        outputs=((inputs[0].shape, np.dtype(np.uint32)),),
        label=(scalar.ptx, "scalar", label),
    )
    return backend.run(launch).arrays[0]


def table(backend: Backend) -> Array:
    """Return the bits of ex2.approx.ftz.f32 of f / 2**23 for every f of 23 bits: uint32."""
    f = np.arange(1 << 23, dtype=np.float64) / 2.0**23
    x = f.astype(np.float32).view(np.uint32)
    return run(SCALARS[0], (x, x, x), backend, "table")
