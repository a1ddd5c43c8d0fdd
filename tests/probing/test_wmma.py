"""wmma: any layout that hardware has is found, tabled, and held against later answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from attnprobe import compile as compiler
from attnprobe.backends import Dump, Launch
from attnprobe.layouts import wmma as names
from attnprobe.probing import definition, discovery, generate, session, wmma, wmma_table
from attnprobe.probing.report import MATCH, MISMATCH
from attnprobe.probing.signature import blank, wmma_move
from tests.probing.silicon_wmma import WmmaSilicon, positions

MOVES = (*names.load_names(), *names.store_names())


@pytest.fixture(scope="module")
def table() -> names.Table:
    return wmma_table.measure(WmmaSilicon())


def test_the_names_are_those_of_the_isa() -> None:
    assert (len(names.load_names()), len(names.store_names())) == (88, 26)
    assert len(names.products()) == 96


@pytest.mark.parametrize("name", MOVES)
def test_a_made_up_layout_is_found_from_memory(name: str, table: names.Table) -> None:
    words, found = name.split("."), table.fragments[name]
    expected = positions(words[2], found.rows, found.cols, found.elements)
    assert (found.flat_index() == expected).all()
    assert found.copies == 32 * found.elements // (found.rows * found.cols)


def test_the_table_comes_back_from_its_file(table: names.Table, tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    table.save(path)
    assert names.load_table(path) == table
    assert len(json.loads(path.read_text())["fragments"]) < 30
    assert names.load_table(tmp_path / "none.json") is None


def test_without_a_table_there_are_no_rows_and_with_it_there_are_all(table: names.Table) -> None:
    assert dict(names.specs(None)) == {}
    rows = [build() for _, build in names.specs(table)]
    assert len(rows) == 88 + 26 + 96
    assert all(row.measured == "a made-up one, sm_90, 2000-01-01" for row in rows)


def test_products_take_the_fragments_of_loads_and_stores(table: names.Table) -> None:
    report = wmma_table.check_products(table, WmmaSilicon())
    assert (len(report.results), report.count(MATCH)) == (96, 96)


def test_rows_of_the_table_match_what_they_were_read_from(table: names.Table) -> None:
    rows = [build() for _, build in names.specs(table)]
    asked = [definition.find(name) for name in ("wmma_load", "wmma_store")]
    report = session.run(rows, asked, WmmaSilicon())
    assert (len(report.results), report.count(MATCH)) == (114, 114)


@pytest.mark.parametrize("number", [0, 80, 90, 110, 205])
def test_discovery_arrives_at_the_rows_of_the_table(number: int, table: names.Table) -> None:
    _, build = list(names.specs(table))[number]
    found = discovery.discover(build(), WmmaSilicon())
    assert (found.verdict, found.differing) == ("the row", ())


class LanesExchanged(WmmaSilicon):
    """Hardware in which two lanes have each other's elements."""

    def run(self, launch: Launch) -> Dump:
        dump = super().run(launch)
        (array,) = dump.arrays
        if launch.entry == "wmma_load":
            array = array[..., [0, 2, 1, *range(3, 32)]]
        return replace(dump, arrays=(array,))


def test_another_layout_than_the_table_s_is_a_mismatch(table: names.Table) -> None:
    name = MOVES[0]
    row = names.move_row(name, names.load_names()[name], table)
    question = definition.find("wmma_load")
    assert session.ask(row, question, WmmaSilicon()).verdict == MATCH
    answer = session.ask(row, question, LanesExchanged())
    assert answer.verdict == MISMATCH
    assert {difference.lane for difference in answer.differences} == {1, 2}


class WithHoles(WmmaSilicon):
    """Hardware that leaves one register as it was."""

    def run(self, launch: Launch) -> Dump:
        dump = super().run(launch)
        if launch.entry == "wmma_load":
            dump.arrays[0][:, 0] = 0
        return dump


def test_what_has_no_digits_is_reported_and_left_out_of_the_table() -> None:
    seen: dict[str, object] = {}
    table = wmma_table.measure(WithHoles(), lambda name, found: seen.update({name: found}))
    assert len(seen) == len(MOVES)
    assert set(table.fragments) == set(names.store_names())
    assert "is no element of the matrix" in str(seen[MOVES[0]])
    assert {name.split(".")[1] for name, _ in names.specs(table)} == {"store"}


@pytest.mark.parametrize("name", MOVES[::9])
def test_every_element_in_memory_has_a_number_of_its_own(name: str) -> None:
    of = wmma_move(name)
    place = wmma.tile(of)
    at = place.places().reshape(-1)
    assert len(set(at.tolist())) == place.rows * place.cols
    assert place.stride * place.bits % max(32, of.slots[0].elements * place.bits) == 0


@pytest.mark.parametrize("name", MOVES[::6])
def test_kernels_compile(name: str) -> None:
    question = definition.find(f"wmma_{name.split('.')[1]}")
    launch = generate.launch(blank(wmma_move(name)), question, question.fills[0])
    assert np.prod(launch.inputs[0].shape) > 0
    data, _ = compiler.cubin(launch.source, "sm_90")
    assert data[:4] == b"\x7fELF"
