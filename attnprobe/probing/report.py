"""What asking gives: differences, verdicts per operand, results per question, a report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from attnprobe.backends.base import Environment
from attnprobe.errors import UsageError

SCHEMA = "attnprobe.probe/1"
MATCH, MISMATCH, NOT_RUN = "match", "mismatch", "not run"


@dataclass(frozen=True)
class Difference:
    """One register slot that is not what the row says.

    Attributes
    ----------
    operand : operand whose registers it is in.
    slot : the slot's name, ``a[1].lo``.
    lane, register, part : the slot; parts count from the low bits.
    row, col : the element that the layout row puts there.
    holds, expected : what it holds and what the row says, in words: an element, or a value.
    bits, expected_bits : the raw bits, where the comparison is one of bits.
    block : block of the launch, where the same slot was looked at in several.
    """

    operand: str
    slot: str
    lane: int
    register: int
    part: int
    row: int
    col: int
    holds: str
    expected: str
    bits: int | None = None
    expected_bits: int | None = None
    block: int | None = None


@dataclass(frozen=True)
class OperandVerdict:
    """The verdict on one operand.

    Attributes
    ----------
    operand : its name.
    verdict : "match" or "mismatch".
    checked : how many values were compared, over all blocks.
    differing : how many of them differ; ``differences`` may list fewer.
    differences : what differs.
    """

    operand: str
    verdict: str
    checked: int
    differing: int = 0
    differences: tuple[Difference, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What a comparison finds: a verdict for each operand, and sentences that say more."""

    operands: tuple[OperandVerdict, ...]
    findings: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProbeResult:
    """The answer to one question about one instruction.

    Attributes
    ----------
    ptx, probe : instruction and question.
    backend : which one answered.
    verdict : "match", "mismatch" or "not run".
    reason : why it was not run, else "".
    cause : "arch", "compile", "record" or "emulator" where it was not run, else "".
    operands, findings : of the comparison.
    asks, proves, blind, within : of the question.
    environment : of the backend that answered.
    """

    ptx: str
    probe: str
    backend: str
    verdict: str
    reason: str = ""
    cause: str = ""
    operands: tuple[OperandVerdict, ...] = ()
    findings: tuple[str, ...] = ()
    asks: str = ""
    proves: str = ""
    blind: str = ""
    within: str = ""
    environment: Environment = field(default_factory=dict)

    @property
    def differences(self) -> tuple[Difference, ...]:
        """The differences of all operands."""
        return tuple(item for operand in self.operands for item in operand.differences)

    def as_json(self) -> dict[str, Any]:
        """Return the result as plain data: one object with a versioned schema."""
        data = asdict(self)
        for operand in data["operands"]:
            del operand["differences"]
        data["operands"], data["findings"] = list(data["operands"]), list(data["findings"])
        differences = [asdict(item) for item in self.differences]
        return {"schema": SCHEMA, **data, "differences": differences}


@dataclass(frozen=True)
class ProbeReport:
    """The results of one run."""

    results: tuple[ProbeResult, ...]

    def count(self, verdict: str) -> int:
        """Return how many results have ``verdict``."""
        return sum(result.verdict == verdict for result in self.results)

    @property
    def exit_code(self) -> int:
        """0: all that ran matches; 1: a mismatch; 4: a compile failed; 5: nothing could run."""
        if self.count(MISMATCH):
            return 1
        if any(result.cause == "compile" for result in self.results):
            return 4
        return 0 if self.count(MATCH) else 5

    def as_json(self) -> list[dict[str, Any]]:
        """Return one object for each instruction and question."""
        return [result.as_json() for result in self.results]

    def save(self, path: Path) -> None:
        """Write the report as JSON."""
        path.write_text(json.dumps(self.as_json(), indent=1) + "\n", encoding="utf-8")


def load(path: Path) -> ProbeReport:
    """Return a report that ``ProbeReport.save`` wrote.

    Raises
    ------
    UsageError
        If the file has another schema.
    """
    return from_json(json.loads(path.read_text(encoding="utf-8")))


def from_json(data: Sequence[dict[str, Any]]) -> ProbeReport:
    """Return the report that ``ProbeReport.as_json`` gave as ``data``."""
    return ProbeReport(tuple(_result(item) for item in data))


def _result(data: dict[str, Any]) -> ProbeResult:
    fields = dict(data)
    if fields.pop("schema", None) != SCHEMA:
        raise UsageError(f"not a probe report of schema {SCHEMA!r}: {data.get('schema')!r}")
    differences = [Difference(**item) for item in fields.pop("differences")]
    operands = tuple(
        OperandVerdict(
            **operand,
            differences=tuple(item for item in differences if item.operand == operand["operand"]),
        )
        for operand in fields.pop("operands")
    )
    fields["findings"] = tuple(fields["findings"])
    return ProbeResult(operands=operands, **fields)
