"""Pictures and pages as text: complete, self-contained, well-formed; Markdown and colours."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from attnprobe import layouts
from attnprobe.render import html, markdown, palette, svg
from attnprobe.render.document import Heading, Lines, table
from attnprobe.render.picture import picture

NAMES = [
    "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32",
    "mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc",
    "mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32",
    "mma.sp.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32",
    "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16",
    "stmatrix.sync.aligned.m8n8.x2.shared.b16",
    "wgmma.mma_async.sync.aligned.m64n24k16.f32.f16.f16 with a in registers",
]
every_kind = pytest.mark.parametrize("row", [layouts.find(name) for name in NAMES],
                                     ids=lambda row: row.ptx)  # fmt: skip
SVG = "{http://www.w3.org/2000/svg}"


@every_kind
def test_a_picture_shows_every_position_of_every_operand_once(row: layouts.Instruction) -> None:
    drawn = picture(row, row.operands)
    shown = {panel.operand.name for panel in drawn.panels} | {name for name, _ in drawn.alike}
    assert shown == set(row.by_name)
    for panel in drawn.panels:
        fragment = panel.operand.fragment
        cells = [cell for grid in panel.grids for line in grid.rows for cell in line]
        assert len(cells) == fragment.rows * fragment.cols
        assert sum(len(cell.holders) for cell in cells) == fragment.lanes * fragment.elements
        for grid, first in zip(panel.grids, range(0, fragment.rows, len(panel.grids[0].rows)),
                               strict=True):  # fmt: skip
            for cell in (cell for line in grid.rows for cell in line):
                expected = fragment.where(first + cell.row, cell.col)
                assert list(cell.holders) == expected
                break  # one of each matrix: where() looks through all


@every_kind
def test_an_svg_is_well_formed_and_says_who_holds_each_cell(row: layouts.Instruction) -> None:
    root = ET.fromstring(svg.draw(row, row.operands))
    drawn = picture(row, row.operands)
    cells = [cell for panel in drawn.panels for grid in panel.grids for line in grid.rows
             for cell in line]  # fmt: skip
    titles = [each.findtext(f"{SVG}title") for each in root.iter(f"{SVG}g")
              if each.get("class") == "cell"]  # fmt: skip
    assert len(titles) == len(cells)
    assert all(title and ": lane" in title for title in titles)
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    assert 0 < width < 8000
    assert 0 < height < 8000


@every_kind
def test_pictures_and_pages_need_nothing_from_elsewhere(row: layouts.Instruction) -> None:
    for text in (svg.draw(row, row.operands), html.page(row, row.operands)):
        links = re.findall(r"""(?:src|href)\s*=|@import|url\(|https?://[^"'\s<)]+""", text)
        assert set(links) <= {"http://www.w3.org/2000/svg"}


@every_kind
def test_a_page_without_its_script_names_every_lane(row: layouts.Instruction) -> None:
    text = html.page(row, row.operands).partition("<script")[0]
    drawn = picture(row, row.operands)
    count = sum(len(line) for panel in drawn.panels for grid in panel.grids for line in grid.rows)
    assert len(re.findall(r"<td class=\w+ data-h=", text)) == count
    assert f"<title>{row.ptx}</title>" in text
    for formula in row.operands[0].formulas().values():
        assert formula.replace("<", "&lt;") in text


def test_c_is_not_drawn_twice_where_it_lies_as_d() -> None:
    row = layouts.find(NAMES[0])
    drawn = picture(row, row.operands)
    assert [panel.operand.name for panel in drawn.panels] == ["D", "A", "B"]
    assert drawn.alike == (("C", "D"),)
    assert drawn.crossed


def test_a_cell_says_in_words_what_it_shows() -> None:
    row = layouts.find(NAMES[0])
    root = ET.fromstring(svg.draw(row, (row["A"],)))
    titles = [each.text for each in root.iter(f"{SVG}title")]
    assert "A[9][3]: lane 5, a[1].hi, bits 16 to 31" in titles


# --- colours --------------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    """Return the relative luminance of ``#rrggbb`` (WCAG 2.1)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
              for part in parts]  # fmt: skip
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(("theme", "ink"), [("light", "#1b1d22"), ("dark", "#eceef2")])
def test_text_stands_out_from_every_lanes_colour(theme: str, ink: str) -> None:
    for lane in range(32):
        light, dark = sorted(
            (luminance(ink), luminance(palette.colour(*palette.shade(lane), theme))), reverse=True
        )
        assert (light + 0.05) / (dark + 0.05) >= 4.5, lane  # WCAG 2.1, level AA


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_32_lanes_have_32_colours(theme: str) -> None:
    assert len({palette.colour(*palette.shade(lane), theme) for lane in range(32)}) == 32


def test_known_colours_come_out_as_they_are() -> None:
    assert palette.srgb(1.0, 0.0, 0.0) == "#ffffff"
    assert palette.srgb(0.0, 0.0, 0.0) == "#000000"
    assert palette.srgb(0.627955, 0.257683, 29.2339) == "#ff0000"  # OKLCH of sRGB red


# --- Markdown -------------------------------------------------------------------------------------


def test_a_document_as_markdown() -> None:
    document = (
        Heading("a_title"),
        Lines(("x | y",)),
        table(("n\nof", "cell"), [(1, "a[0] | *b*")], numeric=(0,)),
        Heading("next"),
    )
    assert markdown.render(document) == (
        "# a\\_title\n\n```text\nx | y\n```\n\n| n of | cell |\n| ---: | --- |\n"
        "| 1 | a\\[0] \\| \\*b\\* |\n\n## next\n"
    )


def test_assets_lie_beside_the_renderer() -> None:
    folder = Path(html.__file__).parent
    assert (folder / "page.css").is_file()
    assert (folder / "page.js").is_file()
