"""Models of faults in the fragments of Q, K, P and V: quarters, halves and rows exchanged."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from attnprobe.numerics.diagnosis.evidence import F64, Answer, Evidence, divided
from attnprobe.numerics.diagnosis.models import (
    KEY_TILES,
    Model,
    Models,
    Walk,
    online,
    quarters,
    rows_exchanged,
    transposed,
    walks,
    whole_blocks,
)


def q_fragment(evidence: Evidence) -> Models:
    whole = evidence.all_q
    changes = {
        "quarters": (quarters(whole), "a[1] and a[2] of Q's fragment are exchanged"),
        "halves": (
            rows_exchanged(whole.T, 8).T,
            "the k halves of Q's fragment are exchanged",
        ),
        "transposed": (transposed(whole), "the 8 x 8 blocks of Q are transposed"),
        "pointer": (
            _one_pointer(whole),
            "all lanes load Q from lane 0's address: rows and halves of each 16 x 16 block are one",
        ),
        "row": (
            whole[np.arange(len(whole)) // 16 * 16],
            "every query of 16 is the first of them",
        ),
        **{
            f"warp {rows}": (
                whole[(number := np.arange(len(whole))) - number % rows + number % 16],
                f"the first 16 queries stand for every 16 of a warp's {rows}",
            )
            for rows in (32, 64)
        },
        **{
            f"tile {rows}": (
                whole[np.arange(len(whole)) % rows],
                f"every tile of {rows} queries has the first one's Q",
            )
            for rows in (16, 32, 64, 128)
        },
    }
    for key, (q, text) in changes.items():
        scores = evidence.scores_of(q[evidence.queries], evidence.rows.k)
        yield Model(key, text, evidence.answer(scores))


def _one_pointer(whole: F64) -> F64:
    """Row 0 and channels 0 to 7 of each 16 x 16 block, everywhere in it."""
    channel = np.arange(whole.shape[1])
    return np.asarray(whole[np.arange(len(whole)) // 16 * 16][:, channel - channel % 16 // 8 * 8])


def k_fragment(evidence: Evidence) -> Models:
    k, number = evidence.rows.k, np.arange(evidence.seqlen_k)
    changes = {
        "quarters": (quarters(k), "the quarters of K's fragments are exchanged"),
        "halves": (rows_exchanged(k.T, 8).T, "the k halves of K's fragments are exchanged"),
        "transposed": (transposed(k), "K is loaded transposed: 8 x 8 blocks"),
        "rows": (rows_exchanged(k, 8), "keys j and j ^ 8 are exchanged in K but not in V"),
        "neighbours": (rows_exchanged(k, 1), "keys j and j ^ 1 are exchanged in K, not in V"),
        "repeated": (k[number & ~8], "the second 8 keys of every 16 are the first ones again in K"),
        **{
            f"halves {half}": (
                np.where((number % 16 // 8 == half)[:, None], rows_exchanged(k.T, 8).T, k),
                f"the k halves of K's fragment are exchanged for keys {8 * half}-{8 * half + 7} of "
                "every 16",
            )
            for half in (0, 1)
        },
        **{
            f"tile {keys}": (
                k[number - number % keys + number % 16],
                f"the first 16 keys stand for every 16 of a tile of {keys} in K",
            )
            for keys in KEY_TILES[1:]
        },
    }
    for key, (changed, text) in changes.items():
        yield Model(key, text, evidence.answer(evidence.scores_of(evidence.rows.q, changed)))


def v_fragment(evidence: Evidence) -> Models:
    v = evidence.rows.v
    changes = {
        "quarters": (quarters(v), "the quarters of V's fragments are exchanged"),
        "rows 1": (rows_exchanged(v, 1), "rows j and j ^ 1 of V are exchanged"),
        "rows 8": (rows_exchanged(v, 8), "the k halves of V's fragments are exchanged"),
        "transposed": (transposed(v), "V is loaded without transposing: 8 x 8 blocks"),
    }
    for key, (changed, text) in changes.items():
        yield Model(key, text, evidence.answer(v=changed))


def v_shifted(evidence: Evidence) -> Models:
    v, count = evidence.rows.v, evidence.seqlen_k
    for shift in (1, -1, 8, -8):
        moved = v[np.clip(np.arange(count) + shift, 0, count - 1)]
        text = f"V is shifted: key j meets row j {'+' if shift > 0 else '-'} {abs(shift)} of V"
        yield Model(f"{shift}", text, evidence.answer(v=moved))


def k_shifted(evidence: Evidence) -> Models:
    k, count = evidence.rows.k, evidence.seqlen_k
    for shift in (1, -1, 8, -8):
        moved = k[np.clip(np.arange(count) + shift, 0, count - 1)]
        text = f"K is shifted: key j has row j {'+' if shift > 0 else '-'} {abs(shift)} of K"
        scores = evidence.scores_of(evidence.rows.q, moved)
        yield Model(f"{shift}", text, evidence.answer(scores))


def p_fragment(evidence: Evidence) -> Models:
    """P handed to the second product in the wrong order: weights move, sums do not."""
    whole = whole_blocks(evidence)
    for walk in (*walks(evidence), Walk(max(evidence.seqlen_k, 1))):
        parts = online(evidence, walk)
        changes = {
            "halves": (
                rows_exchanged(parts.weights.T, 8).T,
                "P repack: the k halves of P are exchanged",
            ),
            "neighbours": (
                rows_exchanged(parts.weights.T, 1).T,
                "P repack: neighbouring keys are exchanged in P, the halves of a register",
            ),
            "repeated": (
                parts.weights[:, np.arange(evidence.seqlen_k) & ~8],
                "P repack: the second 8 keys of every 16 have the first ones' P",
            ),
        }
        neighbours, number = changes["neighbours"][0], np.arange(evidence.seqlen_k)
        for upper, later in ((0, 0), (1, 0), (0, 1), (1, 1)) if whole else ():
            quarter = (evidence.queries % 16 // 8 == upper)[:, None] & (number % 16 // 8 == later)
            text = (
                f"P repack: the halves of register a[{upper + 2 * later}] of P are exchanged: "
                "neighbouring keys in a quarter of each block"
            )
            changed = np.where(quarter, neighbours, parts.weights)
            changes[f"register {upper} {later}"] = (changed, text)
        if whole:
            changes |= {
                "quarters": (
                    _filled(parts.weights, quarters),
                    "P repack: a[1] and a[2] of P are exchanged, (row, k >= 8) stands where "
                    "(row + 8, k < 8) belongs",
                ),
                "rows": (
                    _filled(parts.weights, lambda P: rows_exchanged(P, 8)),
                    "P repack: rows g and g + 8 of P are exchanged",
                ),
            }
        for key, (weights, text) in changes.items():
            o = divided((weights * parts.later) @ evidence.rows.v, parts.total)
            yield Model(f"{key} {walk!r}", text, Answer(o, parts.lse))


def _filled(weights: F64, change: Callable[[F64], F64]) -> F64:
    """``change`` weights filled up to whole blocks of 16 rows and keys.

    A row past the last query has Q = 0, and so weight 1 at every key.
    """
    height, width = weights.shape
    rows = np.pad(weights, ((0, -height % 16), (0, 0)), constant_values=1.0)
    return change(np.pad(rows, ((0, 0), (0, -width % 16))))[:height, :width]


def channels_missing(evidence: Evidence) -> Models:
    """Steps of 16 channels that Q K^T leaves out or takes twice."""
    rows, width = evidence.rows, evidence.q.shape[3]
    for part in sorted({16, width // 2, 64}):
        if not 0 < part < width:
            continue
        for name, chosen in {"last": slice(width - part, None), "first": slice(0, part)}.items():
            factor = np.ones(width)
            factor[chosen] = 0.0
            text = f"the {name} {part} channels are missing in Q K^T"
            answer = evidence.answer(evidence.scores_of(rows.q * factor, rows.k))
            yield Model(f"{name} {part}", text, answer)
            factor[chosen] = 2.0
            text = f"the {name} {part} channels count twice in Q K^T"
            answer = evidence.answer(evidence.scores_of(rows.q * factor, rows.k))
            yield Model(f"{name} {part} twice", text, answer)
