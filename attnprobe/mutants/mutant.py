"""What a mutant is: a name, a small change to the kernel, its launch or its plan, and its judges.

A change of kernel text names a piece that must stand there a stated number of times, so a mutant
that no longer applies is an error and not a kernel that passes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Grid = tuple[int, int, int]

# Files below kernels/ that mutants are made of, most of the first.
MAIN_KERNEL = "attention/fwd_mma.cu"
DECODE_KERNEL = "attention/decode_split.cu"
HOPPER_KERNEL = "attention/fwd_wgmma.cu"
APPEND_KERNEL, MERGE_KERNEL = "attention/append_kv.cu", "attention/merge_states.cu"
# What runs beside an attention kernel of its own: the file -> the kernel whose plans run with it.
BESIDE = {APPEND_KERNEL: DECODE_KERNEL, MERGE_KERNEL: MAIN_KERNEL}


@dataclass(frozen=True)
class Edit:
    """One replacement in the kernel text; ``old`` stands there exactly ``count`` times."""

    old: str
    new: str
    count: int = 1


@dataclass(frozen=True)
class Argument:
    """Another value for one field of ``AttentionParams``.

    Attributes
    ----------
    field : its name.
    shown : the new value, as a reader would write it.
    value : the fields that the plan fills in, by name -> the new value.
    """

    field: str
    shown: str
    value: Callable[[Mapping[str, float]], float]


@dataclass(frozen=True)
class Define:
    """Another value for one macro of the plan; ``shown`` and ``value`` are as in Argument."""

    macro: str
    shown: str
    value: Callable[[Mapping[str, Any]], object]


@dataclass(frozen=True)
class Blocks:
    """Another grid than the plan's; ``value`` gives the blocks in x."""

    shown: str
    value: Callable[[Any], int]


@dataclass(frozen=True)
class SharedBytes:
    """Another size of dynamic shared memory than the plan's; ``value`` gives bytes."""

    shown: str
    value: Callable[[Any], int]


Change = Edit | Argument | Define | Blocks | SharedBytes
_SUBJECTS: Mapping[type[Any], str] = {
    Edit: "kernel text",
    Argument: "launch arguments",
    Define: "plan",
    Blocks: "plan",
    SharedBytes: "plan",
}


@dataclass(frozen=True)
class Mutant:
    """One mutant.

    Attributes
    ----------
    name : what tests and tables call it.
    breaks : what is wrong in it.
    changes : applied one after the other.
    seen_on : names of the scenes (scenes.py) on which it can be seen.
    refused_by : fills that must refuse it, the most telling first; empty where nothing can.
    family : group of rows that it stands in, such as "masks".
    field : where a fault like it was met: a project and its thread, or "".
    equivalent : the argument why nothing can tell it from the sound kernel, or "".
    slipped : whether near-uniform data under the old tolerance let this very fault through.
    kernel : the file below kernels/ that it edits; other files of the same call run as they are.
    timing : whether nothing but the order of things is wrong: checked emulation always sees that, a
        GPU only where its timing is bad.
    """

    name: str
    breaks: str
    changes: tuple[Change, ...]
    seen_on: tuple[str, ...]
    refused_by: tuple[str, ...] = ("normal",)
    family: str = ""
    field: str = ""
    equivalent: str = ""
    slipped: bool = False
    kernel: str = MAIN_KERNEL
    timing: bool = False

    def __post_init__(self) -> None:
        edits = [change for change in self.changes if isinstance(change, Edit)]
        if not self.changes or any(edit.old == edit.new for edit in edits):
            raise ValueError(f"mutant {self.name} changes nothing")
        if not self.seen_on or not self.family:
            raise ValueError(f"mutant {self.name} needs a family and a scene to be seen on")
        if bool(self.equivalent) == bool(self.refused_by):
            raise ValueError(f"mutant {self.name}: either something refuses it, or nothing can")

    @property
    def subject(self) -> str:
        """What it changes: "kernel text", "launch arguments" or "plan"."""
        return _SUBJECTS[type(self.changes[0])]
