"""For test-suites of your own: ``attention_cases`` and ``assert_attention_close``.

    from attnprobe.testing import assert_attention_close, attention_cases

    @attention_cases(supports={"causal", "gqa"})
    def test_my_attention(case):
        O = my_attention(case.q, case.k, case.v, **case.arguments())
        assert_attention_close(O, case)

Both work with pytest and need no plugin; ``assert_attention_close`` works without pytest too.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.errors import ToleranceError, UsageError
from attnprobe.numerics.calls import Call
from attnprobe.numerics.fills import FILLS
from attnprobe.numerics.oracle import Question
from attnprobe.numerics.reference import Features
from attnprobe.numerics.verdict import Verdict
from attnprobe.rig import suite
from attnprobe.rig.libraries import LIBRARIES

__all__ = ["AttentionCase", "assert_attention_close", "attention_cases"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class AttentionCase:
    """One problem for a test. The arrays are made when they are first asked for.

    Attributes
    ----------
    job : the case of the rig, its fill and its format.
    """

    job: suite.Job

    def __repr__(self) -> str:
        return self.job.name

    @cached_property
    def call(self) -> Call:
        """The call: arrays in the case's memory layout, with garbage around them."""
        return self.job.case.call(FILLS[self.job.fill])

    @property
    def q(self) -> Array:
        """(batch, seqlen_q, num_heads, head_dim), float16 or bfloat16, a NumPy array."""
        return self.call.arrays["q"]

    @property
    def k(self) -> Array:
        """(batch, seqlen_k, num_kv_heads, head_dim)."""
        return self.call.arrays["k"]

    @property
    def v(self) -> Array:
        """(batch, seqlen_k, num_kv_heads, v_head_dim)."""
        return self.call.arrays["v"]

    @property
    def features(self) -> Features:
        """What is asked for, the defaults too: ``case.features.causal``."""
        return self.job.case.features

    def arguments(self) -> dict[str, Any]:
        """Return what is asked for as keyword arguments, by flash-attn's names; no defaults."""
        return self.features.arguments()


def attention_cases(
    *,
    supports: Collection[str] | None = None,
    size: str = "quick",
    cases: Collection[str] = (),
    fills: Collection[str] = (),
    dtype: str = "",
    argument: str = "case",
) -> Any:
    """Return a decorator that runs a test with each case of the rig.

    Parameters
    ----------
    supports : what the attention under test can do: any of ``softmax_scale``, ``causal``,
        ``window_size``, ``softcap``, ``causal_alignment``, ``q_offset``, ``alibi_slopes``,
        ``bias``, ``mask``, ``sinks``, ``gqa``, ``v_head_dim``. Cases that ask for more are
        skipped, and the skip says for what. None is all of them.
    size : "quick", "full" or "large", as ``attnprobe regress`` has them.
    cases, fills, dtype : as ``--case``, ``--fill`` and ``--dtype`` of ``attnprobe regress``.
    argument : name of the test's argument.

    Raises
    ------
    UsageError
        If no case is left.
    """
    import pytest

    chosen = [
        job
        for job in suite.select(size, cases=tuple(cases), fills=tuple(fills), dtype=dtype)
        if job.case.entry == "attention"
    ]
    if not chosen:
        raise UsageError("no case is left; attnprobe regress --list shows all")
    parameters = []
    for job in chosen:
        lacking = [] if supports is None else [n for n in job.wanted if n not in supports]
        reason = f"not applicable: {', '.join(lacking)}"
        marks = [pytest.mark.skip(reason=reason)] if lacking else []
        parameters.append(pytest.param(AttentionCase(job), id=job.name, marks=marks))
    return pytest.mark.parametrize(argument, parameters)


def assert_attention_close(
    o: Any,
    q: Any,
    k: Any = None,
    v: Any = None,
    *,
    lse: Any = None,
    tile_rows: int = 0,
    **features: Any,
) -> None:
    """Raise unless ``o`` (and ``lse``) is attention over q, k and v, as near as a sound kernel is.

    Parameters
    ----------
    o : (batch, seqlen_q, num_heads, v_head_dim), q's dtype: NumPy, CuPy, torch or JAX.
    q : an ``AttentionCase``, or an array (batch, seqlen_q, num_heads, head_dim), with ``k`` and
        ``v``.
    lse : (batch, num_heads, seqlen_q) float32, natural logarithm; not judged where it is None.
    tile_rows : queries of a tile of your kernel, so that a failure names the tile; 0: not known.
    features : what was asked for, as ``attnprobe.attention`` takes it: causal, window_size, ...

    Raises
    ------
    ToleranceError
        An AssertionError: the worst element, its bound, its lane, the pattern, the likely fault.
    """
    if isinstance(q, AttentionCase):
        if k is not None or v is not None or features:
            raise UsageError("a case brings its own k, v and features")
        verdict = q.call.judge(_numpy(o), _numpy(lse), tile_rows=tile_rows)
        _refuse(verdict, f"{q!r}\n")
        return
    asked = Features(**features)
    question = Question(_numpy(q), _numpy(k), _numpy(v), asked, tile_rows=tile_rows)
    _refuse(question.judge(_numpy(o), _numpy(lse)), "")


def _refuse(verdict: Verdict, head: str) -> None:
    if not verdict.ok:
        raise ToleranceError(f"{head}{verdict}")


def _numpy(array: Any) -> Any:
    """Return an array of any of the libraries as a NumPy array; None as it is."""
    if array is None or isinstance(array, np.ndarray):
        return array
    name = type(array).__module__.partition(".")[0]
    return (LIBRARIES.get(name) or LIBRARIES["numpy"]).get(array)
