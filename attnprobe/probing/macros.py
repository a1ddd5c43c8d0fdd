"""The macros that make a kernel of ``kernels/probe/`` ask about one instruction.

A kernel holds operands as arrays of 32-bit words and knows no instruction. Here the instruction is
written as an asm statement on these words, with operand lists from the row's register counts.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from attnprobe.layouts import Instruction, Operand
from attnprobe.probing import registers

_OF_PRODUCT = "ABCD"
_VARIANTS = 8  # where there are more choices of immediates, only the first and the last are asked

Immediates = dict[str, int]


def extras(row: Instruction) -> tuple[str, ...]:
    """Return the operands of a product besides A, B, C and D: metadata and scale factors."""
    return tuple(name for name in row.by_name if name not in _OF_PRODUCT)


def variants(row: Instruction) -> tuple[Immediates, ...]:
    """Return the choices of immediates that are asked, by name; one empty choice without any."""
    names = [immediate.name for immediate in row.immediates]
    values = [immediate.values for immediate in row.immediates]
    chosen = [dict(zip(names, each, strict=True)) for each in itertools.product(*values)]
    return tuple(chosen if len(chosen) <= _VARIANTS else (chosen[0], chosen[-1]))


def product_macros(row: Instruction) -> dict[str, object]:
    """Return the macros of a product: words and lanes, and PRODUCT(d, a, b, c).

    A product with metadata or scale factors is PRODUCT(d, a, b, c, x, variant), where x has the
    words of all these and ``variant`` is the number of the choice of immediates.
    """
    macros: dict[str, object] = {
        f"{name}_REGISTERS": registers.words(row[name]) for name in _OF_PRODUCT
    }
    macros["LANES"] = row["D"].fragment.lanes
    places = {name: f"({name.lower()})" for name in _OF_PRODUCT}
    if not extras(row):
        macros["PRODUCT(d, a, b, c)"] = statement(row, places, {})
        return macros
    macros["X_REGISTERS"] = sum(registers.words(row[name]) for name in extras(row))
    first = 0
    for name in extras(row):
        places[name] = f"((x) + {first})"
        first += registers.words(row[name])
    asked = [statement(row, places, values) for values in variants(row)]
    chosen = " else ".join(f"if ((variant) == {i}u) {text};" for i, text in enumerate(asked))
    macros["PRODUCT(d, a, b, c, x, variant)"] = f"do {{ {chosen} }} while (0)"
    return macros


def statement(row: Instruction, places: Mapping[str, str], immediates: Immediates) -> str:
    """Return the instruction as an asm statement; the operands' words are at ``places[name]``.

    The first operand is written, the others are read. A 64-bit register is two words, low first.
    """
    written = row.operands[0]
    names = {operand.name for operand in row.operands}
    order = [name for name in _flat(row.argument_list) if name in names]
    number, numbers = 0, {}
    for name in order:  # the order of asm operands is that of the instruction: the result first
        numbers[name] = range(number, number + row[name].registers)
        number += row[name].registers
    text = ", ".join(
        _argument(row, argument, numbers, immediates) for argument in row.argument_list
    )
    reads = [_read(row[name], places[name]) for name in order if name != written.name]
    read = ", ".join(itertools.chain.from_iterable(reads))
    if written.format.words == 1:
        outputs = ", ".join(f'"=r"({places[written.name]}[{i}])' for i in range(written.registers))
        return f'asm volatile("{row.mnemonic} {text};" : {outputs} : {read})'
    wide = ", ".join(f'"=d"(wide[{i}])' for i in range(written.registers))
    split = " ".join(
        f"{places[written.name]}[{2 * i}] = __double2loint(wide[{i}]); "
        f"{places[written.name]}[{2 * i + 1}] = __double2hiint(wide[{i}]);"
        for i in range(written.registers)
    )
    asm = f'asm volatile("{row.mnemonic} {text};" : {wide} : {read});'
    return f"do {{ double wide[{written.registers}]; {asm} {split} }} while (0)"


def _flat(arguments: tuple[str | tuple[str, ...], ...]) -> list[str]:
    return [name for each in arguments for name in ((each,) if isinstance(each, str) else each)]


def _argument(
    row: Instruction,
    argument: str | tuple[str, ...],
    numbers: Mapping[str, range],
    immediates: Immediates,
) -> str:
    if isinstance(argument, tuple):
        return "{" + ", ".join(str(immediates[name]) for name in argument) + "}"
    if argument in immediates:
        return str(immediates[argument])
    held = ",".join(f"%{number}" for number in numbers[argument])
    is_list = bool(row.shape) and argument in _OF_PRODUCT
    return "{" + held + "}" if is_list else held


def _read(operand: Operand, place: str) -> list[str]:
    if operand.format.words == 1:
        return [f'"r"({place}[{i}])' for i in range(operand.registers)]
    return [
        f'"d"(__hiloint2double({place}[{2 * i + 1}], {place}[{2 * i}]))'
        for i in range(operand.registers)
    ]


def load_macro(row: Instruction) -> dict[str, object]:
    """Return LOAD(r, address) of a matrix load."""
    count = row["D"].registers
    held = ",".join(f"%{i}" for i in range(count))
    written = ", ".join(f'"=r"((r)[{i}])' for i in range(count))
    text = f'"{row.ptx} {{{held}}}, [%{count}];" : {written} : "r"(address) : "memory"'
    return {"LOAD(r, address)": f"asm volatile({text})"}


def store_macro(row: Instruction) -> dict[str, object]:
    """Return STORE(address, r) of a matrix store."""
    operand = row.operands[0]
    held = ",".join(f"%{i + 1}" for i in range(operand.registers))
    read = ", ".join(f'"r"((r)[{i}])' for i in range(operand.registers))
    text = f'"{row.ptx} [%0], {{{held}}};" : : "r"(address), {read} : "memory"'
    return {"STORE(address, r)": f"asm volatile({text})"}
