"""Changes the plan of a public call into that of a mutant."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from functools import lru_cache
from typing import Any

from attnprobe.arch import Arch
from attnprobe.compile import Source
from attnprobe.engine.decode import DECODE
from attnprobe.engine.one_kernel import texts_changed
from attnprobe.engine.plan import Plan, plans_changed
from attnprobe.engine.problem import Problem
from attnprobe.engine.variants import VARIANTS, Variant
from attnprobe.engine.wgmma import WGMMA
from attnprobe.errors import CompileError, UnsupportedError
from attnprobe.frozen import dataclass
from attnprobe.mutants.mutant import (
    BESIDE,
    HOPPER_KERNEL,
    MAIN_KERNEL,
    Argument,
    Blocks,
    Define,
    Edit,
    Grid,
    Mutant,
    SharedBytes,
)
from attnprobe.mutants.scene import Tile, with_wgmma


def edited(source: Source, edit: Edit) -> Source:
    """Return ``source`` with one edit made. Line breaks and indentation of the text do not matter.

    Raises
    ------
    CompileError
        If the text does not stand there as often as the edit says: the mutant no longer applies.
    """
    pattern = re.compile(r"\s+".join(map(re.escape, edit.old.split())))
    found = len(pattern.findall(source.text))
    if found != edit.count:
        raise CompileError(f"{source.name}: expected {edit.count} of {edit.old!r}, found {found}")
    return Source(pattern.sub(lambda _: edit.new, source.text), source.name)


@dataclass(frozen=True)
class MutatedPlan(Plan):
    """A plan with a mutant's changes; what the mutant does not change is the plan's own."""

    mutant: Mutant | None = None

    def _changes(self, kind: type[Any]) -> Iterator[Any]:
        return (c for c in (self.mutant.changes if self.mutant else ()) if isinstance(c, kind))

    def _sound(self) -> Plan:
        own = {item.name: getattr(self, item.name) for item in fields(Plan)}
        return Plan(**own)

    @property
    def grid(self) -> Grid:
        """Blocks of the launch."""
        grid = super().grid
        for change in self._changes(Blocks):
            grid = (change.value(self._sound()), *grid[1:])
        return grid

    @property
    def shared_bytes(self) -> int:
        """Dynamic shared memory of one block, bytes."""
        size = super().shared_bytes
        for change in self._changes(SharedBytes):
            size = change.value(self._sound())
        return size

    @property
    def defines(self) -> Mapping[str, object]:
        """Macros that make the kernel text."""
        macros = dict(super().defines)
        for change in self._changes(Define):
            macros[change.macro] = change.value(macros)
        return macros

    def source(self, file: str | None = None) -> Source:
        """Return the text of a kernel file, complete; edited where it is the mutant's."""
        text = super().source(file)
        if self.mutant is None or (file or self.variant.source) != self.mutant.kernel:
            return text
        return _edited(text, tuple(self._changes(Edit)))

    def fields(self) -> dict[str, float]:
        """Return the fields of ``AttentionParams`` that depend on the problem alone."""
        plain = super().fields()
        changed = dict(plain)
        for change in self._changes(Argument):
            changed[change.field] = change.value(plain)
        return changed


@lru_cache(maxsize=64)
def _edited(source: Source, edits: tuple[Edit, ...]) -> Source:
    for edit in edits:
        source = edited(source, edit)
    return source


def mutated(
    plan: Plan, mutant: Mutant | None, tile: Tile | None = None, kernel: str = MAIN_KERNEL
) -> Plan:
    """Return ``plan`` with a mutant's changes (None: none) and another tile (None: its own).

    A problem that another kernel than ``kernel`` would serve is given to the first variant of
    ``kernel`` that fits.

    Raises
    ------
    UnsupportedError
        If none does.
    """
    variant, arch = plan.variant, plan.arch
    if kernel == HOPPER_KERNEL:
        arch = with_wgmma(arch)
    if variant.source != kernel:
        variant = _variant_of(kernel, plan.problem, arch)
    if tile is not None:
        variant, arch = tile.placed(variant), tile.arch(arch)
    own = {item.name: getattr(plan, item.name) for item in fields(Plan)}
    return MutatedPlan(**{**own, "variant": variant, "arch": arch}, mutant=mutant)


def _variant_of(kernel: str, problem: Problem, arch: Arch) -> Variant:
    refusals = {}
    for row in (*DECODE, *WGMMA, *VARIANTS):
        if row.source == kernel:
            refusals[row] = row.refusal(problem, arch)
            if refusals[row] is None:
                return row
    reasons = "; ".join(dict.fromkeys(str(reason) for reason in refusals.values()))
    raise UnsupportedError(f"{kernel}, which the mutant breaks, does not serve this: {reasons}")


def plan_kernel(mutant: Mutant) -> str:
    """Return the kernel whose plans run the file that a mutant edits."""
    return BESIDE.get(mutant.kernel, mutant.kernel)


@contextmanager
def applied(
    mutant: Mutant | None,
    tile: Tile | None = None,
    kernel: str | None = None,
    planned: Callable[[Plan], Any] = lambda plan: None,
) -> Iterator[None]:
    """Make the public calls within run a mutant (None: the sound kernel), with a tile of its own.

    ``kernel`` is the file whose variants shall serve the calls; None takes the mutant's own.
    ``planned`` is called with each plan that is about to run.

    >>> with applied(find("p_repack_order")):
    ...     O = attnprobe.attention(q, k, v)
    """
    wanted = kernel or (plan_kernel(mutant) if mutant else MAIN_KERNEL)

    def text(source: Source) -> Source:
        if mutant is None or source.name != mutant.kernel:
            return source
        return _edited(source, tuple(c for c in mutant.changes if isinstance(c, Edit)))

    def change(plan: Plan) -> Plan:
        changed = mutated(plan, mutant, tile, wanted)
        planned(changed)
        return changed

    with plans_changed(change), texts_changed(text):
        yield
