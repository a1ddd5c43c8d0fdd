"""Fills: tags name every slot within what a format holds, random words are the same everywhere."""

import numpy as np
import pytest

from attnprobe import layouts
from attnprobe.errors import UsageError
from attnprobe.formats import FORMATS
from attnprobe.probing import fills, registers
from tests.probing.made_up import narrow_row

MMA = layouts.find("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32")
BF16 = layouts.find("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32")


@pytest.mark.parametrize(("name", "largest"), [("f16", 2048), ("bf16", 256), ("f32", 2**24)])
def test_exact_integers_is_the_end_of_the_unbroken_range(name: str, largest: int) -> None:
    assert fills.exact_integers(FORMATS[name]) == largest


@pytest.mark.parametrize("row", [MMA, BF16, narrow_row()], ids=["f16", "bf16", "two digits"])
@pytest.mark.parametrize("name", ["A", "B", "C"])
def test_tags_read_back_as_the_number_of_every_slot(row: layouts.Instruction, name: str) -> None:
    operand = row[name]
    held = fills.build("tags", row, operand)
    assert len(held) == fills.tag_passes(row, operand)
    values = operand.format.decode(registers.unpack(held, operand.format))
    numbers = fills.read_tags(row, operand, values.reshape(len(held), -1))
    assert numbers.tolist() == list(range(registers.slots(operand)))


def test_a_row_with_more_slots_than_exact_integers_takes_two_digits() -> None:
    row = narrow_row()
    assert registers.slots(row["A"]) == 512 > fills.tag_base(row, row["A"]) == 256
    assert fills.tag_passes(row, row["A"]) == 2


def test_what_is_no_tag_is_told_from_an_empty_slot() -> None:
    values = np.array([[0.0, 1.0, 0.5, 4096.0, np.nan, -1.0]])
    assert fills.read_tags(MMA, MMA["A"], values).tolist() == [-1, 0, -2, -2, -2, -2]


def test_registers_hold_their_elements_from_the_low_bits_up() -> None:
    held = registers.pack(np.arange(32 * 4, dtype=np.uint16).reshape(32, 4), FORMATS["f16"])
    assert held.shape == (2, 32)
    assert held[1, 5] == 22 | 23 << 16
    assert registers.unpack(held, FORMATS["f16"])[5].tolist() == [20, 21, 22, 23]


def test_rows_cols_and_selectors_are_what_their_names_say() -> None:
    def matrix(name: str, operand: str, block: int = 0) -> np.ndarray:
        part = MMA[operand]
        held = fills.build(name, MMA, part)[block]
        return part.fragment.scatter(part.format.decode(registers.unpack(held, part.format)))

    assert (matrix("rows", "A") == np.arange(16)[:, None]).all()
    assert (matrix("cols", "B") == np.arange(8)).all()
    assert (matrix("selector", "B", 1) == np.eye(16)[:, 8:]).all()
    assert len(fills.build("selector", MMA, MMA["B"])) == 2


def test_random_words_are_the_generator_that_they_claim_to_be() -> None:
    """Against SplitMix64 written with Python's integers."""

    def splitmix(seed: int, count: int) -> list[int]:
        mask, words = 2**64 - 1, []
        for number in range(1, count + 1):
            z = (seed + number) * 0x9E3779B97F4A7C15 & mask
            z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
            z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
            words.append(z ^ z >> 31)
        return words

    assert fills.random_words("A", 5).tolist() == splitmix(ord("A"), 5)


def test_random_fills_differ_between_operands_and_have_outliers() -> None:
    held = {name: fills.FILLS["outliers"](MMA, MMA[name]).ravel() for name in "ABC"}
    assert not np.array_equal(held["A"][:512], held["B"][:512])
    assert np.abs(held["A"]).max() > 50 * np.median(np.abs(held["A"]))
    ordinary = held["A"][np.abs(held["A"]) < 6]
    assert abs(ordinary.mean()) < 0.1
    assert 0.8 < ordinary.std() < 1.1


def test_an_unknown_fill_is_refused_with_the_names_that_there_are() -> None:
    with pytest.raises(UsageError, match="one_hot"):
        fills.build("nonsense", MMA, MMA["A"])


def row_of(name: str) -> layouts.Instruction:
    found = layouts.exact(name)
    assert found is not None
    return found


S4 = row_of("mma.sync.aligned.m16n8k64.row.col.s32.s4.u4.s32")
BITS = row_of("mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.xor.popc")
F64 = row_of("mma.sync.aligned.m16n8k16.row.col.f64.f64.f64.f64")
SPARSE = row_of("mma.sp.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32")
TF32 = row_of("mma.sp.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32")


def values(name: str, row: layouts.Instruction, operand: str) -> np.ndarray:
    part = row[operand]
    return part.format.decode(registers.unpack(fills.build(name, row, part), part.format))


@pytest.mark.parametrize(
    ("row", "operand", "least", "most"),
    [(S4, "A", -8, 7), (S4, "B", 0, 15), (BITS, "A", 0, 1), (S4, "C", -(2**23), 2**23 - 1)],
)
def test_the_whole_range_reaches_both_ends_or_nearly(row, operand, least, most) -> None:
    found = values("whole_range", row, operand)
    assert found.min() >= least
    assert found.max() <= most
    assert found.max() - found.min() > 0.9 * (most - least)


def test_planes_are_ones_and_then_the_bits_of_the_slots_number() -> None:
    found = values("planes", BITS, "A")
    assert len(found) == 1 + 12
    assert (found[0] == 1).all()
    number = sum(found[1 + bit] * 2**bit for bit in range(12))
    assert number.reshape(-1).tolist() == list(range(4096))


def test_wide_products_are_asked_with_planes_and_others_with_one_hot() -> None:
    for row, one_hot in ((MMA, True), (F64, True), (S4, False), (BITS, False)):
        assert fills.fits("one_hot", row, row["B"]) is one_hot
        assert fills.fits("planes", row, row["A"]) is not one_hot


def test_single_bits_have_no_tags_and_narrow_formats_no_row_numbers() -> None:
    assert not fills.fits("tags", BITS, BITS["A"])
    assert fills.fits("tags", BITS, BITS["C"])
    assert not fills.fits("rows", S4, S4["A"])
    assert fills.fits("rows", MMA, MMA["A"])


def test_registers_of_64_bits_are_two_words_low_first() -> None:
    held = fills.build("tags", F64, F64["A"])
    assert held.shape == (1, 16, 32)
    assert (held[0, ::2] == 0).all()  # the low words of small integers
    assert held[0, 1::2].view(np.uint32)[0, 0] == 0x3FF00000


def test_metadata_changes_one_nibble_in_each_block_but_the_first() -> None:
    for row in (SPARSE, TF32):
        for name in ("one_later", "one_earlier"):
            held = fills.build(name, row, row["E"])
            assert held.shape == (1 + 32 * 8, 1, 32)
            changed = held[1:] ^ held[:1]
            nibbles = changed[..., None] >> np.arange(0, 32, 4, dtype=np.uint32) & 15
            assert ((nibbles != 0).reshape(256, -1).sum(axis=1) == 1).all()


def test_random_metadata_are_legal_in_every_group() -> None:
    for row in (SPARSE, TF32):
        held = fills.build("random_places", row, row["E"])
        nibbles = held[..., None] >> np.arange(0, 32, 4, dtype=np.uint32) & 15
        legal = {4, 8, 12, 9, 13, 14} if row is SPARSE else {4, 14}
        assert set(nibbles.reshape(-1).tolist()) == legal
