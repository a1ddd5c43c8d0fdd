"""Writes the tables in docs/ from the data, so that no table is ever typed by hand.

A page has pairs of markers, and what stands between a pair is replaced:

    <!-- table: NAME -->
    <!-- end: NAME -->

The text comes from the functions in tools/doc_sections/, registered with ``@section(page, NAME)``;
a new module there is found by itself. ``--check`` writes nothing and exits 1 on a stale page.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]  # a checkout need not be installed

import doc_sections  # noqa: E402


def sections() -> list[doc_sections.Section]:
    """Return every section that a module of doc_sections registers."""
    for module in pkgutil.iter_modules(doc_sections.__path__):
        importlib.import_module(f"doc_sections.{module.name}")
    return doc_sections.registered()


def fresh(text: str, section: doc_sections.Section) -> str:
    """Return a page's text with one section written anew.

    Raises
    ------
    ValueError
        If the page has the section's markers not exactly once.
    """
    start, end = f"<!-- table: {section.name} -->", f"<!-- end: {section.name} -->"
    between = re.compile(f"{re.escape(start)}\n.*?{re.escape(end)}", re.DOTALL)
    body = f"{start}\n\n{section.write().strip()}\n\n{end}"
    text, count = between.subn(lambda _: body, text)
    if count != 1:
        raise ValueError(
            f"{section.page} has {count} times the markers of {section.name!r}, not once"
        )
    return text


def written(root: Path = ROOT, only: str = "") -> dict[Path, str]:
    """Return the fresh text of every page that has sections, or of one: "docs/fragments.md"."""
    pages: dict[Path, str] = {}
    for section in sections():
        if only in ("", section.page):
            page = root / section.page
            pages[page] = fresh(pages.get(page) or page.read_text(encoding="utf-8"), section)
    return pages


def stale(root: Path = ROOT, only: str = "") -> dict[str, str]:
    """Return the fresh text of the pages that say anything else, by their path below ``root``."""
    return {
        page.relative_to(root).as_posix(): text
        for page, text in written(root, only).items()
        if page.read_text(encoding="utf-8") != text
    }


def main() -> int:
    """Write the pages, or check them; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if not fresh")
    args = parser.parse_args()
    old = stale()
    for page, text in old.items():
        if not args.check:
            (ROOT / page).write_text(text, encoding="utf-8")
        print(f"{page} is not fresh; run: make docs" if args.check else f"wrote {page}")
    return 1 if args.check and old else 0


if __name__ == "__main__":
    sys.exit(main())
