# ruff: noqa: E501
"""mma.sync and ldmatrix: every row of the tables, added rows, one layout written out by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from attnprobe import layouts, ptx
from attnprobe.errors import EmulatorError, MemoryFault, PtxSyntaxError, UnknownOpcodeError
from attnprobe.formats import FORMATS
from attnprobe.layouts import Digit, Fragment, Instruction, Operand
from tests.ptx.harness import kernel, run

MMA = [row for row in layouts.rows() if row.family == "mma"]
LDMATRIX = [row for row in layouts.rows() if row.family == "ldmatrix" and not row.memory]
UNPACKING = [row for row in layouts.rows() if row.family == "ldmatrix" and row.memory]


def mma_text(row: Instruction) -> str:
    """Return a kernel that loads A, B, C registers of each thread, multiplies, and stores D."""
    size = {operand.name: 4 * operand.format.words for operand in row.operands}
    code = ["mov.u32 t, %ctaid.x; mov.u32 i, %tid.x; mad.lo.u32 t, t, 64, i;"]
    names: dict[str, list[str]] = {}
    for operand in row.operands:
        names[operand.name] = [f"{operand.name}{i}" for i in range(operand.registers)]
    for name in ("A", "B", "C"):
        count = len(names[name])
        code.append(
            f"ld.param.u64 p, [in{name}]; mul.wide.u32 w, t, {size[name] * count}; add.u64 p, p, w;"
        )
        code += [
            f"ld.global.b{8 * size[name]} {register}, [p+{size[name] * i}];"
            for i, register in enumerate(names[name])
        ]
    shown = ", ".join("{" + ", ".join(names[operand.name]) + "}" for operand in row.operands)
    code.append(f"{row.ptx} {shown};")
    code.append(
        f"ld.param.u64 p, [out]; mul.wide.u32 w, t, {size['D'] * len(names['D'])}; add.u64 p, p, w;"
    )
    code += [
        f"st.global.b{8 * size['D']} [p+{size['D'] * i}], {register};"
        for i, register in enumerate(names["D"])
    ]
    declared = " ".join(
        f".reg .b{8 * size[name]} {', '.join(group)};" for name, group in names.items()
    )
    params = ".param .u64 inA, .param .u64 inB, .param .u64 inC, .param .u64 out"
    return kernel("\n".join(code), params, f".reg .b32 t, i; {declared} .reg .b64 p, w;")


def registers(operand: Operand, matrices: np.ndarray) -> np.ndarray:
    """Return matrices (warps, rows, cols) as the raw registers of all threads: (warps * 32,
    words).
    """
    flat = matrices.reshape(len(matrices), operand.fragment.rows, operand.fragment.cols)
    held = operand.fragment.gather(operand.format.encode(flat))
    return operand.format.pack(held).reshape(len(matrices) * 32, -1)


def values(operand: Operand, raw: np.ndarray) -> np.ndarray:
    """Return the matrices that raw registers hold, float64."""
    held = operand.format.decode(operand.format.unpack(raw.reshape(-1, 32, raw.shape[-1])))
    return operand.fragment.scatter(held).reshape(len(held), *operand.axis_sizes)


def check_product(row: Instruction, warps: int = 6) -> None:
    """Small integers: every format and every order of summing gives the same, exact result."""
    rng = np.random.default_rng(5)
    drawn = {}
    for name, low, high in (("A", -4, 5), ("B", -4, 5), ("C", -40, 41)):
        form = row[name].format
        if form.is_integer:
            low, high = max(low, form.limits[0]), min(high, form.limits[1] + 1)
        drawn[name] = rng.integers(low, high, (warps, *row[name].axis_sizes))
    inputs = [registers(row[name], x) for name, x in drawn.items()]
    out = np.zeros((warps * 32, row["D"].registers * row["D"].format.words), np.uint32)
    run(mma_text(row), [*inputs, out], grid=(warps // 2,), block=(64,))
    a, b, c = drawn.values()
    products = a @ b
    if ".xor" in row.ptx:
        products = (a[..., :, :, None] ^ b[..., None, :, :]).sum(axis=-2)
    np.testing.assert_array_equal(values(row["D"], out), products + c)


@pytest.mark.parametrize("row", MMA, ids=lambda row: row.ptx)
def test_every_product_of_the_tables(row: Instruction) -> None:
    check_product(row)


def made_up(ptx_name: str, k: int, ab: str) -> Instruction:
    """Return a row that no hardware has: m8n8, lanes along the columns, another k."""
    lane = (Digit(8, row=1), Digit(4, col=k // 4))
    a = Fragment(8, k, lane, (Digit(k // 4, col=1),))
    b = Fragment(k, 8, (Digit(8, col=1), Digit(4, row=k // 4)), (Digit(k // 4, row=1),))
    d = Fragment(8, 8, (Digit(8, row=1), Digit(4, col=2)), (Digit(2, col=1),))
    first = MMA[0]
    operands = tuple(
        dataclasses.replace(first[name], fragment=fragment, format=FORMATS[kind])
        for name, fragment, kind in (("D", d, "f32"), ("A", a, ab), ("B", b, ab), ("C", d, "f32"))
    )
    return dataclasses.replace(first, ptx=ptx_name, shape=(8, 8, k), operands=operands)


@pytest.mark.parametrize(("k", "ab"), [(8, "f16"), (32, "f16"), (16, "bf16"), (12, "f32")])
def test_a_row_added_at_run_time_works_at_once(k: int, ab: str) -> None:
    row = made_up(f"mma.sync.aligned.m8n8k{k}.row.col.f32.{ab}.{ab}.f32", k, ab)
    with pytest.raises(
        UnknownOpcodeError, match=r"no layout row has this name; the nearest: mma\.sync"
    ):
        ptx.load(mma_text(row))
    with layouts.added(row):
        check_product(row)
    with pytest.raises(UnknownOpcodeError):
        ptx.load(mma_text(row))


def test_the_same_text_follows_a_row_that_has_changed() -> None:
    name = "mma.sync.aligned.m8n8k16.row.col.f32.f16.f16.f32"
    row = made_up(name, 16, "f16")
    with layouts.added(row):
        check_product(row)
    swapped = dataclasses.replace(
        row["A"], fragment=Fragment(8, 16, (Digit(4, col=4), Digit(8, row=1)), (Digit(4, col=1),))
    )
    changed = dataclasses.replace(row, operands=(row["D"], swapped, row["B"], row["C"]))
    with layouts.added(changed):
        check_product(changed)


def test_m16n8k16_by_hand() -> None:
    """The manual's formulas for A, B and D, written out here without the rows."""
    rng = np.random.default_rng(7)
    a, b = rng.normal(size=(16, 16)).astype(np.float16), rng.normal(size=(16, 8)).astype(np.float16)
    c = rng.normal(size=(16, 8)).astype(np.float32)
    raw = {
        "A": np.zeros((32, 8), np.float16),
        "B": np.zeros((32, 4), np.float16),
        "C": np.zeros((32, 4), np.float32),
    }
    for lane in range(32):
        group, thread = lane // 4, lane % 4
        for i in range(8):
            row = group if i < 2 or 4 <= i < 6 else group + 8
            raw["A"][lane, i] = a[row, thread * 2 + (i & 1) + (8 if i >= 4 else 0)]
        for i in range(4):
            raw["B"][lane, i] = b[thread * 2 + (i & 1) + (8 if i >= 2 else 0), group]
            raw["C"][lane, i] = c[group + (8 if i >= 2 else 0), thread * 2 + (i & 1)]
    out = np.zeros((32, 4), np.float32)
    name = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
    inputs = [array.view(np.uint32) for array in raw.values()]
    run(mma_text(layouts.find(name)), [*inputs, out], block=(32,))
    exact = a.astype(np.float64) @ b.astype(np.float64) + c
    got = np.zeros((16, 8))
    for lane in range(32):
        for i in range(4):
            got[lane // 4 + (8 if i >= 2 else 0), lane % 4 * 2 + (i & 1)] = out[lane, i]
    assert np.abs(got - exact).max() < 1e-5


def ldmatrix_text(row: Instruction, guard: str = "") -> str:
    (operand,) = row.operands
    names = [f"d{i}" for i in range(operand.registers)]
    code = [
        "mov.u32 t, %tid.x; ld.param.u64 p, [in]; mul.wide.u32 w, t, 32; add.u64 p, p, w; mov.u32 "
        "s, box;",
        "mad.lo.u32 s, t, 32, s;",
    ]
    for half in (0, 16):
        code.append(
            f"ld.global.v4.b32 {{x, y, z, v}}, [p+{half}]; st.shared.v4.b32 [s+{half}], {{x, y, z, v}};"
        )
    code.append(
        "bar.sync 0; ld.param.u64 p, [where]; mul.wide.u32 w, t, 4; add.u64 p, p, w; ld.global.b32 "
        "s, [p];"
    )
    code.append("mov.u32 x, box; add.u32 s, s, x; setp.lt.u32 q, t, 40;")
    code.append(f"{guard} {row.ptx} {{{', '.join(names)}}}, [s];")
    code.append(f"ld.param.u64 p, [out]; mul.wide.u32 w, t, {4 * len(names)}; add.u64 p, p, w;")
    code += [f"st.global.b32 [p+{4 * i}], {name};" for i, name in enumerate(names)]
    declared = f".reg .b32 t, s, x, y, z, v, {', '.join(names)}; .reg .b64 p, w; .reg .pred q;"
    params = ".param .u64 in, .param .u64 where, .param .u64 out"
    return kernel("\n".join(code), params, declared, ".shared .align 16 .b8 box[2048];")


@pytest.mark.parametrize("row", LDMATRIX, ids=lambda row: row.ptx)
def test_every_load_of_the_tables(row: Instruction) -> None:
    (operand,) = row.operands
    rng = np.random.default_rng(2)
    data = rng.integers(0, 256, 2048, dtype=np.uint8).view(operand.format.storage)
    where = rng.permutation(128)[:64].astype(np.uint32) * 16
    lanes_used = np.arange(64) % 32 < row.addresses
    given = np.where(lanes_used, where, 0xFFFFFF).astype(
        np.uint32
    )  # the other lanes' addresses do not matter
    out = np.zeros((64, operand.registers), np.uint32)
    run(ldmatrix_text(row), [data, given, out], block=(64,))
    for warp in range(2):
        starts = where[warp * 32 : warp * 32 + row.addresses] // data.itemsize
        matrices = data[starts[:, None] + np.arange(16 // data.itemsize)]
        wanted = np.ascontiguousarray(operand.fragment.gather(matrices)).view(np.uint32)
        np.testing.assert_array_equal(out[warp * 32 : warp * 32 + 32], wanted)


@pytest.mark.parametrize("row", UNPACKING, ids=lambda row: row.ptx)
def test_loads_that_unpack_are_refused(row: Instruction) -> None:
    with pytest.raises(UnknownOpcodeError, match="there is a layout row, but"):
        ptx.load(ldmatrix_text(row))


def test_ldmatrix_by_hand() -> None:
    """Register j of lane l holds (row l / 4, columns 2 (l % 4) ..) of matrix j; with .trans the
    transpose.
    """
    data = np.arange(1024, dtype=np.uint16)
    where = np.arange(64, dtype=np.uint32) * 16
    for trans in ("", ".trans"):
        out = np.zeros((64, 4), np.uint32)
        row = layouts.find(f"ldmatrix.sync.aligned.m8n8.x4{trans}.shared.b16")
        run(ldmatrix_text(row), [data, where, out], block=(64,))
        for lane in range(32):
            for j in range(4):
                matrix = data[64 * j : 64 * j + 64].reshape(8, 8)
                matrix = matrix.T if trans else matrix
                low, high = matrix[lane // 4, 2 * (lane % 4) : 2 * (lane % 4) + 2]
                assert out[lane, j] == int(low) | int(high) << 16


def test_misuse_is_refused() -> None:
    row = layouts.find("ldmatrix.sync.aligned.m8n8.x4.shared.b16")
    arrays = [
        np.arange(1024, dtype=np.uint16),
        np.arange(64, dtype=np.uint32) * 16,
        np.zeros((64, 4), np.uint32),
    ]
    with pytest.raises(EmulatorError, match="only some lanes of the warp execute this"):
        run(ldmatrix_text(row, "@q"), arrays, block=(64,))
    wrong = arrays[1].copy()
    wrong[[4, 9]] += 8
    with pytest.raises(MemoryFault, match=r"misaligned: 16 bytes(.|\n)*lanes 4, 9(.|\n)*ldmatrix"):
        run(ldmatrix_text(row), [arrays[0], wrong, arrays[2]], block=(64,))
    wrong[[4, 9]] = 2048
    with pytest.raises(MemoryFault, match=r"out of bounds: 16 bytes at shared memory address 2048"):
        run(ldmatrix_text(row), [arrays[0], wrong, arrays[2]], block=(64,))
    text = mma_text(MMA[0]).replace("{B0, B1}", "{B0}")
    with pytest.raises(PtxSyntaxError, match=r"operand B of mma\.sync.*has 2 registers, not 1"):
        run(text, [np.zeros((32, 4), np.uint32)] * 4, block=(32,))
