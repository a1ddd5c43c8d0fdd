"""The shapes that attention is timed on: one row each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """One timed shape; q, k and v are (batch, seqlen, num_heads, head_dim)."""

    batch: int
    num_heads: int
    seqlen: int
    head_dim: int
    causal: bool
    dtype: str = "float16"

    @property
    def flop(self) -> float:
        """Operations of both products: 4 B H S^2 D, halved under a causal mask."""
        full = 4.0 * self.batch * self.num_heads * self.seqlen**2 * self.head_dim
        return full / 2 if self.causal else full

    @property
    def name(self) -> str:
        """Short name for tables."""
        mask = "causal" if self.causal else "full"
        return (
            f"B{self.batch} H{self.num_heads} S{self.seqlen} D{self.head_dim} {mask} {self.dtype}"
        )


# num_heads * head_dim = 2048 and batch * seqlen = 16384 throughout.
CASES: tuple[Case, ...] = (
    *(
        Case(16384 // seqlen, 2048 // head_dim, seqlen, head_dim, causal)
        for head_dim in (64, 128, 256)
        for causal in (False, True)
        for seqlen in (512, 4096, 16384)
    ),
    Case(4, 16, 4096, 128, False, "bfloat16"),
)
