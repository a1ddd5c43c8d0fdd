"""Every fault is recognised by what it does to the output; sound outputs are left alone."""

from __future__ import annotations

import re

import numpy as np
import pytest

from attnprobe.numerics.diagnosis.faults import FAULTS
from attnprobe.numerics.fills import FILLS, Sizes
from attnprobe.numerics.oracle import Question
from attnprobe.numerics.reference import Features, yardstick
from tests.numerics.faulty import Kernel

SIZES = Sizes(80, 112, 4, 2, head_dim=32)
CAUSAL = Features(causal=True)
WINDOW = Features(window_size=(30, 5))


def swapped(rows, step=8):
    """Rows i and i ^ step exchanged, where both exist."""
    order = [i ^ step if i ^ step < len(rows) else i for i in range(len(rows))]
    return rows[order]


def off_diagonal(block):
    """16 x 16 blocks with the quarters off the diagonal exchanged."""
    result = block.copy()
    for i in range(0, block.shape[0] - 15, 16):
        for j in range(0, block.shape[1] - 15, 16):
            result[i : i + 8, j + 8 : j + 16] = block[i + 8 : i + 16, j : j + 8]
            result[i + 8 : i + 16, j : j + 8] = block[i : i + 8, j + 8 : j + 16]
    return result


def halves(block):
    """Columns 0-7 and 8-15 of every 16 exchanged."""
    return swapped(block.T).T


def later(rows, by):
    return np.concatenate([rows[by:], np.repeat(rows[-1:], by, axis=0)])


def first_eight(k):
    """The first 8 keys of every 16, twice."""
    return k[np.arange(len(k)) & ~8]


def unnormalised(o, total, lse):
    return o, lse


def base_2(o, total, lse):
    return o / total[:, None], lse / np.log(2)


def first_of_sixteen(q):
    return q[np.arange(len(q)) // 16 * 16]


def without(last):
    def change(q):
        kept = q.copy()
        kept[:, -last:] = 0
        return kept

    return change


def sixteen_bits(o, total, lse):
    """The sum loses its low bits, and what is divided by it, and LSE, with it."""
    coarse = total.astype(np.float16).astype(float) * (1 + 2.0**-7)
    return o / coarse[:, None], lse + np.log(coarse / total)


# Name of the fault, what its text must say, changed step, and what it is asked.
LAB = {
    "sound rows stored 8 apart": ("rows_exchanged", "swapped by 8", {"store": swapped}, Features()),
    "P quarters": ("p_repack", r"a\[1\] and a\[2\]", {"p_map": off_diagonal}, Features()),
    "P halves": ("p_repack", "k halves", {"p_map": halves}, Features()),
    "P neighbours": (
        "p_repack",
        "neighbouring",
        {"p_map": lambda P: swapped(P.T, 1).T},
        Features(),
    ),
    "first keys again": ("k_fragment", "again in K", {"k_map": first_eight}, Features()),
    "P rows": ("p_repack", r"rows g and g \+ 8", {"p_map": swapped}, CAUSAL),
    "Q quarters": ("q_fragment", "a", {"q_map": off_diagonal}, Features()),
    "Q rows": ("q_fragment", "first", {"q_map": first_of_sixteen}, Features()),
    "Q halves": ("q_fragment", "halves", {"q_map": halves}, Features()),
    "K quarters": ("k_fragment", "quarters", {"k_map": off_diagonal}, Features()),
    "K rows": ("k_fragment", r"j \^ 8", {"k_map": swapped}, Features()),
    "V rows": ("v_fragment", "k halves", {"v_map": swapped}, Features()),
    "V quarters": ("v_fragment", "quarters", {"v_map": off_diagonal}, CAUSAL),
    "V shifted": ("v_shifted", r"j \+ 1", {"v_map": lambda v: later(v, 1)}, Features()),
    "last channels": ("channels", "last 16", {"q_map": without(16)}, Features()),
    "no rescale": ("rescale", "O is not rescaled", {"factor": np.ones_like}, Features()),
    "rescale of other rows": ("rescale", r"row g \+ 8", {"factor": swapped}, Features()),
    "sum not rescaled": ("rescale", "the sum is not", {"sum_factor": np.ones_like}, Features()),
    "scale 5 % up": ("scale_off", r"\+5 %", {"scale": 1.05}, Features()),
    "scale 1 % down": ("scale_off", "-1 %", {"scale": 0.99}, CAUSAL),
    "scale twice": ("scale", "twice", {"scale": 32**-0.5}, Features()),
    "log2(e)": ("scale", r"log2\(e\) is missing", {"scale": np.log(2)}, Features()),
    "not divided": ("normaliser", "not divided", {"finish": unnormalised}, Features()),
    "sum in 16 bits": ("factor_of_rows", "so is LSE", {"finish": sixteen_bits}, Features()),
    "base 2": ("lse", "base 2", {"finish": base_2}, Features()),
    "interleaved groups": ("kv_head", "%", {"kv_head": lambda h, g, n: h % n}, Features()),
    "last tile lost": ("tile|loop_bound", "last", {"blocks": lambda n: n[:-1]}, Features()),
    "first tile twice": ("tile", "twice: the first", {"blocks": lambda n: [*n, 0]}, Features()),
    "K of the tile before": (
        "stale",
        "K is 1 tile of 32",
        {"source": lambda n: max(n - 1, 0)},
        Features(),
    ),
    "stale V": (
        "stale",
        r"V of tile 2 \(32 keys\)",
        {"source_v": lambda n: 0 if n == 2 else n},
        Features(),
    ),
    "tail scores 0": ("tail", "columns past the last key", {"padding": 0.0}, Features()),
    "causal too far": (
        "mask_edge",
        "too far to the right",
        {"seen": "right"},
        CAUSAL,
    ),
    "window too short": ("mask_edge", "too short to the left", {"seen": "left"}, WINDOW),
}


def seen_wrong(which):
    """A mask step that is off by one: it is told the whole mask, and shifts one of its edges."""

    def step(seen, first):
        wrong = seen.copy()
        for row in wrong:
            hit = np.flatnonzero(row)
            if which == "left" and len(hit) and (hit[0] > 0 or first == 0):
                row[hit[0]] = False
            if which == "right" and len(hit) and hit[-1] + 1 < len(row):
                row[hit[-1] + 1] = True
        return wrong

    return step


@pytest.mark.parametrize("name", LAB)
def test_each_fault_is_recognised(name):
    fault, says, steps, features = LAB[name]
    whole = {"seen"} <= set(steps)
    if whole:  # one tile, so that the step sees the edge
        steps = {"seen": seen_wrong(steps["seen"])}
    tile = 256 if whole else 32
    q, k, v = FILLS["normal"](SIZES, np.float16, seed=1)
    question = Question(q, k, v, features)
    assert question.judge(*Kernel(tile)(q, k, v, features)).ok
    verdict = question.judge(*Kernel(tile, **steps)(q, k, v, features))
    assert not verdict.ok
    # Faults that do the same to the output are equals: any of them may stand first.
    equals = [each for each in verdict.guesses if each.explains > verdict.guess.explains - 1e-3]
    told = [each for each in equals if re.fullmatch(fault, each.fault)]
    assert told, str(verdict)
    assert re.search(says, told[0].text), told[0].text
    assert told[0].explains > 0.85


# Wrong outputs made of the right ones: (o, lse) -> (o, lse).
PREVIOUS = np.maximum(np.arange(40) - 1, 0)
STORED = {
    "zero_output": lambda o, lse: (np.zeros_like(o), lse),
    "rows_shifted": lambda o, lse: (o[:, PREVIOUS], lse[..., PREVIOUS]),
    "columns_exchanged": lambda o, lse: (o[..., np.arange(32) ^ 8], lse),
    "columns_missing": lambda o, lse: (o * (np.arange(32) < 16), lse),
    "head": lambda o, lse: (o[:, :, ::-1], np.ascontiguousarray(lse[:, ::-1])),
    "batch": lambda o, lse: (np.repeat(o[:1], 2, 0), np.repeat(lse[:1], 2, 0)),
    "factor": lambda o, lse: (o * np.float16(1.3), lse),
    "lse": lambda o, lse: (o, np.zeros_like(lse)),
}


@pytest.mark.parametrize("name", STORED)
def test_a_wrong_output_is_recognised(name):
    q, k, v = FILLS["normal"](Sizes(40, 70, 2, 2, 32, batch=2), np.float16, seed=4)
    o, lse = STORED[name](*Kernel()(q, k, v, CAUSAL))
    verdict = Question(q, k, v, CAUSAL).judge(o.astype(np.float16), lse)
    assert verdict.guess.fault == name, str(verdict)
    assert verdict.guess.explains > 0.9


def test_nan_that_is_lost_or_spread_is_recognised():
    q, k, v = FILLS["nan_in_k"](Sizes(40, 70, 2, 2, 32), np.float16)
    question = Question(q, k, v, CAUSAL)
    o, lse = Kernel()(q, np.nan_to_num(k), v, CAUSAL)
    verdict = question.judge(o, lse)
    assert verdict.guess.fault == "nan_swallowed", str(verdict)
    o, lse = Kernel()(q, k, v, CAUSAL)
    o[0, :, 0], lse[0, 0] = np.nan, np.nan
    verdict = question.judge(o, lse)
    assert verdict.guess.fault == "nan_spread", str(verdict)


def test_features_that_are_left_out_are_recognised():
    rng = np.random.default_rng(3)
    q, k, v = FILLS["normal"](Sizes(24, 50, 2, 2, 32), np.float16)
    asked = {
        "the softcap is missing": ({"softcap": 3.0}, {}),
        "ALiBi is missing": ({"alibi_slopes": np.array([0.5, 0.1])}, {}),
        "ALiBi has the other sign": (
            {"alibi_slopes": np.array([0.5, 0.1])},
            {"alibi_slopes": np.array([-0.5, -0.1])},
        ),
        "the sinks are missing": ({"sinks": np.array([3.0, 5.0])}, {}),
        "the bias is missing": ({"bias": rng.standard_normal((24, 50))}, {}),
        "the mask array is not used": ({"mask": rng.random((24, 50)) < 0.5}, {}),
        "the causal mask is missing": ({"causal": True}, {}),
        "the mask is aligned top-left": (
            {"causal": True},
            {"causal": True, "causal_alignment": "top-left"},
        ),
        "the window's sides are exchanged": (
            {"window_size": (9, 2)},
            {"window_size": (2, 9)},
        ),
    }
    for text, (wanted, given) in asked.items():
        result = yardstick(q, k, v, Features(**given))
        verdict = Question(q, k, v, Features(**wanted)).judge(*result)
        assert verdict.guess.text == text, str(verdict)
        assert verdict.guess.certain


def test_every_fault_of_the_table_is_named_once():
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names) >= 30


def test_noise_is_not_explained():
    q, k, v = FILLS["normal"](Sizes(40, 70, 2, 2, 32), np.float16)
    o, lse = Kernel()(q, k, v, CAUSAL)
    noise = np.random.default_rng(1).standard_normal(o.shape)
    verdict = Question(q, k, v, CAUSAL).judge((o + noise).astype(np.float16), lse)
    assert not verdict.ok
    assert verdict.guesses == ()


def test_a_problem_with_no_key_is_refused_without_a_guess():
    q, k, v = FILLS["normal"](Sizes(3, 0, 2, 2, 32), np.float16)
    question = Question(q, k, v)
    o, lse = yardstick(q, k, v)
    assert question.judge(o, lse).ok
    verdict = question.judge(o, np.zeros_like(lse))
    assert not verdict.ok
    assert verdict.guesses == ()
