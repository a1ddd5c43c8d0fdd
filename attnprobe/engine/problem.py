"""What a call asks for, checked and made canonical; wrong input is refused before any compile.

Pure: it looks at shapes, strides, dtypes and numbers, never at an array's contents or at a device.
"""

from __future__ import annotations

from collections.abc import Mapping

from attnprobe.engine import checks
from attnprobe.engine.checks import MAX_SIZE
from attnprobe.engine.spec import ArraySpec
from attnprobe.errors import ProblemError
from attnprobe.formats import Format
from attnprobe.frozen import dataclass

NO_EXTRAS: Mapping[str, ArraySpec] = {}


@dataclass(frozen=True)
class Layout:
    """How the sequences lie in the arrays; their lengths are on the device.

    Attributes
    ----------
    varlen_q, varlen_k : packed, by cu_seqlens.
    seqused_k, leftpad_k : whether the call has such an array.
    page_size : keys in a page; 0 where K and V are not in pages.
    num_pages : pages that K and V have.
    """

    varlen_q: bool = False
    varlen_k: bool = False
    seqused_k: bool = False
    leftpad_k: bool = False
    page_size: int = 0
    num_pages: int = 0

    @property
    def lengths_vary(self) -> bool:
        """Whether a sequence's length is known on the device only."""
        return self.varlen_q or self.varlen_k or self.seqused_k or self.leftpad_k


@dataclass(frozen=True)
class Problem:
    """A checked attention call, without the arrays.

    Attributes
    ----------
    batch, num_heads, num_kv_heads : sizes; batch counts sequences.
    seqlen_q, seqlen_k : rows of one batch entry of Q and K: of packed arrays the total, in pages
        what a row of the block table can hold.
    head_dim, v_head_dim : widths of Q and K, and of V and O.
    format : number format of Q.
    kv_format, out_format : of K and V, and of O.
    layout : how the sequences lie.
    plane : queries and keys that bias and mask have.
    num_splits : parts of the keys that are computed apart; 0 = the plan chooses.
    softmax_scale : factor of S; finite.
    window : keys before and after the aligned one that a query sees, both inclusive, -1 = open;
        ``causal`` is a right side of 0.
    softcap : 0 for none.
    diagonal : the key that query 0 is aligned with; None: the last query with the last key of a
        sequence whose lengths the device knows.
    head_scales, alibi, mask, sinks, q_descale, k_descale, v_descale : whether the call has such an
        array.
    bias : number format of the additive bias, or None.
    bias_dense, mask_dense : whether neighbouring keys of bias, and of mask, are so in memory.
    bias_pairs, mask_pairs : whether one access can move two of them.
    bias_mappable, mask_mappable : whether a tensor map can describe it.
    aligned : whether all arrays allow 16-byte accesses.
    mappable : whether tensor maps can describe Q, K and V.
    """

    batch: int
    seqlen_q: int
    seqlen_k: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    v_head_dim: int
    format: Format
    softmax_scale: float
    window: tuple[int, int]
    softcap: float
    aligned: bool
    kv_format: Format
    out_format: Format
    layout: Layout = Layout()
    plane: tuple[int, int] = (0, 0)
    diagonal: int | None = 0
    num_splits: int = 0
    head_scales: bool = False
    alibi: bool = False
    mask: bool = False
    sinks: bool = False
    k_descale: bool = False
    v_descale: bool = False
    bias: Format | None = None
    mappable: bool = False
    q_descale: bool = False
    bias_dense: bool = False
    mask_dense: bool = False
    bias_pairs: bool = False
    mask_pairs: bool = False
    bias_mappable: bool = False
    mask_mappable: bool = False

    @property
    def windowed(self) -> bool:
        """Whether some side of the window is closed."""
        return self.window != (-1, -1)

    @property
    def window_reach(self) -> int | None:
        """Keys beside the aligned one that a query may see; None where a side is open."""
        return None if -1 in self.window else sum(self.window)

    @property
    def by_tile(self) -> bool:
        """Whether Q and K are scaled back tile by tile in the softmax, not score by score."""
        return self.format.bits == 8

    @property
    def empty(self) -> bool:
        """Whether O has no element."""
        return 0 in (self.batch, self.seqlen_q, self.num_heads)


def make_problem(
    q: ArraySpec,
    k: ArraySpec,
    v: ArraySpec,
    out: ArraySpec | None,
    *,
    softmax_scale: float | None = None,
    causal: bool = False,
    causal_alignment: str = "bottom-right",
    q_offset: int | None = None,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    out_format: Format | None = None,
    num_splits: int | None = None,
    extras: Mapping[str, ArraySpec] = NO_EXTRAS,
) -> Problem:
    """Return the checked problem. ``extras`` are the checked specs of extras.py.

    Packed arrays come with a batch axis of 1: (1, total, heads, head_dim).

    Raises
    ------
    ProblemError
        Says what was given, what is supported and the nearest thing that works.
    """
    format_, kv_format = checks.check_formats(q, k, v)
    out_format = checks.check_out_format(out_format, out, format_)
    checks.check_shapes(q, k, v)
    layout, batch, seqlen_k = _layout(q, k, extras)
    arrays = [q, k, v]
    if out is not None:
        checks.check_out(out, (*q.shape[:3], v.shape[3]), out_format)
        arrays.append(out)
    for spec in arrays:
        checks.check_strides(spec)
    diagonal = checks.check_diagonal(causal_alignment, q_offset)
    if diagonal is None and not layout.lengths_vary:
        diagonal = seqlen_k - q.shape[1]
    return Problem(
        batch,
        q.shape[1],
        seqlen_k,
        q.shape[2],
        k.shape[2],
        q.shape[3],
        v.shape[3],
        format_,
        checks.check_scale(softmax_scale, q.shape[3]),
        checks.check_window(window_size, causal),
        checks.check_softcap(softcap),
        all(spec.aligned for spec in arrays),
        kv_format,
        out_format,
        layout,
        _plane(extras, q.shape[1], seqlen_k),
        diagonal,
        checks.check_splits(num_splits),
        head_scales="head_scales" in extras,
        alibi="alibi_slopes" in extras,
        mask="mask" in extras,
        sinks="sinks" in extras,
        k_descale="k_descale" in extras,
        v_descale="v_descale" in extras,
        bias=extras["bias"].format if "bias" in extras else None,
        mappable=all(spec.mappable for spec in (q, k, v)),
        q_descale="q_descale" in extras,
        bias_dense="bias" in extras and extras["bias"].dense,
        mask_dense="mask" in extras and extras["mask"].dense,
        bias_pairs="bias" in extras and extras["bias"].paired,
        mask_pairs="mask" in extras and extras["mask"].paired,
        bias_mappable="bias" in extras and extras["bias"].plane_mappable,
        mask_mappable="mask" in extras and extras["mask"].plane_mappable,
    )


def _layout(q: ArraySpec, k: ArraySpec, extras: Mapping[str, ArraySpec]) -> tuple[Layout, int, int]:
    """Return how the sequences lie, how many there are, and the most keys that one can have."""
    varlen_q, varlen_k = "cu_seqlens_q" in extras, "cu_seqlens_k" in extras
    batch = extras["cu_seqlens_q"].shape[0] - 1 if varlen_q else q.shape[0]
    page_size, num_pages, seqlen_k = 0, 0, k.shape[1]
    keys = extras["cu_seqlens_k"].shape[0] - 1 if varlen_k else k.shape[0]
    if "block_table" in extras:
        page_size, num_pages = max(1, k.shape[1]), k.shape[0]
        keys, most = extras["block_table"].shape
        seqlen_k = most * k.shape[1] if num_pages else 0
        if seqlen_k > MAX_SIZE:
            raise ProblemError(
                f"block_table has {most} pages of {page_size} keys for a sequence; keys up to 2^28 "
                "are supported: pass the columns that are in use"
            )
    checks.check_batch(batch, keys)
    layout = Layout(
        varlen_q, varlen_k, "seqused_k" in extras, "leftpad_k" in extras, page_size, num_pages
    )
    return layout, batch, seqlen_k


def _plane(extras: Mapping[str, ArraySpec], seqlen_q: int, seqlen_k: int) -> tuple[int, int]:
    """Return the queries and keys that bias and mask have; those of both must agree."""
    shapes = {name: extras[name].shape[2:] for name in ("bias", "mask") if name in extras}
    if len(set(shapes.values())) > 1:
        listed = " and ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ProblemError(f"bias and mask have other queries and keys: {listed}; cut them alike")
    rows, cols = next(iter(shapes.values()), (seqlen_q, seqlen_k))
    return rows, cols
