"""Models of faults in which keys count: tiles lost, doubled or stale, masks, tails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from attnprobe.numerics.diagnosis.evidence import F64, I64, Answer, Evidence, divided
from attnprobe.numerics.diagnosis.models import KEY_TILES, Model, Models
from attnprobe.numerics.reference import Mask

MOST_TILES = 64  # single tiles that are tried


def _weights(evidence: Evidence) -> tuple[F64, F64, float]:
    """exp(S - maximum) of visible keys, the maximum, the sink's logit."""
    masked = np.where(evidence.seen, evidence.scores, -np.inf)
    top = masked.max(axis=1, initial=evidence.sink)
    shift = np.where(top == -np.inf, 0.0, top)
    return np.where(evidence.seen, np.exp(masked - shift[:, None]), 0.0), shift, evidence.sink


def _with_counts(evidence: Evidence, counts: F64) -> Answer:
    """The answer if key j counts ``counts[j]`` (or ``counts[row, j]``) times."""
    weights, shift, sink = _weights(evidence)
    weights = weights * counts
    total = weights.sum(axis=1) + np.exp(sink - shift)
    return Answer(divided(weights @ evidence.rows.v, total), shift + np.log(total))


def _tiles(evidence: Evidence) -> Iterator[tuple[int, int, Mask]]:
    """Every tile: keys of a tile, number, and the keys that are in it; of equal ones the first."""
    keys = np.arange(evidence.seqlen_k)
    tried = set()
    for size in KEY_TILES:
        count = -(-evidence.seqlen_k // size)
        numbers: I64 = np.arange(count)
        if count > MOST_TILES:
            numbers = np.unique(np.linspace(0, count - 1, MOST_TILES).astype(int))
        for number in numbers.tolist():
            span = (number * size, min((number + 1) * size, evidence.seqlen_k))
            if span not in tried:
                tried.add(span)
                yield size, number, (keys >= span[0]) & (keys < span[1])


def tile_counted_wrong(evidence: Evidence) -> Models:
    for size, number, inside in _tiles(evidence):
        last = (number + 1) * size >= evidence.seqlen_k
        place = "first" if number == 0 else "last" if last else f"{number}th"
        for count, what in ((0.0, "missing"), (2.0, "counted twice")):
            text = f"a tile is {what}: the {place} of {size} keys"
            key = f"{size} {-1 if last else number} {what}"
            yield Model(key, text, _with_counts(evidence, np.where(inside, count, 1.0)))


def last_seen_tile_missing(evidence: Evidence) -> Models:
    """Each block of rows loses the last (or first) tile that it sees: a loop bound off by one."""
    keys = np.arange(evidence.seqlen_k)
    any_seen = np.asarray(evidence.seen.any(axis=1))
    last = evidence.seqlen_k - 1 - evidence.seen[:, ::-1].argmax(axis=1)
    first = evidence.seen.argmax(axis=1)
    for size in KEY_TILES:
        for rows in (16, 64, 128):
            block = evidence.queries // rows
            for name, edge in (("last", last), ("first", first)):
                whole = edge.copy()
                for number in np.unique(block):
                    mine = (block == number) & any_seen
                    if mine.any():
                        whole[block == number] = (np.max if name == "last" else np.min)(edge[mine])
                lost = keys // size == (whole // size)[:, None]
                text = f"each tile of {rows} queries misses the {name} tile of {size} keys it sees"
                counts = np.where(lost & any_seen[:, None], 0.0, 1.0)
                yield Model(f"{name} {size} {rows}", text, _with_counts(evidence, counts))


def key_dropped(evidence: Evidence) -> Models:
    for index, name in ((0, "first"), (-1, "last")):
        counts = np.ones(evidence.seqlen_k)
        counts[index] = 0.0
        text = f"the {name} key is missing"
        yield Model(name, text, _with_counts(evidence, counts))
        counts = np.ones(evidence.seqlen_k)
        counts[index] = 2.0
        yield Model(f"{name} twice", f"the {name} key counts twice", _with_counts(evidence, counts))


def stale_tile(evidence: Evidence) -> Models:
    """A tile still holds what another one has left: K, V or both; everywhere, or in one tile."""
    count = evidence.seqlen_k
    keys = np.arange(count)
    for back in (1, 2):
        for size in KEY_TILES:
            source = np.where(keys // size >= back, keys - back * size, keys)
            behind = f"{back} tile{'s' if back > 1 else ''} of {size} keys behind"
            yield from _stale(evidence, source, f"{size} {back}", f"is {behind} in every tile")
    for size in KEY_TILES:
        ahead = keys + size
        source = np.where(ahead < count, ahead, keys)
        yield from _stale(evidence, source, f"{size} ahead", f"is a tile of {size} keys ahead")
    for size, number, inside in _tiles(evidence):
        for back in (1, 2):
            if number < back or size < 16:
                continue
            source = np.where(inside, np.minimum(keys - back * size, count - 1), keys)
            what = f"of tile {number} ({size} keys) is still that of tile {number - back}"
            yield from _stale(evidence, source, f"{size} {number} {back}", what)


def _stale(evidence: Evidence, source: I64, key: str, text: str) -> Models:
    k, v = evidence.rows.k[source], evidence.rows.v[source]
    scores = evidence.scores_of(evidence.rows.q, k)
    yield Model(
        f"KV {key}",
        f"K and V: what {text}" if "of tile" in text else f"K and V {text}",
        evidence.answer(scores, v=v),
    )
    yield Model(f"K {key}", f"K {text}", evidence.answer(scores))
    yield Model(f"V {key}", f"V {text}", evidence.answer(v=v))


def mask_edge(evidence: Evidence) -> Models:
    """Edges of the causal mask and of the window moved by one."""
    features = evidence.features
    left, right = features.window_size
    for shift in (1, -1):
        how = "one key too far" if shift > 0 else "one key too short"
        if features.causal or right >= 0:
            edge = 0 if features.causal else right
            moved = _seen_between(evidence, left, edge + shift)
            name = "causal mask" if features.causal else "window's right edge"
            text = f"the {name} reaches {how} to the right"
            yield Model(f"right {shift}", text, evidence.answer(seen=moved))
        if left >= 0:
            edge = 0 if features.causal else right
            open_right = not features.causal and right < 0
            moved = _seen_between(evidence, left + shift, None if open_right else edge)
            text = f"the window reaches {how} to the left"
            yield Model(f"left {shift}", text, evidence.answer(seen=moved))


def _seen_between(evidence: Evidence, left: int, right: int | None) -> Mask:
    """Keys from aligned - left (open if negative) to aligned + right (open if None)."""
    features = replace(evidence.features, causal=False, window_size=(-1, -1))
    seen = features.seen(evidence.rows)
    diagonal = evidence.features.diagonal(evidence.seqlen_q, evidence.seqlen_k)
    distance = np.arange(evidence.seqlen_k) - evidence.positions[:, None] - diagonal
    if right is not None:
        seen = seen & (distance <= right)
    return seen & (distance >= -left) if left >= 0 else seen


def mask_missing(evidence: Evidence) -> Models:
    """The mask as a whole: left out, aligned elsewhere, sides exchanged, skipped in edge tiles."""
    features = evidence.features
    left, right = features.window_size
    changes: dict[str, dict[str, Any]] = {}
    if features.causal:
        changes["the causal mask is missing"] = {"causal": False}
    if features.causal or (left, right) != (-1, -1):
        other = "top-left" if features.causal_alignment == "bottom-right" else "bottom-right"
        if evidence.seqlen_q != evidence.seqlen_k and features.q_offset is None:
            changes[f"the mask is aligned {other}"] = {"causal_alignment": other}
        if features.q_offset is not None:
            changes["q_offset is not used"] = {"q_offset": None}
            changes["q_offset is taken for 0"] = {"q_offset": 0}
    if (left, right) != (-1, -1):
        changes["the window is missing"] = {"window_size": (-1, -1)}
        changes["the window's sides are exchanged"] = {"window_size": (right, left)}
        changes["the window's left side is open"] = {"window_size": (-1, right)}
        changes["the window's right side is open"] = {"window_size": (left, -1), "causal": False}
        changes["the window's right side is as long as its left"] = {"window_size": (left, left)}
        changes["the window's left side is as long as its right"] = {"window_size": (right, right)}
    if features.mask is not None:
        changes["the mask array is not used"] = {"mask": None}
        changes["the mask array is inverted"] = {"mask": ~np.asarray(features.mask)}
        if np.ndim(features.mask) == 4 and np.shape(features.mask)[1] > 1:
            first = np.asarray(features.mask)[:, :1]
            changes["every head is masked by head 0's mask"] = {"mask": first}
    for text, change in changes.items():
        seen = replace(features, **change).seen(evidence.rows)
        yield Model(text, text, evidence.answer(seen=seen))
    yield from _edge_tiles(evidence)


def _edge_tiles(evidence: Evidence) -> Models:
    """Rows see every key of the tile in which their mask ends."""
    if evidence.seen.all():
        return
    keys = np.arange(evidence.seqlen_k)
    last = evidence.seqlen_k - 1 - evidence.seen[:, ::-1].argmax(axis=1)
    first = evidence.seen.argmax(axis=1)
    some = np.asarray(evidence.seen.any(axis=1))[:, None]
    for size in KEY_TILES:
        reach = (keys // size <= (last // size)[:, None]) & some
        begin = (keys // size >= (first // size)[:, None]) & some
        right = f"the mask is skipped in the last tile of {size} keys that a row sees"
        yield Model(f"right {size}", right, evidence.answer(seen=reach & (keys >= first[:, None])))
        text = f"the mask is skipped in the first tile of {size} keys that a row sees"
        yield Model(f"left {size}", text, evidence.answer(seen=begin & (keys <= last[:, None])))


def mask_of_others(evidence: Evidence) -> Models:
    """Rows, keys or blocks that are masked as others of the same lane, warp or tile."""
    if evidence.seen.all():
        return
    rows, keys = evidence.queries, np.arange(evidence.seqlen_k)
    maps = {
        "rows g + 8 of every 16 are masked as rows g": rows & ~8,
        "rows g of every 16 are masked as rows g + 8": np.minimum(rows | 8, evidence.count - 1),
        **{
            f"the first 16 rows of a warp's {size} mask all of them": rows - rows % size + rows % 16
            for size in (32, 64)
        },
    }
    for text, of in maps.items():
        yield Model(text, text, evidence.answer(seen=evidence.at(of).seen))
    pairs = evidence.seen[:, keys & ~1]
    text = "both keys of a lane are masked as the first of them"
    yield Model(text, text, evidence.answer(seen=pairs))
    for size in (16, 32, 64, 128):
        begin = rows - rows % size
        ends = {"first": begin, "last": np.minimum(begin + size - 1, evidence.count - 1)}
        for name, of in ends.items():
            anchor = evidence.at(of).seen
            for tile in KEY_TILES:
                starts = np.arange(0, evidence.seqlen_k, tile)
                whole = np.logical_and.reduceat(anchor, starts, axis=1)[:, keys // tile]
                text = (
                    f"a tile of {tile} keys that the {name} query of {size} sees whole is not "
                    "masked for the others"
                )
                seen = evidence.seen | whole
                if (seen != evidence.seen).any():
                    yield Model(f"{name} {size} {tile}", text, evidence.answer(seen=seen))


def no_key(evidence: Evidence) -> Models:
    """Rows with no key: hidden keys score a finite number, and all of them count the same."""
    empty = np.asarray(~evidence.seen.any(axis=1))
    if not empty.any():
        return
    for size in (1, *KEY_TILES):
        count = evidence.seqlen_k + -evidence.seqlen_k % size
        mean = evidence.rows.v.sum(axis=0) / count
        o = np.where(empty[:, None], mean, evidence.exact.o)
        given = evidence.exact.lse if evidence.given_lse is None else evidence.given_lse
        lse = np.where(empty, given, evidence.exact.lse)
        text = "rows with no key have the mean of V: hidden keys score a finite number"
        yield Model(f"{size}", text, Answer(o, lse))


def tail_counted(evidence: Evidence) -> Models:
    """Keys past the end, up to a whole tile, are scored 0 instead of masked; their V is 0."""
    weights, shift, sink = _weights(evidence)
    for size in KEY_TILES:
        extra = -evidence.seqlen_k % size
        if extra and size == KEY_TILES[0]:
            total = weights.sum(axis=1) + np.exp(sink - shift) + np.exp(-shift)
            answer = Answer(divided(weights @ evidence.rows.v, total), shift + np.log(total))
            yield Model("one", "one column past the last key scores 0, not -inf", answer)
        if extra:
            total = weights.sum(axis=1) + np.exp(sink - shift) + extra * np.exp(-shift)
            answer = Answer(divided(weights @ evidence.rows.v, total), shift + np.log(total))
            text = f"the {extra} columns past the last key (tiles of {size}) score 0, not -inf"
            yield Model(f"{size}", text, answer)
            counts = np.ones(evidence.seqlen_k)
            counts[-1] += extra
            text = f"the last key counts {extra + 1} times: tiles of {size} are filled with it"
            yield Model(f"{size} last", text, _with_counts(evidence, counts))
