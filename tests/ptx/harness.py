"""Hand-written PTX kernels around one instruction, and around a few lines."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from attnprobe import ptx

HEAD = ".version 8.8\n.target sm_90\n.address_size 64\n"
BITS = {
    "pred": 1, "b16": 16, "u16": 16, "s16": 16, "f16": 16, "bf16": 16,
    "b32": 32, "u32": 32, "s32": 32, "f32": 32, "f16x2": 32, "bf16x2": 32,
    "b64": 64, "u64": 64, "s64": 64, "f64": 64,
}  # fmt: skip
LETTERS = "abcdefgh"

# Values at the edges of what each type can do.
EDGES: dict[str, list[int]] = {
    "s32": [
        0,
        1,
        2,
        31,
        0x7FFFFFFF,
        0x80000000,
        0x80000001,
        0xFFFFFFFF,
        0xFFFFFFFE,
        0x12345678,
        0xDEADBEEF,
    ],
    "u32": [0, 1, 2, 7, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE, 0x00FF00FF, 0xCAFEBABE],
    "u64": [
        0,
        1,
        3,
        0x7FFFFFFFFFFFFFFF,
        0x8000000000000000,
        0xFFFFFFFFFFFFFFFF,
        0x00000001_00000000,
        0x0123456789ABCDEF,
        0xFEDCBA9876543210,
    ],
    "u16": [0, 1, 2, 0x7FFF, 0x8000, 0xFFFF, 0x1234, 0xFEDC],
    "f32": [
        0,
        0x80000000,
        1,
        0x80000001,
        0x007FFFFF,
        0x00800000,
        0x3F800000,
        0xBF800000,
        0x3F800001,
        0x3FFFFFFF,
        0x40490FDB,
        0xC2F6E979,
        0x4B000001,
        0x4B7FFFFF,
        0x7F7FFFFF,
        0xFF7FFFFF,
        0x7F800000,
        0xFF800000,
        0x7FC00000,
        0x33800000,
        0x34000001,
        0x00FFFFFF,
    ],
    "f16": [
        0,
        0x8000,
        1,
        0x8001,
        0x03FF,
        0x0400,
        0x3C00,
        0xBC00,
        0x3C01,
        0x3555,
        0x7BFF,
        0xFBFF,
        0x7C00,
        0xFC00,
        0x7E00,
        0x1400,
        0x6400,
    ],
    "bf16": [
        0,
        0x8000,
        1,
        0x007F,
        0x0080,
        0x3F80,
        0xBF80,
        0x3F81,
        0x4049,
        0x7F7F,
        0xFF7F,
        0x7F80,
        0xFF80,
        0x7FC0,
        0x3380,
        0x4B00,
    ],
    "f64": [
        0,
        1 << 63,
        1,
        0x000FFFFFFFFFFFFF,
        0x3FF0000000000000,
        0xBFF8000000000000,
        0x400921FB54442D18,
        0x7FEFFFFFFFFFFFFF,
        0x7FF0000000000000,
        0xFFF0000000000000,
        0x7FF8000000000000,
        0x3810000000000001,
        0x47EFFFFFF0000000,
        0x41DFFFFFFFC00000,
        0x3E60000010000000,
        0x43E0000000000000,
    ],
}
EDGES["s64"] = EDGES["b64"] = EDGES["u64"]
EDGES["b32"] = EDGES["u32"]
EDGES["s16"] = EDGES["b16"] = EDGES["u16"]


def storage(kind: str) -> np.dtype[Any]:
    """Return the unsigned dtype in which values of a type lie in memory (predicates as 32 bits)."""
    return np.dtype(f"u{max(BITS[kind], 16) // 8}") if kind != "pred" else np.dtype(np.uint32)


def kernel(body: str, params: str, registers: str = "", shared: str = "") -> str:
    """Return a module with one kernel ``k``."""
    return f"{HEAD}.visible .entry k({params})\n{{\n{registers}\n{shared}\n{body}\nret;\n}}\n"


def one_instruction(text: str, out: str, sources: Sequence[str]) -> str:
    """Return a kernel that runs ``text`` on registers a, b, c ... and stores d, per thread."""
    lines = ["mov.u32 %i, %ctaid.x;", "mov.u32 %t, %tid.x;", "mad.lo.u32 %i, %i, 128, %t;"]
    registers = [".reg .b32 %i, %t, %n, %z;", ".reg .b64 %p, %o;", ".reg .pred %q;"]
    registers += ["ld.param.u32 %n, [count];", "setp.ge.u32 %q, %i, %n;", "@%q ret;"]
    registers = [*registers[:3], *lines, *registers[3:]]
    code: list[str] = []
    for number, kind in enumerate([*sources, out]):
        name = "d" if number == len(sources) else LETTERS[number]
        width = "pred" if kind == "pred" else f"b{BITS[kind]}"
        registers.append(f".reg .{width} {name};")
    for number, kind in enumerate(sources):
        name = LETTERS[number]
        size = storage(kind).itemsize
        code += [
            f"ld.param.u64 %p, [in{number}];",
            f"mul.wide.u32 %o, %i, {size};",
            "add.u64 %p, %p, %o;",
        ]
        if kind == "pred":
            code += ["ld.global.b32 %z, [%p];", f"setp.ne.u32 {name}, %z, 0;"]
        else:
            code.append(f"ld.global.b{BITS[kind]} {name}, [%p];")
    code.append(text)
    code += [
        "ld.param.u64 %p, [out];",
        f"mul.wide.u32 %o, %i, {storage(out).itemsize};",
        "add.u64 %p, %p, %o;",
    ]
    if out == "pred":
        code += ["selp.u32 %z, 1, 0, d;", "st.global.b32 [%p], %z;"]
    else:
        code.append(f"st.global.b{BITS[out]} [%p], d;")
    params = ", ".join(
        [
            *(f".param .u64 in{number}" for number in range(len(sources))),
            ".param .u64 out",
            ".param .u32 count",
        ]
    )
    return kernel("\n".join(code), params, "\n".join(registers))


def evaluate(
    text: str, out: str, sources: Sequence[str], columns: Sequence[Sequence[int]]
) -> list[int]:
    """Return what ``text`` gives for every row of inputs (raw bits)."""
    count = len(columns[0])
    program = ptx.load(one_instruction(text, out, sources))
    memory = ptx.GlobalMemory()
    arrays = [
        np.array(column, storage(kind)) for column, kind in zip(columns, sources, strict=True)
    ]
    result = np.zeros(count, storage(out))
    buffers = [memory.map(array, writable=False) for array in arrays] + [memory.map(result)]
    ptx.launch(
        program, "k", (-(-count // 128),), (128,), [*buffers, np.uint32(count)], memory=memory
    )
    return [int(value) for value in result]


def crossed(*lists: Sequence[int]) -> list[list[int]]:
    """Return the columns of the product of ``lists``."""
    return [list(column) for column in zip(*product(*lists), strict=True)]


def run(
    text: str,
    arrays: Sequence[np.ndarray[Any, Any]],
    scalars: Sequence[np.generic] = (),
    grid: Sequence[int] = (1,),
    block: Sequence[int] = (32,),
    shared_bytes: int = 0,
    **options: Any,
) -> ptx.LaunchReport:
    """Launch kernel ``k`` of a text; arrays are mapped in order and come first."""
    memory = ptx.GlobalMemory()
    buffers = [memory.map(array, name=f"array {number}") for number, array in enumerate(arrays)]
    return ptx.launch(
        ptx.load(text),
        "k",
        grid,
        block,
        [*buffers, *scalars],
        shared_bytes,
        memory=memory,
        **options,
    )
