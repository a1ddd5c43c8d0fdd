"""What a GPU executes for a row: the tensor-core instructions that ptxas makes of it.

From the record ``data/sass.json``, which tools/record_sass.py writes: it says what the machine code
is, not how fast it runs. So fp8 ``mma.sync`` is one QMMA on sm_89 and two HMMA on sm_90, and
m8n8k4 with ``.f16`` uses no tensor core after sm_75.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from attnprobe.layouts.instruction import Instruction

RECORD = Path(__file__).resolve().parent / "data" / "sass.json"

_WIDTH = re.compile(r"\bm64n\d+k")


@dataclass(frozen=True)
class Code:
    """What ptxas makes of an instruction for one target.

    Attributes
    ----------
    target : such as ``sm_90a``.
    sass : the tensor-core (or matrix-move) instructions, ``2x HMMA.16816.F32``.
    native : whether it is one instruction of the tensor core (or one matrix move).
    how : "native", "split" into several such instructions, or "emulated" without a tensor core.
    """

    target: str
    sass: str

    @property
    def how(self) -> str:
        """ "native", "split" or "emulated"."""
        if self.sass.startswith("no tensor core"):
            return "emulated"
        return "split" if "x " in self.sass or " + " in self.sass else "native"

    @property
    def native(self) -> bool:
        """Whether it is a single instruction."""
        return self.how == "native"


def codes(row: Instruction) -> tuple[Code, ...]:
    """Return what ptxas makes of ``row`` on each recorded target that takes it; () if unknown."""
    n = str(row.shape[1]) if row.lanes == 128 and row.shape else "N"
    found = _record()["rows"].get(key(row), {})
    return tuple(
        Code(target, _specific(sass, n))
        for target, sass in sorted(found.items(), key=lambda item: _number(item[0]))
    )


def code(row: Instruction, target: str) -> Code | None:
    """Return what ptxas makes of ``row`` for ``target``, or None where that is not recorded."""
    return next((each for each in codes(row) if each.target == target), None)


def compiler() -> str:
    """Return the version of NVRTC that the record was made with."""
    return str(_record()["nvrtc"])


def key(row: Instruction) -> str:
    """Return the name under which a row is recorded: of wgmma one for all N."""
    return _WIDTH.sub("m64nNk", row.ptx)


def generic(row: Instruction, sass: str) -> str:
    """Return recorded code with N for the width of a wgmma."""
    return sass.replace(f".64x{row.shape[1]}x", ".64xNx") if row.lanes == 128 else sass


def _specific(sass: str, n: str) -> str:
    return sass.replace(".64xNx", f".64x{n}x")


def _number(target: str) -> int:
    return int(target.removeprefix("sm_").rstrip("af"))


@cache
def _record() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))
    return loaded
