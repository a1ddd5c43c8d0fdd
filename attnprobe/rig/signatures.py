"""How attention is called: one row for each signature that targets have in common.

A row turns q, k, v and what is asked of them into the arguments of one call, and the call's result
into O and LSE. What a signature cannot say is named, with the reason, before anything is called.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from attnprobe.errors import UsageError
from attnprobe.numerics.reference import Features, heads, visible_keys

Array = npt.NDArray[Any]
Put = Callable[[Array], Any]

ANY = "**"  # among the names that a callable takes: it takes others too
# What a call is told to return LSE too, by whichever of these it takes.
_LSE_WORDS = ("return_lse", "return_softmax_lse", "return_attn_probs")


class Ask(NamedTuple):
    """One problem as NumPy arrays: (batch, seqlen, heads, head_dim), and what is asked of them."""

    q: Array
    k: Array
    v: Array
    features: Features

    @property
    def wanted(self) -> dict[str, Any]:
        """What must be expressible: features that are not the default, and two facts of shape."""
        found = dict(self.features.arguments())
        if self.q.shape[2] != self.k.shape[2]:
            found["gqa"] = (self.q.shape[2], self.k.shape[2])
        if self.q.shape[3] != self.v.shape[3]:
            found["v_head_dim"] = self.v.shape[3]
        return found


@dataclass(frozen=True)
class Signature:
    """One way to call attention.

    Attributes
    ----------
    name : what ``--signature`` calls it.
    says : one line for the list of signatures.
    heads_first : arrays are (batch, heads, seqlen, head_dim), not (batch, seqlen, heads, head_dim).
    can_say : names of what may be asked.
    unsaid : ask -> why the signature cannot say it, or "".
    arguments : ask, put -> the keyword arguments of the call, without LSE's.
    """

    name: str
    says: str
    heads_first: bool
    can_say: frozenset[str]
    unsaid: Callable[[Ask], str]
    arguments: Callable[[Ask, Put], dict[str, Any]]

    def refusal(self, ask: Ask, taken: frozenset[str]) -> str:
        """Return why a call cannot say what is asked, or ""; ``taken`` is that of ``taken_by``."""
        for name in ask.wanted:
            if name not in self.can_say:
                return f"{name}: the {self.name} signature has no word for it"
        unsaid = self.unsaid(ask)
        if unsaid or ANY in taken:
            return unsaid
        lacking = [word for word in self.arguments(ask, np.asarray) if word not in taken]
        return f"the target takes no argument {lacking[0]!r}" if lacking else ""

    def call(
        self, target: Callable[..., Any], ask: Ask, put: Put, taken: frozenset[str]
    ) -> tuple[Any, Any]:
        """Return O and LSE of ``target``, arrays of its library; LSE is None where it has none."""
        q, k, v = (put(_turned(array, self.heads_first)) for array in ask[:3])
        words = self.arguments(ask, put)
        lse_word = next((word for word in _LSE_WORDS if word in taken), None)
        if lse_word:
            words[lse_word] = True
        result = target(q, k, v, **words)
        O, LSE = result[:2] if isinstance(result, tuple) and len(result) > 1 else (result, None)
        O = O[0] if isinstance(O, tuple) else O
        return (O.swapaxes(1, 2) if self.heads_first else O), LSE


def taken_by(target: Callable[..., Any]) -> frozenset[str]:
    """Return the names of the arguments that ``target`` takes, with ANY where it takes others too.

    LSE is asked for only where a name says so: a callable that takes anything gets no such word.
    """
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # a built-in
        return frozenset({ANY})
    names = {each.name for each in parameters}
    others = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters)
    return frozenset(names | {ANY} if others else names)


def _turned(array: Array, heads_first: bool) -> Array:
    return array.swapaxes(1, 2) if heads_first else array


# --- ours and flash-attn's ------------------------------------------------------------------------


def _by_name(ask: Ask, put: Put) -> dict[str, Any]:
    """Return the features that are not the default, arrays in the target's library."""
    return {
        name: put(value) if isinstance(value, np.ndarray) else value
        for name, value in ask.features.arguments().items()
    }


_OF_SHAPE = {"gqa", "v_head_dim"}
_FLASH = {"softmax_scale", "causal", "window_size", "softcap", "alibi_slopes"}
_OURS = _FLASH | {"causal_alignment", "q_offset", "bias", "mask", "sinks"}
_SDPA = {"softmax_scale", "causal", "causal_alignment", "q_offset", "window_size", "bias", "mask"}


def _unsaid_by_flash(ask: Ask) -> str:
    if np.ndim(ask.features.softmax_scale or 0.0) > 0:
        return "softmax_scale: flash-attn takes one for all heads"
    return ""


# --- torch.nn.functional.scaled_dot_product_attention ---------------------------------------------


def _unsaid_by_sdpa(ask: Ask) -> str:
    features = ask.features
    if np.ndim(features.softmax_scale or 0.0) > 0:
        return "softmax_scale: SDPA takes one for all heads"
    if features.bias is not None and np.asarray(features.bias).dtype != ask.q.dtype:
        return "bias: SDPA takes it in q's dtype only"
    return ""


def _sdpa_arguments(ask: Ask, put: Put) -> dict[str, Any]:
    """Return SDPA's words. Its ``is_causal`` is aligned at the top left, so it says square only."""
    features = ask.features
    words: dict[str, Any] = {}
    if features.softmax_scale is not None:
        words["scale"] = float(features.softmax_scale)
    if ask.q.shape[2] != ask.k.shape[2]:
        words["enable_gqa"] = True
    square = features.diagonal(ask.q.shape[1], ask.k.shape[1]) == 0
    planes = features.mask is not None or features.bias is not None
    if features.causal and square and features.window_size == (-1, -1) and not planes:
        words["is_causal"] = True
    elif features.causal or features.window_size != (-1, -1) or planes:
        words["attn_mask"] = put(_mask_of(ask))
    return words


def _mask_of(ask: Ask) -> Array:
    """Return all that hides or adds, as one array that broadcasts over batch and heads."""
    features, (batch, seqlen_q, num_heads, _) = ask.features, ask.q.shape
    seqlen_k = ask.k.shape[1]
    if features.bias is None and features.mask is None:
        seen = visible_keys(
            seqlen_q,
            seqlen_k,
            causal=features.causal,
            window_size=features.window_size,
            diagonal=features.diagonal(seqlen_q, seqlen_k),
        )
        return seen[None, None]
    seen = np.empty((batch, num_heads, seqlen_q, seqlen_k), bool)
    for head in heads(*ask[:3]):
        seen[head.batch, head.head] = features.seen(head)
    if features.bias is None:
        return seen
    added = np.broadcast_to(np.asarray(features.bias), seen.shape)
    return np.where(seen, added, np.array(-np.inf, ask.q.dtype)).astype(ask.q.dtype)


SIGNATURES: dict[str, Signature] = {
    row.name: row
    for row in (
        Signature(
            "ours",
            "attnprobe.attention(q, k, v, *, softmax_scale, causal, window_size, ..., return_lse)",
            False,
            frozenset(_OURS | _OF_SHAPE),
            lambda ask: "",
            _by_name,
        ),
        Signature(
            "flash",
            "flash_attn_func(q, k, v, *, softmax_scale, causal, window_size, softcap, alibi_slopes)"
            "; LSE through return_lse, return_softmax_lse or return_attn_probs",
            False,
            frozenset(_FLASH | _OF_SHAPE),
            _unsaid_by_flash,
            _by_name,
        ),
        Signature(
            "sdpa",
            "scaled_dot_product_attention(q, k, v, *, attn_mask, is_causal, scale, enable_gqa), "
            "arrays (batch, heads, seqlen, head_dim)",
            True,
            frozenset(_SDPA | _OF_SHAPE),
            _unsaid_by_sdpa,
            _sdpa_arguments,
        ),
    )
}


def signature(name: str) -> Signature:
    """Return the signature called ``name``.

    Raises
    ------
    UsageError
        If there is none; lists those that there are.
    """
    if name not in SIGNATURES:
        raise UsageError(f"no signature {name!r}; there are: {', '.join(SIGNATURES)}")
    return SIGNATURES[name]
