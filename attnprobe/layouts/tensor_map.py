"""Tensor maps: what a bulk tensor copy (TMA) is told about a tensor and the boxes it moves.

Axes are in the order of PTX coordinates, the innermost first: a C-contiguous array (batch, seqlen,
heads, head_dim) has the shape (head_dim, heads, seqlen, batch) here. A kernel gets 128 bytes of it:
``attnprobe.tensor_maps`` has the driver make them, ``attnprobe.ptx.tensor_maps`` makes
those for the emulator.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import numpy as np
import numpy.typing as npt

from attnprobe.errors import UsageError
from attnprobe.frozen import dataclass
from attnprobe.layouts.swizzle import CHUNK, Swizzle, swizzle

BYTES = 128  # of an encoded map
MAX_BOX = 256
MAX_RANK = 5


@dataclass(frozen=True)
class Element:
    """A type of elements: bytes, and its CUtensorMapDataType."""

    name: str
    bytes: int
    code: int


# Source: CUDA driver API, CUtensorMapDataType. Types of 8 bits are all u8 to a copy.
ELEMENTS: dict[str, Element] = {
    row.name: row
    for row in (
        Element("u8", 1, 0), Element("u16", 2, 1), Element("u32", 4, 2), Element("s32", 4, 3),
        Element("u64", 8, 4), Element("s64", 8, 5), Element("f16", 2, 6), Element("f32", 4, 7),
        Element("f64", 8, 8), Element("bf16", 2, 9),
    )
}  # fmt: skip
FILLS = ("zeros", "nan")
_NAN = 0x7FF77FF77FF77FF7  # what an H200 fills with, in elements of 16 and 32 bits
PROMOTIONS = ("none", "64B", "128B", "256B")


@dataclass(frozen=True)
class TensorMap:
    """A tensor in global memory and the box that one copy moves; axes innermost first.

    Attributes
    ----------
    address : of the tensor's first element, a multiple of 16.
    element : a name of ELEMENTS.
    shape : elements along each axis.
    strides : bytes from one element to the next along each axis but the innermost, which is dense:
        multiples of 16.
    box : elements of a box along each axis, at most 256; its innermost extent is a multiple of
        16 bytes, no wider than the swizzle's rows.
    swizzle : a name of ``swizzle.SWIZZLES``.
    element_strides : every how many elements one is taken along each axis; () for all of them. The
        hardware ignores that of the innermost axis.
    fill : what is read outside the tensor: "zeros", or "nan".
    promotion : what L2 fetches at once: "none", "64B", "128B", "256B".

    Raises
    ------
    UsageError
        If the driver would refuse the map.

    Source: CUDA driver API, cuTensorMapEncodeTiled.
    """

    address: int
    element: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    box: tuple[int, ...]
    swizzle: str = "none"
    element_strides: tuple[int, ...] = ()
    fill: str = "zeros"
    promotion: str = "none"

    def __post_init__(self) -> None:
        if not self.element_strides:
            object.__setattr__(self, "element_strides", (1,) * self.rank)
        for name, known in (("element", ELEMENTS), ("fill", FILLS), ("promotion", PROMOTIONS)):
            if getattr(self, name) not in known:
                text = ", ".join(known)
                raise UsageError(f"no {name} {getattr(self, name)!r}; there are {text}")
        self._check_counts()
        self._check_sizes()

    def _check_counts(self) -> None:
        rank = self.rank
        wanted = {"box": rank, "strides": rank - 1, "element_strides": rank}
        wrong = [name for name, count in wanted.items() if len(getattr(self, name)) != count]
        if wrong or not 1 <= rank <= MAX_RANK:
            raise UsageError(
                f"a tensor map has 1 to {MAX_RANK} axes, an extent of the box and an element "
                f"stride for each and a stride for each but the innermost; got {self}"
            )

    def _check_sizes(self) -> None:
        row = self.box[0] * self.size
        rules = (
            (self.address % CHUNK == 0, f"address {self.address:#x} is no multiple of 16"),
            (all(0 < n <= 1 << 32 for n in self.shape), f"shape {self.shape} is not 1 to 2**32"),
            (
                all(s % CHUNK == 0 and 0 <= s < 1 << 40 for s in self.strides),
                f"strides {self.strides} are no multiples of 16 bytes below 2**40",
            ),
            (all(0 < n <= MAX_BOX for n in self.box), f"box {self.box} is not 1 to {MAX_BOX}"),
            (row % CHUNK == 0, f"the box's rows of {row} bytes are no multiple of 16"),
            (
                self.swizzle == "none" or row <= self.mode.span,
                f"the box's rows of {row} bytes are wider than swizzle {self.swizzle}",
            ),
            (
                all(0 < s <= 8 for s in self.element_strides),
                f"element strides {self.element_strides} are not 1 to 8",
            ),
        )
        for holds, what in rules:
            if not holds:
                raise UsageError(f"a tensor map that the driver refuses: {what}")

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Bytes of one element."""
        return ELEMENTS[self.element].bytes

    @property
    def mode(self) -> Swizzle:
        """The swizzle."""
        return swizzle(self.swizzle)

    @property
    def counts(self) -> tuple[int, ...]:
        """Elements that one copy moves along each axis."""
        steps = (1, *self.element_strides[1:])
        return tuple(-(-n // step) for n, step in zip(self.box, steps, strict=True))

    @property
    def box_bytes(self) -> int:
        """Bytes that one copy moves and counts on its barrier, also where it leaves the tensor."""
        return prod(self.counts) * self.size

    @property
    def pitch(self) -> int:
        """Bytes of shared memory from one row of a box to the next: with a swizzle, its span."""
        return self.mode.span if self.mode.bits else self.box[0] * self.size

    @property
    def shared_bytes(self) -> int:
        """Bytes of shared memory that a box takes."""
        return prod(self.counts[1:]) * self.pitch

    def chunk_places(self, shared_address: int) -> npt.NDArray[np.int64]:
        """Return the shared address of each 16-byte chunk of a box that lies at an address.

        Chunks come in the order of the box, innermost axis first: int64, (box_bytes / 16,). Rows
        that are narrower than the swizzle's leave the rest of theirs alone: so an H200 does it
        (probes/recorded/sm_90/tensor_copies.json).
        """
        row = np.arange(prod(self.counts[1:]), dtype=np.int64)[:, None] * self.pitch
        chunk = CHUNK * np.arange(self.box[0] * self.size // CHUNK, dtype=np.int64)
        return self.mode.apply((shared_address + row + chunk).reshape(-1))

    @property
    def fill_bits(self) -> int:
        """The bits of an element that is read outside the tensor."""
        return _NAN & (1 << 8 * self.size) - 1 if self.fill == "nan" else 0

    def written(self, inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Return which elements of a box are written, where ``inside`` are those in the tensor.

        Whole chunks: of one that reaches over the end of the innermost axis, also the rest.
        """
        each = CHUNK // self.size
        return np.repeat(inside.reshape(-1, each).any(axis=1), each)

    def refusal(self, corner: Iterable[int], store: bool) -> str:
        """Return why a GPU does not copy the box at ``corner``: "" if it does.

        An H200 ends the launch with an illegal instruction in these cases, as recorded.
        """
        at = tuple(map(int, corner))
        if at[0] * self.size % CHUNK:
            begin = at[0] * self.size
            return f"the box begins {begin} bytes into the innermost axis, no multiple of 16"
        if store and min(at) < 0:
            return f"a box that is written begins before the tensor, at {at}"
        return ""
