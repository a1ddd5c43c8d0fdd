"""The solver finds the digits of any fragment from positions alone, or says that there are none."""

from __future__ import annotations

import numpy as np
import pytest

from attnprobe.errors import LayoutError
from attnprobe.layouts import Digit, Fragment
from attnprobe.probing import digits
from attnprobe.probing.digits import Step


def made_up(seed: int) -> Fragment:
    """Return a fragment of random digits: extents 2, 3, 4, 5, some digits copies."""
    rng = np.random.default_rng(seed)
    extents = rng.choice([2, 2, 2, 3, 4, 5], size=int(rng.integers(2, 7))).tolist()
    axes = rng.choice(["row", "col", "copy"], size=len(extents), p=[0.4, 0.4, 0.2]).tolist()
    steps = {"row": 1, "col": 1}
    made = []
    for place in rng.permutation(len(extents)):  # the lowest step belongs to any of the digits
        extent, axis = extents[place], axes[place]
        if axis == "copy":
            made.append((place, Digit(extent)))
            continue
        made.append((place, Digit(extent, **{axis: steps[axis]})))
        steps[axis] *= extent
    in_order = [digit for _, digit in sorted(made, key=lambda each: each[0])]
    cut = int(rng.integers(0, len(in_order) + 1))
    copies = int(np.prod([extents[i] for i, axis in enumerate(axes) if axis == "copy"]))
    return Fragment(
        steps["row"], steps["col"], tuple(in_order[:cut]), tuple(in_order[cut:]), max(1, copies)
    )


@pytest.mark.parametrize("seed", range(200))
def test_digits_of_a_made_up_fragment_are_found(seed: int) -> None:
    true = made_up(seed)
    found = digits.fragment(true.coords(), true.rows, true.cols)
    assert (found.coords() == true.coords()).all()
    assert found.copies == true.copies
    assert len(found.lane) + len(found.elem) <= len(true.lane) + len(true.elem)
    assert digits.shortest(found) == found


def test_made_up_fragments_are_of_all_kinds() -> None:
    each = [made_up(seed) for seed in range(200)]
    extents = {digit.extent for one in each for digit in (*one.lane, *one.elem)}
    assert extents == {2, 3, 4, 5}
    assert any(one.copies > 1 for one in each)
    assert any(not one.lane for one in each)
    assert any(not one.elem for one in each)


def test_neighbours_that_go_on_are_one_digit_and_others_are_not() -> None:
    values = np.array([[0, 0], [1, 0], [2, 0], [3, 0], [0, 1], [1, 1], [2, 1], [3, 1]])
    assert digits.sequence(values) == (Step(4, (1, 0)), Step(2, (0, 1)))
    assert digits.sequence(np.arange(24)[:, None] * 5) == (Step(24, (5,)),)


def test_numbers_that_are_no_digits_are_refused_with_the_place() -> None:
    with pytest.raises(LayoutError, match="number 3 does not go on"):
        digits.sequence(np.array([[0], [1], [4], [6]]))
    with pytest.raises(LayoutError, match="number 3"):
        digits.sequence(np.array([[0], [1], [2], [7], [8]]))
    with pytest.raises(LayoutError, match="not at the origin"):
        digits.sequence(np.array([[1], [2]]))


def test_one_element_in_the_wrong_place_is_no_sum_of_lane_and_element() -> None:
    at = made_up(3).coords().copy()
    lane, element = at.shape[0] - 1, at.shape[1] - 1
    at[lane, element] = (at[lane, element] + 1) % 2
    with pytest.raises(LayoutError, match=f"element {element} of lane {lane}"):
        digits.solve(at)
