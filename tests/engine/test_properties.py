"""Any call that is allowed gives what float64 gives, and nothing that no query sees changes a bit.

A kernel text takes a second to compile, so the features and widths of a call are drawn first, from
a seed, and hypothesis looks for sizes, strides, numbers and garbage that break what they make: on
the emulator for a few texts, on a GPU for many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings

import attnprobe
from attnprobe.numerics.calls import Call, Pages
from attnprobe.numerics.cases import LAYOUTS, Case, Sizes
from attnprobe.numerics.fills import FILLS
from attnprobe.numerics.reference import Features
from tests.conftest import make_backend

TEXTS_ON_EMULATOR, CALLS_ON_EMULATOR = 10, 20
TEXTS_ON_GPU, CALLS_ON_GPU = 100, 20
WIDTHS = ((16, 16), (32, 32), (64, 64), (80, 48), (96, 96), (112, 112), (128, 128), (160, 160),
          (192, 128), (256, 256), (64, 320), (576, 512))  # fmt: skip
ENTRIES = ("dense", "varlen", "pages", "cache")
SCORES = ("causal", "top-left", "q_offset", "window", "softcap", "scales", "alibi", "sinks", "bias",
          "mask")  # fmt: skip
EDGES = (0, 1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129)
HEADS = ((1, 1), (2, 2), (2, 1), (3, 1), (5, 1), (6, 2), (7, 1), (8, 1), (16, 1))


@dataclass(frozen=True)
class Text:
    """What decides which kernel text a call runs.

    Attributes
    ----------
    entry : how the sequences lie.
    dtype : "f16" or "bf16".
    widths : of Q and K, and of V.
    scores : what happens to scores.
    aligned : whether rows start at multiples of 16 bytes.
    """

    entry: str
    dtype: str
    widths: tuple[int, int]
    scores: tuple[str, ...]
    aligned: bool


def texts(count: int, widths: tuple[tuple[int, int], ...]) -> tuple[Text, ...]:
    rng = np.random.default_rng(17)

    def draw(number: int) -> Text:
        entry = ENTRIES[number % len(ENTRIES)]
        scores = {name for name in SCORES if rng.random() < 0.25}
        if entry != "dense":
            scores -= {"bias", "mask"}  # for other lengths other planes: tested where they are
        if "top-left" in scores:
            scores -= {"q_offset"}
        dtype = ("f16", "bf16")[int(rng.integers(2))]
        width = widths[int(rng.integers(len(widths)))]
        return Text(entry, dtype, width, tuple(sorted(scores)), bool(rng.random() < 0.8))

    return tuple(draw(number) for number in range(count))


@dataclass(frozen=True)
class Drawn:
    """A call that prints as what it was drawn as."""

    case: Case
    seed: int
    garbage: float

    def call(self) -> Call:
        """Return its arguments."""
        return self.case.call(FILLS[self.case.fills[0]], self.seed, self.garbage)


@st.composite
def features(draw: Any, text: Text, sizes: Sizes) -> Features:
    """Draw numbers for the features of a text."""
    on, heads = set(text.scores), sizes.num_heads
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    left, right = draw(st.tuples(st.integers(-1, 80), st.integers(-1, 80)))
    causal = bool(on & {"causal", "top-left", "q_offset"})
    planes: dict[str, Any] = {}
    if "bias" in on:
        shape = draw(st.sampled_from([(1, 1), (sizes.batch, 1), (1, heads), (sizes.batch, heads)]))
        planes["bias"] = rng.standard_normal((*shape, sizes.seqlen_q, sizes.seqlen_k))
        planes["bias"][rng.random(planes["bias"].shape) < 0.1] = -np.inf
        planes["bias"] = planes["bias"].astype(np.float32)
    if "mask" in on:
        shape = draw(st.sampled_from([(sizes.batch, 1, 1), (1, heads, sizes.seqlen_q)]))
        planes["mask"] = rng.random((*shape, sizes.seqlen_k)) < draw(st.sampled_from([0.1, 0.9]))
    return Features(
        softmax_scale=rng.normal(0, 0.3, heads).astype(np.float32) if "scales" in on else None,
        causal=causal,
        window_size=(left, -1 if causal else right) if "window" in on else (-1, -1),
        softcap=draw(st.sampled_from([1.0, 8.0, 50.0])) if "softcap" in on else 0.0,
        causal_alignment="top-left" if "top-left" in on else "bottom-right",
        q_offset=draw(st.integers(0, 150)) if "q_offset" in on else None,
        alibi_slopes=rng.random(heads).astype(np.float32) if "alibi" in on else None,
        sinks=rng.normal(0, 3, heads).astype(np.float32) if "sinks" in on else None,
        **planes,
    )


@st.composite
def calls(draw: Any, text: Text, most: int) -> Drawn:
    """Draw a call of a text, of lengths up to ``most``, garbage in memory that no query sees."""
    edges = [edge for edge in EDGES if edge <= most]
    length = st.one_of(st.sampled_from(edges), st.integers(0, most))
    heads, kv_heads = draw(st.sampled_from([pair for pair in HEADS if pair[0] * most < 1700]))
    lengths: tuple[tuple[int, int], ...] = ()
    pages = None
    if text.entry == "dense":
        sizes = Sizes(draw(length), draw(length), heads, kv_heads, batch=draw(st.integers(1, 3)))
    else:
        sizes = Sizes(0, 0, heads, kv_heads)
        lengths = tuple(draw(st.lists(st.tuples(length, length), min_size=1, max_size=4)))
    if text.entry in ("pages", "cache"):
        pages = Pages(draw(st.sampled_from([1, 2, 5, 16, 64])) if text.entry == "pages" else 0)
    if text.entry == "cache":  # padded: as many queries each
        lengths = tuple((lengths[0][0], keys) for _, keys in lengths)
    sizes = Sizes(
        sizes.seqlen_q, sizes.seqlen_k, heads, kv_heads, text.widths[0], sizes.batch, text.widths[1]
    )
    layouts = [name for name in LAYOUTS if (name == "unaligned") != text.aligned]
    fill = draw(st.sampled_from([row for row in FILLS.values() if text.dtype in row.formats]))
    layout = draw(st.sampled_from(layouts)) if text.entry == "dense" else "contiguous"
    drawn = draw(features(text, sizes))
    case = Case("drawn", sizes, text.dtype, drawn, layout, (fill.name,), lengths, pages)
    garbage = draw(st.sampled_from([np.nan, np.inf, -6e4]))
    return Drawn(case, draw(st.integers(0, 1000)), garbage)


def run(backend: str, call: Call) -> tuple[Any, Any]:
    place = make_backend(backend)
    given = {
        name: place.asarray(value) if isinstance(value, np.ndarray) else value
        for name, value in {**call.arrays, **call.options}.items()
    }
    O, LSE = getattr(attnprobe, call.entry)(**given, return_lse=True)
    return place.asnumpy(O), place.asnumpy(LSE)


def check(backend: str, drawn: Drawn) -> None:
    call = drawn.call()
    results = run(backend, call)
    verdict = call.judge(*results, diagnose=False)
    assert verdict.ok, str(verdict)
    if call.clean is not None:
        for mine, yours in zip(results, run(backend, call.clean), strict=True):
            assert mine.tobytes() == yours.tobytes()  # NaN too


def searched(count: int) -> Any:
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],  # shrinking would take minutes, and a case is small as it is
        suppress_health_check=list(HealthCheck),
    )


NARROW = tuple(width for width in WIDTHS if width[0] <= 32)


@pytest.mark.parametrize("text", texts(TEXTS_ON_EMULATOR, NARROW), ids=str)
@given(data=st.data())
@searched(CALLS_ON_EMULATOR)
def test_calls_on_the_emulator(text: Text, data: Any) -> None:
    check("emulator", data.draw(calls(text, 66)))


@pytest.mark.gpu
@pytest.mark.parametrize("text", texts(TEXTS_ON_GPU, WIDTHS), ids=str)
@given(data=st.data())
@searched(CALLS_ON_GPU)
def test_calls_on_a_gpu(text: Text, data: Any) -> None:
    check("gpu", data.draw(calls(text, 200)))
