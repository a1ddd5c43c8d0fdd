"""A stand-in for a GPU that runs ``wgmma`` and knows no layout row: the ISA's formulas again.

Source: PTX ISA 9.1, 9.7.15.5.1 "Register Fragments and Shared Memory Matrix Layouts" and 9.7.15.6
(sparse), the descriptor of 9.7.15.5.1.2.2.
"""

import re

import ml_dtypes
import numpy as np

from attnprobe.backends import Dump, Launch

TYPES = {
    "f16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "tf32": np.float32,
    "f32": np.float32,
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
    "s8": np.int8,
    "u8": np.uint8,
    "s32": np.int32,
}
THREAD = np.arange(128)
WARP, GROUP, PLACE = THREAD // 32, THREAD % 32 // 4, THREAD % 4


def values(memory: np.ndarray, type_: str) -> np.ndarray:
    """Elements of bytes (..., bytes), low bits first."""
    raw = np.ascontiguousarray(memory).view(np.uint8)
    if type_ == "b1":
        return np.unpackbits(raw, axis=-1, bitorder="little").astype(np.float64)
    return raw.view(TYPES[type_]).astype(np.float64)


def shared_matrix(words: np.ndarray, rows: int, row_bytes: int, strides: int) -> np.ndarray:
    """Bytes (rows, row_bytes) at their addresses, by leading and stride offset."""
    leading, stride = (strides >> 16 & 0x3FFF) << 4, (strides >> 32 & 0x3FFF) << 4
    row, byte = np.indices((rows, row_bytes))
    address = row // 8 * stride + byte // 16 * leading + row % 8 * 16 + byte % 16
    return words.view(np.uint8)[address]


def d_at(elements: int) -> tuple[np.ndarray, np.ndarray]:
    """(m, n) of element i of each thread."""
    i = np.arange(elements)[None, :]
    m = 16 * WARP[:, None] + GROUP[:, None] + 8 * (i // 2 % 2)
    return m, 8 * (i // 4) + 2 * PLACE[:, None] + i % 2


def a_at(elements: int, per: int) -> tuple[np.ndarray, np.ndarray]:
    """(m, k) of element i of each thread; ``per`` elements in a register."""
    i = np.arange(elements)[None, :]
    m = 16 * WARP[:, None] + GROUP[:, None] + 8 * (i // per % 2)
    return m, per * PLACE[:, None] + i % per + 4 * per * (i // (2 * per))


class WarpgroupSilicon:
    """Answers the launches of ``wgmma.cu`` as the ISA says that hardware does."""

    name = "gpu"
    cc = 90

    def environment(self) -> dict[str, str]:
        return {"device": "the ISA's formulas", "driver": "none"}

    def run(self, launch: Launch) -> Dump:
        assert launch.target == "sm_90a"
        (output,) = launch.unwritten()
        control, a, b, c, e = launch.inputs
        for block, (ai, bi, ci, ei, selector, written) in enumerate(control.tolist()):
            output[block] = self.product(launch, a[ai], b[bi], c[ci], e[ei], selector)[:written]
        return Dump((output,), self.name, self.environment())

    def product(self, launch, a, b, c, e, selector):
        ptx = launch.label[0]
        n, k = (int(each) for each in re.search(r"m64n(\d+)k(\d+)", ptx).groups())
        names = [word for word in ptx.split(" ")[0].split(".") if word in TYPES or word == "b1"]
        d_type, a_type, b_type = names
        defined = dict(re.findall(r"#define ([AB]_STRIDES) (0x[0-9a-f]+)ull", launch.source.text))
        if ptx.endswith("registers"):
            held = values(a.T, a_type)
            A = np.zeros((64, held.shape[1] * 2))
            A[a_at(held.shape[1], held.shape[1] // 4)] = held
        else:
            A = values(shared_matrix(a, 64, 32, int(defined["A_STRIDES"], 16)), a_type)
        row_bytes = b.nbytes // n
        B = values(shared_matrix(b, n, row_bytes, int(defined["B_STRIDES"], 16)), b_type).T
        if ".sp." in ptx:
            A = self.expanded(A, k, e, selector, a_type)
        held = values(c.T, d_type)
        at = d_at(held.shape[1])
        assert B.shape == (k, n)
        d = ((A @ B)[at] + held).astype(TYPES[d_type])
        return np.ascontiguousarray(d).view(np.uint32).T

    def expanded(self, stored, k, e, selector, a_type):
        A = np.zeros((64, k))
        m, g = np.indices((64, 16 if k == 64 else 8))
        if k < 64:  # a pair of lanes, the upper half of each register for the row 8 below
            lane, nibble = 2 * selector + g // 4, g % 4 + 4 * (m // 8 % 2)
        else:
            lane, nibble = m // 8 % 2 + 2 * (g // 8), g % 8
        word = e[32 * (m // 16) + 4 * (m % 8) + lane].astype(np.int64)
        code = word >> (4 * nibble) & 0xF
        if a_type == "tf32":
            assert np.isin(code, (0b0100, 0b1110)).all()
            A[m, 2 * g + (code == 0b1110)] = stored[m, g]
        else:
            assert (code & 3 < code >> 2).all()
            A[m, 4 * g + (code & 3)] = stored[m, 2 * g]
            A[m, 4 * g + (code >> 2)] = stored[m, 2 * g + 1]
        return A
