"""The catalogue: names find rows, and a row can be tried out in it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from attnprobe import layouts
from attnprobe.errors import UsageError

F32_F16 = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"


def test_every_row_is_found_by_its_mnemonic() -> None:
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
    assert listed[0] == "'m16n8k16' fits 3 instructions; name one:"
    assert [line.strip() for line in listed[1:]] == [row.ptx for row in layouts.search("m16n8k16")]


def test_a_long_list_of_candidates_is_cut_and_says_so() -> None:
    row = layouts.find(F32_F16)
    with layouts.added(replace(row, ptx="mma.made.up.1.f16")):  # a thirteenth that fits "sync" not
        with pytest.raises(UsageError, match="fits 13 instructions") as caught:
            layouts.find("")
        assert str(caught.value).endswith("... and 1 more")


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
    assert [row.ptx for row in layouts.search(".trans.")] == [
        f"ldmatrix.sync.aligned.m8n8.x{count}.trans.shared.b16" for count in (1, 2, 4)
    ]
    assert {row.ptx.split(".")[4] for row in layouts.search("trans ldmatrix")} == {"x1", "x2", "x4"}
    assert all("bf16" in row.ptx for row in layouts.search("bf1 n8k"))
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
