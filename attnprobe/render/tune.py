"""What a search for tiles found, as a document: the fastest first, then why others were dropped."""

from __future__ import annotations

from collections import Counter

from attnprobe.bench.tune import Outcome, Tried
from attnprobe.bench.tune_space import shown
from attnprobe.render.document import Block, Document, Heading, Lines, table

MOST_SHOWN = 20


def document(outcome: Outcome) -> Document:
    """Return the tiles that were timed, and how many were dropped for what."""
    timed = [each for each in outcome.tried if each.samples_us]
    blocks: list[Block] = [
        Heading(f"attnprobe tune: {outcome.shape_class}"),
        Lines((_verdict(outcome),)),
    ]
    if timed:
        rows = [_row(outcome, each) for each in timed[:MOST_SHOWN]]
        blocks.append(table(("tile", "µs", "to the plan's own", ""), rows, numeric=(1, 2)))
    if len(timed) > MOST_SHOWN:
        blocks.append(Lines((f"and {len(timed) - MOST_SHOWN} slower ones",)))
    dropped = Counter(each.dropped for each in outcome.tried if not each.samples_us)
    if dropped:
        lines = (f"{count} not timed: {reason}" for reason, count in dropped.most_common())
        blocks.append(Lines(tuple(lines)))
    return tuple(blocks)


def _verdict(outcome: Outcome) -> str:
    won, own = outcome.winner, outcome.own
    if won is own:
        return f"the plan's own tile stays: {shown(outcome.base)}; none is faster beyond the noise"
    return f"{shown(won.variant)}: {own.median_us / won.median_us:.2f}x of {shown(outcome.base)}"


def _row(outcome: Outcome, tried: Tried) -> tuple[str, str, str, str]:
    own = outcome.own
    gain = f"{own.median_us / tried.median_us:.3f}x" if own.samples_us else ""
    words = ["the plan's own"] * (tried is own) + [tried.dropped] * bool(tried.dropped)
    return shown(tried.variant), f"{tried.median_us:.1f}", gain, ", ".join(words)
