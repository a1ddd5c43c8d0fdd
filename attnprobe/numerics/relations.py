"""Demands on several results at once: garbage, repeats, permuted keys, split and merge.

for relation in RELATIONS:
    calls = relation.further(first_call)             # () where it does not apply
    results = [run(call) for call in calls]
    finding = relation.judge(first_call, first_result, calls, results)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from attnprobe.numerics import error
from attnprobe.numerics.calls import Call, Part, with_arrays
from attnprobe.numerics.fill_row import Array
from attnprobe.numerics.oracle import Question
from attnprobe.numerics.reference import Features
from attnprobe.numerics.verdict import Finding

Result = tuple[Array, Array | None]
Calls = tuple[Call, ...]


@dataclass(frozen=True)
class Relation:
    """One demand on a call and further calls.

    Attributes
    ----------
    name : what a Finding calls it.
    what : the demand, for the tables.
    why : the faults that it shows.
    further : the first call -> the calls to compare it with; () where it does not apply.
    judge : first call and result, further calls and results -> what was found.
    """

    name: str
    what: str
    why: str
    further: Callable[[Call], Calls]
    judge: Callable[[Call, Result, Calls, Sequence[Result]], Finding]


def _same_bits(name: str) -> Callable[[Call, Result, Calls, Sequence[Result]], Finding]:
    def judge(call: Call, first: Result, calls: Calls, results: Sequence[Result]) -> Finding:
        for other in results:
            for kind, a, b in zip(("O", "LSE"), first, other, strict=True):
                if a is None or b is None:
                    continue
                differs = _bits(a) != _bits(b)
                if differs.any():
                    where = tuple(int(i) for i in np.argwhere(differs)[0])
                    text = f"{int(differs.sum())} elements of {kind} differ; first at {where}"
                    return Finding(name, False, f"{text}: {float(a[where])}, {float(b[where])}")
        return Finding(name, True, "the same bits")

    return judge


def _bits(array: Array) -> Array:
    """Raw bits, with all NaN alike: their payload is nobody's promise."""
    plain = np.where(np.isnan(array.astype(np.float64)), array.dtype.type(np.nan), array)
    return plain.astype(array.dtype).view(f"u{array.dtype.itemsize}")


def _repeated(call: Call) -> Calls:
    return (call,)


def _other_garbage(call: Call) -> Calls:
    """The same call with zeros in all memory that it must not look at; none where there is none."""
    return () if call.clean is None else (call.clean,)


def _permuted(call: Call) -> Calls:
    """Keys and values in another order, for calls in which their position means nothing."""
    if call.entry != "attention" or not _orderless(call.parts[0].question.features):
        return ()
    question = call.parts[0].question
    order = np.random.default_rng(question.k.shape[1]).permutation(question.k.shape[1])
    k, v = (np.ascontiguousarray(array[:, order]) for array in (question.k, question.v))
    return (with_arrays(call, q=question.q, k=k, v=v),)


def _orderless(features: Features) -> bool:
    arrays = (features.alibi_slopes, features.bias, features.mask)
    open_window = tuple(features.window_size) == (-1, -1)
    return not features.causal and open_window and all(array is None for array in arrays)


def _judge_permuted(call: Call, first: Result, calls: Calls, results: Sequence[Result]) -> Finding:
    verdict = calls[0].judge(*results[0], diagnose=False)
    text = "as near to the exact answer" if verdict.ok else str(verdict)
    return Finding("permuted keys", verdict.ok, text)


def _halves(call: Call) -> Calls:
    """The call on the first and on the last keys, where all queries see all of the first ones."""
    if call.entry != "attention":
        return ()
    question = call.parts[0].question
    features, (seqlen_q, seqlen_k) = question.features, (question.q.shape[1], question.k.shape[1])
    plain = replace(features, causal=False)
    if not _orderless(plain) or features.q_offset is not None or features.sinks is not None:
        return ()
    bottom = features.causal_alignment == "bottom-right"
    # The last queries' keys: a causal first part would need its own alignment.
    cut = min(seqlen_k // 2, seqlen_k - seqlen_q + 1) if features.causal else seqlen_k // 2
    if cut < 1 or (features.causal and not bottom):
        return ()
    parts = ((slice(0, cut), plain), (slice(cut, None), features))
    return tuple(_half(question, keys, asked) for keys, asked in parts)


def _half(question: Question, keys: slice, features: Features) -> Call:
    k, v = (np.ascontiguousarray(array[:, keys]) for array in (question.k, question.v))
    asked = Question(question.q, k, v, features)
    arrays = {"q": question.q, "k": k, "v": v}
    return Call("attention", arrays, features.arguments(), (Part(asked),))


def merged(results: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Return O and LSE over all keys, float64, of those over disjoint parts of the keys."""
    lse = np.stack([np.asarray(each, np.float64) for _, each in results])
    top = lse.max(axis=0)
    shift = np.where(top == -np.inf, 0.0, top)
    with np.errstate(divide="ignore"):
        whole = shift + np.log(np.exp(lse - shift).sum(axis=0))
    weights = np.exp(lse - np.where(whole == -np.inf, 0.0, whole)).transpose(0, 1, 3, 2)[..., None]
    O = sum(w * np.asarray(o, np.float64) for w, (o, _) in zip(weights, results, strict=True))
    return np.asarray(O), whole


def _judge_halves(call: Call, first: Result, calls: Calls, results: Sequence[Result]) -> Finding:
    """Merged in float64, the halves are as near as their own bounds and the whole's allow."""
    name = "split and merge"
    pairs = [(o, lse) for o, lse in results if lse is not None]
    if len(pairs) < len(results) or first[1] is None:
        return Finding(name, True, "not asked: there is no LSE")
    whole = call.parts[0].question.expected
    o, lse = merged(pairs)
    limit = whole.o_bound + sum(
        each.parts[0].question.expected.o_bound + _moved(each) for each in calls
    )
    lse_limit = whole.lse_bound + sum(each.parts[0].question.expected.lse_bound for each in calls)
    with np.errstate(invalid="ignore"):
        apart = np.abs(whole.of_queries(o) - whole.of_queries(first[0]).astype(np.float64))
        lse_apart = np.abs(lse - first[1])
    share = error.shares(np.where(np.isnan(apart), 0.0, apart), limit)
    finite = np.isfinite(lse_apart)
    lse_share = error.shares(np.where(finite, lse_apart, 0.0), lse_limit)
    greatest, lse_greatest = float(share.max(initial=0)), float(lse_share.max(initial=0))
    text = f"O merged of two halves uses {greatest:.3g} of its bound, LSE {lse_greatest:.3g}"
    return Finding(name, greatest <= 1 and lse_greatest <= 1, text)


def _moved(call: Call) -> Array:
    """What an error of LSE within its bound does to this half's O in the merge."""
    expected = call.parts[0].question.expected
    lse = np.where(np.isfinite(expected.lse_bound), expected.lse_bound, 0.0)
    size = np.abs(call.parts[0].question.v.astype(np.float64)).max(initial=0.0)
    return np.asarray(2 * size * lse.transpose(0, 2, 1)[..., None])


RELATIONS: tuple[Relation, ...] = (
    Relation(
        "repeat",
        "the same call again gives the same bits",
        "races, reads of memory that nobody wrote",
        _repeated,
        _same_bits("repeat"),
    ),
    Relation(
        "garbage",
        "O and LSE have the same bits whatever stands in memory that no query sees",
        "tails, slack of views, rows past the length, unused pages: 0 x NaN",
        _other_garbage,
        _same_bits("garbage"),
    ),
    Relation(
        "permuted keys",
        "keys and values in another order give an answer as near to the exact one",
        "tiles that are lost, doubled or badly merged, where they were hidden by their place",
        _permuted,
        _judge_permuted,
    ),
    Relation(
        "split and merge",
        "halves of the keys, merged by their LSE in float64, give the whole",
        "LSE in another base, without its maximum, or of other rows than O",
        _halves,
        _judge_halves,
    ),
)
