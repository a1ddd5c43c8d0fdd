"""Models of faults in what is read and stored as a whole: rows, columns, heads, batches."""

from __future__ import annotations

import numpy as np

from attnprobe.numerics.diagnosis.evidence import F64, I64, Answer, Evidence
from attnprobe.numerics.diagnosis.models import Model, Models, exchanged

ROW_STEPS = (8, 1, 2, 4, 16, 32, 64)
COLUMN_STEPS = (8, 1, 2, 4, 6, 3, 7, 16, 32, 64, 128)


def zero(evidence: Evidence) -> Models:
    exact = evidence.exact
    nothing = np.zeros_like(exact.o)
    yield Model("all", "O is zero everywhere", Answer(nothing, exact.lse))
    untouched = (evidence.given_o == 0).all(axis=1)
    if untouched.any() and not untouched.all():
        o = np.where(untouched[:, None], 0.0, exact.o)
        yield Model("some", "O is zero in some rows: they were not written", Answer(o, exact.lse))


def rows_exchanged(evidence: Evidence) -> Models:
    exact = evidence.exact
    for step in ROW_STEPS:
        partner = exchanged(evidence.count, step)[evidence.queries]
        other = evidence.at(partner).exact
        text = f"rows i and i ^ {step} of O are exchanged"
        if step == 8:
            text = "rows swapped by 8: row g of every 16 is stored as row g + 8, and the reverse"
        yield Model(f"O {step}", text, Answer(other.o, exact.lse))
        yield Model(f"both {step}", f"{text}, and so are those of LSE", other)
        if step == 8:
            # What is stored is divided by the sum of the row where it lands.
            swapped = other.o * np.exp(other.lse - exact.lse + _tops(evidence, partner))[:, None]
            what = "the accumulators of rows g and g + 8 are exchanged before the division"
            yield Model("before", what, Answer(swapped, exact.lse))
        yield Model(f"LSE {step}", text.replace("of O", "of LSE"), Answer(exact.o, other.lse))


def _tops(evidence: Evidence, partner: I64) -> F64:
    """The greatest score of each row, less that of its partner."""
    tops = [
        np.where(rows.seen, rows.scores, -np.inf).max(axis=1, initial=rows.sink)
        for rows in (evidence, evidence.at(partner))
    ]
    return np.asarray(tops[0] - tops[1])


def rows_shifted(evidence: Evidence) -> Models:
    for shift in (1, -1):
        moved = np.clip(evidence.queries + shift, 0, evidence.count - 1)
        other = evidence.at(moved).exact
        text = f"every row is its {'next' if shift > 0 else 'previous'} neighbour's"
        yield Model(f"{shift}", text, other)


def columns_exchanged(evidence: Evidence) -> Models:
    exact = evidence.exact
    width = exact.o.shape[1]
    for step in COLUMN_STEPS:
        if step < width:
            o = exact.o[:, exchanged(width, step)]
            text = f"columns d and d ^ {step} of O are exchanged"
            yield Model(f"{step}", text, Answer(o, exact.lse))


def columns_missing(evidence: Evidence) -> Models:
    exact = evidence.exact
    width = exact.o.shape[1]
    for part in (8, 16, 32, 64, width // 2):
        if 0 < part < width:
            last, first = exact.o.copy(), exact.o.copy()
            last[:, width - part :], first[:, :part] = 0.0, 0.0
            last_text = f"the last {part} columns of O are zero"
            yield Model(f"last {part}", last_text, Answer(last, exact.lse))
            yield Model(
                f"first {part}", f"the first {part} columns of O are zero", Answer(first, exact.lse)
            )
            again = exact.o.copy()
            again[:, width - part :] = exact.o[:, :part]
            text = f"the last {part} columns of O are the first ones again"
            yield Model(f"again {part}", text, Answer(again, exact.lse))


def another_kv_head(evidence: Evidence) -> Models:
    """K/V heads that a wrong index would read; named by the rule that reads them."""
    if evidence.packed:
        return  # rules of single heads are tried on single heads
    heads = evidence.k.shape[2]
    own, head = evidence.kv_head, evidence.head
    rules = {
        "head % num_kv_heads": head % heads,
        "(head + 1) // group": min((head + 1) // evidence.group, heads - 1),
        "0": 0,
        "head": head % max(heads, 1) if head < heads else -1,
        "one too far": (own + 1) % heads,
        "one too low": (own - 1) % heads,
    }
    for rule, kv in rules.items():
        if kv == own or kv < 0:
            continue
        k, v = (a[evidence.batch, :, kv].astype(np.float64) for a in (evidence.k, evidence.v))
        scores = evidence.scores_of(evidence.rows.q, k)
        reads = f"a wrong K/V head is read: {rule} where head // {evidence.group} belongs"
        yield Model(f"both {rule}", reads, evidence.answer(scores, v=v))
        text = reads.replace("K/V head is read", "K/V head is read for K")
        yield Model(f"K {rule}", text, evidence.answer(scores))
        text = reads.replace("K/V head is read", "K/V head is read for V")
        yield Model(f"V {rule}", text, evidence.answer(v=v))


def another_head(evidence: Evidence) -> Models:
    if evidence.packed:
        return
    heads = evidence.q.shape[2]
    rules = {
        "the next head's": (evidence.head + 1) % heads,
        "the previous head's": (evidence.head - 1) % heads,
        "that of the head counted from the end": heads - 1 - evidence.head,
        "head 0's": 0,
    }
    for rule, head in rules.items():
        if head != evidence.head:
            other = evidence.at(head=head)
            yield Model(rule, f"what stands in a head is {rule}", other.exact)


def another_batch(evidence: Evidence) -> Models:
    batches = len(evidence.q)
    rules = {"batch 0": 0, "the next batch": (evidence.batch + 1) % batches}
    rules["the previous batch"] = (evidence.batch - 1) % batches
    for rule, batch in rules.items():
        if batch == evidence.batch:
            continue
        yield Model(
            f"all {rule}", f"what stands in a batch is of {rule}", evidence.at(batch=batch).exact
        )
        k, v = (a[batch, :, evidence.kv_head].astype(np.float64) for a in (evidence.k, evidence.v))
        scores = evidence.scores_of(evidence.rows.q, k)
        yield Model(f"KV {rule}", f"K and V are of {rule}", evidence.answer(scores, v=v))
        yield Model(f"K {rule}", f"K is of {rule}", evidence.answer(scores))
        scores = evidence.scores_of(evidence.at(batch=batch).rows.q, evidence.rows.k)
        yield Model(f"Q {rule}", f"Q is of {rule}", evidence.answer(scores))
        yield Model(f"V {rule}", f"V is of {rule}", evidence.answer(v=v))


def nan_swallowed(evidence: Evidence) -> Models:
    exact = evidence.exact
    lost = np.isnan(exact.o) & np.isfinite(evidence.given_o)
    lost_lse = np.zeros(len(exact.lse), bool)
    if evidence.given_lse is not None:
        lost_lse = np.isnan(exact.lse) & np.isfinite(evidence.given_lse)
    if lost.any() or lost_lse.any():
        o = np.where(lost, evidence.given_o, exact.o)
        given = exact.lse if evidence.given_lse is None else evidence.given_lse
        lse = np.where(lost_lse, given, exact.lse)
        text = "NaN is swallowed: rows that see it have numbers instead"
        yield Model("", text, Answer(o, lse))


def nan_spread(evidence: Evidence) -> Models:
    exact = evidence.exact
    spread = np.isfinite(exact.o) & ~np.isfinite(evidence.given_o)
    if spread.any():
        o = np.where(spread, evidence.given_o, exact.o)
        lse = exact.lse
        if evidence.given_lse is not None:
            wrong = np.isfinite(exact.lse) & ~np.isfinite(evidence.given_lse)
            lse = np.where(wrong, evidence.given_lse, exact.lse)
        text = "NaN or infinity stands in rows that see none: unseen memory, 0 x NaN or overflow"
        if not evidence.seen[spread.any(axis=1)].any():
            text = "rows with no key have NaN instead of 0"
        yield Model("", text, Answer(o, lse))
