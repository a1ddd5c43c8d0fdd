"""docs/features.md: what the engine takes, beside what its peers take."""

from __future__ import annotations

from attnprobe.engine.checks import (
    CACHE_FORMAT_NAMES,
    FORMAT_NAMES,
    MAX_HEAD_DIM,
    MAX_V_HEAD_DIM,
    OUT_FORMAT_NAMES,
    WIDTH_STEP,
)
from attnprobe.engine.features import FEATURES
from attnprobe.formats import FORMATS
from doc_sections import markdown_table, section

PEERS = ("FlashAttention-2", "FlashAttention-3", "FlashInfer", "cuDNN")
YES, NO = "yes", "no"

# Feature row -> what each of PEERS has of it. Source: docstrings of flash-attn 2.8 and of its
# hopper/ interface; FlashInfer's API pages; cuDNN frontend, "Scaled Dot Product Attention".
# fmt: off
HAVE: dict[str, tuple[str, str, str, str]] = {
    "varlen_q": (YES, YES, YES, "yes: ragged offsets"),
    "varlen_k": (YES, YES, YES, "yes: ragged offsets"),
    "seqused_k": (YES, YES, YES, "yes: padding mask"),
    "leftpad_k": (YES, YES, NO, NO),
    "paged": ("pages of 256", "any page size", "any page size", YES),
    "window": (YES, YES, "left side only", "yes, top-left too"),
    "head_scale": (NO, NO, NO, NO),
    "k_descale": (NO, "yes: e4m3", "yes: e4m3, e5m2", "yes: fp8"),
    "v_descale": (NO, "yes: e4m3", "yes: e4m3, e5m2", "yes: fp8"),
    "softcap": (YES, YES, YES, "as a score_mod graph"),
    "alibi": (YES, NO, YES, YES),
    "bias": (NO, NO, NO, YES),
    "mask": (NO, NO, "yes: custom mask", "as a bias"),
    "sinks": (NO, NO, YES, "since 9.13"),
}
# What is no block of kernel text: name, here, PEERS.
OTHERS: tuple[tuple[str, str, tuple[str, str, str, str]], ...] = (
    ("head_dim", f"multiples of {WIDTH_STEP} to {MAX_HEAD_DIM}, V to {MAX_V_HEAD_DIM}",
     ("up to 256", "up to 256; 64/512 and 192/128", "64, 128, 256, 512", "up to 256; 192/128")),
    ("dtypes of Q", ", ".join(FORMAT_NAMES),
     ("f16, bf16", "f16, bf16, e4m3", "f16, bf16, fp8", "f16, bf16, fp8")),
    ("dtypes of an 8-bit cache", ", ".join(FORMATS[n].ptx for n in CACHE_FORMAT_NAMES),
     (NO, "e4m3, with Q of e4m3", "e4m3, e5m2", "fp8, with Q of fp8")),
    ("dtypes of O", ", ".join(OUT_FORMAT_NAMES),
     ("Q's", "Q's; bf16 of e4m3", "chosen", "chosen")),
    ("split keys in decode, combined", "yes; `num_splits`", (YES, YES, YES, YES)),
    ("append to the cache, rotary", "yes; `k`, `v`, `rotary_cos`", (YES, YES, "apart", NO)),
    ("merge of two results", "`merge_states`", (NO, NO, YES, NO)),
    ("LSE out", "natural logarithm", (YES, YES, "base 2", YES)),
    ("backward pass", NO, (YES, YES, NO, YES)),
    ("dropout", NO, (YES, NO, NO, YES)),
    ("arrays", "CuPy, NumPy, DLPack (torch, JAX)", ("torch", "torch", "torch", "torch, pointers")),
    ("needs to build", "nothing: NVRTC at run time", ("nvcc, torch",) * 2 + ("wheels",) * 2),
    ("runs without a GPU", "yes: the emulator", (NO, NO, NO, NO)),
)
# fmt: on


@section("docs/features.md", "features")
def features() -> str:
    """One line for each feature row that a caller can ask for, then what is no kernel text."""
    rows = [[row.asked, YES, *HAVE[row.name]] for row in FEATURES if row.asked]
    rows += [[name, here, *peers] for name, here, peers in OTHERS]
    return markdown_table(["", "attnprobe", *PEERS], rows)
