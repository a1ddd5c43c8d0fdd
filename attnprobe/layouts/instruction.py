"""One PTX matrix instruction as a row: its name, where it runs, the fragment of each operand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from attnprobe.errors import LayoutError
from attnprobe.layouts.choice import Immediate
from attnprobe.layouts.operand import Operand
from attnprobe.layouts.sparsity import Sparsity

__all__ = ["Instruction", "Operand"]


@dataclass(frozen=True)
class Instruction:
    """A matrix instruction.

    Attributes
    ----------
    ptx : the row's name: the whole mnemonic as it is written in PTX, in front of a blank and some
        words where one mnemonic takes operands in two forms (wgmma: "with a in registers").
    family : "mma", "mma.sp", "wgmma", "ldmatrix", ...: which probes and which emulator function
        apply.
    shape : (m, n, k) of a product, () of a load.
    operands : register operands in the order in which PTX writes them.
    min_ptx : least PTX ISA version, "7.0".
    min_cc : least compute capability, 80 for sm_80.
    source : document and section that the row was taken from.
    addresses : for a load: the row (counted through all matrices) whose address each lane supplies.
        Lane l of the ``addresses`` first lanes supplies row l. 0 where no lane supplies any.
    transposed : a load with ``.trans``.
    notes : sentences for a reader.
    only_on : the targets that take it where these are not all from ``min_cc`` on: "sm_90a", ...
    kind : the ``.kind::`` of the mnemonic without that word, such as "f8f6f4"; "" for none.
    sparsity : how the stored half of A is spread over k; None for dense.
    in_shared : operands that lie in shared memory behind a descriptor: no registers hold them.
    arguments : names of all arguments in PTX order: operands, ``a-desc`` and ``b-desc``,
        immediates; a tuple of names is a list in braces. () stands for the operands alone.
    immediates : the arguments that are constants.
    memory : for a load or store: the type of an element in memory where it differs from that in
        registers, such as "b6x16_p32".
    measured : for a layout that no document gives: the evidence that the row was read from.
    """

    ptx: str
    family: str
    shape: tuple[int, ...]
    operands: tuple[Operand, ...]
    min_ptx: str
    min_cc: int
    source: str
    addresses: int = 0
    transposed: bool = False
    notes: tuple[str, ...] = field(default=())
    only_on: tuple[str, ...] = ()
    kind: str = ""
    sparsity: Sparsity | None = None
    in_shared: tuple[str, ...] = ()
    arguments: tuple[str | tuple[str, ...], ...] = ()
    immediates: tuple[Immediate, ...] = ()
    memory: str = ""
    measured: str = ""

    def __post_init__(self) -> None:
        names = [operand.name for operand in self.operands]
        if len(set(names)) != len(names):
            raise LayoutError(f"{self.ptx}: an operand is named twice: {names}")
        if len({operand.fragment.lanes for operand in self.operands}) != 1:
            raise LayoutError(
                f"{self.ptx}: the operands are spread over different numbers of lanes"
            )
        if self.shape:
            self._check_shape()
        if self.arguments:
            self._check_arguments()

    def _check_shape(self) -> None:
        m, n, k = self.shape
        stored = k * self.sparsity.kept // self.sparsity.group if self.sparsity else k
        wanted = {"A": (m, stored), "B": (k, n), "C": (m, n), "D": (m, n)}
        for operand in self.operands:
            size = operand.axis_sizes[-2:]
            if operand.name in wanted and size != wanted[operand.name]:
                raise LayoutError(
                    f"{self.ptx}: operand {operand.name} is {size}, not {wanted[operand.name]}"
                )

    def _check_arguments(self) -> None:
        given = [name for each in self.arguments for name in _names(each)]
        known = [
            *(operand.name for operand in self.operands),
            *(f"{name.lower()}-desc" for name in self.in_shared),
            *(immediate.name for immediate in self.immediates),
        ]
        if sorted(given) != sorted(known):
            raise LayoutError(f"{self.ptx}: arguments {given} are not its {known}")

    @property
    def mnemonic(self) -> str:
        """The mnemonic as PTX writes it."""
        return self.ptx.partition(" ")[0]

    @property
    def targets(self) -> str:
        """The targets that take it: ``sm_80+``, or a list where it is not all from one on."""
        return ", ".join(self.only_on) if self.only_on else f"sm_{self.min_cc}+"

    def runs_on(self, cc: int, suffix: str = "a") -> bool:
        """Return whether ptxas takes it for ``sm_<cc><suffix>`` (90, "a": what an H200 runs).

        ``suffix`` is "" for the features that every later GPU has, "a" for those of this one, "f"
        for those of its family.
        """
        if not self.only_on:
            return cc >= self.min_cc
        if suffix == "f":  # a family target takes what the family's earlier members take
            family = range(cc // 10 * 10, cc + 1)
            return any(f"sm_{member}f" in self.only_on for member in family)
        return f"sm_{cc}{suffix}" in self.only_on

    @property
    def argument_list(self) -> tuple[str | tuple[str, ...], ...]:
        """Names of all arguments in PTX order, operands in capitals."""
        return self.arguments or tuple(operand.name for operand in self.operands)

    @cached_property
    def by_name(self) -> Mapping[str, Operand]:
        """Operands by name."""
        return {operand.name: operand for operand in self.operands}

    @property
    def lanes(self) -> int:
        """Number of lanes that take part: 32 for a warp, 128 for a warpgroup."""
        return self.operands[0].fragment.lanes

    def __getitem__(self, name: str) -> Operand:
        return self.by_name[name]


def _names(argument: str | tuple[str, ...]) -> tuple[str, ...]:
    return (argument,) if isinstance(argument, str) else argument
