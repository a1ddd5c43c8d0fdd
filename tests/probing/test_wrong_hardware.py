"""The questions can fail: hardware that behaves otherwise than the ISA says gets a mismatch."""

import numpy as np

from attnprobe import layouts
from attnprobe.backends import Dump, Launch
from attnprobe.probing import definition, session
from attnprobe.probing.report import MATCH, MISMATCH, NOT_RUN, ProbeResult
from tests.probing.kinds import KINDS
from tests.probing.silicon import Silicon

MMA = layouts.find("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32")
X4 = layouts.find("ldmatrix.sync.aligned.m8n8.x4.shared.b16")
X1 = layouts.find("ldmatrix.sync.aligned.m8n8.x1.shared.b16")


def ask(row: layouts.Instruction, question: str, hardware: Silicon) -> ProbeResult:
    return session.ask(row, definition.find(question), hardware)


class StepsThroughMemory(Silicon):
    """Takes lane 0's address and steps on by itself."""

    def ldmatrix(self, ptx, memory, offsets):
        return super().ldmatrix(ptx, memory, (offsets[:, :1] + 16 * np.arange(32)) % 512)


class TakesTheLastLanes(Silicon):
    """Takes the addresses of the last lanes rather than the first."""

    def ldmatrix(self, ptx, memory, offsets):
        return super().ldmatrix(ptx, memory, np.roll(offsets, 8, axis=-1))


class WritesNothing(Silicon):
    """Leaves the outputs as they were."""

    def run(self, launch: Launch) -> Dump:
        return Dump(tuple(launch.unwritten()), self.name)


class OneBitWrong(Silicon):
    """Flips one bit of one register of one lane."""

    def product(self, ptx, a, b, c, columns=None):
        d = super().product(ptx, a, b, c, columns).copy()
        d[:, 3, 17] ^= 1
        return d


def test_a_load_that_steps_by_itself_is_seen_when_rows_are_scattered_or_the_pointer_is_one() -> (
    None
):
    assert ask(X4, "ldmatrix_layout", StepsThroughMemory()).verdict == MISMATCH
    result = ask(X4, "ldmatrix_same_pointer", StepsThroughMemory())
    assert result.verdict == MISMATCH
    assert result.findings == (f"rows {list(range(32))} of memory came",)


def test_all_lanes_with_one_pointer_get_row_0_everywhere() -> None:
    result = ask(X4, "ldmatrix_same_pointer", Silicon())
    assert result.verdict == MATCH
    assert result.findings == ("every register of every lane comes from row 0 alone",)


def test_addresses_of_other_lanes_than_the_row_says_are_named() -> None:
    result = ask(X1, "ldmatrix_layout", TakesTheLastLanes())
    assert result.verdict == MISMATCH
    assert "addresses of lanes 24 ... 31 were used, the row says 0 ... 7" in result.findings
    assert result.differences[0].holds == "[0] of the row at lane 24's address"


def test_outputs_that_nobody_wrote_are_a_mismatch_of_every_question() -> None:
    report = session.run(KINDS, definition.questions(), WritesNothing())
    assert {result.verdict for result in report.results} == {MISMATCH}


def test_one_wrong_bit_is_shown_with_lane_register_value_and_what_the_row_says() -> None:
    result = ask(MMA, "integer_products", OneBitWrong())
    assert result.verdict == MISMATCH
    assert {(item.lane, item.register) for item in result.differences} == {(17, 3)}
    first = result.differences[0]
    assert first.bits is not None
    assert first.expected_bits is not None
    assert first.bits ^ first.expected_bits == 1
    assert (first.row, first.col) == (17 // 4 + 8, 2 * (17 % 4) + 1)


def test_an_error_beyond_the_bound_of_the_accumulation_is_a_mismatch() -> None:
    class Coarse(Silicon):
        def product(self, ptx, a, b, c, columns=None):
            d = super().product(ptx, a, b, c, columns)
            return d & np.uint32(0xFFFF0000)  # eight bits of mantissa

    assert ask(MMA, "random_products", Coarse()).verdict == MISMATCH
    assert ask(MMA, "random_products", Silicon()).verdict == MATCH


def test_a_device_that_is_too_old_is_not_run_with_the_reason() -> None:
    result = ask(MMA, "operand_layout", Silicon(cc=75))
    assert (result.verdict, result.cause) == (NOT_RUN, "arch")
    assert "needs sm_80" in result.reason
    assert ask(X4, "ldmatrix_layout", Silicon(cc=75)).verdict == MATCH


# --- Hardware that is wrong in ways of the wider families -----------------------------------------


def row_of(ptx: str) -> layouts.Instruction:
    found = layouts.exact(ptx)
    assert found is not None
    return found


SPARSE = row_of("mma.sp.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32")
STORE = row_of("stmatrix.sync.aligned.m8n8.x2.shared.b16")
SIGNED = row_of("mma.sync.aligned.m16n8k32.row.col.s32.s8.u8.s32")
CLAMPED = row_of("mma.sync.aligned.m16n8k32.row.col.satfinite.s32.s8.u8.s32")
XOR = row_of("mma.sync.aligned.m16n8k128.row.col.s32.b1.b1.s32.xor.popc")


class Renamed(Silicon):
    """Executes another instruction than it was given."""

    def __init__(self, other: str) -> None:
        super().__init__()
        self.other = other

    def product(self, ptx, a, b, c, columns=None):
        return super().product(self.other, a, b, c, columns)


def test_an_operand_read_with_the_wrong_sign_is_seen_by_the_whole_range_alone() -> None:
    other = Renamed(SIGNED.ptx.replace("s8.u8", "u8.s8"))
    assert ask(SIGNED, "operand_layout", other).verdict == MATCH
    assert ask(SIGNED, "integer_range", other).verdict == MISMATCH


def test_a_sum_that_wraps_where_it_should_stop_and_the_other_way_round_is_seen() -> None:
    for row, other in ((SIGNED, CLAMPED), (CLAMPED, SIGNED)):
        assert ask(row, "operand_layout", Renamed(other.ptx)).verdict == MATCH
        result = ask(row, "integer_range", Renamed(other.ptx))
        assert result.verdict == MISMATCH
        assert "'overflow'" in result.findings[0]


def test_and_in_the_place_of_xor_is_seen() -> None:
    result = ask(XOR, "operand_planes", Renamed(XOR.ptx.replace("xor", "and")))
    assert result.verdict == MISMATCH


def test_a_selector_that_is_not_heeded_blames_the_metadata_with_the_lanes() -> None:
    class FirstLaneAlways(Silicon):
        def mma_steered(self, ptx, a, b, c, e, variant):
            return super().mma_steered(ptx, a, b, c, e, 0 * variant)

    result = ask(SPARSE, "sparse_metadata", FirstLaneAlways())
    assert result.verdict == MISMATCH
    assert {item.operand for item in result.differences} == {"E"}
    assert {item.lane % 4 for item in result.differences} == {0, 1}  # f = 1: lane 1, not lane 0
    first = result.differences[0]
    assert (first.lane, first.slot, first.holds, first.expected) == (
        0, "e[0].0", "E[0, 1]", "nothing that is read",
    )  # fmt: skip
    assert result.findings[0].startswith("with f = 1: ")


def test_halves_of_the_metadata_exchanged_are_named_with_the_rows() -> None:
    class Halves(Silicon):
        def columns(self, what, e, selector):
            return super().columns(what, e >> np.uint32(16) | e << np.uint32(16), selector)

    result = ask(SPARSE, "sparse_metadata", Halves())
    assert {item.operand for item in result.differences} == {"E"}
    first = result.differences[0]
    assert (first.slot, first.holds, first.expected) == ("e[0].0", "E[8, 1]", "E[0, 1]")


def test_a_store_that_writes_rows_of_other_lanes_names_them() -> None:
    class Shifted(Silicon):
        def stmatrix(self, ptx, registers, offsets):
            return super().stmatrix(ptx, registers, np.roll(offsets, 8, axis=-1))

    result = ask(STORE, "stmatrix_layout", Shifted())
    assert result.verdict == MISMATCH
    assert result.differences[0].holds == "matrix 3 [0, 0]"
    assert result.differences[0].expected == "matrix 0 [0, 0]"


def test_a_store_that_writes_more_than_it_should_is_seen() -> None:
    class Doubled(Silicon):
        def stmatrix(self, ptx, registers, offsets):
            (memory,) = super().stmatrix(ptx, registers, offsets)
            memory[:, -4:] = memory[:, :4]
            return (memory,)

    assert ask(STORE, "stmatrix_layout", Doubled()).verdict == MISMATCH
