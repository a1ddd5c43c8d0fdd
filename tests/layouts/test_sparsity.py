"""Sparse A: what the metadata say, which lanes and bytes are read, what an expansion is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from attnprobe import layouts
from attnprobe.errors import LayoutError, UsageError
from attnprobe.layouts import Instruction, Sparsity

PAIRS_OF_FOUR = Sparsity(group=4, kept=2, unit=1)
ONE_OF_TWO = Sparsity(group=2, kept=1, unit=1, codes=(0b0100, 0b1110))
TWO_PAIRS_OF_FOUR = Sparsity(group=8, kept=4, unit=2)

SPARSE = layouts.distinct("mma.sp", "wgmma.sp")


def test_indices_name_places_in_the_group() -> None:
    found = PAIRS_OF_FOUR.columns(np.array([[0, 1, 2, 3], [1, 3, 0, 2]]))
    assert found.tolist() == [[0, 1, 6, 7], [1, 3, 4, 6]]


def test_an_index_of_four_bit_elements_names_two_of_them() -> None:
    assert TWO_PAIRS_OF_FOUR.columns(np.array([1, 3, 0, 2])).tolist() == [2, 3, 6, 7, 8, 9, 12, 13]


def test_tf32_has_two_codes_and_no_others() -> None:
    assert ONE_OF_TWO.columns(np.array([0b0100, 0b1110, 0b1110])).tolist() == [0, 3, 5]
    assert ONE_OF_TWO.encode(np.array([0, 1])).tolist() == [0b0100, 0b1110]
    with pytest.raises(LayoutError, match="0b0000 is no index; indices are 0b0100, 0b1110"):
        ONE_OF_TWO.columns(np.array([0]))


def test_a_code_of_tf32_is_the_two_indices_of_its_halves() -> None:
    """0b0100 names 16-bit halves 0 and 1, 0b1110 names 2 and 3: as for 16-bit elements."""
    for index, code in enumerate(ONE_OF_TWO.codes):
        halves = [code & 0b11, code >> 2]
        assert halves == [2 * index, 2 * index + 1]


@pytest.mark.parametrize("how", [PAIRS_OF_FOUR, ONE_OF_TWO, TWO_PAIRS_OF_FOUR])
def test_expanding_puts_every_stored_element_in_its_place(how: Sparsity) -> None:
    rng = np.random.default_rng(3)
    groups, m = 5, 7
    choices = list(itertools.combinations(range(how.places), how.indices))
    chosen = np.array(choices)[rng.integers(0, len(choices), (m, groups))]
    stored = rng.integers(1, 100, (m, groups * how.kept))
    full = how.expand(stored, how.encode(chosen.reshape(m, -1)))
    assert full.shape == (m, groups * how.group)
    for row in range(m):
        wanted = np.zeros(groups * how.group, np.int64)
        values = iter(stored[row].tolist())
        for group in range(groups):
            for index in chosen[row, group]:
                for part in range(how.unit):
                    wanted[group * how.group + index * how.unit + part] = next(values)
        assert full[row].tolist() == wanted.tolist()


@pytest.mark.parametrize("row", SPARSE, ids=lambda row: row.ptx)
def test_the_metadata_have_an_index_for_each_unit_that_is_stored(row: Instruction) -> None:
    how, (m, _, k) = row.sparsity, row.shape
    assert how is not None
    e = row["E"].fragment
    assert (e.rows, e.cols) == (m, k // how.group * how.indices)
    assert row["E"].registers == 1
    if "A" in row.by_name:
        assert row["A"].fragment.cols == k * how.kept // how.group == e.cols * how.unit


@pytest.mark.parametrize("row", SPARSE, ids=lambda row: row.ptx)
def test_each_selector_reads_every_index_once_and_all_together_every_lane(row: Instruction) -> None:
    e = row["E"]
    (selector,) = [each for each in row.immediates if each.name in ("f", "sp-sel")]
    read = [e.chosen(**{selector.name.replace("-", "_"): value}) for value in selector.values]
    assert (sum(mask.astype(int) for mask in read) == 1).all()
    for mask in read:
        positions = {tuple(at) for at in e.coords()[mask].tolist()}
        assert len(positions) == mask.sum() == e.fragment.rows * e.fragment.cols


def test_the_lanes_that_a_selector_names() -> None:
    one = layouts.find("mma.sp.sync m16n8k16 f32 f16")["E"]
    two = layouts.find("mma.sp.sync m16n8k32 f32 f16")["E"]
    all_ = layouts.find("mma.sp.sync m16n8k64 f32 e4m3.e4m3")["E"]

    def lanes(operand: layouts.Operand, f: int) -> list[int]:
        return np.flatnonzero(operand.chosen(f=f).any(axis=1)).tolist()[:4]

    assert [lanes(one, f) for f in range(4)] == [[f, f + 4, f + 8, f + 12] for f in range(4)]
    assert [lanes(two, f) for f in range(2)] == [[0, 1, 4, 5], [2, 3, 6, 7]]
    assert lanes(all_, 0) == [0, 1, 2, 3]
    with pytest.raises(UsageError, match="f is one of 0, 1; got 2"):
        two.chosen(f=2)


@pytest.mark.parametrize("row", layouts.rows("mma.block_scale"), ids=lambda row: row.ptx)
def test_each_choice_of_scales_reads_every_factor_once(row: Instruction) -> None:
    for name, letter in (("SFA", "a"), ("SFB", "b")):
        operand = row[name]
        legal = {each.name: each.values for each in row.immediates if each.name.endswith(letter)}
        total = np.zeros((32, 4), int)
        for byte, thread in itertools.product(
            legal[f"byte-id-{letter}"], legal[f"thread-id-{letter}"]
        ):
            given = {f"byte_id_{letter}": byte, f"thread_id_{letter}": thread}
            mask = operand.chosen(**given)
            positions = {tuple(at) for at in operand.coords()[mask].tolist()}
            assert len(positions) == mask.sum() == operand.fragment.rows * operand.fragment.cols
            lanes, bytes_ = np.nonzero(mask)
            assert min(bytes_) == byte
            assert set((lanes % 4 // (2 if letter == "a" else 1)).tolist()) == {thread}
            total += mask
        assert (total == 1).all()


def test_an_argument_that_no_operand_or_immediate_is_is_refused() -> None:
    from dataclasses import replace

    row = layouts.find("mma.sp.sync m16n8k16 f32 f16")
    assert row.argument_list == ("D", "A", "B", "C", "E", "f")
    with pytest.raises(LayoutError, match="arguments"):
        replace(row, arguments=("D", "A", "B", "C", "f"))
