"""The report of a regression run as one HTML page that needs nothing else: no network, no fonts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from attnprobe.render import heat
from attnprobe.render.regress import (
    command_of,
    counted,
    declined_reasons,
    facts,
    headline,
    number,
)
from attnprobe.render.scatter import Axes, scatter
from attnprobe.render.sheet import THEME_BUTTON, sheet
from attnprobe.rig.explain import levels
from attnprobe.rig.report import DECLINED, SOUND, Report, Result

MOST_DRAWN = 24  # failures with pictures; those after them have their words only


def page(report: Report) -> str:
    """Return the page."""
    body = "\n".join(
        (
            _head(report),
            _wrong(report),
            _margins(report),
            _matrix(report.results),
            _failures(report),
            _declined(report.results),
            _foot(report),
        )
    )
    return sheet(headline(report), body)


def _head(report: Report) -> str:
    named = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in facts(report.environment).items()
    )
    word, _, rest = headline(report).partition(": ")
    kind = {"REFUSED": "bad", "SOUND": "good"}.get(word, "")
    mark = {"REFUSED": "✗", "SOUND": "✓"}.get(word, "–")
    return (
        '<header><div><p class="eyebrow">Regression report</p>'
        f'<h1>{escape(report.target)}</h1><p class="says">{escape(report.says)}</p>'
        f'<dl class="facts">{named}</dl></div>'
        f'{THEME_BUTTON}</header><section class="verdict {kind}"><b>{mark} {word}</b>'
        f"<span>{escape(rest)} ({escape(counted(report))}), {report.seconds:.0f} s</span></section>"
    )


def _wrong(report: Report) -> str:
    telling, likely = report.telling, report.likely
    if telling is None:
        return ""
    guess = ""
    if likely is not None:
        many = f"so in {likely.jobs} of {likely.refused} refused jobs"
        guess = f'<p class="guess">Looks like: {escape(likely.text)}</p><p>{many}</p>'
    case = f"{telling.case}, fill {telling.fill}, {telling.dtype}"
    return (
        f'<h2>What is wrong</h2><section class="card">{guess}'
        f"<h3>First failing: {escape(case)}</h3>{_words(telling)}"
        f'<h3 style="margin-top:16px">Run just it again</h3>'
        f'<pre class="command">{escape(command_of(report, telling))}</pre>'
        f"{_pictures(telling)}</section>"
    )


def _words(result: Result) -> str:
    lines = result.lines or (f"{result.verdict}: {result.reason}",)
    return f"<pre>{escape(chr(10).join(lines))}</pre>"


def _pictures(result: Result) -> str:
    found = result.diagnosis
    if "rows" not in found:
        return ""
    place = found["place"]
    where = f"batch {place['batch']}, head {place['head']}"
    drawn = [
        _figure(
            _by_row(found, place), f"Error by row of {where}; 1 is the bound. Bands are tiles."
        ),
        _figure(_by_score(found), "Error by score, rows of all heads: the greatest score of each."),
        _figure(
            heat.map_image(levels(found["map"]), f"error over {where}", found["map"]["step"]),
            f"All of {where}: queries down, columns of O to the right; what is within its bound "
            "is left blank.",
        ),
    ]
    if found.get("fragment"):
        picture = heat.fragment(found["fragment"], (place["query"], place["column"]))
        text = (
            "The 16 × 8 accumulator with the worst element (framed): lane:register, and the share "
            "of the bound that the error uses."
        )
        drawn.append(_figure(picture, text))
    return f'<div class="plots">{"".join(drawn)}</div>'


def _figure(body: str, caption: str, kind: str = "") -> str:
    return f'<figure class="{kind}">{body}<figcaption>{escape(caption)}</figcaption></figure>'


def _by_row(found: dict[str, Any], place: dict[str, Any]) -> str:
    points = list(zip(found["rows"]["query"], found["rows"]["share"], strict=True))
    tile = place["tile_rows"] or 64
    last = max((query for query, _ in points), default=0)
    bands = tuple((first - 0.5, first + tile - 0.5) for first in range(0, last + 1, 2 * tile))
    return scatter(points, Axes("error by row", "query", "worst error / bound", bands=bands))


def _by_score(found: dict[str, Any]) -> str:
    points = list(zip(found["scores"]["top"], found["scores"]["share"], strict=True))
    return scatter(points, Axes("error by score", "greatest score", "worst error / bound"))


def _margins(report: Report) -> str:
    """Draw how near to the bound each job came, fill by fill."""
    judged = [result for result in report.results if result.o_share is not None]
    fills = tuple(dict.fromkeys(result.fill for result in judged))
    if not judged:
        return ""
    counts: dict[str, int] = dict.fromkeys(fills, 0)
    points = []
    for result in judged:
        beside = (counts[result.fill] % 5 - 2) * 0.12  # so that equal shares do not hide each other
        counts[result.fill] += 1
        points.append((fills.index(result.fill) + beside, max(_share(result), 1e-3)))
    axes = Axes("error by fill", "", "worst error / bound", 1080, 240, (), fills)
    return (
        f'<h2>How near to the bound</h2><div class="card">{scatter(points, axes)}'
        "<figcaption>A mark for each job: the worst element of O or LSE; rings are within the "
        "bound, squares over it.</figcaption></div>"
    )


def _share(result: Result) -> float:
    return max(result.o_share or 0.0, result.lse_share or 0.0)


def _matrix(results: Sequence[Result]) -> str:
    fills = tuple(dict.fromkeys(result.fill for result in results))
    by_case: dict[str, dict[str, Result]] = {}
    for result in results:
        name = f"{result.case} · {result.dtype}"
        by_case.setdefault(name, {})[result.fill] = result
    head = "".join(f'<th class="fill"><span>{escape(fill)}</span></th>' for fill in fills)
    rows = "".join(
        f"<tr><th>{escape(name)}</th>{''.join(_verdict(row.get(fill)) for fill in fills)}</tr>"
        for name, row in by_case.items()
    )
    return (
        '<h2>Verdicts</h2><div class="card scroll"><table class="matrix">'
        f"<thead><tr><th>case</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _verdict(result: Result | None) -> str:
    if result is None:
        return "<td></td>"
    if result.verdict == DECLINED:
        return f'<td title="{escape(result.reason)}">n/a</td>'
    if result.verdict == SOUND:
        return f'<td class="good" title="sound">✓ {number(_share(result))}</td>'
    text = number(_share(result)) if result.o_share is not None else result.verdict
    return f'<td class="failed" title="{escape(result.reason)}">✗ {escape(text)}</td>'


def _failures(report: Report) -> str:
    if not report.failures:
        return ""
    blocks = (
        _failure(report, result, drawn=place < MOST_DRAWN)
        for place, result in enumerate(report.failures)
    )
    return f"<h2>Every failure</h2>{''.join(blocks)}"


def _failure(report: Report, result: Result, *, drawn: bool) -> str:
    guess = result.guess["text"] if result.guess else result.reason
    name = f"{result.fill}, {result.dtype}"
    pictures = _pictures(result) if drawn else ""
    return (
        f"<details><summary><span>{escape(result.case)}</span>"
        f'<span class="soft">{escape(name)}</span><span class="soft">{escape(guess[:120])}</span>'
        f'<span class="bad-word">✗ {escape(result.verdict)}</span></summary><div>'
        f'{_words(result)}<pre class="command" style="margin-top:12px">'
        f"{escape(command_of(report, result))}</pre>{pictures}</div></details>"
    )


def _declined(results: Sequence[Result]) -> str:
    reasons = declined_reasons(results)
    if not reasons:
        return ""
    rows = "".join(
        f"<tr><td>{count}</td><td>{escape(reason)}</td><td>{escape(', '.join(cases))}</td></tr>"
        for reason, cases, count in reasons
    )
    return (
        '<h2>Not applicable</h2><div class="card scroll"><table><thead><tr><th>jobs</th>'
        f"<th>for</th><th>cases</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _foot(report: Report) -> str:
    parts: Iterable[str] = (
        f"<code>{escape(report.command)}</code>",
        escape(report.date),
        "An error is judged element by element against float64, under a bound derived from the "
        "row's own P and V: 1 means that all of it is used.",
    )
    return f"<footer>{' · '.join(parts)}</footer>"
