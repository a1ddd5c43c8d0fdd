"""Probes of wgmma: they match what the ISA says, and see every kind of wrong row and hardware."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from attnprobe import compile as compiler
from attnprobe import layouts
from attnprobe.backends import Launch
from attnprobe.formats import FORMATS
from attnprobe.layouts import Instruction
from attnprobe.probing import definition, generate, session, warpgroup
from attnprobe.probing.report import MATCH, MISMATCH
from tests.probing.silicon_wgmma import WarpgroupSilicon

ROWS = layouts.rows("wgmma", "wgmma.sp")
QUESTIONS = [definition.find(name) for name in ("wgmma_layout", "wgmma_a", "wgmma_metadata")]
N24 = [row for row in ROWS if row.shape[1] == 24]
F16 = "wgmma.mma_async.sync.aligned.m64n24k16.f32.f16.f16"
SPARSE = "wgmma.mma_async.sp.sync.aligned.m64n24k32.f32.f16.f16"


def row(name: str, a_in_registers: bool = False) -> Instruction:
    found = layouts.exact(name + " with a in registers" * a_in_registers)
    assert found is not None
    return found


def verdicts(of: Instruction, silicon: WarpgroupSilicon) -> dict[str, str]:
    asked = session.pairs([of], QUESTIONS)
    answers = [session.ask(each, question, silicon) for each, question in asked]
    return {answer.probe: answer.verdict for answer in answers}


@pytest.mark.parametrize("of", N24, ids=lambda of: of.ptx)
def test_every_type_matches_what_the_isa_says(of: Instruction) -> None:
    found = verdicts(of, WarpgroupSilicon())
    asked = {"wgmma_layout"}
    asked |= {"wgmma_a"} if "A" in of.by_name else set()
    asked |= {"wgmma_metadata"} if of.sparsity else set()
    assert found == dict.fromkeys(asked, MATCH)


@pytest.mark.parametrize("n", [8, 72, 256])
def test_every_n_matches(n: int) -> None:
    for of in (row(F16.replace("n24", f"n{n}"), True), row(SPARSE.replace("n24", f"n{n}"), True)):
        assert set(verdicts(of, WarpgroupSilicon()).values()) == {MATCH}


def exchanged(of: Instruction, name: str, one: int, other: int, part: str = "elem") -> Instruction:
    """Return the row with two digits of an operand exchanged."""
    operand = of[name]
    digits = list(getattr(operand.fragment, part))
    first, second = digits[one], digits[other]
    digits[one] = replace(first, row=second.row, col=second.col)
    digits[other] = replace(second, row=first.row, col=first.col)
    wrong = replace(operand, fragment=replace(operand.fragment, **{part: tuple(digits)}))
    return replace(of, operands=tuple(wrong if each is operand else each for each in of.operands))


@pytest.mark.parametrize(
    ("of", "question"),
    [
        (exchanged(row(F16), "D", 0, 1), "wgmma_layout"),
        (exchanged(row(F16, True), "A", 1, 2), "wgmma_a"),
        (exchanged(row(SPARSE), "E", 0, 1, "lane"), "wgmma_metadata"),
    ],
    ids=["D", "A", "E"],
)
def test_a_wrong_row_of_any_operand_is_seen(of: Instruction, question: str) -> None:
    assert verdicts(of, WarpgroupSilicon())[question] == MISMATCH


def test_metadata_of_another_selector_is_seen() -> None:
    right = row(SPARSE)
    e = right["E"]
    (choice,) = e.choices
    wrong = replace(e, choices=(replace(choice, values=choice.values[::-1]),))
    of = replace(right, operands=tuple(wrong if each is e else each for each in right.operands))
    assert verdicts(of, WarpgroupSilicon())["wgmma_metadata"] == MISMATCH


class OffsetsExchanged(WarpgroupSilicon):
    """Hardware that takes the leading offset along m and n, and the stride offset along k."""

    def product(self, launch: Launch, *held: np.ndarray) -> np.ndarray:
        text = launch.source.text
        for name in ("A_STRIDES", "B_STRIDES"):
            old = text.split(f"#define {name} ")[1].split("ull")[0]
            value = int(old, 16)
            turned = (value >> 32) << 16 | (value >> 16 & 0x3FFF) << 32
            text = text.replace(f"{name} {old}ull", f"{name} {turned:#x}ull")
        return super().product(replace(launch, source=replace(launch.source, text=text)), *held)


def test_offsets_of_the_descriptor_the_other_way_round_are_seen() -> None:
    assert verdicts(row(F16), OffsetsExchanged())["wgmma_layout"] == MISMATCH


class NothingAdded(WarpgroupSilicon):
    """Hardware that leaves out what D holds before."""

    def product(self, launch, a, b, c, e, selector):
        return super().product(launch, a, b, np.zeros_like(c), e, selector)


def test_hardware_that_does_not_add_to_d_is_seen() -> None:
    assert verdicts(row(F16), NothingAdded())["wgmma_layout"] == MISMATCH


# --- images and launches --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["f16", "tf32", "s8", "b1"])
def test_an_image_has_every_element_where_the_descriptor_leads(name: str) -> None:
    form = FORMATS[name]
    depth = 512 // form.bits  # 64 bytes: four core matrices along k
    raw = np.random.default_rng(1).integers(0, 2 ** min(form.bits, 16), (24, depth))
    words = warpgroup.image(raw.astype(form.storage), form)
    assert (warpgroup.elements_of(words, 24, depth, form) == raw).all()
    bits = warpgroup.strides(depth, form)
    leading, stride = (bits >> 16 & 0x3FFF) << 4, (bits >> 32 & 0x3FFF) << 4
    assert (leading, stride) == (128, 512)
    flat = np.unpackbits(words.view(np.uint8), bitorder="little")
    for m, k in ((0, 0), (9, 1), (23, depth - 1), (8, depth // 2)):
        byte, bit = divmod(k * form.bits, 8)
        at = m // 8 * stride + byte // 16 * leading + m % 8 * 16 + byte % 16
        held = flat[8 * at + bit :][: form.bits]
        assert int((held * 2 ** np.arange(form.bits, dtype=np.int64)).sum()) == raw[m, k]


@pytest.mark.parametrize("of", N24[::7], ids=lambda of: of.ptx)
def test_sums_are_whole_and_small_enough_for_every_type(of: Instruction) -> None:
    parts = warpgroup.Parts(warpgroup.wgmma(of.ptx))
    numbers = np.arange(of.shape[1])
    columns = parts.spread(numbers)
    assert (columns.sum(axis=0) == numbers).all()
    form = parts.of.formats["B"]
    assert (form.decode(form.encode(columns.astype(np.float64))) == columns).all()


def test_launches_depend_on_the_mnemonic_alone() -> None:
    right = row(SPARSE, True)
    for question in QUESTIONS:
        for fill in question.fills:
            wrong = exchanged(right, "A", 1, 2)
            digests = {generate.launch(each, question, fill).digest() for each in (right, wrong)}
            assert len(digests) == 1


@pytest.mark.parametrize("of", N24[::6], ids=lambda of: of.ptx)
def test_kernels_compile_for_the_target(of: Instruction) -> None:
    question = QUESTIONS[0]
    launch = generate.launch(of, question, question.fills[0])
    assert launch.target == "sm_90a"
    data, _ = compiler.cubin(launch.source, launch.target)
    assert data[:4] == b"\x7fELF"
