"""How attention is called: one row for each signature that targets have in common.

A row turns q, k, v and what is asked of them into the arguments of one call, and the call's result
into O and LSE. What a signature cannot say is named, with the reason, before anything is called.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.errors import UsageError
from attnprobe.formats import FORMATS
from attnprobe.numerics.calls import Call
from attnprobe.numerics.reference import Features, heads, visible_keys

Array = npt.NDArray[Any]
E4M3 = FORMATS["e4m3"].dtype
Put = Callable[[Array], Any]
Attend = Callable[..., Any]

ENTRIES = ("attention", "attention_varlen", "attention_paged")
ANY = "**"  # among the names that a callable takes: it takes others too
# What a call is told to return LSE too, by whichever of these it takes.
_LSE_WORDS = ("return_lse", "return_softmax_lse", "return_attn_probs")
_POSITIONAL = 3  # q, k, v, or q and the caches: callables differ in what they call them


class Written(Exception):
    """A target has changed one of its arguments."""


def features_of(call: Call) -> Features:
    """Return what a call asks for: the same of all its sequences."""
    return call.parts[0].question.features


def wanted(call: Call) -> tuple[str, ...]:
    """Return names of what a call asks for: features that are not the default, facts of shape."""
    question = call.parts[0].question
    names = list(question.features.arguments())
    if question.q.shape[2] != question.k.shape[2]:
        names.append("gqa")
    if question.q.shape[3] != question.v.shape[3]:
        names.append("v_head_dim")
    return tuple(names)


@dataclass(frozen=True)
class Signature:
    """One way to call attention.

    Attributes
    ----------
    name : what ``--signature`` calls it.
    says : one line for the list of signatures.
    heads_first : arrays are (batch, heads, seqlen, head_dim), not (batch, seqlen, heads, head_dim).
    entries : the public calls that it has a form of.
    can_say : names of what may be asked.
    unsaid : call -> why the signature cannot say it, or "".
    arguments : call, put -> the keyword arguments beside q, k and v, without LSE's.
    """

    name: str
    says: str
    heads_first: bool
    entries: tuple[str, ...]
    can_say: frozenset[str]
    unsaid: Callable[[Call], str]
    arguments: Callable[[Call, Put], dict[str, Any]]

    def refusal(self, call: Call, taken: frozenset[str]) -> str:
        """Return why it cannot say what is asked, or ""; ``taken`` is that of ``taken_by``."""
        unsaid = self.unsayable(call.entry, wanted(call)) or self.unsaid(call)
        if unsaid or ANY in taken:
            return unsaid
        lacking = [word for word in self.arguments(call, np.asarray) if word not in taken]
        return f"the target takes no argument {lacking[0]!r}" if lacking else ""

    def unsayable(self, entry: str, names: Iterable[str]) -> str:
        """Return why it has no word for one of ``names``, or for a whole call, or ""."""
        if entry not in self.entries:
            return f"{entry}: the {self.name} signature has no such call"
        lacking = (name for name in names if name not in self.can_say)
        return next((f"{n}: the {self.name} signature has no word for it" for n in lacking), "")

    def call(
        self,
        target: Attend,
        call: Call,
        put: Put,
        get: Callable[[Any], Array],
        taken: frozenset[str],
    ) -> tuple[Array, Array | None]:
        """Return O and LSE of ``target`` as NumPy arrays; LSE is None where it returns none.

        Raises
        ------
        Written
            If the target has changed q, k or v (or a cache).
        """
        given = dict(list(call.arrays.items())[:_POSITIONAL])
        placed = [put(_turned(array, self.heads_first)) for array in given.values()]
        words = self.arguments(call, put)
        words |= {name: _longest(call, name) for name in _LONGEST if name in taken}
        lse_word = next((word for word in _LSE_WORDS if word in taken), None)
        if lse_word and call.entry in self.entries:
            words[lse_word] = True
        kept = [array.tobytes() for array in given.values()]
        result = target(*placed, **words)
        O, LSE = result[:2] if isinstance(result, tuple) and len(result) > 1 else (result, None)
        for name, array, before in zip(given, placed, kept, strict=True):
            if _turned(get(array), self.heads_first).tobytes() != before:
                raise Written(f"the call has written to its argument {name}")
        O = _turned(get(O), self.heads_first)
        return O, None if LSE is None else get(LSE)


_LONGEST = {"max_seqlen_q": "cu_seqlens_q", "max_seqlen_k": "cu_seqlens_k"}


def _longest(call: Call, name: str) -> int | None:
    """Return the greatest length of packed sequences: flash-attn wants to be told."""
    bounds = call.arrays.get(_LONGEST[name])
    return None if bounds is None else int(np.diff(bounds).max(initial=0))


def tight(call: Call, taken: frozenset[str]) -> Call:
    """Return a packed call without room behind each sequence's keys, where it cannot be told of.

    ``seqused_k`` says how much of the room counts; flash-attn's packed call has no such argument.
    """
    if "seqused_k" not in call.arrays or "seqused_k" in taken or ANY in taken:
        return call
    arrays = dict(call.arrays)
    used, firsts = arrays.pop("seqused_k"), call.arrays["cu_seqlens_k"][:-1]
    rows = np.concatenate(
        [first + np.arange(count) for first, count in zip(firsts, used, strict=True)]
    )
    arrays |= {name: np.ascontiguousarray(arrays[name][rows]) for name in ("k", "v")}
    arrays["cu_seqlens_k"] = np.concatenate([[0], np.cumsum(used)]).astype(np.int32)
    return replace(call, arrays=arrays, clean=None)


def entry_of(taken: frozenset[str]) -> str:
    """Return which public call a callable that takes these arguments is a form of."""
    if "block_table" in taken and "cache_seqlens" in taken:
        return "attention_paged"
    return "attention_varlen" if "cu_seqlens_q" in taken else "attention"


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


def _by_name(call: Call, put: Put) -> dict[str, Any]:
    """Return all arguments by their names, arrays in the target's library."""
    arrays = dict(list(call.arrays.items())[_POSITIONAL:])
    return {
        name: put(value) if isinstance(value, np.ndarray) else value
        for name, value in {**arrays, **call.options}.items()
    }


def _ours_by_name(call: Call, put: Put) -> dict[str, Any]:
    """Return all arguments by their names; libraries without e4m3 hold its bytes, so it is told."""
    words = _by_name(call, put)
    return words | ({"kv_format": "e4m3"} if call.arrays["q"].dtype == E4M3 else {})


_OF_SHAPE = {"gqa", "v_head_dim"}
_FLASH = {"softmax_scale", "causal", "window_size", "softcap", "alibi_slopes"}
_OURS = _FLASH | {"causal_alignment", "q_offset", "bias", "mask", "sinks"}
_SDPA = {"softmax_scale", "causal", "causal_alignment", "q_offset", "window_size", "bias", "mask"}


def _unsaid_by_flash(call: Call) -> str:
    if np.ndim(features_of(call).softmax_scale) > 0:
        return "softmax_scale: flash-attn takes one for all heads"
    return ""


# --- torch.nn.functional.scaled_dot_product_attention ---------------------------------------------


def _unsaid_by_sdpa(call: Call) -> str:
    features, q = features_of(call), call.arrays["q"]
    if np.ndim(features.softmax_scale) > 0:
        return "softmax_scale: SDPA takes one for all heads"
    if features.bias is not None and np.asarray(features.bias).dtype != q.dtype:
        return "bias: SDPA takes it in q's dtype only"
    return ""


def _sdpa_arguments(call: Call, put: Put) -> dict[str, Any]:
    """Return SDPA's words. Its ``is_causal`` is aligned at the top left, so it stands for that."""
    features, q, k = features_of(call), call.arrays["q"], call.arrays["k"]
    words: dict[str, Any] = {}
    if features.softmax_scale is not None:
        words["scale"] = float(features.softmax_scale)
    if q.shape[2] != k.shape[2]:
        words["enable_gqa"] = True
    top_left = features.diagonal(q.shape[1], k.shape[1]) == 0
    planes = features.mask is not None or features.bias is not None
    windowed = tuple(features.window_size) != (-1, -1)
    if features.causal and top_left and not windowed and not planes:
        words["is_causal"] = True
    elif features.causal or windowed or planes:
        words["attn_mask"] = put(_mask_of(call))
    return words


def _mask_of(call: Call) -> Array:
    """Return all that hides or adds, as one array that broadcasts over batch and heads."""
    features, question = features_of(call), call.parts[0].question
    (batch, seqlen_q, num_heads, _), seqlen_k = question.q.shape, question.k.shape[1]
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
    for head in heads(question.q, question.k, question.v):
        seen[head.batch, head.head] = features.seen(head)
    if features.bias is None:
        return seen
    hidden = np.array(-np.inf, question.q.dtype)
    return np.where(seen, np.asarray(features.bias), hidden).astype(question.q.dtype)


SIGNATURES: dict[str, Signature] = {
    row.name: row
    for row in (
        Signature(
            "ours",
            "attnprobe.attention(q, k, v, *, softmax_scale, causal, window_size, ..., return_lse), "
            "attention_varlen or attention_paged",
            False,
            ENTRIES,
            frozenset(_OURS | _OF_SHAPE),
            lambda call: "",
            _ours_by_name,
        ),
        Signature(
            "flash",
            "flash_attn_func(q, k, v, *, softmax_scale, causal, window_size, softcap, alibi_slopes)"
            "; LSE through return_lse, return_softmax_lse or return_attn_probs",
            False,
            ENTRIES,
            frozenset(_FLASH | _OF_SHAPE),
            _unsaid_by_flash,
            _by_name,
        ),
        Signature(
            "sdpa",
            "scaled_dot_product_attention(q, k, v, *, attn_mask, is_causal, scale, enable_gqa), "
            "arrays (batch, heads, seqlen, head_dim)",
            True,
            ENTRIES[:1],
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
