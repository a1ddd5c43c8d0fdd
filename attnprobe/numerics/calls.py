"""A call of attention as data: the arguments, and for each sequence what must come back.

call = case.call(FILLS["normal"])
o, lse = target(**call.arguments())            # call.entry names the public call
verdict = call.judge(o, lse)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.numerics.combine import combined
from attnprobe.numerics.fill_row import QKV, Array
from attnprobe.numerics.memory import Layout
from attnprobe.numerics.oracle import Question
from attnprobe.numerics.reference import Features
from attnprobe.numerics.verdict import Verdict

# What stands in entries of a block table that no sequence uses: far beyond every cache.
UNUSED_PAGE = 2**31 - 168
SLACK_ROWS = 3  # rows of garbage between and behind the sequences of a packed call


@dataclass(frozen=True)
class Pages:
    """How a K/V cache is paged.

    Attributes
    ----------
    size : tokens of a page; 0 is a contiguous cache with a row for each sequence.
    spare : pages that belong to nobody.
    """

    size: int
    spare: int = 3


@dataclass(frozen=True, eq=False)
class Part:
    """One dense problem of a call, and where its rows stand in what the call returns.

    Attributes
    ----------
    question : the problem.
    batch : its index in a batched O; None where sequences are packed one behind the other.
    first, stop : its rows in a packed O.
    """

    question: Question
    batch: int | None = None
    first: int = 0
    stop: int = 0


@dataclass(frozen=True, eq=False)
class Call:
    """One call.

    Attributes
    ----------
    entry : "attention", "attention_varlen" or "attention_paged".
    arrays : the arguments that are arrays, by name, in the order of the signature.
    options : the other keyword arguments.
    parts : what must come back, sequence by sequence; a dense call is one part.
    clean : the same call with zeros where garbage stands in this one; None where there is no such
        memory.
    """

    entry: str
    arrays: dict[str, Array]
    options: dict[str, Any]
    parts: tuple[Part, ...]
    clean: Call | None = None

    def arguments(self) -> dict[str, Any]:
        """Return all keyword arguments, ``return_lse`` not among them."""
        return {**self.arrays, **self.options}

    def result_of(self, part: Part, o: Array, lse: Array | None) -> tuple[Array, Array | None]:
        """Return the part's own O (batch, seqlen_q, num_heads, head_dim) and LSE."""
        if self.entry == "attention":
            return o, lse
        if part.batch is not None:
            here = slice(part.batch, part.batch + 1)
            return o[here], None if lse is None else lse[here]
        rows = slice(part.first, part.stop)
        return o[None, rows], None if lse is None else np.ascontiguousarray(lse[None, :, rows])

    def judge(
        self, o: Array, lse: Array | None = None, *, tile_rows: int = 0, diagnose: bool = True
    ) -> Verdict:
        """Return the verdict on what the call returned.

        Parameters
        ----------
        o, lse : O and LSE (None: not judged) in the shapes of the public call.
        tile_rows : queries of a tile of the kernel, for the report; 0: not known.
        diagnose : look for the fault where something is refused.
        """
        verdicts = []
        for part in self.parts:
            question = part.question
            if tile_rows and tile_rows != question.tile_rows:
                question = question.with_tiles(tile_rows)
            verdicts.append(question.judge(*self.result_of(part, o, lse), diagnose=diagnose))
        return combined(verdicts) if self.entry != "attention" else verdicts[0]


def dense(
    qkv: QKV, features: Features, checks: tuple[str, ...], layout: Layout, garbage: float
) -> Call:
    """Return a call of ``attention`` with each array in ``layout`` and garbage around it."""
    placed = {name: layout.place(array, garbage) for name, array in zip("qkv", qkv, strict=True)}
    part = Part(Question(*qkv, features, checks))
    return Call("attention", placed, features.arguments(), (part,))


def varlen(
    sequences: Sequence[QKV], features: Features, checks: tuple[str, ...], garbage: float
) -> Call:
    """Return a call of ``attention_varlen``; behind the keys of every sequence stands garbage.

    ``seqused_k`` says how many of a sequence's keys count; the rest of its room is the garbage.
    """
    q = np.concatenate([q[0] for q, _, _ in sequences])
    k, v = (np.concatenate([_with_slack(qkv[i][0], garbage) for qkv in sequences]) for i in (1, 2))
    used = [qkv[1].shape[1] for qkv in sequences]
    queries = _cumulative([qkv[0].shape[1] for qkv in sequences])
    arrays = {
        "q": q,
        "k": k,
        "v": v,
        "cu_seqlens_q": queries,
        "cu_seqlens_k": _cumulative([count + SLACK_ROWS for count in used]),
        "seqused_k": np.array(used, np.int32),
    }
    parts = tuple(
        Part(Question(*qkv, features, checks), None, int(first), int(stop))
        for qkv, first, stop in zip(sequences, queries[:-1], queries[1:], strict=True)
    )
    return Call("attention_varlen", arrays, features.arguments(), parts)


def paged(
    sequences: Sequence[QKV],
    features: Features,
    checks: tuple[str, ...],
    pages: Pages,
    garbage: float,
    seed: int = 0,
    leftpad: Sequence[int] = (),
) -> Call:
    """Return a call of ``attention_paged``, the pages in disorder and garbage in what is unused.

    Sequences with the same number of queries are batched, others packed with ``cu_seqlens_q``.
    ``leftpad`` is how many rows of garbage stand before the keys of each; () for no such argument.
    """
    before = leftpad or [0] * len(sequences)
    lengths = [qkv[1].shape[1] + pad for qkv, pad in zip(sequences, before, strict=True)]
    counts = [qkv[0].shape[1] for qkv in sequences]
    table, cache = _table(lengths, pages, seed)
    k, v = (
        _cache(
            [_padded(qkv[i][0], pad, garbage) for qkv, pad in zip(sequences, before, strict=True)],
            table,
            cache,
            garbage,
        )
        for i in (1, 2)
    )
    arrays = {"q": np.concatenate([q[0] for q, _, _ in sequences]), "k_cache": k, "v_cache": v}
    options: dict[str, Any] = dict(features.arguments())
    if pages.size:
        arrays["block_table"] = table
    else:
        options["block_table"] = None
    arrays["cache_seqlens"] = np.array(lengths, np.int32)
    if leftpad:
        arrays["cache_leftpad"] = np.array(leftpad, np.int32)
    packed = len(set(counts)) > 1
    bounds = _cumulative(counts)
    if packed:
        arrays["cu_seqlens_q"] = bounds
    else:
        arrays["q"] = arrays["q"].reshape(len(sequences), counts[0], *arrays["q"].shape[1:])
    parts = tuple(
        Part(
            Question(*qkv, features, checks),
            None if packed else i,
            int(bounds[i]),
            int(bounds[i + 1]),
        )
        for i, qkv in enumerate(sequences)
    )
    return Call("attention_paged", arrays, options, parts)


def _with_slack(rows: Array, garbage: float) -> Array:
    slack = np.full((SLACK_ROWS, *rows.shape[1:]), garbage, rows.dtype)
    return np.concatenate([rows, slack])


def _padded(rows: Array, count: int, garbage: float) -> Array:
    return np.concatenate([np.full((count, *rows.shape[1:]), garbage, rows.dtype), rows])


def _cumulative(counts: Sequence[int]) -> npt.NDArray[np.int32]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)


def _table(
    lengths: Sequence[int], pages: Pages, seed: int
) -> tuple[npt.NDArray[np.int32], tuple[int, int]]:
    """Return the block table and (pages, tokens of a page) of the cache."""
    size = pages.size or max([*lengths, 1]) + SLACK_ROWS
    needed = [-(-length // size) if pages.size else 1 for length in lengths]
    total = sum(needed) + (pages.spare if pages.size else 0)
    order = np.arange(total)
    if pages.size:
        order = np.random.default_rng(seed).permutation(total)
    table = np.full((len(lengths), max([*needed, 1]) + 1), UNUSED_PAGE, np.int32)
    first = 0
    for i, count in enumerate(needed):
        table[i, :count] = order[first : first + count]
        first += count
    return table, (total, size)


def _cache(
    sequences: Sequence[Array],
    table: npt.NDArray[np.int32],
    cache: tuple[int, int],
    garbage: float,
) -> Array:
    total, size = cache
    filled = np.full((total, size, *sequences[0].shape[1:]), garbage, sequences[0].dtype)
    for rows, entries in zip(sequences, table, strict=True):
        for i in range(-(-len(rows) // size)):
            part = rows[i * size : (i + 1) * size]
            filled[entries[i], : len(part)] = part
    return filled


def with_arrays(call: Call, **arrays: Array) -> Call:
    """Return ``call`` with some of its arrays exchanged; what must come back stays."""
    return replace(call, arrays={**call.arrays, **arrays})
