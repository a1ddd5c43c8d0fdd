"""What all public calls take beside their arrays: how a score is made and which keys count."""

from __future__ import annotations

from typing import Any

from attnprobe.engine.extras import is_per_head

# Fields of ``score_arrays``, in the order of the arguments.
SCORE_FIELDS = ("head_scales", "alibi_slopes", "bias", "mask", "sinks")


def score_options(
    softmax_scale: Any,
    causal: bool,
    causal_alignment: str,
    q_offset: int | None,
    window_size: tuple[int, int],
    softcap: float,
    num_splits: int | None = None,
) -> dict[str, Any]:
    """Return the numbers among the arguments, as ``make_problem`` names them."""
    return {
        "softmax_scale": None if is_per_head(softmax_scale) else softmax_scale,
        "causal": causal,
        "causal_alignment": causal_alignment,
        "q_offset": q_offset,
        "window_size": window_size,
        "softcap": softcap,
        "num_splits": num_splits,
    }


def score_arrays(
    softmax_scale: Any, alibi_slopes: Any, bias: Any, mask: Any, sinks: Any
) -> dict[str, Any]:
    """Return the arrays among the arguments, as extras.py names them."""
    return {
        "head_scales": softmax_scale if is_per_head(softmax_scale) else None,
        "alibi_slopes": alibi_slopes,
        "bias": bias,
        "mask": mask,
        "sinks": sinks,
    }
