"""Discovery arrives at every row from dumps alone, and notices what no row is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from attnprobe import layouts
from attnprobe.backends.recorded import RecordedBackend
from attnprobe.errors import LayoutError, UnsupportedError
from attnprobe.layouts import Instruction
from attnprobe.probing import discovery, generate
from tests.probing.changed import Changed, swapped_lanes
from tests.probing.silicon import Silicon
from tests.probing.silicon_wgmma import WarpgroupSilicon

K16 = layouts.find("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32")
ON_H200 = [
    row
    for row in layouts.rows("mma", "ldmatrix", "stmatrix", "movmatrix")
    if row.runs_on(90)
]  # fmt: skip
SPARSE = [row for row in layouts.rows("mma.sp") if row.runs_on(90)]
WARPGROUP = [row for row in layouts.rows("wgmma", "wgmma.sp") if row.shape[1] in (8, 24)]


@pytest.mark.parametrize("row", ON_H200[::3], ids=lambda row: row.ptx)
def test_discovery_arrives_at_the_row(row: Instruction) -> None:
    found = discovery.discover(row, Silicon())
    assert (found.verdict, found.differing) == ("the row", ())
    assert [each.formulas() for each in found.finding.operands] == [
        each.formulas() for each in row.operands
    ]


@pytest.mark.parametrize("row", SPARSE[::12], ids=lambda row: row.ptx)
def test_discovery_arrives_at_sparse_rows_and_their_metadata(row: Instruction) -> None:
    found = discovery.discover(row, Silicon())
    assert (found.verdict, found.differing) == ("the row", ())
    assert found.finding.operands[-1].choices == row.operands[-1].choices


@pytest.mark.parametrize("row", WARPGROUP[::5], ids=lambda row: row.ptx)
def test_discovery_arrives_at_rows_of_a_warpgroup(row: Instruction) -> None:
    found = discovery.discover(row, WarpgroupSilicon())
    assert (found.verdict, found.differing) == ("the row", ())
    assert found.finding.free == ()


RECORDED = {label[0] for label in RecordedBackend().labels()}


def is_recorded(row: Instruction) -> bool:
    return row.ptx in RECORDED and row.family in {*discovery.families()} - {"wmma.mma"}


# `attnprobe discover --all` asks about every row; here every family, and every so manieth row.
EVERY = {"mma": 2, "mma.sp": 13, "wgmma": 91, "wgmma.sp": 91, "wmma.load": 7, "wmma.store": 5}
SHIPPED = [
    row
    for family in discovery.families()
    for row in [each for each in layouts.rows(family) if is_recorded(each)][:: EVERY.get(family, 1)]
]


@pytest.mark.parametrize("row", SHIPPED, ids=lambda row: row.ptx)
def test_discovery_arrives_at_the_row_from_the_dumps_of_real_hardware(row: Instruction) -> None:
    found = discovery.discover(row, RecordedBackend())
    assert (found.verdict, found.differing) == ("the row", ())
    assert "device" in found.environment


@pytest.mark.parametrize("row", [K16, SPARSE[0], WARPGROUP[0]], ids=lambda row: row.family)
def test_the_fragments_of_the_row_are_not_looked_at(row: Instruction) -> None:
    bare = discovery.stripped(row)
    for operand in bare.operands:
        lanes, elements = np.indices((operand.fragment.lanes, operand.fragment.elements))
        assert (operand.fragment.coords() == np.stack([lanes, elements], axis=-1)).all()
        assert operand.choices == ()


@pytest.mark.parametrize("row", [K16, *SPARSE[:1], *WARPGROUP[:1]], ids=lambda row: row.family)
def test_the_launches_of_discovery_are_those_of_the_probes(row: Instruction) -> None:
    bare = discovery.stripped(row)
    asked = {
        "mma": "operand_layout", "mma.sp": "sparse_operands", "wgmma": "wgmma_layout"
    }  # fmt: skip
    question = discovery.definition.find(asked[row.family])
    for fill in question.fills:
        digest = generate.launch(row, question, fill).digest()
        assert generate.launch(bare, question, fill).digest() == digest


def test_hardware_with_another_layout_is_found_and_is_not_the_row() -> None:
    true = layouts.find("ldmatrix.sync.aligned.m8n8.x4.shared.b16")
    exchanged = [0, 2, 1, 3]
    found = discovery.discover(true, Changed("ldmatrix", lambda array: array[:, exchanged]))
    assert (found.verdict, found.differing) == ("not the row", ("D",))
    formulas = found.finding.operands[0].formulas()
    assert formulas["matrix"] == "2 * (i // 2 % 2) + i // 4"


@pytest.mark.parametrize("text", ["ldmatrix.x1.shared", K16.ptx])
def test_what_has_no_digits_is_said(text: str) -> None:
    row = layouts.find(text)
    entry = {"ldmatrix": "ldmatrix", "mma": "mma_sync"}[row.family]
    with pytest.raises(LayoutError):
        discovery.discover(row, Changed(entry, swapped_lanes))


def test_another_common_order_is_the_row_and_a_different_one_is_not() -> None:
    found = discovery.discover(K16, Silicon()).finding
    d = next(each for each in found.operands if each.name == "D")
    first, second = d.fragment.lane
    low, high = d.fragment.elem
    lane, elem = (first, replace(second, row=2)), (low, replace(high, row=1))
    moved = replace(d, fragment=replace(d.fragment, lane=lane, elem=elem))
    alone = replace(
        found, operands=tuple(moved if each.name == "D" else each for each in found.operands)
    )
    assert discovery.compared(K16, found) == ((), True)
    differing, same = discovery.compared(K16, alone)
    assert not same
    assert set(differing) == {"A", "C"}  # D comes first and sets the order that these break


def test_what_the_device_does_not_run_is_refused() -> None:
    row = next(row for row in layouts.rows("mma") if not row.runs_on(90))
    with pytest.raises(UnsupportedError, match="needs"):
        discovery.discover(row, Silicon())
