"""The report of a regression run as a document: the verdict first, then what is wrong and where."""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from attnprobe.render.document import Block, Document, Heading, Lines, Table, table
from attnprobe.rig.explain import MOST_SHARE
from attnprobe.rig.report import DECLINED, SOUND, VERDICTS, Report, Result

MOST_LISTED = 12  # failing jobs that are listed without --details
_FACTS = (
    "device", "arch", "driver", "nvrtc", "cupy", "torch", "cudnn", "jax", "numpy", "arrays",
)  # fmt: skip


def document(report: Report, *, details: bool = False) -> Document:
    """Return the report; with ``details`` every job has a line."""
    blocks: list[Block] = [Heading(headline(report)), Lines(tuple(_about(report)))]
    telling = report.telling
    if telling is not None:
        blocks += [Heading("what is wrong"), Lines(tuple(_wrong(report, telling)))]
        blocks += [Heading("run just it again"), Lines((f"  {command_of(report, telling)}",))]
    blocks.append(_by_fill(report.results))
    listed = report.results if details else report.failures[:MOST_LISTED]
    if listed:
        blocks.append(_jobs(listed))
    if len(report.failures) > MOST_LISTED and not details:
        more = len(report.failures) - MOST_LISTED
        blocks.append(Lines((f"and {more} more; --details lists all, --html draws them",)))
    declined = _declined(report.results)
    return (*blocks, declined) if declined else tuple(blocks)


def headline(report: Report) -> str:
    """Return the verdict on the target in a line."""
    failed, judged = len(report.failures), len(report.results) - report.counts[DECLINED]
    if failed:
        return f"REFUSED: {report.target} fails {failed} of {judged} jobs"
    if not judged:
        return f"NOTHING APPLIES: {report.target} serves none of {len(report.results)} jobs"
    return f"SOUND: {report.target} passes all {judged} jobs"


def _about(report: Report) -> Iterable[str]:
    yield f"  {report.says}"
    named = (v if k == "device" else f"{k} {v}" for k, v in facts(report.environment).items())
    yield f"  {', '.join(named)}; {report.seconds:.0f} s"
    yield f"  {counted(report)}"


def facts(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what a report says of the machine, in order."""
    return {name: environment[name] for name in _FACTS if name in environment}


def counted(report: Report) -> str:
    """Return how many jobs had which verdict, in words."""
    counts = report.counts
    parts = [f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict]]
    resumed = f"; {report.resumed} of them from before" if report.resumed else ""
    left = f"; {report.left} not run, for too many calls hung" if report.left else ""
    return f"{', '.join(parts)}{resumed}{left}"


def _wrong(report: Report, telling: Result) -> Iterable[str]:
    likely = report.likely
    if likely is not None:
        yield f"  looks like: {likely.text}"
        yield f"  so in {likely.jobs} of {likely.refused} refused jobs"
    yield f"  first failing: {telling.case}, fill {telling.fill}, {telling.dtype}"
    if telling.lines:
        yield from (f"    {line}" for line in telling.lines)
    else:
        yield f"    {telling.verdict}: {telling.reason}"


def command_of(report: Report, result: Result) -> str:
    """Return the command line that runs one job again."""
    words = shlex.split(report.command)
    kept = words[:2]
    for name in ("--target", "--signature", "--arrays"):
        if name in words:
            kept += words[words.index(name) : words.index(name) + 2]
    kept += ["--case", result.case, "--fill", result.fill, "--dtype", result.dtype]
    return shlex.join([*kept, *(["--checked"] if "--checked" in words else [])])


def _by_fill(results: Sequence[Result]) -> Table:
    """Return a line for each fill: how many are sound, and how near the worst is to its bound."""
    by_fill: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        by_fill[result.fill].append(result)
    lines = []
    for fill, found in by_fill.items():
        counts = Counter(result.verdict for result in found)
        failed = sum(result.failed for result in found)
        judged = [result for result in found if result.o_share is not None]
        lines.append(
            (
                fill,
                counts[SOUND],
                failed or "",
                counts[DECLINED] or "",
                _greatest(result.o_share for result in judged),
                _greatest(result.lse_share for result in judged),
            )
        )
    header = (
        "fill",
        "sound",
        "refused",
        "n/a",
        "O, worst\nof its bound",
        "LSE, worst\nof its bound",
    )
    return table(header, lines, numeric=range(1, 6))


def _greatest(shares: Iterable[float | None]) -> str:
    found = [share for share in shares if share is not None]
    return number(max(found)) if found else "-"


def number(value: float | None) -> str:
    """Return three digits of a number, "-" for none."""
    if value is None:
        return "-"
    if value >= MOST_SHARE:
        return "inf"
    return f"{value:.0f}" if 1000 <= value < 1e5 else f"{value:.3g}"


def _jobs(results: Sequence[Result]) -> Table:
    lines = [
        (
            result.case,
            result.fill,
            result.dtype,
            result.verdict if result.verdict == SOUND else result.verdict.upper(),
            number(result.o_share),
            number(result.lse_share),
            number(result.signal_to_error),
            f"{result.call_ms:.3g}",
            result.guess["text"] if result.guess else result.reason[:90],
        )
        for result in results
    ]
    header = (
        "case", "fill", "dtype", "verdict", "O of\nbound", "LSE of\nbound", "signal to\nerror",
        "call\nms", "looks like",
    )  # fmt: skip
    return table(header, lines, numeric=(4, 5, 6, 7))


def declined_reasons(results: Sequence[Result]) -> list[tuple[str, list[str], int]]:
    """Return each reason why jobs do not apply, with its cases and how many jobs they are."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for result in results:
        if result.verdict == DECLINED:
            by_reason[result.reason].append(result.case)
    ordered = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    return [(reason, list(dict.fromkeys(cases)), len(cases)) for reason, cases in ordered]


def _declined(results: Sequence[Result]) -> Table | None:
    """Return a line for each reason why jobs do not apply, or None where all do."""
    lines = []
    for reason, cases, count in declined_reasons(results):
        more = f" and {len(cases) - 3} more" if len(cases) > 3 else ""
        lines.append((count, reason, ", ".join(cases[:3]) + more))
    return table(("jobs", "not applicable, for", "cases"), lines, numeric=(0,)) if lines else None


def listing() -> Document:
    """Return the targets, signatures, cases and fills that there are."""
    from attnprobe.numerics.fills import FILLS
    from attnprobe.rig.signatures import SIGNATURES
    from attnprobe.rig.suite import every_case
    from attnprobe.rig.targets import TARGETS

    targets = [(row.name, row.signature, row.says) for row in TARGETS]
    targets.append(("mutant:NAME", "ours", "our kernel with a mutant's edits"))
    targets.append(("package.module:function", "--signature", "any callable"))
    cases = [(row.name, row.dtype, ", ".join(row.fills)) for row in every_case().values()]
    return (
        table(("target", "signature", "what it is"), targets),
        table(("signature", "how it is called"), [(r.name, r.says) for r in SIGNATURES.values()]),
        table(("case", "dtype", "fills"), cases),
        table(("fill", "what it is"), [(row.name, row.what) for row in FILLS.values()]),
    )
