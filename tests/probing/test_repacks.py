"""Every repack recipe, executed: the emulator's registers against the operand laid out anew.

The expected registers come from the two fragments; the recipe is not looked at. A recipe with one
wrong lane, byte or register is shown to be caught.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from attnprobe import compile as compiler
from attnprobe.backends.emulator import EmulatorBackend
from attnprobe.backends.recorded import RecordedBackend, Recorder
from attnprobe.cli import main
from attnprobe.layouts.questions.repack import Repack, repack
from attnprobe.probing import repack_check, repacks
from attnprobe.probing.report import MATCH, MISMATCH, NOT_RUN

M = "mma.sync.aligned."
F16 = M + "m16n8k16.row.col.f32.f16.f16.f32"
FP8 = M + "m16n8k32.row.col.f32.e4m3.e4m3.f32"
WGMMA_FP8 = "wgmma.mma_async.sync.aligned.m64n64k32.f32.e4m3.e4m3 with a in registers"

KNOWN = list(repack_check.known())


@pytest.fixture(scope="module")
def emulator() -> EmulatorBackend:
    return EmulatorBackend()


def named(asked: Repack) -> str:
    way = f"{asked.operand.name}{'-transposed' if asked.transposed else ''}"
    return f"{asked.source.ptx} {asked.target.ptx} {way}"


@pytest.mark.parametrize("asked", KNOWN, ids=named)
def test_the_recipe_gives_the_operand_to_the_bit(asked: Repack, emulator: EmulatorBackend) -> None:
    for recipe in (asked.recipe, asked.reordered):
        if recipe is None:
            continue
        (got,) = emulator.run(repacks.launch(asked, recipe)).arrays
        expected = repacks.expected(asked.placement, recipe.order)
        assert got.shape == expected.shape
        assert np.array_equal(got, expected)


def test_every_format_that_an_accumulator_becomes_is_among_them() -> None:
    ways = {(asked.placement.source.format.name, asked.operand.format.name) for asked in KNOWN}
    assert {("f32", name) for name in ("f16", "bf16", "e4m3", "e5m2", "tf32")} < ways
    assert {("s32", name) for name in ("s8", "u8", "s4", "u4")} < ways
    assert {("f16", "f16"), ("f16", "e4m3"), ("f64", "f64")} < ways
    assert {asked.source.lanes for asked in KNOWN} == {32, 128}


def broken(asked: Repack, old: str, new: str, emulator: EmulatorBackend) -> bool:
    """Return whether a recipe with ``old`` replaced by ``new`` gives other registers."""
    launch = repacks.launch(asked, asked.recipe)
    assert old in launch.source.text
    text = launch.source.text.replace(old, new, 1)
    wrong = replace(launch, source=compiler.Source(text, launch.source.name))
    (got,) = emulator.run(wrong).arrays
    return not np.array_equal(got, repacks.expected(asked.placement))


@pytest.mark.parametrize(
    ("source", "old", "new"),
    [
        (F16, "d[0][1]))", "d[0][2]))"),  # a register of D mistaken for its neighbour
        (F16, "%0, %2, %1", "%0, %1, %2"),  # the halves swapped
        (FP8, "0x5410", "0x5411"),  # one byte
        (FP8, "lane % 2", "lane / 2 % 2"),  # the other lanes of the quad
        (FP8, "lane & 2 ?", "lane & 1 ?"),  # the selector of the neighbour
    ],
)
def test_a_wrong_recipe_is_caught(
    source: str, old: str, new: str, emulator: EmulatorBackend
) -> None:
    assert broken(repack(source, source), old, new, emulator)


def test_numbers_of_all_elements_are_apart() -> None:
    asked = repack(FP8, FP8)
    digits = repacks.d_words(asked.placement)  # every word of an f32 D is one element
    assert len(np.unique(digits.reshape(len(digits), -1), axis=1).T) == 4 * 32 * 4


@pytest.mark.parametrize("source", [F16, FP8, WGMMA_FP8])
def test_the_kernel_compiles_for_the_gpu(source: str) -> None:
    asked = repack(source, source)
    target = "sm_90a" if source.startswith("wgmma") else "sm_90"
    binary, _ = compiler.cubin(repacks.launch(asked, asked.recipe).source, target)
    assert binary[:4] == b"\x7fELF"


# --- kept answers ---------------------------------------------------------------------------------


def test_answers_are_kept_and_compared_again(emulator: EmulatorBackend, tmp_path: Path) -> None:
    asked = [repack(FP8, FP8)]
    recorder = Recorder(emulator, "a test")
    kept = repack_check.check(asked, recorder)
    assert [each.verdict for each in kept] == [MATCH, MATCH]
    assert [each.how for each in kept] == ["a, k in order", "a, k permuted"]
    assert recorder.save(tmp_path) == 2
    again = repack_check.check(asked, RecordedBackend(tmp_path))
    assert again == kept
    (other,) = repack_check.check([repack(F16, F16)], RecordedBackend(tmp_path))
    assert (other.verdict, other.words) == (NOT_RUN, 0)
    assert "no record" in other.reason


def test_a_wrong_answer_is_a_mismatch(emulator: EmulatorBackend) -> None:
    class Wrong(EmulatorBackend):
        def run(self, launch):  # type: ignore[no-untyped-def]
            dump = super().run(launch)
            dump.arrays[0][0, 0, 1, 7] ^= 1
            return dump

    (found,) = repack_check.check([repack(F16, F16)], Wrong())
    assert (found.verdict, found.wrong) == (MISMATCH, 1)


def test_what_is_recorded_matches() -> None:
    """Vacuous until answers are recorded; from then on every known recipe must be among them."""
    results = repack_check.check(KNOWN, RecordedBackend(repack_check.folder()))
    wanted = MATCH if repack_check.folder().is_dir() else NOT_RUN
    assert {each.verdict for each in results} == {wanted}


def test_the_command_runs_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["layout", "repack", FP8, FP8, "--check", "--backend", "emulator"]
    assert main(asked) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"match     {FP8} -> {FP8}: a, k in order"
    assert out[-1] == "2 recipes: 2 match"


def test_the_command_wants_two_instructions_or_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["layout", "repack"]) == 2
    assert main(["layout", "repack", F16, "--check"]) == 2
    assert "name two instructions" in capsys.readouterr().err
