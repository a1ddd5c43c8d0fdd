"""A stand-in for a GPU with a made-up layout of ``wmma`` fragments, which no document gives."""

import re

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


class WmmaSilicon:
    """Answers the launches of ``wmma_load.cu`` and ``wmma_store.cu``."""

    name = "gpu"
    cc = 90

    def environment(self) -> dict[str, str]:
        return {"device": "a made-up one", "arch": "sm_90", "date": "2000-01-01"}

    def run(self, launch: Launch) -> Dump:
        ptx = launch.label[0]
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
