"""How D of one product becomes A or B of the next: in its registers, and in which order of k."""

from __future__ import annotations

from dataclasses import dataclass

from attnprobe.errors import UnsupportedError, UsageError
from attnprobe.layouts import catalogue, lookup
from attnprobe.layouts.instruction import Instruction, Operand
from attnprobe.layouts.questions import closed, moves, placement, recipe
from attnprobe.layouts.questions.placement import Placement
from attnprobe.layouts.questions.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Repack:
    """The answer.

    Attributes
    ----------
    source, target : the instruction that made D, and the one that takes it.
    operand : the operand of ``target`` that D becomes.
    transposed : D enters transposed.
    placement : where each element comes from, for k in its own order.
    recipe : the moves for k in its own order.
    reordered : the moves for another order of k in which no value leaves its lane; None where the
        first recipe exchanges nothing, or there is no such order.
    """

    source: Instruction
    target: Instruction
    operand: Operand
    transposed: bool
    placement: Placement
    recipe: Recipe
    reordered: Recipe | None

    @property
    def verdict(self) -> str:
        """What it takes, in a sentence."""
        return _verdict(self.recipe)

    @property
    def k_formula(self) -> str:
        """The order of k of ``reordered`` as an expression in ``k``; "" where there is none."""
        if self.reordered is None:
            return ""
        return closed.digits(self.reordered.order, "k") or ""

    def placed(self, chosen: Recipe) -> Placement:
        """Return where the elements come from in the order of k of ``chosen``."""
        return placement.place(self.placement.source, self.operand, self.transposed, chosen.order)


def repack(source: str, target: str, operand: str = "A", *, transposed: bool = False) -> Repack:
    """Return how D of ``source`` becomes ``operand`` of ``target``.

    Raises
    ------
    UsageError
        If a text names no instruction, or one without such operands.
    UnsupportedError
        If the sizes do not fit, no instruction converts the format, or values would have to cross
        warps.
    """
    first, second = catalogue.find(source), catalogue.find(target)
    return of_rows(first, second, operand, transposed=transposed)


def of_rows(
    source: Instruction, target: Instruction, operand: str = "A", *, transposed: bool = False
) -> Repack:
    """Return how D of the row ``source`` becomes ``operand`` of ``target``: ``repack`` of rows."""
    taken = lookup.operand(target, operand)
    if "k" not in taken.axes:
        raise UsageError(f"{taken.name} has no axis k; D becomes A or B of the next product")
    given = lookup.operand(source, "D")
    if given.axes != ("m", "n"):
        raise UsageError(f"{source.ptx} is no product; name the instruction that makes D")
    if (given.matrix_rows or taken.matrix_rows) and (taken.name != "A" or transposed):
        raise UnsupportedError(
            "a warp that multiplies several matrices holds them one below the other: its D can "
            "become A of such products, and nothing else"
        )
    placed = placement.place(given, taken, transposed)
    direct = recipe.write(placed, moves.plan(placed))
    reordered = None
    if direct.count("exchange"):
        order = placement.order_without_exchange(given, taken, transposed)
        if order:
            other = placement.place(given, taken, transposed, order)
            reordered = recipe.write(other, moves.plan(other), order)
    return Repack(source, target, taken, transposed, placed, direct, reordered)


def _verdict(chosen: Recipe) -> str:
    converts, permutes = chosen.count("convert"), chosen.count("permute")
    exchanges = chosen.count("exchange")
    if exchanges:
        return (
            f"values change lanes: {_many(exchanges, 'exchange')}, "
            f"{_many(permutes, 'byte permute')}, {_many(converts, 'packed register')}"
        )
    if permutes:
        return f"no value leaves its lane, but bytes move: {_many(permutes, 'byte permute')}"
    if converts:
        return (
            "no value leaves its lane: the registers of D, packed in their order, are the operand"
        )
    return "nothing is needed: the registers of D are those of the operand"


def _many(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
