"""Addresses for ldmatrix and stmatrix: known by hand, executed on the emulator, and their banks."""

from __future__ import annotations

import numpy as np
import pytest

from attnprobe import layouts
from attnprobe.backends.base import Launch
from attnprobe.backends.emulator import EmulatorBackend
from attnprobe.compile import load_source
from attnprobe.errors import UnsupportedError, UsageError
from attnprobe.layouts.questions import swizzle
from attnprobe.layouts.questions.load import Access, Load, load
from attnprobe.probing import macros

M = "mma.sync.aligned."
F16 = M + "m16n8k16.row.col.f32.f16.f16.f32"
HALF = M + "m16n8k16.row.col.f16.f16.f16.f16"
FP8 = M + "m16n8k32.row.col.f32.e4m3.e4m3.f32"
S4 = M + "m16n8k64.row.col.s32.s4.s4.s32"
B1 = M + "m16n8k256.row.col.s32.b1.b1.s32.and.popc"
TF32 = M + "m16n8k8.row.col.f32.tf32.tf32.f32"
WGMMA = "wgmma.mma_async.sync.aligned.m64n32k16.f32.f16.f16 with a in registers"
WORD = np.dtype(np.uint32)


def only(found: Load) -> Access:
    (access,) = found.accesses
    return access


# --- known by hand --------------------------------------------------------------------------------


def test_a_of_a_row_major_tile_takes_row_lane_mod_16_and_the_second_chunk_from_lane_16() -> None:
    """As kernels/attention/tile.cuh has it for Q: rows first, then chunks."""
    access = only(load(F16, "A"))
    assert access.ptx == "ldmatrix.sync.aligned.m8n8.x4.shared.b16"
    assert [(each.row, each.col) for each in access.addresses] == [
        (lane % 16, 8 * (lane // 16)) for lane in range(32)
    ]
    assert (access.row, access.col) == ("lane % 16", "8 * (lane / 16)")


def test_b_from_rows_of_k_needs_trans_and_from_rows_of_n_does_not() -> None:
    """V lies in rows of k, K in rows of n, which are the columns of B."""
    v, k = only(load(F16, "B")), only(load(F16, "B", order="col"))
    assert v.ptx == "ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16"
    assert [(each.row, each.col) for each in v.addresses] == [(lane, 0) for lane in range(16)]
    assert k.ptx == "ldmatrix.sync.aligned.m8n8.x2.shared.b16"
    assert [(each.row, each.col) for each in k.addresses] == [
        (8 * (lane // 8), lane % 8) for lane in range(16)
    ]


def test_a_of_a_column_major_tile_is_loaded_transposed() -> None:
    access = only(load(F16, "A", order="col"))
    assert access.transposed
    assert [(each.row, each.col) for each in access.addresses[:17:8]] == [(0, 0), (8, 0), (0, 8)]


def test_d_is_stored_and_packed_first_where_it_is_f32() -> None:
    packed, whole = load(F16, "D"), load(HALF, "D")
    assert (packed.packed, whole.packed) == (True, False)
    for found in (packed, whole):
        assert only(found).ptx == "stmatrix.sync.aligned.m8n8.x2.shared.b16"


def test_bytes_of_8_bit_elements_are_loaded_as_pairs() -> None:
    """A row of a matrix is 16 bytes: 16 columns of fp8."""
    access = only(load(FP8, "A"))
    assert [(each.row, each.col) for each in access.addresses[::8]] == [
        (0, 0), (8, 0), (0, 16), (8, 16)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ptx", "order", "why"),
    [(FP8, "col", "no ldmatrix or stmatrix"), (S4, "col", "no ldmatrix or stmatrix")],
)
def test_an_8_bit_operand_cannot_be_transposed_by_a_16_bit_load(
    ptx: str, order: str, why: str
) -> None:
    with pytest.raises(UnsupportedError, match=why):
        load(ptx, "A", order=order, pitch=16)


# --- banks ----------------------------------------------------------------------------------------


def degrees_by_banks(found: Load) -> list[tuple[int, ...]]:
    """Return how often the busiest of 32 banks is read, phase by phase: counted word by word."""
    counted = []
    for access in found.accesses:
        phases = []
        for first in range(0, len(access.addresses), 8):
            words: dict[int, set[int]] = {}
            for each in access.addresses[first : first + 8]:
                for word in range(each.offset // 4, each.offset // 4 + 4):
                    words.setdefault(word % 32, set()).add(word)
            phases.append(max(map(len, words.values())))
        counted.append(tuple(phases))
    return counted


@pytest.mark.parametrize(
    ("pitch", "name", "degree"),
    [
        (32, "none", 2),  # every other chunk of 256 bytes
        (64, "none", 4),
        (128, "none", 8),  # head_dim 64: all rows begin in bank 0
        (144, "none", 1),  # one chunk of padding
        (256, "none", 8),
        (32, "32", 1),
        (64, "64", 1),
        (128, "128", 1),
        (128, "64", 2),
        (256, "row", 1),
    ],
)
def test_bank_conflicts_are_those_that_counting_words_gives(
    pitch: int, name: str, degree: int
) -> None:
    found = load(F16, "A", pitch=pitch, swizzled=name)
    assert only(found).degrees == (degree,) * 4
    assert [access.degrees for access in found.accesses] == degrees_by_banks(found)
    assert found.conflict_free == (degree == 1)


def test_swizzles_move_chunks_within_their_block_and_no_two_to_one_place() -> None:
    for name in swizzle.SWIZZLES:
        chosen = swizzle.swizzle(name)
        places = {chosen.offset(line, byte, 128) for line in range(16) for byte in range(128)}
        assert places == set(range(16 * 128)), name


def test_the_row_swizzle_is_that_of_the_attention_kernels_tile() -> None:
    """tile.cuh: chunk c of row r stands at position c ^ (r % 8); rows of 256 bytes for d = 128."""
    chosen = swizzle.swizzle("row")
    assert chosen.offset(3, 5 * 16 + 2, 256) == 3 * 256 + (5 ^ 3) * 16 + 2
    assert chosen.offset(9, 9 * 16, 256) == 9 * 256 + (9 ^ 1) * 16


# --- executed -------------------------------------------------------------------------------------


def offsets_of(access: Access, warp: int) -> np.ndarray:
    """Return what the 32 lanes of a warp pass; those that do not count pass the tile's start."""
    offsets = np.zeros((1, 32), WORD)
    for each in access.addresses:
        if each.lane // 32 == warp:
            offsets[0, each.lane % 32] = each.offset
    return offsets


def tile_in_memory(found: Load, matrix: np.ndarray) -> np.ndarray:
    """Return bytes of shared memory that hold ``matrix`` (raw elements) as the tile says."""
    lines = matrix if found.order == "row" else matrix.T
    bits = found.operand.format.bits
    if bits < 8:  # the elements of a byte, the first in its low bits
        parts = lines.reshape(len(lines), -1, 8 // bits).astype(np.uint8)
        lines = np.bitwise_or.reduce(parts << np.arange(0, 8, bits, dtype=np.uint8), axis=-1)
    raw = np.ascontiguousarray(lines).view(np.uint8).reshape(len(lines), -1)
    memory = np.zeros(-(-len(raw) * found.pitch // 1024) * 1024, np.uint8)
    for line, held in enumerate(raw):
        for byte, value in enumerate(held.tolist()):
            memory[found.swizzle.offset(line, byte, found.pitch)] = value
    return memory


def random_matrix(found: Load, seed: int) -> np.ndarray:
    fragment, bits = found.operand.fragment, found.operand.format.bits
    rng = np.random.default_rng(seed)
    shape = (fragment.rows, fragment.cols)
    return rng.integers(0, 2 ** min(bits, 32), shape, np.uint64).astype(
        found.operand.format.storage
    )


def loaded(found: Load, access: Access, memory: np.ndarray, warp: int) -> np.ndarray:
    row = layouts.exact(access.ptx)
    assert row is not None
    defines = {
        "REGISTERS": len(access.registers),
        "LANES": 32,
        "MEMORY_WORDS": memory.size // 4,
        **macros.load_macro(row),
    }
    launch = Launch(
        load_source("probe/ldmatrix.cu", defines),
        "ldmatrix",
        (1, 1, 1),
        (32, 1, 1),
        (memory.view(WORD)[None], offsets_of(access, warp)),
        (((1, len(access.registers), 32), WORD),),
    )
    return EmulatorBackend().run(launch).arrays[0][0]


CASES = [
    (F16, "A", "row", 0, "none"),
    (F16, "A", "row", 128, "128"),
    (F16, "A", "row", 256, "row"),
    (F16, "A", "col", 64, "64"),
    (F16, "B", "row", 0, "none"),
    (F16, "B", "row", 32, "32"),
    (F16, "B", "col", 128, "row"),
    (FP8, "A", "row", 64, "64"),
    (FP8, "B", "col", 0, "none"),
    (S4, "A", "row", 0, "none"),
    (B1, "A", "row", 0, "none"),
    (B1, "B", "col", 144, "none"),
    (TF32, "A", "row", 0, "none"),
    (WGMMA, "A", "row", 128, "128"),
]


@pytest.mark.parametrize(("ptx", "operand", "order", "pitch", "name"), CASES)
def test_the_loaded_registers_are_the_operand(
    ptx: str, operand: str, order: str, pitch: int, name: str
) -> None:
    found = load(ptx, operand, order=order, pitch=pitch, swizzled=name)
    matrix = random_matrix(found, seed=1)
    memory = tile_in_memory(found, matrix)
    form = found.operand.format
    expected = form.pack(found.operand.fragment.gather(matrix)).T  # (registers, lanes)
    for warp in range(found.operand.fragment.lanes // 32):
        lanes = slice(32 * warp, 32 * warp + 32)
        for access in found.accesses:
            got = loaded(found, access, memory, warp)
            assert np.array_equal(got, expected[list(access.registers), lanes])


@pytest.mark.parametrize(
    ("ptx", "order", "pitch", "name"),
    [(F16, "row", 0, "none"), (HALF, "row", 128, "128"), (F16, "col", 32, "32")],
)
def test_the_stored_tile_is_d(ptx: str, order: str, pitch: int, name: str) -> None:
    found = load(ptx, "D", order=order, pitch=pitch, swizzled=name)
    matrix = random_matrix(found, seed=2)
    memory = tile_in_memory(found, matrix)
    access = only(found)
    held = found.operand.fragment.gather(matrix)  # (lanes, elements)
    assert np.array_equal(stored(access, held, memory.size), memory)


def stored(access: Access, held: np.ndarray, size: int) -> np.ndarray:
    """Return the memory that a stmatrix writes, by the fragment of its own row."""
    row = layouts.exact(access.ptx)
    assert row is not None
    (operand,) = row.operands
    memory = np.zeros(size // 2, np.uint16)
    offsets = [each.offset for each in access.addresses]
    for lane, places in enumerate(operand.fragment.coords().tolist()):
        for element, (line, col) in enumerate(places):  # lines count through the matrices
            memory[offsets[line] // 2 + col] = held[lane, element]
    return memory.view(np.uint8)


@pytest.mark.parametrize("number", range(4))
def test_a_matrix_at_another_address_is_another_operand(number: int) -> None:
    """Two matrices swapped, as a wrong order of chunks has it, are seen."""
    found = load(F16, "A")
    matrix = random_matrix(found, seed=3)
    memory, access = tile_in_memory(found, matrix), only(found)
    order = [*range(8 * number, 8 * number + 8)]
    other = [(lane + 8) % 32 for lane in order]
    addresses = list(access.addresses)
    for lane, wrong in zip(order, other, strict=True):
        addresses[lane] = type(addresses[lane])(lane, 0, 0, access.addresses[wrong].offset)
    swapped = type(access)(**{**vars(access), "addresses": tuple(addresses)})
    expected = found.operand.format.pack(found.operand.fragment.gather(matrix)).T
    assert not np.array_equal(loaded(found, swapped, memory, 0), expected)


# --- formulas and refusals ------------------------------------------------------------------------


@pytest.mark.parametrize(("ptx", "operand", "order", "pitch", "name"), CASES)
def test_the_formulas_give_the_addresses(
    ptx: str, operand: str, order: str, pitch: int, name: str
) -> None:
    found = load(ptx, operand, order=order, pitch=pitch, swizzled=name)
    for access in found.accesses:
        for each in access.addresses:
            names = {"lane": each.lane}
            names["row"] = eval(access.row.replace("/", "//"), {}, names)
            names["col"] = eval(access.col.replace("/", "//"), {}, names)
            assert (names["row"], names["col"]) == (each.row, each.col)
            offset, _, inner = access.offset.replace("/", "//").partition(", x = ")
            if inner:
                names["x"] = eval(inner, {}, names)
            assert eval(offset, {}, names) == each.offset


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"order": "diagonal"}, "by row or by col"),
        ({"pitch": 16}, "a line of the tile has 32 bytes; a pitch of 16 is too small"),
        ({"pitch": 40}, "16-byte aligned"),
        ({"pitch": 64, "swizzled": "row"}, "no multiple of 128"),
        ({"swizzled": "256"}, "no swizzle '256'; there are none, 32, 64, 128, row"),
    ],
)
def test_what_does_not_exist_is_refused(kwargs: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load(F16, "A", **kwargs)  # type: ignore[arg-type]


def test_a_load_has_no_operand_to_load() -> None:
    with pytest.raises(UsageError, match="is no product"):
        load("ldmatrix.sync.aligned.m8n8.x4.shared.b16", "D")
