"""A stand-in for a GPU with a made-up layout of ``wmma`` fragments, which no document gives."""

import re

import ml_dtypes
import numpy as np

from attnprobe.backends import Dump, Launch

BITS = {"f16": 16, "bf16": 16, "f32": 32, "s32": 32, "tf32": 32, "f64": 64, "s8": 8, "u8": 8}
BITS |= {"s4": 4, "u4": 4, "b1": 1}


def positions(letter: str, rows: int, cols: int, elements: int) -> np.ndarray:
    """Element number of each slot, (32, elements): bits of the element and the lane by turns.

    The upper bits of the element number are copies where there are more slots than elements.
    """
    lane, i = np.indices((32, elements))
    first = [(i, 0)] if elements > 1 else []
    order = [*first, (lane, 3), (lane, 1), *([(i, 1)] if elements > 2 else []), (lane, 0)]
    order += [(lane, 2), (lane, 4), *((i, bit) for bit in range(2, 6) if elements >> bit > 0)]
    if letter == "b":
        order = [*order[1:3], order[0], *order[3:]]
    number = np.zeros((32, elements), np.int64)
    for weight, (value, bit) in enumerate(order):
        if 1 << weight < rows * cols:
            number += (value >> bit & 1) << weight
    return number


def spread(raw: np.ndarray, bits: int) -> np.ndarray:
    """Words as elements of ``bits`` bits, low bits first."""
    all_bits = np.unpackbits(np.ascontiguousarray(raw).view(np.uint8), bitorder="little")
    weights = np.uint64(1) << np.arange(bits, dtype=np.uint64)
    return (all_bits.reshape(-1, bits) * weights).sum(axis=1, dtype=np.uint64)


def joined(elements: np.ndarray, bits: int) -> np.ndarray:
    """Elements as words: ``spread`` undone."""
    places = np.arange(bits, dtype=np.uint64)
    each = (elements.reshape(-1, 1) >> places & np.uint64(1)).astype(np.uint8)
    return np.packbits(each.reshape(-1), bitorder="little").view(np.uint32)


VALUES = {
    "f16": np.float16, "bf16": ml_dtypes.bfloat16, "f32": np.float32, "tf32": np.float32,
    "f64": np.float64, "s32": np.int32, "s8": np.int8, "u8": np.uint8,
}  # fmt: skip


def held(registers: np.ndarray, type_: str) -> np.ndarray:
    """Registers (words, 32) as values (32, elements)."""
    raw = spread(np.ascontiguousarray(registers.T), BITS[type_]).reshape(32, -1)
    if BITS[type_] < 8:
        value = raw.astype(np.int64)
        return np.where(value >= 8, value - 16, value) if type_ == "s4" else value
    bits = raw.astype(f"u{BITS[type_] // 8}")
    return bits.view(VALUES[type_]).astype(np.float64)


class WmmaSilicon:
    """Answers the launches of ``wmma_load.cu``, ``wmma_store.cu``, and products of such rows."""

    name = "gpu"
    cc = 90

    def environment(self) -> dict[str, str]:
        return {"device": "a made-up one", "arch": "sm_90", "date": "2000-01-01"}

    def run(self, launch: Launch) -> Dump:
        ptx = launch.label[0]
        if launch.entry == "mma_sync":
            return self.product(launch)
        (given,), (output,) = launch.inputs, launch.unwritten()
        words = ptx.split(".")
        m, n, k = (int(each) for each in re.search(r"m(\d+)n(\d+)k(\d+)", ptx).groups())
        rows, cols = {"a": (m, k), "b": (k, n)}.get(words[2], (m, n))
        bits, stride = BITS[words[-1]], int(re.search(r"\S, (\d+);", launch.source.text)[1])
        held = {"a": m * k, "b": k * n}.get(words[2], m * n) // 32
        elements = 16 if words[2] in "ab" and words[-1] == "f16" else held
        number = positions(words[2], rows, cols, elements)
        place = number // cols * stride + number % cols
        if words[5] == "col":
            place = number % cols * stride + number // cols
        for block in range(len(given)):
            if launch.entry == "wmma_load":
                memory = spread(given[block], bits)
                output[block] = joined(memory[place], bits).reshape(32, -1).T
            else:
                memory = spread(output[block], bits)
                memory[place.reshape(-1)] = spread(np.ascontiguousarray(given[block].T), bits)
                output[block] = joined(memory, bits)
        return Dump((output,), self.name, self.environment())

    def product(self, launch: Launch) -> Dump:
        ptx, (output,) = launch.label[0], launch.unwritten()
        m, n, k = (int(each) for each in re.search(r"m(\d+)n(\d+)k(\d+)", ptx).groups())
        types = [word for word in ptx.split(".") if word in BITS]
        d, a, b, c = (types[0], "f16", "f16", types[1]) if len(types) == 2 else types
        for block in range(len(output)):
            A, B, C = (
                self.matrix(letter, held(array[block], type_), size)
                for letter, type_, array, size in zip(
                    "abc", (a, b, c), launch.inputs, ((m, k), (k, n), (m, n)), strict=True
                )
            )
            D = A @ B
            if ".xor." in ptx:
                D = A.sum(1)[:, None] + B.sum(0)[None, :] - 2 * D
            number = positions("d", m, n, m * n // 32)
            values = (D + C).reshape(-1)[number].astype(VALUES[d])
            words = np.ascontiguousarray(values).view(np.uint32)
            output[block] = words.reshape(32, -1).T
        return Dump((output,), self.name, self.environment())

    @staticmethod
    def matrix(letter: str, fragment: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        matrix = np.zeros(size[0] * size[1])
        matrix[positions(letter, *size, fragment.shape[1])] = fragment
        return matrix.reshape(size)
