"""An attention kernel in NumPy, tile by tile, that can be given one fault at each of its steps.

Written apart from the diagnosis that must recognise the faults: loops where that has closed forms.
"""

from __future__ import annotations

import numpy as np

from attnprobe.numerics.reference import Attention, Head, heads

F32 = np.float32


def same(x):
    return x


class Kernel:
    """One kernel; every keyword is a step that can be exchanged.

    q_map, k_map, v_map : (rows, width) of a tile -> what its fragments hold.
    p_map : P of 16 rows and the keys of a tile -> what is multiplied with V.
    factor : (factors of 16 rows) -> what O is rescaled by.
    sum_factor : likewise for the sum.
    scale : factor of the scores.
    seen : (mask, first key of the tile) -> mask of the tile.
    blocks : tile numbers -> those that are worked on, in order.
    source : tile number -> the tile whose K is there; source_v for V.
    kv_head : head, group, kv heads -> the head that is read.
    finish : O, sum, LSE -> O, LSE.
    """

    def __init__(self, tile=64, **steps):
        self.tile = tile
        self.steps = {
            "q_map": same,
            "k_map": same,
            "v_map": same,
            "p_map": same,
            "factor": same,
            "sum_factor": same,
            "scale": 1.0,
            "seen": lambda seen, first: seen,
            "blocks": lambda numbers: numbers,
            "source": same,
            "source_v": same,
            "kv_head": lambda head, group, count: head // group,
            "finish": lambda o, total, lse: (o / np.where(total == 0, 1, total)[:, None], lse),
            "store": same,
            "padding": None,
        } | steps

    def __call__(self, q, k, v, features):
        O = np.zeros((*q.shape[:3], v.shape[3]), q.dtype)
        LSE = np.zeros((q.shape[0], q.shape[2], q.shape[1]), F32)
        group = q.shape[2] // k.shape[2]
        for head in heads(q, k, v):
            kv = self.steps["kv_head"](head.head, group, k.shape[2])
            mine = head._replace(k=k[head.batch, :, kv], v=v[head.batch, :, kv])
            o, lse = self.one(mine, features)
            O[head.batch, :, head.head] = self.steps["store"](o).astype(q.dtype)
            LSE[head.batch, head.head] = lse
        return Attention(O, LSE)

    def one(self, head: Head, features):
        steps, tile = self.steps, self.tile
        q, k, v = (a.astype(np.float64) for a in (head.q, head.k, head.v))
        q = steps["q_map"](q)
        seen = features.seen(head)
        total = np.zeros(len(q))
        top = np.full(len(q), -np.inf)
        O = np.zeros((len(q), v.shape[1]))
        numbers = list(range(-(-len(k) // tile)))
        for number in steps["blocks"](numbers):
            keys = slice(number * tile, min((number + 1) * tile, len(k)))
            width = keys.stop - keys.start
            k_tile, v_tile = (
                a[steps[name](number) * tile :][:width]
                for a, name in ((k, "source"), (v, "source_v"))
            )
            scores = q @ steps["k_map"](k_tile).T * features.scale(q.shape[1]) * steps["scale"]
            scores = np.where(steps["seen"](seen[:, keys], keys.start), scores, -np.inf)
            v_tile = steps["v_map"](v_tile)
            if steps["padding"] is not None and width < tile:
                fill = np.full((len(q), tile - width), steps["padding"])
                scores = np.concatenate([scores, fill], axis=1)
                v_tile = np.concatenate([v_tile, np.zeros((tile - width, v.shape[1]))])
            new = np.maximum(top, scores.max(axis=1))
            shift = np.where(new == -np.inf, 0, new)
            factor = np.where(top == -np.inf, 1.0, np.exp(top - shift))
            P = np.exp(scores - shift[:, None])
            rounded = np.concatenate(
                [
                    steps["p_map"](P[i : i + 16].astype(head.q.dtype).astype(np.float64))
                    for i in range(0, len(P), 16)
                ]
            )
            given = np.concatenate(
                [steps["factor"](factor[i : i + 16]) for i in range(0, len(factor), 16)]
            )
            O = O * given[:, None] + rounded @ v_tile
            total = total * steps["sum_factor"](factor) + P.sum(axis=1)
            top = new
        with np.errstate(divide="ignore"):
            lse = np.where(top == -np.inf, 0, top) + np.log(total)
        return steps["finish"](O, total, lse)
