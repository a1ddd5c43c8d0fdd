"""Asks every question of every row it applies to, on one backend, and gives a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attnprobe.backends.base import Backend, NotRunError
from attnprobe.errors import CompileError, UnknownOpcodeError, UnsupportedError, UsageError
from attnprobe.layouts import Instruction
from attnprobe.probing import (  # noqa: F401  (they register their comparisons)
    generate,
    loads,
    meetings,
    metadata,
    planes,
    stores,
    warpgroup_check,
    warpgroup_tiles_check,
)
from attnprobe.probing.compare import COMPARISONS, Asked
from attnprobe.probing.definition import Question
from attnprobe.probing.report import (
    MATCH,
    MISMATCH,
    NOT_RUN,
    ProbeReport,
    ProbeResult,
)

Progress = Callable[[ProbeResult], None]


def pairs(
    rows: Sequence[Instruction], questions: Sequence[Question]
) -> list[tuple[Instruction, Question]]:
    """Return (row, question) for every question that can be asked of the row."""
    return [(row, item) for row in rows for item in questions if generate.applies(item, row)]


def run(
    rows: Sequence[Instruction],
    questions: Sequence[Question],
    backend: Backend,
    progress: Progress | None = None,
) -> ProbeReport:
    """Return the answers of ``backend`` to all questions that apply to ``rows``.

    ``progress`` is called with each result as it comes.
    """
    results = []
    asked = pairs(rows, questions)
    compile_ahead(asked, backend)
    for row, question in asked:
        result = ask(row, question, backend)
        results.append(result)
        if progress is not None:
            progress(result)
    return ProbeReport(tuple(results))


def compile_ahead(asked: Sequence[tuple[Instruction, Question]], backend: Backend) -> int:
    """Let a backend that can compile many texts at once do so; return how many it compiled."""
    if not hasattr(backend, "compile_ahead"):
        return 0
    wanted = (
        (generate.source(row, question), generate.target(row))
        for row, question in asked
        if row.runs_on(backend.cc)
    )
    return int(backend.compile_ahead(wanted))


def ask(row: Instruction, question: Question, backend: Backend) -> ProbeResult:
    """Return the answer to one question about one row.

    What a backend cannot run (a newer instruction, no record, an opcode that the emulator lacks, a
    text that the compiler refuses) is a result "not run" with the reason; other errors are raised.
    """
    if not row.runs_on(backend.cc):
        reason = f"{row.ptx} needs {row.targets}; {backend.name} is sm_{backend.cc}"
        return _not_run(row, question, backend, reason, "arch")
    try:
        asked = {}
        for fill in question.fills:
            made = generate.launch(row, question, fill)
            asked[fill.name] = Asked(fill, made, backend.run(made))
    except NotRunError as error:
        return _not_run(row, question, backend, str(error), "record")
    except (UnknownOpcodeError, UnsupportedError) as error:
        return _not_run(row, question, backend, str(error), "emulator")
    except CompileError as error:
        return _not_run(row, question, backend, str(error), "compile")
    return _answered(row, question, backend, asked)


def _answered(
    row: Instruction, question: Question, backend: Backend, asked: dict[str, Asked]
) -> ProbeResult:
    if question.compare not in COMPARISONS:
        known = ", ".join(sorted(COMPARISONS))
        raise UsageError(f"{question.name}: no comparison {question.compare!r}; there are {known}")
    answer = COMPARISONS[question.compare](row, question, asked)
    wrong = any(operand.differing for operand in answer.operands)
    return ProbeResult(
        ptx=row.ptx,
        probe=question.name,
        backend=backend.name,
        verdict=MISMATCH if wrong else MATCH,
        operands=answer.operands,
        findings=answer.findings,
        asks=question.asks,
        proves=question.proves,
        blind=question.blind,
        within=question.within,
        environment=next(iter(asked.values())).dump.environment,
    )


def _not_run(
    row: Instruction, question: Question, backend: Backend, reason: str, cause: str
) -> ProbeResult:
    return ProbeResult(
        ptx=row.ptx,
        probe=question.name,
        backend=backend.name,
        verdict=NOT_RUN,
        reason=reason,
        cause=cause,
        asks=question.asks,
        proves=question.proves,
        blind=question.blind,
        within=question.within,
        environment=backend.environment(),
    )
