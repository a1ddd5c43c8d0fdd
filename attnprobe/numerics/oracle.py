"""The oracle: judges one O and LSE by every demand that its inputs allow, and explains a refusal.

    verdict = judge(q, k, v, o, lse, Features(causal=True), fill=FILLS["one_hot"])
    verdict.ok, verdict.findings, verdict.place, verdict.guesses

Several results of one problem share the work: ``Question(q, k, v, features).judge(o, lse)``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from attnprobe.numerics import error, sample
from attnprobe.numerics.diagnosis import rank
from attnprobe.numerics.diagnosis.pattern import pattern
from attnprobe.numerics.fill_row import EQUAL_COLUMNS, EXACT, Fill
from attnprobe.numerics.place import place_of
from attnprobe.numerics.reference import PLAIN, Array, Features
from attnprobe.numerics.verdict import F64, Finding, Guess, Place, RowErrors, Verdict


@dataclass(frozen=True, eq=False)
class Question:
    """One attention problem, and what may be asked of its answer.

    Attributes
    ----------
    q, k, v : (batch, seqlen, heads, head_dim) NumPy arrays, as attention takes them.
    features : what is asked for.
    checks : names of the demands beyond the bound that hold for these inputs (``Fill.checks``).
    tile_rows : queries of one tile of the kernel that is judged, for the report; 0: not known.
    out_dtype : of O; None is that of q.
    """

    q: Array
    k: Array
    v: Array
    features: Features = PLAIN
    checks: tuple[str, ...] = ()
    tile_rows: int = 0

    out_dtype: npt.DTypeLike | None = None

    @cached_property
    def expected(self) -> error.Expected:
        """The exact answer and its bound."""
        return error.expect(
            self.q,
            self.k,
            self.v,
            self.features,
            queries=sample.queries(self.q.shape, self.k.shape[1], self.tile_rows),
            out_dtype=self.out_dtype,
        )

    def with_tiles(self, tile_rows: int) -> Question:
        """Return the same question for a kernel whose tiles have so many queries."""
        other = replace(self, tile_rows=tile_rows)
        known = self.__dict__.get("expected")
        if known is not None and known.queries is None:
            other.__dict__["expected"] = known
        return other

    def judge(self, o: Array, lse: Array | None = None, *, diagnose: bool = True) -> Verdict:
        """Return the verdict on one result.

        Parameters
        ----------
        o : (batch, seqlen_q, num_heads, v_head_dim), dtype of q or ``out_dtype``.
        lse : (batch, num_heads, seqlen_q) float32, natural logarithm; None is not judged.
        diagnose : look for the fault where something is refused.

        Raises
        ------
        ToleranceError
            For another shape or dtype than attention must return.
        """
        size = error.error_of_o(self.expected, o)
        report = error.compare(self.expected, o, lse)
        answer = Answer(self, report, o, size)
        findings = [
            Finding(row.name, *row.ask(answer))
            for row in CHECKS
            if (row.always or row.name in self.checks) and (row.name != "lse" or report.lse)
        ]
        verdict = Verdict(
            findings=tuple(findings),
            o=report.o,
            lse=report.lse,
            yardstick_error=report.yardstick_error,
            rows=self._rows(size),
            asked=report.asked,
        )
        if verdict.ok or not diagnose:
            return verdict
        return replace(
            verdict,
            place=self._place(report),
            pattern=self._pattern(size),
            guesses=self._guesses(o, lse, verdict.rows),
        )

    def _rows(self, size: F64) -> RowErrors:
        found = self.expected
        share = error.shares(size, found.o_bound)
        batch, row, head = np.indices(size.shape[:3]).reshape(3, -1)
        query = row if found.queries is None else found.queries[row]
        finite = np.where(np.isfinite(size), size, 0.0)
        greatest, worst = (a.max(axis=-1, initial=0.0).ravel() for a in (finite, share))
        lse = found.exact.lse.transpose(0, 2, 1).ravel()
        return RowErrors(batch, head, query, greatest, worst, lse, found.top.ravel())

    def _pattern(self, size: F64) -> tuple[str, ...]:
        found = self.expected
        queries = np.arange(found.seqlen_q) if found.queries is None else found.queries
        return pattern(error.shares(size, found.o_bound) > 1, queries, self.tile_rows)

    def _guesses(self, o: Array, lse: Array | None, rows: RowErrors) -> tuple[Guess, ...]:
        share = np.zeros(self.q.shape[:3])
        share[rows.batch, rows.query, rows.head] = rows.share
        if lse is not None:
            found = self.expected
            apart = error.error_of_lse(found, lse)
            judged = slice(None) if found.queries is None else found.queries
            of_lse = error.shares(apart, found.lse_bound).transpose(0, 2, 1)
            share[:, judged] = np.maximum(share[:, judged], of_lse)
        return rank.guesses((self.q, self.k, self.v), self.features, (o, lse), share)

    def _place(self, report: error.Report) -> Place | None:
        if report.lse is not None and report.lse.refused and not report.o.refused:
            batch, head, query = report.lse.worst
            return place_of((batch, head, query, -1), self.tile_rows)
        if not report.o.worst:
            return None
        batch, query, head, column = report.o.worst
        return place_of((batch, head, query, column), self.tile_rows)


@dataclass(frozen=True, eq=False)
class Answer:
    """One result beside what was expected: what a check looks at.

    Attributes
    ----------
    question : the problem.
    report : how O and LSE stand to their bounds.
    o : as it was given, all queries.
    error : |error| of O at the judged queries.
    """

    question: Question
    report: error.Report
    o: Array
    error: F64

    @property
    def judged(self) -> Array:
        """O at the judged queries, its own dtype."""
        return self.question.expected.of_queries(self.o)


@dataclass(frozen=True)
class Check:
    """One demand on a result.

    Attributes
    ----------
    name : what a Finding calls it, and ``Fill.checks``.
    what : the demand, for the tables.
    ask : answer -> whether it is met, and what was found.
    always : asked of every result, and not only where the fill allows it.
    """

    name: str
    what: str
    ask: Callable[[Answer], tuple[bool, str]]
    always: bool = True


def _bound(answer: Answer) -> tuple[bool, str]:
    return answer.report.o.refused == 0, str(answer.report.o)


def _lse(answer: Answer) -> tuple[bool, str]:
    lse = answer.report.lse
    return lse is None or lse.refused == 0, str(lse)


def _tensor(answer: Answer) -> tuple[bool, str]:
    expected = answer.question.expected
    finite = np.isfinite(answer.error) & np.isfinite(expected.exact.o)
    rms, yardstick, fp32, last = (
        float(np.sqrt(np.square(a[finite]).mean())) if finite.any() else 0.0
        for a in (
            answer.error,
            expected.yardstick,
            expected.fp32,
            error.ulp(expected.exact.o, expected.dtype),
        )
    )
    limit = 2 * yardstick + fp32 + last
    text = f"rms error {rms:.3g}, limit {limit:.3g} (yardstick {yardstick:.3g}, ulp {last:.3g})"
    return rms <= limit, text


def _hull(answer: Answer) -> tuple[bool, str]:
    """Every row, judged or not: O is a mean of V, of V and 0 where there is a sink or no key."""
    question, count, first = answer.question, 0, ""
    if question.v.size == 0 or not _finite(question.q, question.k, question.v):
        return True, "not asked: there is no V, or an input is not finite"
    roundoff = np.float32(4 * error.unit_roundoff(question.q.dtype))
    group = question.q.shape[2] // question.k.shape[2]
    for batch in range(question.v.shape[0]):
        for kv_head in range(question.v.shape[2]):
            v = question.v[batch, :, kv_head].astype(np.float32)
            size = np.abs(v).max()
            last = error.ulp(np.float64(size), question.expected.dtype)
            slack = roundoff * size + np.float32(last)
            low, high = np.minimum(v.min(axis=0), 0) - slack, np.maximum(v.max(axis=0), 0) + slack
            heads = slice(kv_head * group, (kv_head + 1) * group)
            with np.errstate(invalid="ignore"):  # a NaN that signals
                o = answer.o[batch, :, heads].astype(np.float32)
            outside = ~((o >= low) & (o <= high))
            if outside.any():
                query, head, column = (int(i) for i in np.argwhere(outside)[0])
                where = (batch, query, head + heads.start, column)
                first = first or f"{where}: {o[query, head, column]:.6g}"
                count += int(outside.any(axis=-1).sum())
    if not count:
        return True, "every row is a mean of V"
    return False, f"{count} rows are no mean of V; first at (batch, query, head, d) = {first}"


def _finite(*arrays: Array) -> bool:
    return all(bool(np.isfinite(array.astype(np.float32)).all()) for array in arrays)


def _exact(answer: Answer) -> tuple[bool, str]:
    expected = answer.question.expected
    exact = expected.exact.o
    rounded = exact.astype(expected.dtype)
    # Float64 has its own rounding: what is this near to a number of O's format is that number.
    near = np.abs(rounded.astype(np.float64) - exact) <= 2.0**-40 * np.abs(exact)
    near |= np.abs(exact) < error.ulp(np.zeros(1), expected.dtype) / 4
    wrong = near & (answer.judged != rounded)
    if not wrong.any():
        return True, f"{int(near.sum())} elements are exact"
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    shown = expected.index_in_whole("O", index)
    return False, (
        f"{int(wrong.sum())} of {int(near.sum())} elements that have an exact answer differ from "
        f"it; first at (batch, query, head, d) = {shown}: got {float(answer.judged[index]):.9g}, "
        f"expected {float(rounded[index]):.9g}"
    )


def _equal_columns(answer: Answer) -> tuple[bool, str]:
    differs = (answer.o != answer.o[..., :1]) & ~np.isnan(answer.o.astype(np.float32))
    if not differs.any():
        return True, "all columns are alike"
    batch, query, head, column = (int(i) for i in np.argwhere(differs)[0])
    return False, (
        f"columns of O differ where those of V do not; first at batch {batch}, query {query}, "
        f"head {head}: column 0 has {float(answer.o[batch, query, head, 0]):.9g}, column {column} "
        f"{float(answer.o[batch, query, head, column]):.9g}"
    )


CHECKS: tuple[Check, ...] = (
    Check("bound", "every element of O is within its bound", _bound),
    Check("lse", "every LSE is within 1e-5 of itself and float32's floor", _lse),
    Check(
        "tensor",
        "the rms error of all of O is at most twice the yardstick's, one ulp and float32's part",
        _tensor,
    ),
    Check("hull", "every row of O lies between the least and the greatest V of its column", _hull),
    Check(
        EXACT, "where the exact answer is a number of O's format, O is that number", _exact, False
    ),
    Check(
        EQUAL_COLUMNS,
        "where all columns of V are alike, so are those of O, bit for bit",
        _equal_columns,
        False,
    ),
)


def judge(
    q: Array,
    k: Array,
    v: Array,
    o: Array,
    lse: Array | None = None,
    features: Features = PLAIN,
    *,
    fill: Fill | None = None,
    tile_rows: int = 0,
    out_dtype: npt.DTypeLike | None = None,
    diagnose: bool = True,
) -> Verdict:
    """Return the verdict on O and LSE (None: not judged) of one attention call.

    ``fill`` is the row that made q, k and v: it says what may be asked beyond the bound.
    ``Question`` has the other parameters.
    """
    question = Question(q, k, v, features, fill.checks if fill else (), tile_rows, out_dtype)
    return question.judge(o, lse, diagnose=diagnose)
