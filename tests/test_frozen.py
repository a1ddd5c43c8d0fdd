"""Our quick frozen dataclasses behave as those of the standard library do."""

from __future__ import annotations

import dataclasses
import pickle
from functools import cached_property
from typing import Any

import pytest

from attnprobe.frozen import dataclass


@dataclass(frozen=True)
class Tile:
    """Two fields and what follows from them."""

    rows: int
    cols: int = 8

    def __post_init__(self) -> None:
        if self.rows < 0:
            raise ValueError("rows are negative")
        object.__setattr__(self, "cols", abs(self.cols))

    @cached_property
    def size(self) -> int:
        """Elements."""
        return self.rows * self.cols


@dataclass(frozen=True)
class Named(Tile):
    """With a field more, behind those of the base."""

    name: str = "x"


@dataclass(frozen=True)
class One:
    """A single field."""

    value: Any


@dataclasses.dataclass(frozen=True)
class Standard:
    """What the standard library makes of two of the same fields."""

    rows: int
    cols: int = 8


def test_fields_come_in_order_by_place_or_by_name_and_have_defaults() -> None:
    assert (Tile(2).rows, Tile(2).cols, Tile(cols=3, rows=2).cols) == (2, 8, 3)
    named = Named(1, name="y")
    assert (named.rows, named.cols, named.name) == (1, 8, "y")
    assert [field.name for field in dataclasses.fields(Named)] == ["rows", "cols", "name"]


@pytest.mark.parametrize(
    ("given", "named"), [((), {}), ((1, 2, 3), {}), ((1,), {"rows": 1}), ((1,), {"depth": 1})]
)
def test_other_arguments_are_refused(given: tuple[int, ...], named: dict[str, int]) -> None:
    with pytest.raises(TypeError, match="Tile has the fields rows, cols"):
        Tile(*given, **named)
    with pytest.raises(TypeError):
        Standard(*given, **named)


def test_equal_are_rows_of_one_class_with_equal_fields() -> None:
    assert Tile(2, 3) == Tile(2, 3)
    assert Tile(2, 3) != Tile(2, 4)
    assert Tile(2, 3) != Named(2, 3)
    assert Tile(2, 8) != Standard(2, 8)
    assert hash(Tile(2, 3)) == hash(Tile(2, 3))
    assert len({Tile(2), Tile(2, 8), Tile(3)}) == 2
    assert One((1, 2)) == One((1, 2))
    assert hash(Tile(2)) == hash(Standard(2))


def test_what_is_worked_out_later_is_no_part_of_it() -> None:
    one, other = Tile(2, 3), Tile(2, 3)
    assert one.size == 6
    assert one == other
    assert repr(one) == "Tile(rows=2, cols=3)"


def test_nothing_can_be_set_or_deleted() -> None:
    tile = Tile(2)
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'rows'"):
        tile.rows = 3  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'rows'"):
        del tile.rows
    assert tile == Tile(2)


def test_it_is_checked_when_made_and_when_replaced() -> None:
    assert dataclasses.replace(Tile(2, 3), cols=-4) == Tile(2, 4)
    for make in (lambda: Tile(-1), lambda: dataclasses.replace(Tile(1), rows=-1)):
        with pytest.raises(ValueError, match="negative"):
            make()


def test_it_goes_through_asdict_and_pickle() -> None:
    named = Named(1, 2, "z")
    assert dataclasses.asdict(named) == {"rows": 1, "cols": 2, "name": "z"} == vars(named)
    assert pickle.loads(pickle.dumps(named)) == named
