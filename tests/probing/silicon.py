"""A stand-in for a GPU that knows no layout row: the ISA's formulas, written again, in plain loops.

Source: PTX ISA 9.1, "Matrix Fragments for mma...", "Warp-level matrix load instruction: ldmatrix",
"... store instruction: stmatrix", "... transpose instruction: movmatrix".
"""

from dataclasses import dataclass

import ml_dtypes
import numpy as np

from attnprobe.backends import Dump, Launch
from tests.probing import isa_formulas as isa

LANES = range(32)
BITS = {
    "f16": 16, "bf16": 16, "f32": 32, "tf32": 32, "f64": 64, "s32": 32, "s8": 8, "u8": 8, "s4": 4,
    "u4": 4, "b1": 1, "e4m3": 8, "e5m2": 8,
}  # fmt: skip
DTYPES = {
    "f16": np.float16, "bf16": ml_dtypes.bfloat16, "f32": np.float32, "f64": np.float64,
    "s32": np.int32, "s8": np.int8, "u8": np.uint8, "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
}  # fmt: skip


def elements(registers: np.ndarray, kind: str) -> np.ndarray:
    """Registers (..., words, 32) as values (..., 32, elements)."""
    words = np.ascontiguousarray(np.swapaxes(registers, -1, -2))
    bits = BITS[kind]
    if bits < 8:
        parts = words[..., None] >> np.arange(0, 32, bits, dtype=np.uint32) & (2**bits - 1)
        value = parts.reshape(*words.shape[:-1], -1).astype(np.float64)
        return np.where(value >= 8, value - 16, value) if kind == "s4" else value
    if kind == "tf32":
        return (words & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64)
    return words.view(DTYPES[kind]).astype(np.float64)


def words(values: np.ndarray) -> np.ndarray:
    """Elements (..., 32, n) of 16 to 64 bits as registers (..., words, 32)."""
    return np.swapaxes(np.ascontiguousarray(values).view(np.uint32), -1, -2)


@dataclass(frozen=True)
class Product:
    """What the words of a mnemonic say."""

    shape: tuple[int, int, int]
    layouts: tuple[str, str]
    types: tuple[str, str, str, str]  # of D, A, B, C
    modifiers: tuple[str, ...]

    @property
    def quad_pairs(self) -> bool:
        return self.shape == (8, 8, 4) and self.types[1] == "f16"

    @property
    def sparse(self) -> bool:
        return "sp" in self.modifiers or "sp::ordered_metadata" in self.modifiers


def parsed(ptx: str) -> Product:
    parts = ptx.split(".")
    place = next(i for i, part in enumerate(parts) if part[0] == "m" and part[1:2].isdigit())
    m, rest = parts[place][1:].split("n")
    n, k = rest.split("k")
    types = [part for part in parts[place:] if part in BITS]
    return Product(
        (int(m), int(n), int(k)), (parts[place + 1], parts[place + 2]),
        (types[0], types[1], types[2], types[3]), tuple(parts),
    )  # fmt: skip


def a_table(what: Product) -> np.ndarray:
    m, _, k = what.shape
    bits = BITS[what.types[1]]
    if what.quad_pairs:
        return isa.table(isa.quad_pair_a, what.layouts[0], elements=4)
    k = k // 2 if what.sparse else k
    per, held = max(1, 32 // bits), m * k // 32
    formula = isa.a_one_row if m == 8 else isa.a_two_rows if held == 2 * per else isa.a_four
    return isa.table(formula, per, elements=held)


def b_table(what: Product) -> np.ndarray:
    if what.quad_pairs:
        return isa.table(isa.quad_pair_b, what.layouts[1], elements=4)
    per = max(1, 32 // BITS[what.types[2]])
    return isa.table(isa.b_usual, per, elements=what.shape[2] * 8 // 32)


def c_table(what: Product, kind: str) -> np.ndarray:
    if what.quad_pairs:
        return isa.table(isa.quad_pair_c, BITS[kind], elements=8)
    return isa.table(isa.accumulator, elements=what.shape[0] * 8 // 32)


def placed(values: np.ndarray, table: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    matrix = np.zeros((*values.shape[:-2], *shape))
    matrix[..., table[..., 0], table[..., 1]] = values
    return matrix


class Silicon:
    """Answers the launches of the probe kernels as the ISA says that hardware does."""

    name = "gpu"

    def __init__(self, cc: int = 90) -> None:
        self.cc = cc

    def environment(self) -> dict[str, str]:
        return {"device": "the ISA's formulas", "driver": "none", "date": "2026-01-01"}

    def run(self, launch: Launch) -> Dump:
        outputs = launch.unwritten()
        results = getattr(self, launch.entry)(launch.label[0], *launch.inputs)
        for output, result in zip(outputs, results, strict=True):
            output[...] = result
        return Dump(tuple(outputs), self.name, self.environment())

    # --- products: arrays are (blocks, words, lanes) ---------------------------------------------

    def mma_sync(self, ptx, a, b, c):
        return (self.product(ptx, a, b, c),)

    def mma_steered(self, ptx, a, b, c, e, variant):
        return (self.product(ptx, a, b, c, self.columns(parsed(ptx), e[:, 0], variant[:, 0])),)

    def product(self, ptx, a, b, c, columns=None):
        what = parsed(ptx)
        m, n, k = what.shape
        many = 4 if what.quad_pairs else 1
        stored = k // 2 if what.sparse else k
        A = placed(elements(a, what.types[1]), a_table(what), (many * m, stored))
        B = placed(elements(b, what.types[2]), b_table(what), (many * k, n))
        C = placed(elements(c, what.types[3]), c_table(what, what.types[3]), (many * m, n))
        if columns is not None:
            full = np.zeros((len(A), m, k))
            np.put_along_axis(full, columns, A, axis=-1)
            A = full
        D = C + self.multiplied(what, A.reshape(-1, many, m, k), B.reshape(-1, many, k, n))
        at = c_table(what, what.types[0])
        return self.held(what, D[:, at[..., 0], at[..., 1]])

    def multiplied(self, what, A, B):
        both = A @ B
        if "xor" in what.modifiers:
            both = A.sum(-1)[..., None] + B.sum(-2)[..., None, :] - 2 * both
        return both.reshape(len(both), -1, both.shape[-1])

    def held(self, what, values):
        kind = what.types[0]
        if kind != "s32":
            return words(values.astype(DTYPES[kind]))
        if "satfinite" in what.modifiers:
            return words(np.clip(values, -(2**31), 2**31 - 1).astype(np.int32))
        return words(values.astype(np.int64).astype(np.uint32))  # the low 32 bits

    def columns(self, what, e, selector):
        """k of every stored element of A: (blocks, m, stored)."""
        m, _, k = what.shape
        bits = BITS[what.types[1]]
        single = bits == 32  # tf32: one index of 4 bits for two elements
        indices = k // 2 if bits != 4 else k // 4
        quad_lanes = m * indices * (4 if single else 2) // 256
        raw = np.zeros((len(e), m, indices), np.int64)
        width = 4 if single else 2
        for lane in LANES:
            used = np.array([isa.reads(quad_lanes, s, lane) for s in selector.tolist()])
            for i in range(32 // width):
                row, index = isa.index_at(quad_lanes, indices, lane, i, bits)
                value = e[:, lane].astype(np.int64) >> width * i & (2**width - 1)
                raw[used, row, index] = value[used]
        if single:
            return 2 * np.arange(indices) + (raw == 0b1110)
        if bits == 4:  # an index names a pair among four pairs
            first = 8 * (np.arange(indices) // 2) + 2 * raw
            return np.stack([first, first + 1], axis=-1).reshape(len(e), m, -1)
        return 4 * (np.arange(indices) // 2) + raw

    # --- loads, stores and chains ----------------------------------------------------------------

    def ldmatrix(self, ptx, memory, offsets):
        return (np.stack([self.load(ptx, *each) for each in zip(memory, offsets, strict=True)]),)

    def load(self, ptx, memory, offsets):
        count = int(ptx.split(".")[4][1:])
        shared = memory.view(np.uint16)
        loaded = np.zeros((32, 2 * count), np.uint16)
        for lane in LANES:
            for j in range(count):
                for half in range(2):
                    row, col = lane // 4, 2 * (lane % 4) + half
                    if ".trans" in ptx:
                        row, col = col, row
                    loaded[lane, 2 * j + half] = shared[offsets[8 * j + row] // 2 + col]
        return words(loaded)

    def stmatrix(self, ptx, registers, offsets):
        return (
            np.stack([self.store(ptx, *each) for each in zip(registers, offsets, strict=True)]),
        )

    def store(self, ptx, registers, offsets):
        count = int(ptx.split(".")[4][1:])
        shared = np.zeros(32 * 8, np.uint16)
        held = np.ascontiguousarray(registers.T).view(np.uint16)
        for lane in LANES:
            for j in range(count):
                for half in range(2):
                    row, col = lane // 4, 2 * (lane % 4) + half
                    if ".trans" in ptx:
                        row, col = col, row
                    shared[offsets[8 * j + row] // 2 + col] = held[lane, 2 * j + half]
        return shared.view(np.uint32)

    def movmatrix(self, ptx, a):
        held = np.ascontiguousarray(a[0].T).view(np.uint16)
        matrix = np.zeros((8, 8), np.uint16)
        for lane in LANES:
            for half in range(2):
                matrix[lane // 4, 2 * (lane % 4) + half] = held[lane, half]
        moved = np.zeros((32, 2), np.uint16)
        for lane in LANES:
            for half in range(2):
                moved[lane, half] = matrix[2 * (lane % 4) + half, lane // 4]
        return (words(moved)[None],)

    def ldmatrix_to_a(self, ptx, memory, offsets, b):
        count = {16: 4, 8: 2}[parsed(ptx).shape[2]]
        (a,) = self.ldmatrix(f"ldmatrix.sync.aligned.m8n8.x{count}", memory, offsets)
        registers = 2 if parsed(ptx).types[0] == "f16" else 4
        return a, self.product(ptx, a, b, np.zeros((len(a), registers, 32), np.uint32))

    def d_is_next_a(self, ptx, a, b):
        what = parsed(ptx)
        ab, cd = what.types[1], what.types[0]
        zero = np.zeros((len(a), 2 if cd == "f16" else 4, 32), np.uint32)
        tiles = range(b.shape[1])
        packed = []
        for tile in tiles:
            d = elements(self.product(ptx, a, b[:, tile], zero), cd)
            packed.append(words(d.astype(DTYPES[ab])))
        next_a = np.concatenate(packed, axis=1)
        return next_a, np.stack([self.product(ptx, next_a, b[:, t], zero) for t in tiles], axis=1)
