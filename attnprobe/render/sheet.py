"""The frame of the reports' pages: one style sheet, light and dark, and nothing from elsewhere."""

from __future__ import annotations

from html import escape
from pathlib import Path

_CSS = Path(__file__).with_name("regress.css")
_SCRIPT = """\
document.getElementById("theme").onclick = () => {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches, root = document.documentElement;
  const now = root.dataset.theme || (dark ? "dark" : "light");
  root.dataset.theme = now === "dark" ? "light" : "dark";
};
"""
THEME_BUTTON = (
    '<button id="theme" type="button" aria-label="Light or dark" title="Light or dark">◐</button>'
)


def sheet(title: str, body: str, more_css: str = "") -> str:
    """Return the page of a body that has ``THEME_BUTTON`` in it."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n"
        f"<style>\n{_CSS.read_text(encoding='utf-8')}{more_css}</style>\n</head>\n<body>\n{body}\n"
        f"<script>\n{_SCRIPT}</script>\n</body>\n</html>\n"
    )
