"""Documents drawn as text and on a terminal, and values written as JSON: nothing is lost."""

from __future__ import annotations

import io
import json as standard_json
import re

import pytest

from attnprobe.render import console, csv, json, text
from attnprobe.render.document import Document, Heading, Lines, Table, table

WIDE = table(
    ["lane\ni", *(f"a[{i}]\n{i}" for i in range(40))],
    [[lane, *(f"({lane},{i})" for i in range(40))] for lane in range(8)],
    numeric=[0],
    groups=[lane // 4 for lane in range(8)],
)
DOCUMENT: Document = (Heading("[a] title: 1"), Lines(("one = 1", "two [b] = 2")), WIDE)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn(monkeypatch: pytest.MonkeyPatch, columns: int, **environment: str) -> str:
    """Return what is written on a terminal of so many columns."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm-256color")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    stream = Terminal()
    console.write(DOCUMENT, stream)
    return stream.getvalue()


def cells(lines: list[str]) -> list[list[str]]:
    return [line.split() for line in lines if line.strip()]


def test_plain_text_has_blocks_parted_by_a_blank_line() -> None:
    lines = text.render(DOCUMENT).splitlines()
    assert lines[:6] == ["[a] title: 1", "", "one = 1", "two [b] = 2", "", lines[5]]
    assert lines[5].split()[:3] == ["lane", "a[0]", "a[1]"]
    assert cells(lines[7:]) == [list(row) for row in WIDE.rows]


def test_plain_text_aligns_columns() -> None:
    small = table(["name", "n"], [["a", 5], ["long name", 12345]], numeric=[1])
    assert text.table_lines(small) == ["name           n", "a              5", "long name  12345"]


def test_a_stream_that_is_no_terminal_gets_plain_text() -> None:
    stream = io.StringIO()
    console.write(DOCUMENT, stream)
    assert stream.getvalue() == text.render(DOCUMENT)


@pytest.mark.parametrize("columns", [20, 80, 400])
def test_a_terminal_of_any_width_gets_every_cell(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = drawn(monkeypatch, columns, NO_COLOR="1", TERM="dumb").splitlines()
    assert lines[:4] == ["[a] title: 1", "", "one = 1", "two [b] = 2"]
    assert cells(lines[-9:]) == [list(row) for row in WIDE.rows]


def test_groups_have_colours_on_a_terminal_and_a_line_between_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = drawn(monkeypatch, 80)
    assert "\x1b[36m" in out  # lanes 0 to 3: cyan
    assert "\x1b[32m" in out  # lanes 4 to 7: green
    body = out.splitlines()[-9:]
    assert [bool(line.strip()) for line in body] == [True] * 4 + [False] + [True] * 4


def test_no_color_takes_the_colours_away(monkeypatch: pytest.MonkeyPatch) -> None:
    out = drawn(monkeypatch, 80, NO_COLOR="1")
    assert "\x1b[3" not in out
    assert "(7,39)" in out


def test_a_table_whose_rows_have_other_lengths_is_refused() -> None:
    with pytest.raises(ValueError, match="every row of a table has 2 cells"):
        Table(("a", "b"), (("1",),))
    with pytest.raises(ValueError, match="groups are one per row"):
        Table(("a",), (("1",),), groups=(0, 1))


def test_json_keeps_what_fits_on_a_line_and_breaks_what_does_not() -> None:
    value = {"short": [1, 2], "long": [list(range(20)), list(range(20))], "empty": {}, "last": None}
    written = json.dumps(value)
    assert standard_json.loads(written) == value
    assert '"short": [1, 2],\n' in written
    assert written.endswith('"last": null\n}\n')
    assert max(map(len, written.splitlines())) <= 100


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_refuses_what_is_no_json(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        json.dumps({"value": value})


def test_csv_quotes_and_leaves_none_empty() -> None:
    assert csv.dumps(("a", "b"), [(1, None), ('say "x"', "y,z")]) == 'a,b\n1,\n"say ""x""","y,z"\n'


def test_cells_of_a_group_share_a_colour_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shaded = table(["", "x", "y"], [["r", "one", "two"], ["s", "three", "one"]],
                   shades=[(-1, 0, 1), (-1, 1, 0)])  # fmt: skip
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    console.write((shaded,), stream)
    found = re.findall(r"\x1b\[(\d+)m(one|two|three)\b", stream.getvalue())
    assert [word for _, word in found] == ["one", "two", "three", "one"]
    first, second, third, fourth = (colour for colour, _ in found)
    assert first == fourth
    assert second == third
    assert first != second
    assert "\x1b" not in text.render((shaded,))


def test_shades_are_one_for_each_cell() -> None:
    with pytest.raises(ValueError, match="one per cell"):
        table(["x"], [["a"]], shades=[(0, 1)])
