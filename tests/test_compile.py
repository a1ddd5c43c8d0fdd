"""One text of a kernel file and all that it includes."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnprobe import compile as compile_
from attnprobe.errors import CompileError


def write(root: Path, **texts: str) -> None:
    for name, text in texts.items():
        path = root / name.replace("__", "/").replace("_cuh", ".cuh").replace("_cu", ".cu")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_an_include_is_expanded_once_with_marks_of_where_lines_come_from(tmp_path: Path) -> None:
    write(
        tmp_path,
        a__main_cu='#include "near.cuh"\nint x;\n  # include "deep/far.cuh"\nint y;\n',
        a__near_cuh='#pragma once\n#include "deep/far.cuh"\n#define N 1\nint near;\n',
        deep__far_cuh="#pragma once\nint far;\n",
    )
    assert compile_.expand_includes(tmp_path, "a/main.cu").splitlines() == [
        '#line 1 "a/main.cu"',
        '#line 1 "a/near.cuh"',
        "",
        '#line 1 "deep/far.cuh"',
        "",
        "int far;",
        "",
        '#line 3 "a/near.cuh"',
        "#define N 1",
        "int near;",
        "",
        '#line 2 "a/main.cu"',
        "int x;",
        '#line 4 "a/main.cu"',
        "int y;",
    ]


def test_the_file_beside_is_taken_before_the_one_below_the_root(tmp_path: Path) -> None:
    write(tmp_path, a__main_cu='#include "x.cuh"\n', a__x_cuh="int near;\n", x_cuh="int far;\n")
    assert "int near;" in compile_.expand_includes(tmp_path, "a/main.cu")
    write(tmp_path, a__b__main_cu='#include "../x.cuh"\n#include "a/x.cuh"\n')
    text = compile_.expand_includes(tmp_path, "a/b/main.cu")
    assert text.count("int near;") == 1  # the same file by two names


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('#include "none.cuh"', r"a/main.cu:3: no file 'none.cuh'"),
        ("#include <stdint.h>", r"a/main.cu:3: kernels include nothing but kernels/: #include <"),
    ],
)
def test_what_cannot_be_included_is_said_with_its_line(
    tmp_path: Path, line: str, message: str
) -> None:
    write(tmp_path, a__main_cu=f"\nint x;\n{line}\n")
    with pytest.raises(CompileError, match=message):
        compile_.expand_includes(tmp_path, "a/main.cu")


def test_a_kernel_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match=r"no file 'gone.cu'"):
        compile_.expand_includes(tmp_path, "gone.cu")


def test_macros_are_those_in_front_of_the_text() -> None:
    source = compile_.load_source(
        "attention/merge_states.cu", {"ATTN_V_DIM": 64, "ATTN_OUT": "f16_t"}
    )
    assert compile_.macros_of(source) == {"ATTN_V_DIM": "64", "ATTN_OUT": "f16_t"}
