"""Third witness of a mnemonic: ptxas takes every row, with the operands that the row says.

All rows of one target go into one kernel as inline assembly, so that a target costs one compile.
What a newer PTX version has than NVRTC's is listed and not compiled.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from attnprobe import compile as compiler
from attnprobe import layouts, nvrtc
from attnprobe.errors import CompileError
from attnprobe.layouts import Instruction

# The PTX version of each NVRTC that has been tried; a newer one has at least the last.
PTX_OF_NVRTC = {(12, 9): (8, 8), (13, 0): (9, 0), (13, 1): (9, 1)}

TARGETS = ("sm_80", "sm_89", "sm_90a", "sm_100a", "sm_120a")
WIDTHS = (8, 24, 256)  # of wgmma; the others are one shape more of the same


def ptx_version() -> tuple[int, int]:
    """Return the newest PTX version that this NVRTC writes."""
    here = nvrtc.identity().version
    return max(ptx for version, ptx in PTX_OF_NVRTC.items() if version <= here)


def version(row: Instruction) -> tuple[int, int]:
    major, minor = row.min_ptx.split(".")
    return int(major), int(minor)


def runs_on(row: Instruction, target: str) -> bool:
    number = target.removeprefix("sm_")
    suffix = number[-1] if number[-1].isalpha() else ""
    return row.runs_on(int(number.removesuffix(suffix)), suffix)


def statement(row: Instruction) -> str:
    """Return the instruction as an asm statement on registers that hold nothing in particular."""
    written: list[str] = []
    parts: list[str] = []
    if row.addresses:
        address = f"[%{row.operands[0].registers}]"
        held = braces(row.operands[0].registers, 0)
        read = row.family == "stmatrix"
        parts = [address, held] if read else [held, address]
        text = f"{row.mnemonic} {', '.join(parts)};"
        outs = "" if read else constraints(row.operands[0], "+")
        ins = (constraints(row.operands[0], "") if read else "") + ', "r"(p)'
        return f'asm volatile("{text}" : {outs} : {ins.lstrip(", ")});'
    number = 0
    for name in row.argument_list:
        if isinstance(name, tuple):
            parts.append("{" + ", ".join(str(immediate(row, each)) for each in name) + "}")
        elif name in row.by_name:
            operand = row[name]
            bare = name in ("E", "SFA", "SFB") or row.family == "movmatrix"
            parts.append(f"%{number}" if bare else braces(operand.registers, number))
            number += operand.registers
            written.append(constraints(operand, "+"))
        elif name.endswith("-desc"):
            parts.append(f"%{number}")
            number += 1
            written.append('"+l"(q)')
        else:
            parts.append("p" if name == "scale-d" else str(immediate(row, name)))
    text = f"{row.mnemonic} {', '.join(parts)};"
    if "scale-d" in row.argument_list:
        text = "{ .reg .pred p; setp.ne.u32 p, 0, 1; " + text + " }"
    return f'asm volatile("{text}" : {", ".join(written)});'


def braces(count: int, first: int) -> str:
    return "{" + ", ".join(f"%{first + i}" for i in range(count)) + "}"


def constraints(operand: layouts.Operand, kind: str) -> str:
    array = "f" if operand.format.constraint == "d" else "r"
    letter = kind + operand.format.constraint
    return ", ".join(f'"{letter}"({array}{operand.name}[{i}])' for i in range(operand.registers))


def immediate(row: Instruction, name: str) -> int:
    return next(each.values[-1] for each in row.immediates if each.name == name)


def kernel(row: Instruction, number: int) -> str:
    """Return a kernel that reads the row's registers from memory, executes it, and writes them.

    What nobody reads or writes ptxas would leave out.
    """
    before, after, place = [], [], 0
    for operand in row.operands:
        wide = operand.format.constraint == "d"
        array, type_ = ("f", "double") if wide else ("r", "unsigned")
        name, count = f"{array}{operand.name}", operand.registers
        memory = f"(({type_} *)memory)[{place} + i]"
        loop = f'_Pragma("unroll") for (int i = 0; i < {count}; ++i)'
        before.append(f"{type_} {name}[{count}]; {loop} {name}[i] = {memory};")
        after.append(f"{loop} {memory} = {name}[i];")
        place += count
    body = " ".join([*before, statement(row), *after])
    arguments = "unsigned *memory, unsigned p, unsigned long long q"
    return f'extern "C" __global__ void k{number}({arguments}) {{ {body} }}'


def source(rows: list[Instruction]) -> compiler.Source:
    """Return one kernel for each row: what one of them needs is not another's."""
    kernels = [kernel(row, number) for number, row in enumerate(rows)]
    return compiler.Source("\n".join(kernels), "rows.cu")


def chosen(target: str) -> Iterator[Instruction]:
    for row in layouts.rows():
        wide = row.family.startswith("wgmma") and row.shape[1] not in WIDTHS
        if not row.measured and not wide and runs_on(row, target) and version(row) <= ptx_version():
            yield row


@pytest.mark.parametrize("target", TARGETS)
def test_ptxas_takes_every_row_that_names_the_target(target: str) -> None:
    rows = list(chosen(target))
    assert len(rows) > 90
    compiler.cubin(source(rows), target)


def test_rows_of_a_newer_ptx_are_few_and_known() -> None:
    newer = {row.ptx for row in layouts.rows() if version(row) > (8, 8)}
    assert newer == {
        f"mma{variant}.sync.aligned.m16n8k{k}.row.col.kind::mxf4nvf4.block_scale.scale_vec::4X"
        ".f32.e2m1.e2m1.f32.ue8m0"
        for variant, k in (("", 64), (".sp::ordered_metadata", 128))
    }


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("mma.sync.aligned.m16n8k32.row.col.kind::f8f6f4.f32.e2m1.e2m1.f32", "sm_100a"),
        ("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32", "sm_80"),
        ("stmatrix.sync.aligned.m16n8.x1.trans.shared.b8", "sm_90a"),
        ("wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16", "sm_100a"),
    ],
)
def test_ptxas_refuses_a_row_on_a_target_that_it_does_not_name(name: str, target: str) -> None:
    row = layouts.exact(name)
    assert row is not None
    assert not runs_on(row, target)
    with pytest.raises(CompileError):
        compiler.cubin(source([row]), target)


def test_a_wrong_number_of_registers_is_refused() -> None:
    row = layouts.find("m16n8k16.row.col.f32.bf16")
    text = source([row]).text.replace("{%0, %1, %2, %3}, ", "{%0, %1}, ", 1)
    with pytest.raises(CompileError):
        compiler.cubin(compiler.Source(text, "rows.cu"), "sm_90a")
