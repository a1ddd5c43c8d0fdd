"""A record of timings: one object for each case and engine, and where it was measured."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from attnprobe.errors import UsageError

SCHEMA = "attnprobe.bench/1"
_DIGITS = 6  # significant ones of a sample


@dataclass(frozen=True)
class Result:
    """One case on one engine.

    Attributes
    ----------
    case, kind, engine : names; ``kind`` is "prefill", "decode", "feature", "host" or "first call".
    batch, heads, ... feature, beside, aim : of the case; see ``cases.Case``.
    samples_us : microseconds of a call, one for each batch.
    tflops : 10^12 operations a second, of prefill; None elsewhere.
    gbps : 10^9 bytes of K and V a second, of decode; None elsewhere.
    error, error_share : greatest |error| against float64 on the checked rows, and the greatest
        share of its derived bound; None where nothing is computed.
    ceiling, ceiling_share : what bounds the call from below, and that time over the median; "" and
        None where no ceiling was measured.
    method : "graph", "events" or "host clock".
    l2 : "cold" where K and V do not fit into the L2 cache, copies counted, else "warm".
    kernel : what ran, as far as it is known.
    """

    case: str
    kind: str
    engine: str
    dtype: str = "float16"
    head_dim: int = 0
    causal: bool = False
    batch: int = 0
    heads: int = 0
    kv_heads: int = 0
    seqlen_q: int = 0
    seqlen_k: int = 0
    layout: str = "padded"
    page_size: int = 0
    kv_format: str = ""
    feature: str = ""
    beside: str = ""
    aim: float = 0.0
    samples_us: tuple[float, ...] = ()
    tflops: float | None = None
    gbps: float | None = None
    error: float | None = None
    error_share: float | None = None
    ceiling: str = ""
    ceiling_share: float | None = None
    method: str = ""
    l2: str = ""
    kernel: str = ""

    @property
    def median_us(self) -> float:
        """The figure to quote."""
        return statistics.median(self.samples_us)

    @property
    def sigma_us(self) -> float:
        """Spread of the samples: 1.4826 times the median distance from the median.

        Of normal samples that is the standard deviation, and one gone astray moves it little.
        """
        middle = self.median_us
        return 1.4826 * statistics.median(abs(each - middle) for each in self.samples_us)

    def as_json(self) -> dict[str, Any]:
        """Return the object of a record."""
        told = {**vars(self), "samples_us": [_short(each) for each in self.samples_us]}
        told |= {"median_us": _short(self.median_us), "sigma_us": _short(self.sigma_us)}
        return {k: _short(v) if isinstance(v, float) else v for k, v in told.items()}

    @classmethod
    def of_json(cls, told: Mapping[str, Any]) -> Result:
        """Return the result of an object of a record."""
        known = {item.name for item in fields(cls)}
        values = {name: value for name, value in told.items() if name in known}
        return cls(**{**values, "samples_us": tuple(told["samples_us"])})


@dataclass(frozen=True)
class Ceiling:
    """What the card can do at most of one thing.

    Attributes
    ----------
    name : unique; ``ceilings.py`` has them.
    rate : per second, of ``unit``.
    unit : "FLOP", "exponentials" or "bytes".
    samples_us : microseconds of one run of it.
    """

    name: str
    rate: float
    unit: str
    samples_us: tuple[float, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the object of a record."""
        samples = [_short(each) for each in self.samples_us]
        return {**vars(self), "rate": _short(self.rate), "samples_us": samples}

    @classmethod
    def of_json(cls, told: Mapping[str, Any]) -> Ceiling:
        """Return the ceiling of an object of a record."""
        return cls(told["name"], told["rate"], told["unit"], tuple(told["samples_us"]))


@dataclass(frozen=True)
class Record:
    """One run.

    Attributes
    ----------
    environment : device, driver, versions, digest of the kernel texts, command, date.
    engines : those that were timed, in order.
    absent : engine -> why it was not.
    ceilings, results : as they were measured.
    refused : case -> engine -> why it did not take the case, or failed on it.
    done : cases that are finished, refused ones among them.
    left_out : cases that the time did not suffice for.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    engines: tuple[str, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)
    ceilings: tuple[Ceiling, ...] = ()
    results: tuple[Result, ...] = ()
    refused: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    done: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def of_kind(self, *kinds: str) -> tuple[Result, ...]:
        """Return the results of some kinds, in order."""
        return tuple(row for row in self.results if row.kind in kinds)

    def find(self, case: str, engine: str) -> Result | None:
        """Return the result of a case on an engine, or None."""
        return next((r for r in self.results if (r.case, r.engine) == (case, engine)), None)

    def ceiling(self, name: str) -> float | None:
        """Return the rate of a ceiling, or None where it was not measured."""
        return next((row.rate for row in self.ceilings if row.name == name), None)

    def with_case(self, name: str, results: Iterable[Result], refused: Mapping[str, str]) -> Record:
        """Return the record with one case more."""
        told = {**self.refused, name: dict(refused)} if refused else self.refused
        results = (*self.results, *results)
        return replace(self, results=results, refused=told, done=(*self.done, name))

    def as_json(self) -> dict[str, Any]:
        """Return the whole as JSON takes it."""
        return {
            "schema": SCHEMA,
            "environment": dict(self.environment),
            "engines": list(self.engines),
            "absent": dict(self.absent),
            "ceilings": [row.as_json() for row in self.ceilings],
            "results": [row.as_json() for row in self.results],
            "refused": {name: dict(told) for name, told in self.refused.items()},
            "done": list(self.done),
            "left_out": list(self.left_out),
        }

    @classmethod
    def of_json(cls, told: Mapping[str, Any]) -> Record:
        """Return the record of a JSON object.

        Raises
        ------
        ValueError
            If it is none of this schema.
        """
        if told.get("schema") != SCHEMA:
            raise ValueError(f"its schema is {told.get('schema')!r}, {SCHEMA!r} is wanted")
        return cls(
            told["environment"],
            tuple(told["engines"]),
            told["absent"],
            tuple(map(Ceiling.of_json, told["ceilings"])),
            tuple(map(Result.of_json, told["results"])),
            told["refused"],
            tuple(told["done"]),
            tuple(told["left_out"]),
        )


def load(path: Path) -> Record:
    """Return the record in a file.

    Raises
    ------
    UsageError
        If there is none that can be read.
    """
    try:
        return Record.of_json(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"the record {path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is no record of attnprobe bench: {error}") from error


def save(record: Record, path: Path) -> None:
    """Write the record; who reads it meanwhile sees the one before.

    Raises
    ------
    UsageError
        If it cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(_text(record.as_json()), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise UsageError(f"the record {path} cannot be written: {error.strerror}") from error


def _text(told: Mapping[str, Any]) -> str:
    """Return JSON with one line for each result: what a diff of two records shows."""
    parts = []
    for name, value in told.items():
        if name in ("results", "ceilings") and value:
            lines = ",\n  ".join(json.dumps(row, allow_nan=False) for row in value)
            parts.append(f'"{name}": [\n  {lines}\n ]')
        else:
            parts.append(f'"{name}": {json.dumps(value, allow_nan=False)}')
    return "{\n " + ",\n ".join(parts) + "\n}\n"


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
