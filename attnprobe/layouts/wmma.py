"""Rows of ``wmma.load``, ``wmma.mma`` and ``wmma.store``: layouts that only hardware can tell.

PTX gives the number of registers of each fragment and says that which element is where depends on
the architecture. So the fragments are read from a table that ``attnprobe discover --record`` writes
from what a GPU answered (``wmma_sm_90.json``), and each row names that GPU. Without the table there
are names and no rows.

Source: PTX ISA 9.1, 9.7.14.4 "Matrix multiply-accumulate operation using wmma instructions".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from attnprobe.formats import FORMATS
from attnprobe.layouts.fragment import Digit, Digits, Fragment
from attnprobe.layouts.instruction import Instruction
from attnprobe.layouts.operand import Operand

Build = Callable[[], Instruction]

SCHEMA = "attnprobe.wmma/1"
TABLE = Path(__file__).with_name("wmma_sm_90.json")

_SOURCE = "measured; PTX ISA 9.1, 9.7.14.4, leaves this layout open"
_NOTE = "measured on sm_90: PTX lets other architectures have another layout"

_WIDE = ("m16n16k16", "m8n32k16", "m32n8k16")
_BOTH = ("row", "col")
_AXES = {"a": ("m", "k"), "b": ("k", "n"), "c": ("m", "n"), "d": ("m", "n")}


@dataclass(frozen=True)
class Kind:
    """A group of shapes and types with the same versions.

    Attributes
    ----------
    shapes : such as m16n16k16.
    ab : type of A and B.
    cd : types that C and D may have.
    min_ptx, min_cc : least versions.
    layouts : (layout of A, layout of B) that are legal.
    operations : of ``.b1``; ("",) elsewhere.
    """

    shapes: tuple[str, ...]
    ab: str
    cd: tuple[str, ...]
    min_ptx: str
    min_cc: int
    layouts: tuple[tuple[str, str], ...] = tuple(product(_BOTH, _BOTH))
    operations: tuple[str, ...] = ("",)


_ROW_COL = (("row", "col"),)
KINDS = (
    Kind(_WIDE, "f16", ("f16", "f32"), "6.3", 70),
    Kind(_WIDE, "bf16", ("f32",), "7.0", 80),
    Kind(_WIDE, "s8", ("s32",), "6.3", 72),
    Kind(_WIDE, "u8", ("s32",), "6.3", 72),
    Kind(("m16n16k8",), "tf32", ("f32",), "7.0", 80),
    Kind(("m8n8k4",), "f64", ("f64",), "7.0", 80),
    Kind(("m8n8k32",), "s4", ("s32",), "6.3", 75, _ROW_COL),
    Kind(("m8n8k32",), "u4", ("s32",), "6.3", 75, _ROW_COL),
    Kind(("m8n8k128",), "b1", ("s32",), "6.3", 75, _ROW_COL, ("xor", "and")),
)


# --- names ----------------------------------------------------------------------------------------


def load_name(operand: str, layout: str, shape: str, type_: str) -> str:
    """Return the mnemonic of a load of ``operand`` ("a", "b" or "c")."""
    return f"wmma.load.{operand}.sync.aligned.{layout}.{shape}.shared.{type_}"


def store_name(layout: str, shape: str, type_: str) -> str:
    """Return the mnemonic of a store of D."""
    return f"wmma.store.d.sync.aligned.{layout}.{shape}.shared.{type_}"


def mma_name(kind: Kind, shape: str, layouts: tuple[str, str], d: str, c: str, how: str) -> str:
    """Return the mnemonic of a product."""
    types = f"{d}.{c}" if kind.ab == "f16" else f"{d}.{kind.ab}.{kind.ab}.{c}"
    operation = f".{how}.popc" if how else ""
    return f"wmma.mma{operation}.sync.aligned.{layouts[0]}.{layouts[1]}.{shape}.{types}"


def load_names() -> dict[str, Kind]:
    """Return the mnemonics of all loads, with the first kind that each belongs to."""
    named: dict[str, Kind] = {}
    for kind in KINDS:
        for shape in kind.shapes:
            for number, operand in enumerate("ab"):
                for layout in sorted({pair[number] for pair in kind.layouts}, reverse=True):
                    named.setdefault(load_name(operand, layout, shape, kind.ab), kind)
            for type_, layout in product(kind.cd, _BOTH):
                named.setdefault(load_name("c", layout, shape, type_), kind)
    return named


def store_names() -> dict[str, Kind]:
    """Return the mnemonics of all stores, with the first kind that each belongs to."""
    named: dict[str, Kind] = {}
    for kind in KINDS:
        for shape, type_, layout in product(kind.shapes, kind.cd, _BOTH):
            named.setdefault(store_name(layout, shape, type_), kind)
    return named


@dataclass(frozen=True)
class Product:
    """A ``wmma.mma`` taken apart."""

    kind: Kind
    shape: str
    layouts: tuple[str, str]
    d: str
    c: str
    operation: str


def products() -> dict[str, Product]:
    """Return the mnemonics of all products, taken apart."""
    named = {}
    for kind in KINDS:
        choices = product(kind.shapes, kind.cd, kind.cd, kind.layouts, kind.operations)
        for shape, d, c, layouts, how in choices:
            each = Product(kind, shape, layouts, d, c, how)
            named[mma_name(kind, shape, layouts, d, c, how)] = each
    return named


# --- the table ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """What was measured: a fragment for each load and store, and where.

    Attributes
    ----------
    environment : device, driver, date.
    fragments : mnemonic -> fragment.
    """

    environment: Mapping[str, str]
    fragments: Mapping[str, Fragment]

    @property
    def evidence(self) -> str:
        """Where and when it was measured, in a few words."""
        return ", ".join(self.environment[key] for key in ("device", "arch", "date"))

    def save(self, path: Path) -> None:
        """Write the table as JSON; a fragment that many instructions share stands there once."""
        distinct = list(dict.fromkeys(self.fragments.values()))
        lines = ",\n".join(f"  {json.dumps(_plain(each))}" for each in distinct)
        numbers = {name: distinct.index(each) for name, each in self.fragments.items()}
        head = {"schema": SCHEMA, "environment": dict(self.environment), "instructions": numbers}
        text = json.dumps(head, indent=1).removesuffix("\n}")
        path.write_text(f'{text},\n "fragments": [\n{lines}\n ]\n}}\n', encoding="utf-8")


def load_table(path: Path = TABLE) -> Table | None:
    """Return the table of a file, or None where there is none."""
    if not path.is_file():
        return None
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    fragments = [_fragment(each) for each in data["fragments"]]
    named = {name: fragments[number] for name, number in data["instructions"].items()}
    return Table(data["environment"], named)


def _plain(one: Fragment) -> dict[str, Any]:
    digits = {
        name: [[digit.extent, digit.row, digit.col] for digit in each]
        for name, each in (("lane", one.lane), ("elem", one.elem))
    }
    return {"rows": one.rows, "cols": one.cols, **digits, "copies": one.copies}


def _fragment(data: dict[str, Any]) -> Fragment:
    return Fragment(
        data["rows"], data["cols"], _digits(data["lane"]), _digits(data["elem"]), data["copies"]
    )


def _digits(data: list[list[int]]) -> Digits:
    return tuple(Digit(extent, row, col) for extent, row, col in data)


# --- rows -----------------------------------------------------------------------------------------


def move_row(name: str, kind: Kind, table: Table) -> Instruction:
    """Return the row of a load or a store."""
    words = name.split(".")
    is_load, letter, type_ = words[1] == "load", words[2], words[-1]
    operand = Operand("D" if is_load else "R", table.fragments[name], FORMATS[type_], _AXES[letter])
    return Instruction(
        name,
        f"wmma.{words[1]}",
        (),
        (operand,),
        kind.min_ptx,
        kind.min_cc,
        _SOURCE,
        transposed=words[5] == "col",
        notes=(_NOTE,),
        measured=table.evidence,
    )


def fragments_of(of: Product) -> dict[str, str]:
    """Return for each operand of a product the load or store that has its fragment."""
    return {
        "A": load_name("a", of.layouts[0], of.shape, of.kind.ab),
        "B": load_name("b", of.layouts[1], of.shape, of.kind.ab),
        "C": load_name("c", "row", of.shape, of.c),
        "D": store_name("row", of.shape, of.d),
    }


def mma_row(name: str, of: Product, table: Table) -> Instruction:
    """Return the row of a product: its operands are those of the loads and of the store."""
    held = {name: table.fragments[each] for name, each in fragments_of(of).items()}
    ab = FORMATS[of.kind.ab]
    m, rest = of.shape[1:].split("n")
    n, k = rest.split("k")
    return Instruction(
        name,
        "wmma.mma",
        (int(m), int(n), int(k)),
        (
            Operand("D", held["D"], FORMATS[of.d], _AXES["d"]),
            Operand("A", held["A"], ab, _AXES["a"]),
            Operand("B", held["B"], ab, _AXES["b"]),
            Operand("C", held["C"], FORMATS[of.c], _AXES["c"]),
        ),
        "7.1" if of.operation == "and" else of.kind.min_ptx,
        80 if of.operation == "and" else of.kind.min_cc,
        _SOURCE,
        notes=(_NOTE,),
        measured=table.evidence,
    )


def specs(table: Table | None) -> Iterator[tuple[str, Build]]:
    """Yield name and builder of every row; none without a table."""
    if table is None:
        return
    for name, kind in (load_names() | store_names()).items():
        if name in table.fragments:
            yield name, partial(move_row, name, kind, table)
    for name, each in products().items():
        if table.fragments.keys() >= set(fragments_of(each).values()):
            yield name, partial(mma_row, name, each, table)


SPECS: dict[str, Build] = dict(specs(load_table()))
