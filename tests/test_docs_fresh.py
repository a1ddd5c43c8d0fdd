"""The written tables in docs/ are what the data say, and a stale one is noticed."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def write_docs() -> ModuleType:
    """Return tools/write_docs.py as a module."""
    spec = importlib.util.spec_from_file_location("write_docs", ROOT / "tools" / "write_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stale_pages(root: Path, only: str = "") -> list[str]:
    """Return the stale pages below ``root``, or that one, as a process of its own finds them.

    What is asked is whether the repository is fresh, not what other tests left in this process.
    """
    code = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[1]); import write_docs; "
        "print(*write_docs.stale(pathlib.Path(sys.argv[2]), sys.argv[3]), sep='\\n')"
    )
    command = [sys.executable, "-c", code, str(ROOT / "tools"), str(root), only]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_every_written_table_is_fresh() -> None:
    assert stale_pages(ROOT) == []


def test_a_table_that_was_edited_by_hand_is_noticed(tmp_path: Path) -> None:
    name = "docs/fragments.md"
    page = tmp_path / name
    page.parent.mkdir()
    shutil.copy(ROOT / name, page)
    assert stale_pages(tmp_path, name) == []
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("`k = 2 * (lane % 4)", "`k = 4 * (lane % 4)", 1), encoding="utf-8")
    assert stale_pages(tmp_path, name) == [name]


def test_a_page_without_the_markers_is_refused(write_docs: ModuleType) -> None:
    section = write_docs.sections()[0]
    with pytest.raises(ValueError, match="has 0 times the markers"):
        write_docs.fresh("# A page\n", section)


def test_what_stands_outside_the_markers_is_kept(write_docs: ModuleType) -> None:
    section = write_docs.sections()[0]
    start, end = f"<!-- table: {section.name} -->", f"<!-- end: {section.name} -->"
    text = write_docs.fresh(f"before\n{start}\nold\n{end}\nafter\n", section)
    assert text.startswith(f"before\n{start}\n\n")
    assert text.endswith(f"\n\n{end}\nafter\n")
    assert "old" not in text.splitlines()


def test_every_layout_row_is_on_the_page_of_fragments() -> None:
    """Rows that differ in types share a line, which says how many they are."""
    from attnprobe import layouts

    text = (ROOT / "docs" / "fragments.md").read_text(encoding="utf-8")
    table = text.split("<!-- table: instructions -->")[1].split("<!-- end: instructions -->")[0]
    lines = [line.split("|") for line in table.strip().splitlines()[2:]]
    assert sum(int(cells[2]) for cells in lines) == len(layouts.rows())
    alone = {cells[1].strip(" `") for cells in lines if int(cells[2]) == 1}
    assert alone <= set(layouts.names())
