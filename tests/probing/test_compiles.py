"""Every warp-level instruction, as the probes write it, is taken by ptxas for its own target."""

import pytest

from attnprobe import compile as compiler
from attnprobe import layouts, nvrtc
from attnprobe.compile import Source
from attnprobe.errors import CompileError
from attnprobe.layouts import Instruction
from attnprobe.probing import macros, registers

FAMILIES = ("mma", "mma.sp", "mma.block_scale", "movmatrix")
TARGETS = ("sm_90", "sm_100a", "sm_120a")


def target(row: Instruction) -> str:
    """Return the first of ``TARGETS`` that takes the row."""
    return next(each for each in TARGETS if row.runs_on(int(each[3:].rstrip("a"))))


def expressible(row: Instruction) -> bool:
    """Return whether this NVRTC writes a PTX version that has the instruction."""
    major, minor = nvrtc.identity().version
    version = (8, minor - 1) if major == 12 else (9, minor)  # NVRTC 12.9 writes PTX 8.8
    return tuple(int(part) for part in row.min_ptx.split(".")) <= version


def kernel(rows: list[Instruction]) -> Source:
    """Return one kernel with a statement for each row, on words from memory and back to it."""
    lines = []
    for number, row in enumerate(rows):
        names, text = {}, []
        for operand in row.operands:
            count = registers.words(operand)
            names[operand.name] = name = f"{operand.name.lower()}{number}"
            text.append(f"unsigned {name}[{count}];")
            text.append(f"for (int i = 0; i < {count}; ++i) {name}[i] = words[i];")
        result = row.operands[0]
        count = registers.words(result)
        text.append(macros.statement(row, names, macros.variants(row)[0]) + ";")
        text.append(f"for (int i = 0; i < {count}; ++i) words[i] ^= {names[result.name]}[i];")
        lines.append("{\n" + "\n#pragma unroll\n".join(text) + "\n}")
    body = "\n".join(lines)
    return Source(f'extern "C" __global__ void all(unsigned *words) {{\n{body}\n}}\n', "all.cu")


@pytest.mark.parametrize("to", TARGETS)
@pytest.mark.parametrize("family", FAMILIES)
def test_ptxas_takes_every_row_for_its_target(family: str, to: str) -> None:
    rows = [row for row in layouts.rows(family) if target(row) == to and expressible(row)]
    if rows:
        assert compiler.cubin(kernel(rows), to)[0]


def test_a_register_too_few_is_refused() -> None:
    row = layouts.rows("mma")[0]
    text = kernel([row]).text.replace("{%0,%1,%2,%3}", "{%0,%1,%2}")
    with pytest.raises(CompileError, match="ptxas"):
        compiler.cubin(Source(text, "all.cu"), "sm_90")
