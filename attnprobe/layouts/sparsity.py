"""Structured sparsity of A: which of its elements are stored, and what the metadata say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.errors import LayoutError

Int = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Sparsity:
    """How the stored elements of a row of A are spread over k.

    Each ``group`` consecutive elements of a row have ``kept`` stored ones; the others are zero. An
    index names a place in the group, in units of ``unit`` elements: the metadata hold
    ``kept / unit`` indices for each group, the first in the low bits.

    Attributes
    ----------
    group, kept : 4 and 2 for 16-bit and 8-bit types, 2 and 1 for tf32, 8 and 4 for 4-bit ones.
    unit : elements that one index names together: 2 for 4-bit types, else 1.
    codes : index -> its value in the metadata; () where a value is the index itself.
    ordered : whether the indices of a group must increase.

    Source: PTX ISA 9.1, 9.7.14.6.1 "Sparse matrix storage".
    """

    group: int
    kept: int
    unit: int
    codes: tuple[int, ...] = ()
    ordered: bool = True

    @property
    def places(self) -> int:
        """Number of values that an index can have."""
        return self.group // self.unit

    @property
    def indices(self) -> int:
        """Indices for each group."""
        return self.kept // self.unit

    def columns(self, metadata: npt.NDArray[Any]) -> Int:
        """Return the k of every stored element: int64, (..., stored).

        Parameters
        ----------
        metadata : raw values of the indices of each row, (..., indices).

        Raises
        ------
        LayoutError
            For a value that is no index.
        """
        index = self._decoded(metadata)
        groups = np.arange(index.shape[-1]) // self.indices
        first = groups * self.group + index * self.unit
        each: Int = first[..., None] + np.arange(self.unit)
        return each.reshape(*index.shape[:-1], -1)

    def encode(self, indices: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Return the raw metadata values of ``indices`` (0 ... places - 1)."""
        codes = np.array(self.codes or range(self.places), np.uint8)
        raw: npt.NDArray[np.uint8] = codes[np.asarray(indices)]
        return raw

    def expand(self, stored: npt.NDArray[Any], metadata: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return A (..., m, k) with zeros from what is stored (..., m, stored) and the metadata."""
        columns = self.columns(metadata)
        k = stored.shape[-1] * self.group // self.kept
        full = np.zeros((*stored.shape[:-1], k), stored.dtype)
        np.put_along_axis(full, np.broadcast_to(columns, stored.shape), stored, axis=-1)
        return full

    def _decoded(self, metadata: npt.NDArray[Any]) -> Int:
        raw = np.asarray(metadata).astype(np.int64)
        if not self.codes:
            return raw
        index = np.full(max(self.codes) + 1, -1, np.int64)
        index[list(self.codes)] = np.arange(len(self.codes))
        known = np.isin(raw, self.codes)
        if not known.all():
            legal = ", ".join(f"{code:#06b}" for code in self.codes)
            raise LayoutError(f"{raw[~known].flat[0]:#06b} is no index; indices are {legal}")
        return index[raw]
