"""Number formats: slots to values and back, packed registers, and what lies where in a slot."""

from __future__ import annotations

import numpy as np
import pytest

from attnprobe import formats
from attnprobe.formats import FORMATS, Format

every_format = pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS.keys())
NARROW = [form for form in FORMATS.values() if form.bits <= 16]


def slots(form: Format) -> np.ndarray:
    """Return every slot of a narrow format, random ones of a wide one."""
    if form.bits <= 16:
        return np.arange(2**form.bits).astype(form.storage)
    words = np.random.default_rng(5).integers(0, 2**63, 4096, dtype=np.uint64) << np.uint64(1)
    return (words >> np.uint64(64 - form.bits)).astype(form.storage)


@every_format
def test_what_a_slot_decodes_to_encodes_to_the_same_value(form: Format) -> None:
    values = form.decode(slots(form))
    again = form.decode(form.encode(values))
    assert np.array_equal(again, values, equal_nan=True)


@every_format
def test_a_format_that_fills_its_slot_gives_the_very_bits_back(form: Format) -> None:
    raw = slots(form)
    values = form.decode(raw)
    kept = ~np.isnan(values)  # a NaN's payload is not kept
    if form.fills_slot:
        assert np.array_equal(form.encode(values)[kept], raw[kept])
    else:
        inside = np.uint64((2**form.value_bits - 1) << form.shift)
        assert not (form.encode(values).astype(np.uint64) & ~inside).any()


@every_format
def test_packing_is_undone_by_unpacking_and_starts_with_the_low_bits(form: Format) -> None:
    raw = np.resize(slots(form), (3, 64))
    words = form.pack(raw)
    assert words.dtype == np.uint32
    assert words.shape == (3, 64 * form.bits // 32)
    assert np.array_equal(form.unpack(words), raw)
    assert form.unpack(words).dtype == form.storage
    first = int(raw[1, 0]) & (2 ** min(form.bits, 32) - 1)
    assert int(words[1, 0]) & (2 ** min(form.bits, 32) - 1) == first


@every_format
def test_a_register_holds_whole_slots(form: Format) -> None:
    assert form.per_register * form.bits == 32 * form.words
    assert form.storage.itemsize * 8 >= form.bits
    assert form.shift + form.value_bits <= form.bits


@pytest.mark.parametrize(
    ("name", "slot", "value"),
    [
        ("e2m1_c8", 0b00_0011_00, 1.5),  # bits 2 to 5
        ("e2m1_c8", 0b11_1111_11, -6.0),  # the other bits are ignored
        ("e2m1", 0b0011, 1.5),
        ("e2m3_c8", 0b00_001_111, 1.875),  # bits 0 to 5
        ("e3m2_c8", 0b11_0_011_01, 1.25),
        ("e4m3", 0x7E, 448.0),
        ("e5m2", 0x7B, 57344.0),
        ("ue8m0", 127, 1.0),
        ("ue8m0", 0, 2.0**-127),
        ("ue4m3", 0xFE, 448.0),  # there is no sign
        ("tf32", 0x3F801FFF, 1.0),  # the low 13 bits are ignored
        ("s8", 0xFF, -1.0),
        ("u8", 0xFF, 255.0),
        ("s4", 0x8, -8.0),
        ("u4", 0x8, 8.0),
        ("b1", 1, 1.0),
        ("s32", 2**32 - 1, -1.0),
    ],
)
def test_a_slot_has_the_value_that_its_type_gives_it(name: str, slot: int, value: float) -> None:
    form = FORMATS[name]
    assert form.decode(np.array([slot], form.storage)).tolist() == [value]


def test_tf32_rounds_to_the_nearest_even_of_ten_bits() -> None:
    tf32 = FORMATS["tf32"]
    step = 2.0**-10
    given = np.array([1 + step / 2, 1 + 3 * step / 2, 1 + step / 2 + step / 64, -1 - step / 2])
    wanted = [1.0, 1 + 2 * step, 1 + step, -1.0]
    assert tf32.decode(tf32.encode(given)).tolist() == wanted
    assert np.isnan(tf32.decode(tf32.encode(np.array([np.nan])))).all()
    assert tf32.decode(tf32.encode(np.array([np.inf, -np.inf]))).tolist() == [np.inf, -np.inf]


def test_integers_keep_to_their_range() -> None:
    given = np.array([-1000.0, -0.6, 2.5, 1000.0])
    assert FORMATS["s8"].decode(FORMATS["s8"].encode(given)).tolist() == [-128, -1, 2, 127]
    assert FORMATS["u4"].decode(FORMATS["u4"].encode(given)).tolist() == [0, 0, 2, 15]
    assert FORMATS["s4"].limits == (-8, 7)
    assert FORMATS["b1"].limits == (0, 1)
    with pytest.raises(ValueError, match="f16 is a floating-point format"):
        _ = FORMATS["f16"].limits


def test_f64_is_a_register_of_its_own_kind() -> None:
    f64 = FORMATS["f64"]
    assert (f64.per_register, f64.words, f64.constraint) == (1, 2, "d")
    assert {form.constraint for form in FORMATS.values() if form.bits < 64} == {"r"}


def test_a_dtype_s_format_is_the_one_with_its_bytes() -> None:
    for name in ("f16", "bf16", "f32", "f64", "e4m3", "e5m2", "ue8m0", "s8", "u8", "s32"):
        assert formats.of_dtype(FORMATS[name].dtype) is FORMATS[name]
    assert formats.of_dtype(FORMATS["e2m1"].dtype) is None  # a byte each in memory, 4 bits here
    assert formats.of_dtype(np.complex64) is None
