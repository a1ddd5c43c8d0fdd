"""The examples of README.md and docs/ run, and their commands do what is said."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from attnprobe.cli import main

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", *sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "docs").glob("*.md")))
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [body for kind, body in _BLOCK.findall(text) if kind == language]


def commands() -> list[tuple[str, str]]:
    """Return (page, command) of every line "$ attnprobe ..." in a console block."""
    lines = (
        (page, line)
        for page in PAGES
        for body in blocks(page, "console")
        for line in body.splitlines()
    )
    return [(page, line[2:]) for page, line in lines if line.startswith("$ attnprobe ")]


def test_readme_has_examples_of_both_kinds() -> None:
    assert len(blocks("README.md", "python")) >= 2
    assert any(page == "README.md" for page, _ in commands())


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_python_blocks_run(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The blocks of a page run in order in one namespace, as a reader would type them."""
    namespace: dict[str, object] = {"__name__": "example"}
    for body in blocks(page, "python"):
        exec(compile(body, page, "exec"), namespace)
    capsys.readouterr()


@pytest.mark.parametrize(
    ("page", "command"), commands(), ids=[command for _, command in commands()]
)
def test_commands_succeed(
    page: str,
    command: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # a command that writes a file writes it here
    assert main(shlex.split(command)[1:]) == 0, page
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("page", PAGES)
def test_links_and_paths_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(
        r"(?<![\w/])((?:docs|kernels|attnprobe|probes|tests|tools|benchmarks)/[\w./-]*\w/?)", text
    )
    missing = [
        name for name in named if not (ROOT / name).exists() and not list(ROOT.glob(name + "*"))
    ]
    assert missing == []
