"""Matrices in shared memory: descriptors, swizzles, and tensor maps, against other formulas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from attnprobe.errors import UsageError
from attnprobe.layouts.shared_matrix import Descriptor, chunks
from attnprobe.layouts.swizzle import SWIZZLES, swizzle
from attnprobe.layouts.tensor_map import TensorMap

WIDE = {"none": 16, "32B": 32, "64B": 64, "128B": 128}


@pytest.mark.parametrize("name", SWIZZLES)
def test_a_swizzle_permutes_the_chunks_of_its_repeat(name: str) -> None:
    mode = SWIZZLES[name]
    assert mode.span == WIDE[name]
    plain = np.arange(0, 4 * mode.repeat, 16)
    moved = mode.apply(plain)
    assert sorted(moved) == list(plain)
    assert (moved // mode.repeat == plain // mode.repeat).all()
    assert (
        (moved - plain)[: len(plain) // 4] == (moved - plain)[len(plain) // 4 :][: len(plain) // 4]
    ).all()
    assert (mode.apply(moved) == plain).all()


@pytest.mark.parametrize(("name", "mask"), [("32B", 1), ("64B", 3), ("128B", 7)])
def test_a_swizzle_adds_the_row_of_128_bytes_to_the_chunk(name: str, mask: int) -> None:
    for line in range(16):
        for chunk in range(8):
            address = line * 128 + chunk * 16 + 5
            assert swizzle(name)(address) == line * 128 + (chunk ^ (line & mask)) * 16 + 5


def test_an_unknown_swizzle_names_the_known() -> None:
    with pytest.raises(UsageError, match="none, 32B, 64B, 128B"):
        swizzle("256B")


@pytest.mark.parametrize("name", SWIZZLES)
def test_descriptors_encode_their_fields(name: str) -> None:
    told = Descriptor(0x3FFF0, 0x2000, 1024, name, base_offset=3)
    code = {"none": 0, "128B": 1, "64B": 2, "32B": 3}[name]
    bits = 0x3FFF | 0x200 << 16 | 64 << 32 | 3 << 49 | code << 62
    assert told.encode() == bits
    assert Descriptor.decode(bits) == told


@pytest.mark.parametrize("field", ["address", "leading", "stride"])
@pytest.mark.parametrize("value", [8, 1 << 18])
def test_descriptors_refuse_what_their_fields_cannot_hold(field: str, value: int) -> None:
    good = {"address": 0, "leading": 16, "stride": 16}
    with pytest.raises(UsageError, match=field):
        Descriptor(**{**good, field: value}, swizzle="none")


# Canonical layouts as the PTX ISA writes them: strides of nested extents, in elements of 2 bytes
# (T = 8 in 16 bytes), leading L and stride S.
L, S, T = 4096 // 2, 512 // 2, 8


def _k_major(name: str, row: int, k: int) -> int:
    width = {"none": 1, "32B": 2, "64B": 4, "128B": 8}[name] * T
    return row % 8 * width + row // 8 * S + k % T + k // T * (L if name == "none" else T)


def _mn_major(name: str, mn: int, k: int) -> int:
    if name == "none":
        return mn % T + mn // T * S + k % 8 * T + k // 8 * L
    width = {"32B": 2, "64B": 4, "128B": 8}[name] * T
    return mn % width + mn // width * L + k % 8 * width + k // 8 * S


@pytest.mark.parametrize("name", SWIZZLES)
@pytest.mark.parametrize("transposed", [False, True])
def test_chunks_lie_where_the_canonical_layouts_put_them(name: str, transposed: bool) -> None:
    outer, depth = 128, 16
    found = chunks(outer, depth, 16, transposed, L * 2, S * 2, name)
    formula = _mn_major if transposed else _k_major
    for mn in range(outer):
        for k in range(depth):
            row, col = (k, mn) if transposed else (mn, k)
            place = found[row, col // T] + col % T * 2
            assert place == 2 * formula(name, mn, k), (name, mn, k)


def test_rows_that_are_no_whole_chunks_are_refused() -> None:
    with pytest.raises(UsageError, match="multiple of 16 bytes"):
        chunks(12, 16, 16, True, 128, 128, "none")


MAP = TensorMap(1 << 32, "f16", (128, 8, 100), (256, 2048), (64, 1, 32), "128B")


def test_a_box_lies_dense_in_the_order_of_its_axes() -> None:
    plain = replace(MAP, swizzle="none")
    assert plain.box_bytes == 64 * 32 * 2
    assert (plain.chunk_places(4096) == 4096 + 16 * np.arange(256)).all()
    moved = MAP.chunk_places(4096)
    row, chunk = np.divmod(np.arange(256), 8)
    assert (moved == 4096 + row * 128 + (chunk ^ row % 8) * 16).all()


def test_narrow_rows_of_a_box_are_as_far_apart_as_the_swizzle_is_wide() -> None:
    narrow = replace(MAP, box=(16, 1, 32))
    assert narrow.box_bytes == 32 * 32
    assert narrow.shared_bytes == 32 * 128
    row, chunk = np.divmod(np.arange(64), 2)
    assert (narrow.chunk_places(0) == row * 128 + (chunk ^ row % 8) * 16).all()
    assert replace(narrow, swizzle="none").shared_bytes == 32 * 32


@pytest.mark.parametrize(
    ("corner", "store", "what"),
    [
        ((8, -1, 200), False, ""),
        ((4, 0, 0), False, "8 bytes into the innermost axis"),
        ((-8, 0, 0), False, ""),
        ((8, 0, 200), True, ""),
        ((-8, 0, 0), True, "before the tensor"),
        ((0, -1, 0), True, "before the tensor"),
    ],
)
def test_boxes_that_a_gpu_does_not_copy(corner: tuple[int, ...], store: bool, what: str) -> None:
    assert what in MAP.refusal(corner, store)
    assert bool(MAP.refusal(corner, store)) == bool(what)


def test_what_is_written_is_whole_chunks() -> None:
    inside = np.arange(32) < 11
    assert (MAP.written(inside) == (np.arange(32) < 16)).all()
    assert MAP.fill_bits == 0
    assert replace(MAP, fill="nan").fill_bits == 0x7FF7
    assert replace(MAP, fill="nan", element="f32", box=(32, 1, 32)).fill_bits == 0x7FF77FF7


def test_element_strides_thin_a_box_out() -> None:
    thin = replace(MAP, element_strides=(1, 1, 3))
    assert thin.counts == (64, 1, 11)
    assert thin.box_bytes == 64 * 11 * 2


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"address": 8}, "multiple of 16"),
        ({"strides": (256, 2040)}, "strides"),
        ({"strides": (256,)}, "a stride for each but the innermost"),
        ({"box": (64, 1, 257)}, "256"),
        ({"box": (4, 1, 32)}, "rows of 8 bytes"),
        ({"box": (128, 1, 32)}, "wider than swizzle 128B"),
        ({"element": "f8"}, "element 'f8'"),
        ({"fill": "ones"}, "fill 'ones'"),
        ({"swizzle": "16B"}, "swizzle '16B'"),
        ({"element_strides": (1, 9, 1)}, "element strides"),
        ({"shape": (128, 0, 100)}, "shape"),
    ],
)
def test_maps_that_the_driver_refuses_are_refused(change: dict[str, object], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        replace(MAP, **change)  # type: ignore[arg-type]
