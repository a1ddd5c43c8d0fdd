"""Immediate arguments of an instruction, and those that choose which lanes or bytes are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from attnprobe.errors import UsageError


@dataclass(frozen=True)
class Immediate:
    """An argument that is a constant of the program (or, of ``scale-d``, a predicate).

    Attributes
    ----------
    name : what the PTX ISA calls it, such as ``imm-trans-b``.
    values : the legal values.
    says : what it does, in a few words.
    """

    name: str
    values: tuple[int, ...]
    says: str


@dataclass(frozen=True)
class Choice:
    """Which of an operand's copies an immediate picks.

    Some operands lie in some lanes of each quad alone, or in some bytes of a register: sparsity
    metadata and scale factors. Such a fragment has copies along a digit of the lane or element
    number that does not move, and the immediate says which value of that digit is read. What the
    other lanes and bytes hold is ignored.

    Attributes
    ----------
    immediate : name of the immediate.
    number : the number that the digit belongs to, "lane" or "i".
    weight : what one step of the digit adds to the number.
    values : values of the immediate, in the order of the digit's.
    """

    immediate: str
    number: str
    weight: int
    values: tuple[int, ...]

    def picks(self, numbers: npt.NDArray[Any], value: int) -> npt.NDArray[Any]:
        """Return for each lane or element number whether the immediate ``value`` reads it.

        Raises
        ------
        UsageError
            If the value is none of ``values``.
        """
        if value not in self.values:
            legal = ", ".join(str(each) for each in self.values)
            raise UsageError(f"{self.immediate} is one of {legal}; got {value}")
        picked: npt.NDArray[Any] = numbers // self.weight % len(self.values) == self.values.index(
            value
        )
        return picked
