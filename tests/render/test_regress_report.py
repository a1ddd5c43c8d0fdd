"""The report of a regression run, drawn: as text, and as a page that needs nothing but itself."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from attnprobe.numerics import fills
from attnprobe.numerics.cases import CASES
from attnprobe.render import heat, regress, regress_html, scatter, text
from attnprobe.rig import judging, suite
from attnprobe.rig.report import DECLINED, SOUND, Report, Result
from attnprobe.rig.targets import find
from tests.render import browser as browsers

FACTS = {"device": "CPU", "numpy": "2", "arrays": "numpy"}


@pytest.fixture(scope="module")
def refused():
    """Return a report of a target whose rows are exchanged, judged for real."""
    opened = find("tests.rig.faulty:rows_swapped").open("numpy")
    cases = [row for row in CASES if row.name in ("65 x 65", "causal 64 x 64", "softcap")]
    results = [
        judging.judged(suite.Job(row, "normal"), opened, lambda calling: None) for row in cases
    ]
    sound = Result("<b> & sound", "peaked", "bf16", SOUND, o_share=0.25, lse_share=0.01)
    command = "attnprobe regress --target tests.rig.faulty:rows_swapped --quick"
    return Report("a<b", "says", FACTS, command, "2026-01-01", 2.0, (*results, sound))


def test_the_text_begins_with_the_verdict_and_has_no_colour(refused):
    drawn = text.render(regress.document(refused))
    assert drawn.startswith("REFUSED: a<b fails 2 of 3 jobs")
    assert "not applicable, for" in drawn
    assert "\x1b" not in drawn


def test_the_command_of_a_job_has_what_it_needs(refused):
    command = regress.command_of(refused, refused.failures[0])
    assert command == (
        "attnprobe regress --target tests.rig.faulty:rows_swapped --case '65 x 65' --fill normal "
        "--dtype f16"
    )


def test_a_sound_report_says_so():
    found = Result("c", "normal", "f16", SOUND, o_share=0.25)
    report = Report("t", "", FACTS, "attnprobe regress", "", 1.0, (found,))
    assert regress.headline(report) == "SOUND: t passes all 1 jobs"
    assert "What is wrong" not in regress_html.page(report)


def test_nothing_applies_is_not_sound():
    report = Report("t", "", FACTS, "x y", "", 1.0, (Result("c", "n", "f16", DECLINED, "r"),))
    assert regress.headline(report).startswith("NOTHING APPLIES")
    assert "✓ SOUND" not in regress_html.page(report)


def test_the_page_needs_nothing_but_itself(refused):
    page = regress_html.page(refused)
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", page)
    assert "http" not in page.replace("http-equiv", "")
    assert "url(" not in page
    assert "<b> & sound" not in page
    assert "&lt;b&gt; &amp; sound" in page


def test_every_picture_is_well_formed(refused):
    pictures = re.findall(r"<svg.*?</svg>", regress_html.page(refused), re.DOTALL)
    assert len(pictures) >= 7
    for picture in pictures:
        ET.fromstring(picture)


def test_the_fragment_names_the_lane_of_each_element(refused):
    """Row 9, columns 2 and 3 are lane 5's registers 2 and 3: Source: PTX ISA, m16n8k16, C and D."""
    share = [[float(10 * row + col) for col in range(8)] for row in range(16)]
    found = {"first_query": 32, "first_column": 8, "share": share}
    drawn = heat.fragment(found, (41, 10))
    assert "lane 5, register 2: 92 of its bound" in drawn
    assert "lane 5, register 3: 93 of its bound" in drawn
    assert drawn.count("<title>") == 128
    (frame,) = re.findall(r'class="frame" x="(\d+)" y="(\d+)"', drawn)
    (cell,) = re.findall(r'92 of its bound</title><rect x="(\d+)" y="(\d+)"', drawn)
    assert frame == cell


def test_a_map_is_a_png_of_its_levels():
    levels = np.zeros((5, 7), np.uint8)
    levels[2, 3], levels[4, 6] = 200, 1
    pixels = _pixels(heat.png(levels))
    np.testing.assert_array_equal(pixels, levels)


def _pixels(data):
    """Return the palette numbers of a PNG."""
    import struct
    import zlib

    width, height, depth, kind = struct.unpack(">IIBB", data[16:26])
    assert (depth, kind) == (8, 3)
    start = data.index(b"IDAT")
    (length,) = struct.unpack(">I", data[start - 4 : start])
    raw = np.frombuffer(zlib.decompress(data[start + 4 : start + 4 + length]), np.uint8)
    return raw.reshape(height, width + 1)[:, 1:]


def test_a_level_is_a_colour_only_above_the_bound():
    assert heat.level(1.0) == 0
    assert heat.level(1.01) == 1
    assert heat.level(1e9) == 255


def test_points_over_the_bound_have_another_shape():
    drawn = scatter.scatter([(0, 0.5), (1, 0.9), (2, 30.0)], scatter.Axes("l", "x", "y"))
    under = re.search(r'class="under" d="([^"]*)"', drawn)[1]
    over = re.search(r'class="over" d="([^"]*)"', drawn)[1]
    assert (under.count("M"), over.count("M")) == (2, 1)
    assert "a2" in under
    assert "a2" not in over


def test_a_plot_of_nothing_is_drawn():
    ET.fromstring(scatter.scatter([], scatter.Axes("l", "x", "y")))


def test_every_fill_has_a_column(refused):
    page = regress_html.page(refused)
    assert page.count('<th class="fill">') == 2
    assert set(fills.FILLS) >= {"normal", "peaked"}


@pytest.mark.skipif(browsers.find() is None, reason="no browser on this machine")
def test_the_page_as_a_picture(refused, tmp_path):
    """It is drawn without the network; what is refused is red, and there is paper around it."""
    path = tmp_path / "page.html"
    path.write_text(regress_html.page(refused), encoding="utf-8")
    browser = browsers.Browser(browsers.find(), tmp_path)
    shot = browser.picture(path, size="1200,1600").astype(int)
    reddish = (shot[..., 0] > shot[..., 2] + 60).mean()
    assert 0.02 < reddish < 0.5
    assert (shot.min(axis=-1) > 240).mean() > 0.3
    dark = tmp_path / "dark.html"
    dark.write_text(path.read_text().replace("<html", '<html data-theme="dark"'), encoding="utf-8")
    assert (browser.picture(dark, size="1200,1600").max(axis=-1) < 60).mean() > 0.3
