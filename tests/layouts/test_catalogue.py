"""The catalogue: names find rows, and a row can be tried out in it."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace

import pytest

from attnprobe import layouts
from attnprobe.errors import UsageError

F32_F16 = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"


# What ptxas takes: tried mnemonic by mnemonic. wgmma: types and modifiers x legal N x where A is.
COUNTS = {
    "mma": 144,
    "mma.sp": 171,
    "mma.block_scale": 29,
    "ldmatrix": 18,
    "stmatrix": 9,
    "movmatrix": 1,
    "wgmma": (3 + 1 + 8) * 32 * 2 + (8 + 1) * 18 * 2,
    "wgmma.sp": (3 + 1 + 8) * 32 * 2 + 8 * 18 * 2,
    "wmma.mma": 96,
    "wmma.load": 88,
    "wmma.store": 26,
}
ON_AN_H200 = {"mma": 94, "mma.sp": 88, "ldmatrix": 6, "stmatrix": 6, "movmatrix": 1}
ON_AN_H200 |= {"mma.block_scale": 0}
ON_AN_H200 |= {name: count for name, count in COUNTS.items() if name.startswith(("wgmma", "wmma"))}


@pytest.mark.parametrize("family", COUNTS)
def test_a_family_has_all_the_instructions_that_ptxas_takes(family: str) -> None:
    rows = layouts.rows(family)
    assert len(rows) == COUNTS[family]
    assert sum(row.runs_on(90, "a") for row in rows) == ON_AN_H200[family]


def test_there_is_no_other_family() -> None:
    assert {row.family for row in layouts.rows()} == set(COUNTS)


def test_the_rows_that_no_document_gives_say_what_they_were_measured_on() -> None:
    for row in layouts.rows():
        assert bool(row.measured) == row.family.startswith("wmma"), row.ptx


def test_an_integer_wgmma_has_eighteen_widths_and_a_float_one_all() -> None:
    widths: dict[str, set[int]] = {}
    for row in layouts.rows("wgmma", "wgmma.sp"):
        widths.setdefault(row.mnemonic.split(".")[-1], set()).add(row.shape[1])
    every = set(range(8, 257, 8))
    some = {8, 24, *range(16, 257, 16)}
    integers = ("s8", "u8", "popc")
    assert {name: found for name, found in widths.items() if name in integers} == dict.fromkeys(
        integers, some
    )
    assert all(found == every for name, found in widths.items() if name not in integers)


def test_the_plain_target_and_the_listed_ones() -> None:
    dense, fp6 = layouts.find(F32_F16), layouts.find("m16n8k32.row.col.kind::f8f6f4.f32.e3m2.e2m3")
    assert (dense.targets, fp6.targets) == ("sm_80+", "sm_120a, sm_120f, sm_121a")
    assert [dense.runs_on(cc) for cc in (75, 80, 90, 120)] == [False, True, True, True]
    assert dense.runs_on(90, "")
    assert [fp6.runs_on(cc) for cc in (90, 100, 120, 121)] == [False, False, True, True]
    assert [fp6.runs_on(121, suffix) for suffix in ("", "a", "f")] == [False, True, True]
    assert not fp6.runs_on(100, "f")
    wgmma = layouts.find("m64n64k16 f32 bf16")
    assert [wgmma.runs_on(cc) for cc in (80, 90, 100)] == [False, True, False]
    assert not wgmma.runs_on(90, "")


def test_the_catalogue_builds_no_row_until_one_is_asked_for() -> None:
    code = (
        "from attnprobe.layouts import catalogue\n"
        "assert len(catalogue.names()) > 2500\n"
        "assert not catalogue._built\n"
        "catalogue.find('m16n8k16 f32 f16')\n"
        "assert len(catalogue._built) == 1\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_row_is_found_by_its_mnemonic() -> None:
    assert [row.ptx for row in layouts.rows()] == list(layouts.names())
    for row in layouts.rows():
        assert layouts.find(row.ptx) is row
        assert layouts.exact(row.ptx) is row


@pytest.mark.parametrize(
    "text",
    ["m16n8k16.row.col.f32.f16", "m16n8k16 f32 f16", "f32.m16n8k16.f16", "  M16N8K16 F32 F16 "],
)
def test_a_unique_part_or_unique_words_find_the_row(text: str) -> None:
    assert layouts.find(text).ptx == F32_F16


def test_words_that_are_words_of_one_row_find_it_although_others_contain_them() -> None:
    # "f16" is a part of "bf16" and of every k16 row, but a word of two only.
    assert layouts.find("k8.row.col.f32.f16").ptx.endswith("m16n8k8.row.col.f32.f16.f16.f32")


def test_a_name_that_fits_several_rows_names_them_all() -> None:
    with pytest.raises(UsageError) as caught:
        layouts.find("m16n8k16")
    listed = str(caught.value).splitlines()
    hits = [row.ptx for row in layouts.search("m16n8k16")]
    assert listed[0] == f"'m16n8k16' fits {len(hits)} instructions; name one:"
    assert [line.strip() for line in listed[1:-1]] == hits[:12]


def test_a_long_list_of_candidates_is_cut_and_says_so() -> None:
    count = len(layouts.names())
    with pytest.raises(UsageError, match=f"fits {count} instructions") as caught:
        layouts.find("")
    assert str(caught.value).endswith(f"... and {count - 12} more")


def test_of_several_that_fit_the_plainest_is_meant() -> None:
    assert layouts.find("m16n8k16 f32 f16").ptx == F32_F16  # and not one of mma.sp
    assert len(layouts.search("m16n8k16 f32 f16")) > 1
    in_registers = layouts.find("m64n64k16 f32 f16 registers")
    assert (
        in_registers.ptx == "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 with a in registers"
    )
    assert layouts.find("m64n64k16 f32 f16").in_shared == ("A", "B")


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("m16n8k61 f32 bf16", "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"),
        ("ldmatirx.x4.trnas", "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16"),
        ("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f23", F32_F16),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(text: str, first: str) -> None:
    with pytest.raises(UsageError) as caught:
        layouts.find(text)
    listed = str(caught.value).splitlines()
    assert listed[0] == f"no instruction fits {text!r}; the nearest:"
    assert listed[1].strip() == first


def test_search_prefers_a_substring_then_words_then_parts() -> None:
    assert [row.ptx for row in layouts.search("ldmatrix.sync.aligned.m8n8.x4")] == [
        f"ldmatrix.sync.aligned.m8n8.x4{trans}.shared.b16" for trans in ("", ".trans")
    ]
    assert {row.ptx.split(".")[4] for row in layouts.search("trans ldmatrix")} == {"x1", "x2", "x4"}
    assert all("bf16" in row.ptx for row in layouts.search("bf1 n8k"))
    assert all("scale_vec::2X" in row.ptx for row in layouts.search("scale_vec::2x"))
    assert layouts.search("tcgen05") == []


def test_a_row_is_in_the_catalogue_for_as_long_as_it_is_added() -> None:
    made_up = replace(layouts.find(F32_F16), ptx="mma.sync.aligned.m16n8k16.made.up")
    with layouts.added(made_up):
        assert layouts.find("made.up") is made_up
        assert layouts.rows()[-1] is made_up
        with (
            pytest.raises(UsageError, match=re.escape("is in the catalogue already")),
            layouts.added(made_up),
        ):
            pass
    assert layouts.exact(made_up.ptx) is None


def test_a_row_that_was_added_is_taken_out_after_an_error_too() -> None:
    made_up = replace(layouts.find(F32_F16), ptx="mma.sync.aligned.m16n8k16.made.up")
    with pytest.raises(ZeroDivisionError), layouts.added(made_up):
        raise ZeroDivisionError
    assert made_up not in layouts.rows()
