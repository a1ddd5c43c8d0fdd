"""Shapes, features and memory layouts that attention is tested on: one row each.

A row names what it is there to break. Sizes stay small, for the emulator runs them too; what counts
is where they stand to the tiles (64 or 128 queries, 32 to 128 keys): one less, equal, one more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from attnprobe.formats import FORMATS
from attnprobe.numerics import calls
from attnprobe.numerics.calls import Call, Pages
from attnprobe.numerics.fills import QKV, Fill, Sizes, fill
from attnprobe.numerics.memory import LAYOUTS, WITHOUT_SLACK, Layout
from attnprobe.numerics.reference import PLAIN, Features

__all__ = ["ALL_FILLS", "CASES", "CAUSAL", "LAYOUTS", "Case", "Layout"]


@dataclass(frozen=True)
class Case:
    """One problem.

    Attributes
    ----------
    name : what a failing test shows.
    sizes : of q, k, v.
    dtype : name of the number format, "f16" or "bf16".
    features : what attention is asked for.
    layout : row of LAYOUTS for q, k and v.
    fills : the fills that it runs with.
    lengths : (seqlen_q, seqlen_k) of each sequence, where they differ: the call is
        ``attention_varlen``, or ``attention_paged`` where there are ``pages``.
    pages : of K and V in a cache.
    """

    name: str
    sizes: Sizes
    dtype: str = "f16"
    features: Features = PLAIN
    layout: str = "contiguous"
    fills: tuple[str, ...] = ("normal",)
    lengths: tuple[tuple[int, int], ...] = ()
    pages: Pages | None = None

    @property
    def entry(self) -> str:
        """Name of the public call that it is for."""
        if self.pages is not None:
            return "attention_paged"
        return "attention_varlen" if self.lengths else "attention"

    def call(self, fill_row: Fill, seed: int = 0, garbage: float | None = None) -> Call:
        """Return the arguments of one call, and what must come of it.

        ``garbage`` stands in all memory that no query sees; None is the fill's own, or NaN.
        """
        if garbage is None:
            garbage = float("nan") if fill_row.garbage is None else fill_row.garbage
        sequences = self._sequences(fill_row, seed)
        call = self._call(sequences, fill_row.checks, seed, garbage)
        if not self.has_slack:
            return call
        return replace(call, clean=self._call(sequences, fill_row.checks, seed, 0.0))

    @property
    def has_slack(self) -> bool:
        """Whether a call has memory that no query sees."""
        return bool(self.lengths) or self.layout not in WITHOUT_SLACK

    @property
    def work(self) -> int:
        """About how much there is to compute: multiplications, and numbers to be made."""
        sizes = self.sizes
        lengths = self.lengths or ((sizes.seqlen_q, sizes.seqlen_k),) * sizes.batch
        width = sizes.head_dim + (sizes.v_head_dim or sizes.head_dim)
        products = sum(m * n for m, n in lengths) * sizes.num_heads
        made = sum(n for _, n in lengths) * sizes.num_kv_heads
        return width * (products + made)

    def _sequences(self, fill_row: Fill, seed: int) -> list[QKV]:
        """Return Q, K and V of each sequence, those of a dense call as one."""
        dtype = FORMATS[self.dtype].dtype
        if not self.lengths:
            return [fill_row(self.sizes, dtype, seed)]
        return [
            fill_row(replace(self.sizes, seqlen_q=m, seqlen_k=n, batch=1), dtype, seed + i)
            for i, (m, n) in enumerate(self.lengths)
        ]

    def _call(
        self, sequences: list[QKV], checks: tuple[str, ...], seed: int, garbage: float
    ) -> Call:
        if not self.lengths:
            layout = LAYOUTS[self.layout]
            return calls.dense(sequences[0], self.features, checks, layout, garbage)
        if self.pages is not None:
            return calls.paged(sequences, self.features, checks, self.pages, garbage, seed)
        return calls.varlen(sequences, self.features, checks, garbage)

    def inputs(self, fill_name: str, seed: int = 0) -> QKV:
        """Return contiguous q, k, v; ``LAYOUTS[layout].place`` brings each into its layout."""
        return fill(fill_name)(self.sizes, FORMATS[self.dtype].dtype, seed)


CAUSAL = Features(causal=True)
ALL_FILLS = ("near_uniform", "normal", "outliers", "real")


def _window(left: int, right: int) -> Features:
    return Features(window_size=(left, right))


# fmt: off
CASES: tuple[Case, ...] = (
    # lengths around the tiles
    Case("one query, one key", Sizes(1, 1)),
    Case("one query, seven keys", Sizes(1, 7)),
    Case("seven queries, one key", Sizes(7, 1)),
    Case("63 x 63", Sizes(63, 63)),
    Case("64 x 64", Sizes(64, 64)),
    Case("65 x 65", Sizes(65, 65)),
    Case("whole tiles", Sizes(128, 128, 2, 2), fills=ALL_FILLS),
    Case("whole tiles, bf16", Sizes(128, 128, 2, 2), "bf16", fills=ALL_FILLS),
    Case("113 x 203", Sizes(113, 203), "bf16"),
    Case("127 x 127", Sizes(127, 127)),
    Case("129 x 257", Sizes(129, 257), fills=("outliers",)),
    Case("many key blocks", Sizes(40, 520), fills=("normal", "outliers", "real")),
    # causal, bottom-right aligned
    Case("causal 64 x 64", Sizes(64, 64), features=CAUSAL),
    Case("causal 65 x 65", Sizes(65, 65), features=CAUSAL, fills=("outliers",)),
    Case("causal 129 x 129", Sizes(129, 129), features=CAUSAL),
    Case("causal, more keys", Sizes(113, 203), features=CAUSAL),
    Case("causal, many tiles", Sizes(300, 400), features=CAUSAL, fills=("normal", "real")),
    Case("causal, more queries: rows with no key", Sizes(140, 23), features=CAUSAL),
    Case("causal, the model's own shape", Sizes(96, 96, 9, 3), features=CAUSAL, fills=("real",)),
    Case("causal decode", Sizes(1, 130, 4), features=CAUSAL, fills=("normal", "real")),
    # windows
    Case("window (0, 0): the diagonal", Sizes(65, 65), features=_window(0, 0)),
    Case("window (5, 3)", Sizes(70, 70), features=_window(5, 3)),
    Case("window (-1, 4)", Sizes(70, 100), features=_window(-1, 4)),
    Case("window (64, -1)", Sizes(140, 140), features=_window(64, -1)),
    Case("window (63, 0) causal", Sizes(150, 150), features=Features(None, True, (63, 0))),
    Case("window (127, 0), many tiles", Sizes(300, 300), features=_window(127, 0)),
    Case("window (1, 128), many tiles", Sizes(270, 300), features=_window(1, 128)),
    Case("window, more queries: rows with no key", Sizes(200, 40), features=_window(10, 7)),
    # heads
    Case("three query heads to one", Sizes(64, 64, 3)),
    Case("four query heads to one, two batches", Sizes(33, 70, 8, 2, batch=2), features=CAUSAL),
    # scores
    Case("softcap", Sizes(65, 97), features=Features(softcap=5.0)),
    Case("softcap, causal, large scale", Sizes(80, 80), features=Features(1.0, True, softcap=20.0)),
    Case("large scale", Sizes(64, 96), features=Features(softmax_scale=1.0), fills=("real",)),
    Case("scale 0: equal weights", Sizes(64, 70), features=Features(softmax_scale=0.0)),
    Case("negative scale", Sizes(64, 70), features=Features(softmax_scale=-0.125)),
    # head_dim
    Case("head_dim 128", Sizes(130, 130, head_dim=128), fills=("normal", "real")),
    Case("head_dim 128, bf16, causal", Sizes(65, 129, 2, head_dim=128), "bf16", CAUSAL),
    Case("head_dim 256", Sizes(130, 67, head_dim=256), fills=("normal", "outliers")),
    Case("head_dim 256, bf16, causal", Sizes(33, 65, head_dim=256), "bf16", CAUSAL),
    Case("head_dim 16", Sizes(40, 140, head_dim=16)),
    Case("head_dim 32", Sizes(70, 140, head_dim=32), "bf16", CAUSAL),
    Case("head_dim 80", Sizes(70, 140, head_dim=80), features=CAUSAL),
    Case("head_dim 96, bf16", Sizes(70, 70, head_dim=96), "bf16"),
    Case("head_dim 112", Sizes(70, 70, head_dim=112), features=CAUSAL),
    Case("head_dim 160", Sizes(40, 140, head_dim=160)),
    Case("head_dim 192, V of 128", Sizes(70, 140, head_dim=192, v_head_dim=128), features=CAUSAL),
    Case("head_dim 64, V of 208", Sizes(40, 70, v_head_dim=208), layout="unaligned"),
    Case("head_dim 512", Sizes(70, 70, head_dim=512), features=CAUSAL),
    Case("head_dim 576, V of 512", Sizes(40, 70, 2, head_dim=576, v_head_dim=512), "bf16", CAUSAL),
    # memory
    Case("heads first", Sizes(65, 70, 4, 2, batch=2), layout="heads_first"),
    Case("gaps full of NaN", Sizes(65, 70, 4, 2, batch=2), features=CAUSAL, layout="gaps"),
    Case("rows at odd elements", Sizes(65, 70, 4, 2, batch=2), layout="unaligned"),
    Case("backwards", Sizes(65, 70, 4, 2, batch=2), layout="backwards"),
)
# fmt: on
