"""Repacks and matrix loads for a reader: recipes, addresses, bank conflicts."""

from __future__ import annotations

from typing import Any

from attnprobe.layouts.lookup import register_name
from attnprobe.layouts.questions.load import Access, Load
from attnprobe.layouts.questions.recipe import Recipe
from attnprobe.layouts.questions.repack import Repack
from attnprobe.render import csv
from attnprobe.render.document import Document, Heading, Lines, table

REPACK_SCHEMA = "attnprobe.layout.repack/1"
LOAD_SCHEMA = "attnprobe.layout.load/1"

# --- repack ---------------------------------------------------------------------------------------


def repack_document(repack: Repack) -> Document:
    """Return the verdict, the recipe, and where another order of k saves the exchange, that one."""
    name, placed = repack.operand.name, repack.placement
    d = "D transposed" if repack.transposed else "D"
    source, target = placed.source, placed.target
    letter = name.lower()
    lines = [
        f"from {repack.source.ptx}",
        f"to   {repack.target.ptx}",
        f"{placed.source_tiles} D of {_size(source)} {source.format.name} make "
        f"{placed.target_tiles} {name} of {_size(target)} {target.format.name}; "
        f"registers are d[tile][register] and {letter}[tile][register]",
        f"{repack.verdict}.",
    ]
    document: Document = (Heading(f"{d} as {name}"), Lines(tuple(lines)))
    document += (_steps(repack.recipe),)
    if repack.reordered is not None:
        document += _reordered(repack, repack.reordered)
    return document


def _reordered(repack: Repack, recipe: Recipe) -> Document:
    name = repack.operand.name
    other = "B" if name == "A" else "A"
    rows = "rows" if other == "B" else "columns"
    formula = repack.k_formula
    says = f"k place j of {name} takes D's k number order[j]"
    says += f", order[k] = {formula}" if formula else ""
    order = " ".join(map(str, recipe.order))
    lines = (
        f"{says}:",
        f"  {order}",
        f"The sum over k is the same when the {rows} of {other} stand in this order too; then no "
        "value leaves its lane.",
    )
    return Heading("Without exchange, in another order of k"), Lines(lines), _steps(recipe)


def _steps(recipe: Recipe) -> Any:
    cells = [(step.kind, line) for step in recipe.steps for line in step.ptx]
    made = {step.result for step in recipe.steps}
    cells += [("is", f"{name} = {value}") for name, value in recipe.results if name not in made]
    return table(("move", "PTX"), cells)


def _size(operand: Any) -> str:
    return f"{operand.fragment.rows}x{operand.fragment.cols}"


def repack_object(repack: Repack) -> Any:
    """Return the recipes as what JSON can hold."""
    return {
        "schema": REPACK_SCHEMA,
        "from": repack.source.ptx,
        "to": repack.target.ptx,
        "operand": repack.operand.name,
        "transposed": repack.transposed,
        "verdict": repack.verdict,
        "d_tiles": repack.placement.source_tiles,
        "operand_tiles": repack.placement.target_tiles,
        "recipe": _recipe_object(repack.recipe),
        "without_exchange": None if repack.reordered is None else _recipe_object(repack.reordered),
    }


def _recipe_object(recipe: Recipe) -> dict[str, Any]:
    return {
        "converts": recipe.count("convert"),
        "permutes": recipe.count("permute"),
        "exchanges": recipe.count("exchange"),
        "k_order": list(recipe.order),
        "steps": [
            {"kind": step.kind, "result": step.result, "ptx": list(step.ptx), "cuda": step.code}
            for step in recipe.steps
        ],
        "registers": dict(recipe.results),
    }


def repack_csv(repack: Repack) -> str:
    """Return a record for each instruction of the recipes."""
    recipes = [("in order", repack.recipe)]
    if repack.reordered is not None:
        recipes.append(("permuted", repack.reordered))
    records = [
        (order, number, step.kind, step.result, line)
        for order, recipe in recipes
        for number, step in enumerate(recipe.steps)
        for line in step.ptx
    ]
    return csv.dumps(("k", "step", "kind", "result", "ptx"), records)


def repack_code(repack: Repack) -> str:
    """Return the recipes as CUDA C++."""
    text = f"// {repack.verdict}\n{repack.recipe.code()}\n"
    if repack.reordered is not None:
        text += f"\n// without exchange: order[k] = {repack.k_formula}\n{repack.reordered.code()}\n"
    return text


# --- load -----------------------------------------------------------------------------------------


def load_document(load: Load) -> Document:
    """Return each instruction with the addresses that its lanes pass, and its bank conflicts."""
    name, letter = load.operand.name, load.operand.name.lower()
    lines = [
        f"{name} is {load.operand.fragment.rows}x{load.operand.fragment.cols}, "
        f"{load.order}-major: {load.pitch} bytes from {load.order} to {load.order}; "
        f"swizzle {load.swizzle.name}: {load.swizzle.says}",
    ]
    if load.packed:
        lines.append(
            "D is packed to 16 bits first: d[i] below is d[2i] and d[2i + 1] of the product"
        )
    document: Document = (Heading(f"{load.row.ptx}: {name}"), Lines(tuple(lines)))
    for access in load.accesses:
        registers = ", ".join(register_name(letter, each) for each in access.registers)
        form = f"{access.ptx} {{{registers}}}, [address]"
        if access.ptx.startswith("stmatrix"):
            form = f"{access.ptx} [address], {{{registers}}}"
        said = [
            f"  row    = {access.row}",
            f"  col    = {access.col}",
            f"  offset = {access.offset}",
            conflicts(access),
        ]
        if len(access.addresses) < load.operand.fragment.lanes:
            said.append(
                f"lanes 0 to {len(access.addresses) - 1} count; others pass any valid address"
            )
        document += (Heading(form), Lines(tuple(said)), _address_table(access))
    return document


def conflicts(access: Access) -> str:
    """Return in words how often the banks are read."""
    degrees = access.degrees
    if max(degrees) == 1:
        return f"no bank conflicts: {len(degrees)} phases of 8 rows, each over all 32 banks"
    each = ", ".join(f"{degree}-way" if degree > 1 else "none" for degree in degrees)
    return (
        f"bank conflicts by phase of 8 rows: {each}; "
        f"{sum(degrees)} passes over the banks instead of {len(degrees)}"
    )


def _address_table(access: Access) -> Any:
    cells = [(each.lane, each.row, each.col, each.offset, each.offset // 16 % 8 * 4)
             for each in access.addresses]  # fmt: skip
    groups = [each.lane // 8 for each in access.addresses]
    header = ("lane", "row", "col", "offset", "bank")
    return table(header, cells, numeric=range(5), groups=groups)


def load_object(load: Load) -> Any:
    """Return the addresses as what JSON can hold."""
    return {
        "schema": LOAD_SCHEMA,
        "ptx": load.row.ptx,
        "operand": load.operand.name,
        "packed_to_16_bits": load.packed,
        "order": load.order,
        "pitch_bytes": load.pitch,
        "swizzle": load.swizzle.name,
        "conflict_free": load.conflict_free,
        "accesses": [
            {
                "ptx": access.ptx,
                "registers": list(access.registers),
                "row": access.row,
                "col": access.col,
                "offset_bytes": access.offset,
                "conflict_degrees": list(access.degrees),
                "addresses": [
                    {"lane": each.lane, "row": each.row, "col": each.col,
                     "offset_bytes": each.offset}
                    for each in access.addresses
                ],
            }
            for access in load.accesses
        ],
    }  # fmt: skip


def load_csv(load: Load) -> str:
    """Return a record for each address."""
    records = [
        (access.ptx, access.registers[0], each.lane, each.row, each.col, each.offset)
        for access in load.accesses
        for each in access.addresses
    ]
    header = ("ptx", "first_register", "lane", "row", "col", "offset_bytes")
    return csv.dumps(header, records)
