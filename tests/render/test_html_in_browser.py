"""The page in a real browser: what lights up when a lane or a cell is chosen, and how it looks."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from attnprobe import layouts
from attnprobe.render import html, palette, svg
from tests.render import browser as browsers
from tests.render.browser import Browser, cells

F16 = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
X4_TRANS = "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16"
SPARSE = "mma.sp.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"

pytestmark = pytest.mark.skipif(
    browsers.find() is None,
    reason=f"no browser on this machine (looked for {', '.join(browsers.NAMES)})",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    path = browsers.find()
    assert path is not None
    return Browser(path, tmp_path_factory.mktemp("browser"))


def written(ptx: str, folder: Path) -> Path:
    row = layouts.find(ptx)
    path = folder / "page.html"
    path.write_text(html.page(row, row.operands), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(F16, tmp_path_factory.mktemp("page"))


def lit(document: str, name: str = "on") -> set[tuple[str, int, int]]:
    """Return the (operand, row, col) of cells that have a class."""
    return {
        (each["operand"], int(each["row"]), int(each["col"]))
        for each in cells(document)
        if name in each["class"].split()
    }


def readout(document: str) -> str:
    found = re.search(r'<p class="readout"[^>]*>(.*?)</p>', document, re.DOTALL)
    assert found is not None
    return re.sub(r"<[^>]+>", " ", found[1]).strip()


def test_nothing_is_lit_before_anything_is_chosen(page: Path, browser: Browser) -> None:
    document = browser.document(page)
    assert lit(document) == set()
    assert "Point at a cell" in readout(document)


def test_a_lane_lights_up_all_that_it_holds(page: Path, browser: Browser) -> None:
    """Lane 5 of m16n8k16: rows 1 and 9, columns 2, 3 (and of A 10, 11); column 1 of B."""
    document = browser.document(page, "lane=5")
    a = {("A", row, col) for row in (1, 9) for col in (2, 3, 10, 11)}
    b = {("B", row, 1) for row in (2, 3, 10, 11)}
    d = {("D", row, col) for row in (1, 9) for col in (2, 3)}
    assert lit(document) == a | b | d
    assert readout(document).startswith("lane 5")
    assert re.findall(r'aria-pressed="true" aria-label="lane (\d+)"', document) == ["5"]


def test_a_cell_names_its_lane_and_register_and_lights_up_the_lane(
    page: Path, browser: Browser
) -> None:
    document = browser.document(page, "cell=A.9.3")
    assert lit(document, "here") == {("A", 9, 3)}
    assert lit(document) == lit(browser.document(page, "lane=5"))
    assert "A[9][3] is in lane 5, a[1].hi" in readout(document)
    assert "bits 16 to 31" in readout(document)


def test_a_cell_of_d_shows_the_row_and_the_column_that_make_it(
    page: Path, browser: Browser
) -> None:
    document = browser.document(page, "cell=D.9.3")
    expected = {("A", 9, k) for k in range(16)} | {("B", k, 3) for k in range(16)}
    assert lit(document, "dot") == expected
    assert "row 9 of A and column 3 of B" in readout(document)


def test_the_register_file_shows_the_lane(page: Path, browser: Browser) -> None:
    document = browser.document(page, "cell=A.9.3")
    table = re.search(r'<div class="file"><table>(.*?)</table>', document, re.DOTALL)
    assert table is not None
    rows = re.findall(r'<th scope="row">(.*?)</th><td>(.*?)</td>', table[1])
    shown = {name: re.findall(r"<span[^>]*>(.*?)</span>", body) for name, body in rows}
    assert shown["a[1]"] == ["(9,3)", "(9,2)"]  # the high half to the left
    assert shown["d[3] c[3]"] == ["(9,3)"]
    assert re.findall(r'<span class="here">(.*?)</span>', table[1]) == ["(9,3)"]


def test_a_matrix_of_a_load_is_named_by_its_number(tmp_path: Path, browser: Browser) -> None:
    document = browser.document(written(X4_TRANS, tmp_path), "cell=D.2.1.7")
    assert "D[2][1][7] is in lane 28, d[2].hi" in readout(document)
    (here,) = [each for each in cells(document) if "here" in each["class"].split()]
    assert (here["matrix"], here["row"], here["col"]) == ("2", "1", "7")


def test_copies_light_up_together(tmp_path: Path, browser: Browser) -> None:
    """Metadata of m16n8k16: each index may come from any lane of the quad."""
    document = browser.document(written(SPARSE, tmp_path), "cell=E.0.0")
    assert "is in lanes" in readout(document)


def near(picture: np.ndarray, colour: str) -> int:
    """Return how many pixels have a colour, give or take one step."""
    wanted = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)])
    return int((np.abs(picture.astype(int) - wanted).max(axis=-1) <= 1).sum())


@pytest.fixture(scope="module")
def light(page: Path, browser: Browser) -> np.ndarray:
    return browser.picture(page, "theme=light")


CELL = 42 * 32 // 4  # pixels of a cell at half size


def test_every_lane_is_seen_in_its_own_colour(light: np.ndarray) -> None:
    for lane in range(32):  # it has 16 cells; their text takes some pixels
        assert near(light, palette.colour(*palette.shade(lane), "light")) > 8 * CELL, lane


def test_choosing_a_lane_darkens_its_cells_and_fades_the_others(
    page: Path, browser: Browser, light: np.ndarray
) -> None:
    after = browser.picture(page, "theme=light&lane=5")
    assert near(after, "#1b1d22") - near(light, "#1b1d22") > 6 * CELL  # 16 cells, less faded text
    for lane in (0, 17, 31):
        colour = palette.colour(*palette.shade(lane), "light")
        assert near(after, colour) < near(light, colour) / 4  # its button alone keeps it


def test_the_dark_page_is_dark(page: Path, browser: Browser, light: np.ndarray) -> None:
    dark = browser.picture(page, "theme=dark")
    assert light.mean() > 200
    assert dark.mean() < 60
    assert near(dark, palette.colour(*palette.shade(9), "dark")) > 8 * CELL


def test_nothing_is_cut_off_at_the_right(light: np.ndarray) -> None:
    assert (light[:, -10:] == light[0, 0]).all()


def test_the_svg_shows_every_cell(tmp_path: Path, browser: Browser) -> None:
    row = layouts.find(F16)
    path = tmp_path / "picture.svg"
    path.write_text(svg.draw(row, row.operands), encoding="utf-8")
    picture = browser.picture(path, size="1160,1260")
    for lane in range(32):
        assert near(picture, palette.colour(*palette.shade(lane), "light")) > 8 * CELL, lane
