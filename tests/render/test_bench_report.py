"""A record drawn: tables, CSV, plots that are the same every time, and a page of its own."""

from __future__ import annotations

import csv
import importlib.util
import io
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnprobe.bench.cases import DECODE, PREFILL
from attnprobe.bench.engines import ENGINES, OURS
from attnprobe.bench.record import Record
from attnprobe.errors import UsageError
from attnprobe.render import bench, bench_html, plot_style, plots, text
from tests.bench import made_up
from tests.render import browser as browsers

RECORD = made_up.record()


def test_every_case_has_a_line_with_every_engine_its_ceiling_and_its_error() -> None:
    rows = {row[0]: row for row in bench.rate_rows(RECORD, "prefill")}
    assert len(rows) == len(PREFILL)
    line = rows["d128 causal S4096 B4 H16 float16"]
    header = bench.rate_header(RECORD, "prefill")
    assert header[1:-3] == list(made_up.SPEEDS)
    told = dict(zip(header, line, strict=True))
    own = RECORD.find("prefill d128 causal S4096 B4 H16 float16", OURS)
    assert own is not None
    assert own.tflops is not None
    assert told[OURS].startswith(f"{own.tflops:.0f} ±")
    assert told["to best peer"].endswith("x")
    assert told["of ceiling"].endswith("wgmma loop")
    assert told["max error"] == "1.3e-04"


def test_the_document_says_where_aims_and_who_was_not_there() -> None:
    shown = text.render(bench.document(RECORD))
    for part in (
        "NVIDIA Made-Up",
        "attnprobe bench --suite all",
        "Ceilings",
        "Aims",
        "yes",
        "no",
        "flash-attn 2: flash-attn is not installed",
        "its dispatch takes longer",
    ):
        assert part in shown


def test_a_record_of_nothing_is_shown_too() -> None:
    assert "attnprobe bench" in text.render(bench.document(Record()))


def test_what_the_time_did_not_suffice_for_is_listed() -> None:
    shown = text.render(bench.document(replace(RECORD, left_out=("decode of everything",))))
    assert "no time left for 1: decode of everything" in shown


def test_a_result_beyond_its_bound_is_called_wrong() -> None:
    assert bench.wrong_lines(RECORD) == ()
    bad = replace(RECORD.results[0], error_share=3.0)
    (line,) = bench.wrong_lines(replace(RECORD, results=(bad, *RECORD.results[1:])))
    assert line.startswith(f"{bad.engine}: {bad.case}: 3 of the bound")


def test_csv_has_a_line_for_each_result() -> None:
    rows = list(csv.DictReader(io.StringIO(bench.as_csv(RECORD))))
    assert len(rows) == len(RECORD.results)
    first = RECORD.results[0]
    assert (rows[0]["case"], rows[0]["engine"]) == (first.case, first.engine)
    assert float(rows[0]["median_us"]) == pytest.approx(first.median_us, rel=1e-5)


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    pytest.importorskip("matplotlib", reason="draws the plots; comes with the extra 'test'")
    return {plot.name: figure for plot, figure in plots.drawn(RECORD)}


def words(figure: Any) -> list[str]:
    """Return every text of a figure."""
    from matplotlib.text import Text

    return [found.get_text() for found in figure.findobj(Text)]


def test_all_four_plots_are_drawn(figures: dict[str, Any]) -> None:
    assert list(figures) == ["rate-over-length", "decode", "roofline", "time-over-length"]


def test_every_plot_says_device_date_and_unit(figures: dict[str, Any]) -> None:
    units = ("TFLOP/s", "GB/s", "FLOP per byte of memory traffic", "ms per sequence")
    for figure, unit in zip(figures.values(), units, strict=True):
        told = words(figure)
        assert any("NVIDIA Made-Up" in line and "2030-01-02" in line for line in told)
        assert any(unit in line for line in told)


def test_lines_are_named_where_they_end_and_no_two_names_overlap(figures: dict[str, Any]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Annotation, Text

    figure = figures["rate-over-length"]
    FigureCanvasAgg(figure).draw()
    for axes in figure.axes:
        named = [found for found in axes.findobj(Annotation) if not found.get_text().count("loop")]
        assert {found.get_text().rpartition(" ")[0] for found in named} == set(made_up.SPEEDS)
        boxes = [Text.get_window_extent(found) for found in named]  # without their lines
        width = figure.bbox.width
        assert all(box.x1 <= width for box in boxes)
        spans = sorted((box.y0, box.y1) for box in boxes)
        for (_, top), (bottom, _) in pairwise(spans):
            assert bottom - top > -3.5  # boxes have room above and below the letters


def test_engines_differ_in_colour_and_in_marker() -> None:
    looks = [plot_style.look(engine.name) for engine in ENGINES]
    assert len({look.colour for look in looks}) == len(looks)
    assert len({look.marker for look in looks[1:]}) == len(looks) - 1
    assert looks[0].width > max(look.width for look in looks[1:])


def test_a_plot_is_the_same_every_time_and_asks_for_nothing(figures: dict[str, Any]) -> None:
    again = {plot.name: figure for plot, figure in plots.drawn(RECORD)}
    for name, figure in figures.items():
        drawn = plot_style.svg(figure)
        assert drawn == plot_style.svg(again[name])
        assert plot_style.png(figure) == plot_style.png(again[name])
        links = set(re.findall(r"https?://[^\s\"'<]+", drawn))
        assert links <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # xmlns
        assert not re.search(r"(?:href|src)=\"(?!#)", drawn)
        assert "<metadata" not in drawn
        assert ET.fromstring(drawn).tag == "{http://www.w3.org/2000/svg}svg"


def test_files_are_written_as_both_kinds(figures: dict[str, Any], tmp_path: Path) -> None:
    written = plots.write(RECORD, tmp_path / "plots")
    assert len(written) == 2 * len(figures)
    for path in written:
        head = path.read_bytes()[:8]
        assert head == b"\x89PNG\r\n\x1a\n" if path.suffix == ".png" else head.startswith(b"<svg")


@pytest.mark.parametrize(
    ("cases", "names"),
    [
        (PREFILL[:1], ["rate-over-length", "roofline"]),
        (DECODE[:2], ["decode", "roofline"]),
    ],
    ids=["one prefill", "two decodes"],
)
def test_a_small_record_has_the_plots_that_it_can(
    cases: Any, names: list[str], figures: dict[str, Any]
) -> None:
    assert [plot.name for plot, _ in plots.drawn(made_up.record(cases))] == names


def test_names_that_would_overlap_are_moved_apart_in_order() -> None:
    assert plot_style.apart([0.1, 0.5, 0.9], 0.1) == [0.1, 0.5, 0.9]
    assert plot_style.apart([0.5, 0.5, 0.5], 0.1) == pytest.approx([0.4, 0.5, 0.6])
    moved = plot_style.apart([0.50, 0.40, 0.41, 0.42], 0.1)
    assert sorted(moved, key=lambda y: [0.50, 0.40, 0.41, 0.42][moved.index(y)]) == sorted(moved)
    assert min(b - a for a, b in pairwise(sorted(moved))) > 0.0999


def test_without_matplotlib_it_is_said_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"attnprobe\[bench\]"):
        plot_style.check_installed()


def test_nothing_to_draw_is_an_error(tmp_path: Path, figures: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="nothing to draw"):
        plots.write(Record(made_up.ENVIRONMENT), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_page_has_plots_aims_and_figures_and_needs_nothing_else(
    figures: dict[str, Any],
) -> None:
    page = bench_html.page(RECORD)
    assert page.count('<img alt="') == 4
    assert "aims reached" in page
    assert set(re.findall(r"https?://[^\s\"'<]+", page)) == set()
    for part in ("NVIDIA Made-Up", "d128 causal S4096", "flash-attn 2: flash-attn is not"):
        assert part in page


@pytest.mark.skipif(
    browsers.find() is None,
    reason=f"no browser on this machine (looked for {', '.join(browsers.NAMES)})",
)
def test_the_page_shows_the_plots_in_a_browser(figures: dict[str, Any], tmp_path: Path) -> None:
    found = browsers.find()
    assert found is not None
    path = tmp_path / "page.html"
    path.write_text(bench_html.page(RECORD), encoding="utf-8")
    pixels = browsers.Browser(found, tmp_path).picture(path, size="1300,1100").astype(int)
    ours = bytes.fromhex(plot_style.look(OURS).colour[1:])
    assert (np.abs(pixels - np.frombuffer(ours, np.uint8)).sum(axis=2) < 40).sum() > 200
