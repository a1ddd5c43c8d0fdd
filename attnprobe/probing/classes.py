"""What a dump of products says with no row: which slots share m, which share k, which share n.

A class is a set of register slots of two operands that agree in one index. From a table of meetings
(a, b, d): slots of A and D that meet share m, of A and B k, of B and D n. From bit planes: a bit of
the slot number of A that leaves some sums whole and makes others zero belongs to m, one that halves
all of them to k, and it is the k-bit of B with which it halves them no further. Classes have
numbers, but which number stands for which index a product does not say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe.errors import LayoutError
from attnprobe.probing.meetings import Meetings

Int = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Classes:
    """Classes of the slots of A, B and D.

    Attributes
    ----------
    ids : (operand, axis) -> class of every slot: ("A", "m"), ("A", "k"), ("B", "k"), ("B", "n"),
        ("D", "m"), ("D", "n"), and "matrix" of each where lanes multiply several matrices.
    half : of a sparse product, for each slot of B whether it is in the last half of its group of k;
        "k" then numbers the stored elements. None for dense.
    """

    ids: dict[tuple[str, str], Int]
    half: Int | None = None


# --- meetings -------------------------------------------------------------------------------------


def from_meetings(found: Meetings, slots: dict[str, int]) -> Classes:
    """Return the classes of a table of meetings.

    Raises
    ------
    LayoutError
        If some slot meets nothing, or the meetings are no product of matrices.
    """
    a, b, d = found.a, found.b, found.d
    m_of_a, k_of_a = _least(a, d, slots["A"]), _least(a, b, slots["A"])
    n_of_b = _least(b, d, slots["B"])
    ids = {
        ("A", "m"): m_of_a,
        ("D", "m"): _least(d, m_of_a[a], slots["D"]),
        ("A", "k"): k_of_a,
        ("B", "k"): _least(b, k_of_a[a], slots["B"]),
        ("B", "n"): n_of_b,
        ("D", "n"): _least(d, n_of_b[b], slots["D"]),
    }
    for operand, slot in (("A", a), ("B", b), ("D", d)):
        if len(np.unique(slot)) != slots[operand]:
            missing = slots[operand] - len(np.unique(slot))
            raise LayoutError(f"{missing} slots of {operand} take part in no sum")
    claims = ((("A", "m"), a, ("D", "m"), d), (("A", "k"), a, ("B", "k"), b))
    for one, left, other, right in (*claims, (("B", "n"), b, ("D", "n"), d)):
        if (ids[one][left] != ids[other][right]).any():
            raise LayoutError(f"slots that meet do not share {one[1]}: this is no matrix product")
    matrix_of_m = _least(ids["D", "m"], ids["D", "n"], int(ids["D", "m"].max()) + 1)
    ids["D", "matrix"] = matrix_of_m[ids["D", "m"]]
    ids["A", "matrix"] = matrix_of_m[ids["A", "m"]]
    ids["B", "matrix"] = _least(b, ids["D", "matrix"][d], slots["B"])
    return Classes(ids)


def _least(keys: Int, values: Int, count: int) -> Int:
    """Return for each key the least value that it stands beside; a large number where it is not."""
    least = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(least, keys, values)
    return least


# --- planes ---------------------------------------------------------------------------------------


def from_planes(sums: list[npt.NDArray[Any]], counts_differences: bool) -> Classes:
    """Return the classes of sums of bit planes, (planes of A, planes of B, slots of D) each.

    Plane 0 is 1 everywhere, plane i + 1 bit i of the slot number. ``sums`` has one array, or for a
    sparse product two: elements in the first and in the last places of their groups.
    ``counts_differences`` for products that count differing bits.

    Raises
    ------
    LayoutError
        If some bit of a slot number belongs to no index.
    """
    met = [_ands(each) if counts_differences else each for each in sums]
    whole = int(met[0][0, 0, 0])
    of_a = [_Bit(whole, [each[plane, 0] for each in met]) for plane in range(1, met[0].shape[0])]
    of_b = [_Bit(whole, [each[0, plane] for each in met]) for plane in range(1, met[0].shape[1])]
    for name, bits in (("A", of_a), ("B", of_b)):
        unknown = [i for i, bit in enumerate(bits) if bit.kind == ""]
        if unknown:
            raise LayoutError(f"bit {unknown[0]} of the slot numbers of {name} is of no index")
    k_of_a = [i for i, bit in enumerate(of_a) if bit.kind == "inner"]
    k_of_b = [_partner(met[0][i + 1], of_b, whole) for i in k_of_a]
    if sorted(k_of_b) != [i for i, bit in enumerate(of_b) if bit.kind == "inner"]:
        raise LayoutError("bits of k of A and of B do not pair")
    m_bits = [i for i, bit in enumerate(of_a) if bit.kind == "outer"]
    n_bits = [i for i, bit in enumerate(of_b) if bit.kind == "outer"]
    ids = {
        ("A", "m"): _number(len(of_a), m_bits),
        ("A", "k"): _number(len(of_a), k_of_a),
        ("B", "k"): _number(len(of_b), k_of_b),
        ("B", "n"): _number(len(of_b), n_bits),
        ("D", "m"): _joined([of_a[i].pattern for i in m_bits]),
        ("D", "n"): _joined([of_b[i].pattern for i in n_bits]),
    }
    ids |= {(name, "matrix"): np.zeros(len(ids[name, axis]), np.int64) for name, axis in _ANY}
    halves = [i for i, bit in enumerate(of_b) if bit.kind == "half"]
    half = _number(len(of_b), halves) if len(sums) > 1 else None
    return Classes(ids, half)


_ANY = (("A", "m"), ("B", "k"), ("D", "m"))


class _Bit:
    """What a bit of a slot number does to sums that are ``whole`` without it."""

    def __init__(self, whole: int, seen: list[npt.NDArray[Any]]) -> None:
        self.pattern: Int = (seen[0] == whole).astype(np.int64)
        first, last = seen[0], seen[-1]
        self.kind = ""
        if all((each == whole // 2).all() for each in seen):
            self.kind = "inner"
        elif all(np.isin(each, (0, whole)).all() for each in seen):
            same = bool((first == last).all())
            is_half = not same and not first.any() and bool((last == whole).all())
            self.kind = "outer" if same else ("half" if is_half else "")


def _ands(sums: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return counts of bits that are both set from counts of bits that differ.

    |a| + |b| - 2 |a and b| bits differ, and beside a plane of ones the other plane's count shows.
    """
    whole = _length(sums)
    of_a, of_b = whole - sums[:, :1], whole - sums[:1]
    both: npt.NDArray[Any] = (of_a + of_b - sums) // 2
    return both


def _length(sums: npt.NDArray[Any]) -> int:
    """Return the length of k: a bit of k differs from all ones in half of it."""
    return int(2 * np.median(sums[1:, 0]))


def _partner(sums: npt.NDArray[Any], of_b: list[_Bit], whole: int) -> int:
    for number, bit in enumerate(of_b):
        if bit.kind == "inner" and (sums[number + 1] == whole // 2).all():
            return number
    return -1


def _number(bits: int, chosen: list[int]) -> Int:
    """Return for each slot number of ``bits`` bits the number that the chosen bits make."""
    slot = np.arange(1 << bits)
    return _joined([slot >> bit & 1 for bit in chosen], len(slot))


def _joined(bits: list[Int], count: int = 0) -> Int:
    total = np.zeros(count or len(bits[0]), np.int64)
    for place, bit in enumerate(bits):
        total += bit << place
    return total
