"""Runs the attention kernel with a mutant's edits, and sees which fills refuse it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from attnprobe.compile import Source
from attnprobe.engine import launch
from attnprobe.engine.arrays import take
from attnprobe.engine.plan import make_plan
from attnprobe.engine.problem import make_problem
from attnprobe.formats import FORMATS
from attnprobe.mutants.catalogue import MUTANTS, Mutant
from attnprobe.numerics import error
from attnprobe.numerics.cases import ALL_FILLS
from attnprobe.numerics.fills import QKV, Sizes
from attnprobe.numerics.fills import fill as find_fill
from attnprobe.numerics.reference import PLAIN, Attention, Features

# How the faulty kernel was tested: one shape of whole tiles, no mask, O alone, and a fixed limit on
# the greatest |error|. 5e-3 is the error that the kernel was reported with. There are several key
# blocks, or nothing would be rescaled.
OLD_SIZES = Sizes(seqlen_q=128, seqlen_k=384, num_heads=2, num_kv_heads=1, head_dim=64)
OLD_LIMIT = 5e-3


@dataclass(frozen=True)
class Cell:
    """One mutant on one fill.

    Attributes
    ----------
    mutant : its name, or None for the kernel as it is.
    fill : name of the fill.
    max_abs : greatest |error| of O.
    old_rule : whether the fixed limit lets it pass.
    bound_share : greatest error / bound of O and LSE; above 1 the derived bound refuses it.
    """

    mutant: str | None
    fill: str
    max_abs: float
    old_rule: bool
    bound_share: float

    @property
    def killed(self) -> bool:
        """Whether the derived bound refuses it."""
        return self.bound_share > 1


def mutated(source: Source, mutant: Mutant | None) -> Source:
    """Return ``source`` with the mutant's edits; None is the text as it is.

    Raises
    ------
    CompileError
        If an edit's text does not stand there exactly once.
    """
    for edit in mutant.edits if mutant else ():
        source = source.replaced(edit.old, edit.new)
    return source


def run(
    q: Any, k: Any, v: Any, features: Features = PLAIN, mutant: Mutant | None = None
) -> Attention:
    """Return O and LSE of the mutated kernel: on the emulator for NumPy arrays, else on the GPU."""
    operands = [take(name, array) for name, array in zip("qkv", (q, k, v), strict=True)]
    specs = [operand.spec(name) for name, operand in zip("qkv", operands, strict=True)]
    problem = make_problem(specs[0], specs[1], specs[2], None, **features.arguments())
    if operands[0].on_gpu:
        import cupy

        plan = make_plan(problem, launch.gpu_arch(int(q.device.id)))
        O, LSE = cupy.empty(q.shape, q.dtype), launch.empty_lse(plan, q)
        launch.run_gpu(plan, q, k, v, O, LSE, source=mutated(plan.source(), mutant))
        return Attention(cupy.asnumpy(O), cupy.asnumpy(LSE))
    plan = make_plan(problem, launch.emulated_arch())
    O, LSE = np.empty(q.shape, q.dtype), launch.empty_lse(plan, q)
    launch.run_emulator(plan, q, k, v, O, LSE, source=mutated(plan.source(), mutant), checked=False)
    return Attention(O, LSE)


def matrix(move: Any = None, dtype: str = "f16") -> tuple[Cell, ...]:
    """Return every mutant (and first the kernel as it is) on every fill, at the old test's shape.

    ``move`` takes a NumPy array to where the kernel shall run: ``cupy.asarray`` for the GPU.
    """
    cells = []
    for fill in map(find_fill, ALL_FILLS):
        inputs = fill(OLD_SIZES, FORMATS[dtype].dtype)
        expected = error.expect(*inputs)
        for mutant in (None, *MUTANTS):
            cells.append(_cell(mutant, fill.name, inputs, expected, move))
    return tuple(cells)


def _cell(
    mutant: Mutant | None, fill: str, inputs: QKV, expected: error.Expected, move: Any
) -> Cell:
    q, k, v = inputs if move is None else (move(array) for array in inputs)
    given = run(q, k, v, expected.features, mutant)
    report = error.compare(expected, given.o, given.lse)
    worst = error.max_abs(given.o, expected.exact.o)
    shares = [report.o.share, report.lse.share if report.lse else 0.0]
    name = mutant.name if mutant else None
    return Cell(name, fill, worst, worst <= OLD_LIMIT, max(shares))
