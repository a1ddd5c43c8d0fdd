"""What is timed: one row each, with the work that it asks for."""

from __future__ import annotations

from dataclasses import dataclass

SUITES = ("prefill", "decode", "features", "host")
BYTES = {"float16": 2, "bfloat16": 2, "e4m3": 1, "int8": 1}
LAYOUTS = ("padded", "packed", "paged")


@dataclass(frozen=True)
class Case:
    """One timed shape; q is (batch, seqlen_q, heads, head_dim), k and v have kv_heads.

    Attributes
    ----------
    kind : "prefill", "decode" or "feature".
    dtype : of q, and of k and v where ``kv_format`` is "".
    layout : "padded", "packed" (one after the other, by cu_seqlens) or "paged".
    page_size : keys in a page.
    kv_format : "e4m3" or "int8" where k and v are 8-bit and q is not.
    feature : name of a row of features.py, "" for none.
    beside : name of the case whose time is divided by this one's, "" for none.
    aim : the least such factor that is wanted, 0 for none.
    rank : what matters most has the least; where time is short it comes first.
    quick : whether a quick run has it.
    """

    kind: str
    batch: int
    heads: int
    kv_heads: int
    seqlen_q: int
    seqlen_k: int
    head_dim: int
    causal: bool = False
    dtype: str = "float16"
    layout: str = "padded"
    page_size: int = 0
    kv_format: str = ""
    feature: str = ""
    beside: str = ""
    aim: float = 0.0
    rank: int = 1
    quick: bool = False

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise ValueError(f"layout is {self.layout!r}; one of {', '.join(LAYOUTS)} is wanted")
        if (self.layout == "paged") != (self.page_size > 0):
            raise ValueError("pages have a size, and nothing else has")
        if self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} heads do not share {self.kv_heads} K/V heads evenly")

    @property
    def name(self) -> str:
        """What it is called in tables and on the command line; unique among all cases."""
        if self.feature:
            return f"feature {self.feature}"
        mask = " causal" if self.causal else " full" if self.kind == "prefill" else ""
        heads = str(self.heads) if self.heads == self.kv_heads else f"{self.heads}/{self.kv_heads}"
        of_cache = f", {self.kv_format} cache" if self.kv_format else ""
        pages = f", pages of {self.page_size}" if self.page_size else ""
        return (
            f"{self.kind} d{self.head_dim}{mask} S{self.seqlen_k} B{self.batch} H{heads} "
            f"{self.dtype}{of_cache}{pages}"
        )

    @property
    def flop(self) -> float:
        """Operations of both products: 4 B H Sq Sk D, halved under a causal mask."""
        return 4.0 * self.head_dim * self.scores

    @property
    def scores(self) -> float:
        """Elements of S, each of which is an exponential: B H Sq Sk, halved under a causal mask."""
        every = float(self.batch * self.heads) * self.seqlen_q * self.seqlen_k
        return every / 2 if self.causal and self.seqlen_q > 1 else every

    @property
    def cache_bytes(self) -> float:
        """Bytes of K and V."""
        size = BYTES[self.kv_format or self.dtype]
        return 2.0 * self.batch * self.seqlen_k * self.kv_heads * self.head_dim * size

    @property
    def bytes(self) -> float:
        """Bytes that have to cross the memory bus: Q, K and V read once, O written once."""
        size = 2 if self.dtype == "e4m3" else BYTES[self.dtype]
        rows = float(self.batch) * self.seqlen_q * self.heads * self.head_dim
        return self.cache_bytes + rows * (BYTES[self.dtype] + size)


# --- prefill: heads * head_dim = 2048 and batch * seqlen = 16384 throughout -----------------------

HEAD_DIMS = (64, 128, 256)
SEQLENS = (512, 1024, 2048, 4096, 8192, 16384)
WIDTH, ROWS = 2048, 16384
_FIRST_SEQLENS = (4096, 16384)  # a run that is cut off has these


def prefill(head_dim: int, seqlen: int, causal: bool, dtype: str = "float16") -> Case:
    """Return the case of one width and length."""
    heads = WIDTH // head_dim
    shape = (ROWS // seqlen, heads, heads, seqlen, seqlen, head_dim)
    first = dtype == "float16" and seqlen in _FIRST_SEQLENS
    quick = dtype == "float16" and seqlen == 4096
    rank = 0 if first else 1 if dtype == "float16" else 2
    return Case("prefill", *shape, causal, dtype, rank=rank, quick=quick)


_OTHER_DTYPES = tuple(
    prefill(head_dim, seqlen, causal, dtype)
    for dtype in ("bfloat16", "e4m3")
    for head_dim in HEAD_DIMS
    for causal in (False, True)
    for seqlen in ((4096,) if dtype == "bfloat16" else (4096, 16384))
)
PREFILL: tuple[Case, ...] = (
    *(
        prefill(head_dim, seqlen, causal)
        for head_dim in HEAD_DIMS
        for causal in (False, True)
        for seqlen in SEQLENS
    ),
    *_OTHER_DTYPES,
)

# --- decode: one query token ----------------------------------------------------------------------

DECODE_SHAPES = ((128, 32, 8), (64, 32, 8), (256, 16, 4))  # head_dim, heads, kv_heads
DECODE_LENGTHS = ((1, 8192), (1, 65536), (16, 8192), (64, 4096))  # batch, keys
LARGE = ((16, 8192), (64, 4096))  # enough work to fill a device whatever the kernel does
PAGE_SIZES = (16, 1, 256)
CACHES = ("e4m3", "int8")
# Least speed against the cache in one piece, in 16 bits: pages of 16, and 8-bit K and V.
PAGED_AIM, E4M3_AIM = 0.9, 1.7


def decode(shape: tuple[int, int, int], length: tuple[int, int]) -> Case:
    """Return the case of one (head_dim, heads, kv_heads) and one (batch, keys)."""
    head_dim, heads, kv_heads = shape
    batch, keys = length
    quick = shape == DECODE_SHAPES[0] and length in (DECODE_LENGTHS[0], DECODE_LENGTHS[3])
    return Case("decode", batch, heads, kv_heads, 1, keys, head_dim, rank=0, quick=quick)


def _variations(plain: Case) -> tuple[Case, ...]:
    """Return the cases of other caches with the sizes of a plain one."""
    values = {**vars(plain), "beside": plain.name, "rank": 1}
    paged = (
        Case(
            **{
                **values,
                "layout": "paged",
                "page_size": size,
                "aim": PAGED_AIM if size == 16 else 0.0,
                "quick": plain.quick and size == 16,
            }
        )
        for size in PAGE_SIZES
    )
    eight_bit = (
        Case(
            **{
                **values,
                "kv_format": name,
                "aim": E4M3_AIM if name == "e4m3" else 0.0,
                "quick": plain.quick and name == "e4m3",
            }
        )
        for name in CACHES
    )
    return (*paged, *eight_bit)


_CELLS = tuple(decode(shape, length) for shape in DECODE_SHAPES for length in DECODE_LENGTHS)
DECODE: tuple[Case, ...] = (
    *_CELLS,
    *(row for length in LARGE for row in _variations(decode(DECODE_SHAPES[0], length))),
)
