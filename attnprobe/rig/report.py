"""What a run found: one result for each job, and the report of them all."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

SCHEMA = "attnprobe.regress/1"

SOUND = "sound"
REFUSED = "refused"
ERROR = "error"
CRASHED = "crashed"
TIMEOUT = "timeout"
DECLINED = "not applicable"
VERDICTS = (SOUND, REFUSED, ERROR, CRASHED, TIMEOUT, DECLINED)
FAILED = (REFUSED, ERROR, CRASHED, TIMEOUT)


@dataclass(frozen=True)
class Result:
    """One job's outcome. Only what JSON can hold, so that it crosses processes and stays on disk.

    Attributes
    ----------
    case, fill, dtype : the job.
    verdict : of VERDICTS.
    reason : why it was not judged, or the first demand that is not met; "" for sound.
    o_share, lse_share : worst error of O and of LSE / its bound; None where there is none.
    max_abs : greatest |error| of O.
    signal_to_error : rms of O / rms of its error; None where there is no error.
    call_ms : milliseconds that the target took, copies and any compile included.
    lines : what the oracle says, or the end of a dead process's stderr.
    diagnosis : what is known of a refusal (``explain.py``); {} for any other result.
    """

    case: str
    fill: str
    dtype: str
    verdict: str
    reason: str = ""
    o_share: float | None = None
    lse_share: float | None = None
    max_abs: float | None = None
    signal_to_error: float | None = None
    call_ms: float = 0.0
    lines: tuple[str, ...] = ()
    diagnosis: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"no verdict {self.verdict!r}")

    @property
    def job(self) -> str:
        """Name of the job: case/fill/dtype."""
        return f"{self.case}/{self.fill}/{self.dtype}"

    @property
    def failed(self) -> bool:
        """Whether the target is at fault."""
        return self.verdict in FAILED

    @property
    def guess(self) -> dict[str, Any] | None:
        """The best explanation of a refusal: fault, text, explains, certain."""
        guesses = self.diagnosis.get("guesses", [])
        return guesses[0] if guesses else None

    def as_json(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return asdict(self) | {"lines": list(self.lines)}

    @staticmethod
    def of_json(data: dict[str, Any]) -> Result:
        """Return what ``as_json`` was made from."""
        return Result(**(data | {"lines": tuple(data["lines"])}))


@dataclass(frozen=True)
class Likely:
    """The fault that most refusals look like: its text, and in how many of how many."""

    fault: str
    text: str
    jobs: int
    refused: int


@dataclass(frozen=True)
class Report:
    """A run.

    Attributes
    ----------
    target, says : name of the target, and what it is.
    environment : device, driver and versions, as the process of the target sees them.
    command : the command line.
    date : when it ended, ISO 8601.
    seconds : wall time of this part of it.
    results : in the order of the suite.
    resumed : how many of them an earlier part of the run had found.
    left : jobs that were not run, for too many before them hung.
    """

    target: str
    says: str
    environment: dict[str, str]
    command: str
    date: str
    seconds: float
    results: tuple[Result, ...]
    resumed: int = 0
    left: int = 0

    @property
    def counts(self) -> Counter[str]:
        """How many results of each verdict."""
        return Counter(result.verdict for result in self.results)

    @property
    def failures(self) -> tuple[Result, ...]:
        """The results that the target is at fault for."""
        return tuple(result for result in self.results if result.failed)

    @property
    def likely(self) -> Likely | None:
        """The guess that explains most, all refusals taken together."""
        refused = [result for result in self.results if result.verdict == REFUSED]
        guesses = [result.guess for result in refused if result.guess]
        if not guesses:
            return None
        weights: Counter[str] = Counter()
        for guess in guesses:
            weights[guess["fault"]] += guess["explains"] + guess["certain"]
        fault = weights.most_common(1)[0][0]
        texts = Counter(guess["text"] for guess in guesses if guess["fault"] == fault)
        jobs = sum(texts.values())
        return Likely(fault, texts.most_common(1)[0][0], jobs, len(refused))

    @property
    def telling(self) -> Result | None:
        """The failure to look at first: the first of the suite that the likely fault explains."""
        likely = self.likely
        explained = (
            result
            for result in self.failures
            if likely and result.guess and result.guess["fault"] == likely.fault
        )
        return next(explained, next(iter(self.failures), None))

    @property
    def exit_code(self) -> int:
        """6 where a call hung, 1 where anything else failed, 5 where nothing applies, else 0."""
        counts = self.counts
        if counts[TIMEOUT]:
            return 6
        if self.failures:
            return 1
        return 0 if counts[SOUND] else 5

    def as_json(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        likely = self.likely
        return {
            "schema": SCHEMA,
            "target": self.target,
            "says": self.says,
            "environment": self.environment,
            "command": self.command,
            "date": self.date,
            "seconds": round(self.seconds, 1),
            "exit_code": self.exit_code,
            "counts": {verdict: self.counts[verdict] for verdict in VERDICTS},
            "resumed": self.resumed,
            "left": self.left,
            "likely": asdict(likely) if likely else None,
            "results": [result.as_json() for result in self.results],
        }
