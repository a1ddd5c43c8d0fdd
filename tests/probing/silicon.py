"""A stand-in for a GPU that knows no layout row: the ISA's formulas, written again, in plain loops.

Source: PTX ISA 9.1, "Matrix Fragments for mma.m16n8k8", "... for mma.m16n8k16 with floating point
type", "Warp-level matrix load instruction: ldmatrix".
"""

import ml_dtypes
import numpy as np

from attnprobe.backends import Dump, Launch

LANES = range(32)
TYPES = {"f16": np.float16, "bf16": ml_dtypes.bfloat16, "f32": np.float32}


def a_at(lane: int, i: int) -> tuple[int, int]:
    """(m, k) of element i of A: i < 4 in the first eight of k, and so on in steps of eight."""
    group, thread = lane >> 2, lane % 4
    row = group if (i % 4) < 2 else group + 8
    return row, thread * 2 + (i & 1) + 8 * (i // 4)


def b_at(lane: int, i: int) -> tuple[int, int]:
    """(k, n) of element i of B."""
    return (lane % 4) * 2 + (i & 1) + 8 * (i // 2), lane >> 2


def c_at(lane: int, i: int) -> tuple[int, int]:
    """(m, n) of element i of C and D."""
    return (lane >> 2) + (8 if i >= 2 else 0), (lane % 4) * 2 + (i & 1)


def elements(registers: np.ndarray, dtype: type) -> np.ndarray:
    """Registers of one block, (registers, 32), as (32, elements)."""
    return np.ascontiguousarray(registers.T).view(dtype)


def words(values: np.ndarray) -> np.ndarray:
    """Elements (32, elements) as registers (registers, 32)."""
    return np.ascontiguousarray(values).view(np.uint32).T


class Silicon:
    """Answers the launches of the probe kernels as the ISA says that hardware does."""

    name = "gpu"

    def __init__(self, cc: int = 90) -> None:
        self.cc = cc

    def environment(self) -> dict[str, str]:
        return {"device": "the ISA's formulas", "driver": "none"}

    def run(self, launch: Launch) -> Dump:
        outputs = launch.unwritten()
        for block in range(launch.grid[0]):
            blocks = [array[block] for array in launch.inputs]
            results = getattr(self, launch.entry)(launch.label[0], *blocks)
            for output, result in zip(outputs, results, strict=True):
                output[block] = result
        return Dump(tuple(outputs), self.name, self.environment())

    def mma_sync(self, ptx, a, b, c):
        return (self.product(ptx, a, b, c),)

    def product(self, ptx, a, b, c):
        ab, cd = TYPES[ptx.split(".")[7]], TYPES[ptx.split(".")[6]]
        k = int(ptx.split(".")[3].split("k")[1])
        held = elements(a, ab), elements(b, ab), elements(c, cd)
        A, B, C = np.zeros((16, k)), np.zeros((k, 8)), np.zeros((16, 8))
        for matrix, fragment, at in zip((A, B, C), held, (a_at, b_at, c_at), strict=True):
            for lane in LANES:
                for i in range(fragment.shape[1]):
                    matrix[at(lane, i)] = float(fragment[lane, i])
        D = (A @ B + C).astype(cd)
        d = np.zeros((32, 4), cd)
        for lane in LANES:
            for i in range(4):
                d[lane, i] = D[c_at(lane, i)]
        return words(d)

    def ldmatrix(self, ptx, memory, offsets):
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
        return (words(loaded),)

    def ldmatrix_to_a(self, ptx, memory, offsets, b):
        count = {16: 4, 8: 2}[int(ptx.split(".")[3].split("k")[1])]
        (a,) = self.ldmatrix(f"ldmatrix.sync.aligned.m8n8.x{count}", memory, offsets)
        registers = 2 if ptx.split(".")[6] == "f16" else 4
        return a, self.product(ptx, a, b, np.zeros((registers, 32), np.uint32))

    def d_is_next_a(self, ptx, a, b):
        ab, cd = TYPES[ptx.split(".")[7]], TYPES[ptx.split(".")[6]]
        zero = words(np.zeros((32, 4), cd))
        packed = []
        for tile in b:
            d = elements(self.product(ptx, a, tile, zero), cd)
            packed.append(words(d.astype(ab)))
        next_a = np.concatenate(packed)
        return next_a, np.stack([self.product(ptx, next_a, tile, zero) for tile in b])
