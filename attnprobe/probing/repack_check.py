"""Repack recipes run and compared: on the emulator, on a GPU, or with recorded answers of one.

The records lie in ``probes/recorded/<arch>/repack/``, apart from those of the questions, for a
repack is asked of a pair of rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attnprobe.backends.base import Backend, NotRunError
from attnprobe.backends.recorded import default_folder
from attnprobe.layouts.questions.repack import Repack, repack
from attnprobe.probing import repacks
from attnprobe.probing.report import MATCH, MISMATCH, NOT_RUN

_M = "mma.sync.aligned."
_F16 = _M + "m16n8k16.row.col.f32.f16.f16.f32"
_FP8 = _M + "m16n8k32.row.col.f32.e4m3.e4m3.f32"
_W = "wgmma.mma_async.sync.aligned.m64n64"
_REG = " with a in registers"

# One pair for each way that an element can be packed, split or spread.
PAIRS: tuple[tuple[str, str], ...] = (
    (_F16, _F16),
    (_M + "m16n8k16.row.col.f16.f16.f16.f16", _F16),
    (_F16, _M + "m16n8k8.row.col.f32.bf16.bf16.f32"),
    (_FP8, _FP8),
    (_F16, _FP8),
    (_M + "m16n8k16.row.col.f32.e5m2.e5m2.f32",) * 2,
    (_M + "m16n8k32.row.col.f16.e4m3.e4m3.f16", _FP8),
    (_M + "m16n8k32.row.col.s32.s8.s8.s32",) * 2,
    (_M + "m16n8k16.row.col.s32.u8.u8.s32",) * 2,
    (_M + "m8n8k16.row.col.s32.u8.u8.s32",) * 2,
    (_M + "m16n8k64.row.col.s32.s4.s4.s32",) * 2,
    (_M + "m8n8k32.row.col.s32.u4.u4.s32",) * 2,
    (_M + "m16n8k8.row.col.f32.tf32.tf32.f32",) * 2,
    (_M + "m16n8k16.row.col.f64.f64.f64.f64",) * 2,
    (_M + "m8n8k4.row.col.f64.f64.f64.f64",) * 2,
    (_W + "k16.f32.f16.f16" + _REG,) * 2,
    (_W + "k16.f32.bf16.bf16" + _REG,) * 2,
    (_W + "k32.f32.e4m3.e4m3" + _REG,) * 2,
    (_W + "k32.s32.s8.s8" + _REG,) * 2,
    (_W + "k8.f32.tf32.tf32" + _REG,) * 2,
)
_NARROW = ("s4", "u4")  # D as B would take these from two registers into one byte


@dataclass(frozen=True)
class Checked:
    """One recipe that was run.

    Attributes
    ----------
    source, target : the rows' names.
    how : the operand, whether D was transposed, and the order of k.
    verdict : "match", "mismatch" or "not run".
    words, wrong : words that were compared, and those that differ.
    reason : why it was not run, or "".
    """

    source: str
    target: str
    how: str
    verdict: str
    words: int = 0
    wrong: int = 0
    reason: str = ""


def folder(cc: int = 90) -> Path:
    """Return the folder of the shipped records of ``cc``."""
    return default_folder(cc) / "repack"


def known() -> Iterator[Repack]:
    """Yield every repack that is checked: A, B of D transposed, and B where it can be."""
    for source, target in PAIRS:
        yield repack(source, target)
        if " " in target:  # a warpgroup's B lies in shared memory
            continue
        yield repack(source, target, "B", transposed=True)
        if not set(_NARROW) & set(target.split(".")):
            yield repack(source, target, "B")


def check(asked: Iterable[Repack], backend: Backend) -> list[Checked]:
    """Run every recipe of ``asked`` on ``backend`` and return what came of it."""
    return [
        _check(each, recipe_of, backend) for each in asked for recipe_of in ("in order", "permuted")
        if recipe_of == "in order" or each.reordered is not None
    ]  # fmt: skip


def _check(asked: Repack, order: str, backend: Backend) -> Checked:
    recipe = asked.recipe if order == "in order" else asked.reordered
    assert recipe is not None, "only recipes that there are, are checked"
    launch = repacks.launch(asked, recipe)
    how = launch.label[2].removeprefix(asked.target.ptx).strip()
    names = (asked.source.ptx, asked.target.ptx, how)
    try:
        (got,) = backend.run(launch).arrays
    except NotRunError as error:
        return Checked(*names, NOT_RUN, reason=str(error))
    wrong = int(np.count_nonzero(got != repacks.expected(asked.placement, recipe.order)))
    return Checked(*names, MISMATCH if wrong else MATCH, got.size, wrong)
