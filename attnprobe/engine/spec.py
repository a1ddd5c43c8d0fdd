"""An array argument without its contents: what checks and plans look at."""

from __future__ import annotations

from attnprobe.formats import Format
from attnprobe.frozen import dataclass

ALIGNMENT = 16  # bytes: what one cp.async copies
MAX_MAPPED = 2**36  # elements, of at most 16 bytes; Source: CUDA driver API, cuTensorMapEncodeTiled


@dataclass(frozen=True)
class ArraySpec:
    """One array argument without its contents.

    Attributes
    ----------
    name : argument name, for messages.
    shape : sizes; ``(batch, seqlen, heads, head_dim)``.
    strides : steps in elements, same order.
    format : number format, or None for a dtype that is not one.
    dtype : the dtype as the caller's library prints it.
    address : of element 0, bytes; only its alignment is used here.
    """

    name: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    format: Format | None
    dtype: str
    address: int

    @property
    def aligned(self) -> bool:
        """Whether every row starts at a multiple of 16 bytes, as 16-byte copies want it."""
        if self.format is None:
            return False
        size = self.format.bits // 8
        return self.address % ALIGNMENT == 0 and all(
            step * size % ALIGNMENT == 0 for step in self._steps
        )

    @property
    def plane_mappable(self) -> bool:
        """Whether a tensor map can describe it as (batch, heads, queries, keys), or broadcast."""
        if self.format is None or not self.dense or 0 in self.shape or self.address % ALIGNMENT:
            return False
        size = self.format.bits // 8
        batch, head, row, _ = (
            n if extent > 1 else ALIGNMENT
            for n, extent in zip(self.strides, self.shape, strict=True)
        )
        whole = all(n * size % ALIGNMENT == 0 and 0 <= n < MAX_MAPPED for n in (batch, head, row))
        return whole and row > 0

    @property
    def mappable(self) -> bool:
        """Whether a tensor map can describe it: aligned, not empty, all steps forwards."""
        steps = self._steps
        return self.aligned and 0 not in self.shape and all(0 < n < MAX_MAPPED for n in steps)

    @property
    def dense(self) -> bool:
        """Whether neighbours of the last axis are neighbours in memory."""
        return self.strides[-1] == 1

    @property
    def paired(self) -> bool:
        """Whether one access can move two neighbours of the last axis, elements 2i and 2i + 1."""
        if self.format is None or not self.dense or self.shape[-1] % 2:
            return False
        pair = 2 * self.format.bits // 8
        return self.address % pair == 0 and all(step % 2 == 0 for step in self._steps)

    @property
    def _steps(self) -> list[int]:
        """Strides that mean something."""
        pairs = zip(self.strides[:-1], self.shape[:-1], strict=True)
        return [stride for stride, extent in pairs if extent > 1]
