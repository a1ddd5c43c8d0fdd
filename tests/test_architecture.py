"""The shape of the code: which way imports go, what is imported late, how long a file may be."""

from __future__ import annotations

import ast
import graphlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Lowest first; a unit may import units of its own level and below, and no two units each other.
LEVELS = (
    {"errors", "arch", "formats", "frozen", "_paths"},
    {"layouts", "cache", "driver"},
    {"ptx", "nvrtc", "compile", "tensor_maps"},
    {"backends"},
    {"probing", "numerics", "engine"},
    {"mutants", "compat"},
    {"rig", "models", "testing", "bench"},
    {"attnprobe"},  # the package's own __init__: public names
    {"render"},
    {"cli", "commands", "__main__"},
)
LEVEL = {unit: level for level, units in enumerate(LEVELS) for unit in units}

# What a unit may import beside the standard library and its own package; None: anything.
ONLY = {
    "errors": set(),
    "arch": set(),
    "frozen": set(),
    "formats": {"numpy", "ml_dtypes"},
    "layouts": {"numpy"},
    "ptx": {"numpy", "ml_dtypes"},
}
LATE = {
    "cupy",
    "rich",
    "torch",
    "jax",
    "matplotlib",
}  # slow to import, or not there: only inside functions

MAX_LINES, MAX_KERNEL_LINES = 400, 350

PYTHON = sorted(
    path
    for folder in ("attnprobe", "tests", "tools", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
)
PACKAGE = [path for path in PYTHON if path.is_relative_to(ROOT / "attnprobe")]
KERNELS = sorted((ROOT / "kernels").rglob("*.cu*"))


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def unit_of(path: Path) -> str:
    """Return the unit of a file of the package: its module or subpackage just below the top."""
    first = path.relative_to(ROOT / "attnprobe").parts[0].removesuffix(".py")
    return "attnprobe" if first == "__init__" else first


def unit_named(module: str) -> str:
    """Return the unit that ``attnprobe.<...>`` is in."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "attnprobe"


def imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield (module, line) of every import; ``from attnprobe import x`` as ``attnprobe.x``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are written in full"
            if node.module == "attnprobe":
                for alias in node.names:
                    if (ROOT / "attnprobe" / alias.name).is_dir() or (
                        ROOT / "attnprobe" / f"{alias.name}.py"
                    ).is_file():
                        yield f"attnprobe.{alias.name}", node.lineno
                    elif not alias.name.startswith("__"):  # __version__ is anybody's to read
                        yield "attnprobe", node.lineno
            else:
                yield node.module or "", node.lineno


def imported_early(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield the imports that run when the module is imported: not in functions, not for types."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from imported(node)
        waiting.extend(ast.iter_child_nodes(node))


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_every_unit_has_a_level() -> None:
    assert {unit_of(path) for path in PACKAGE} - set(LEVEL) == set()


def test_imports_go_one_way() -> None:
    upward = [
        f"{shown(path)}:{line} imports {module}"
        for path in PACKAGE
        for module, line in imported(parse(path))
        if module.split(".")[0] == "attnprobe" and LEVEL[unit_named(module)] > LEVEL[unit_of(path)]
    ]
    assert upward == []


def test_no_two_units_import_each_other() -> None:
    uses: dict[str, set[str]] = {unit: set() for unit in LEVEL}
    for path in PACKAGE:
        for module, _ in imported(parse(path)):
            if module.split(".")[0] == "attnprobe" and unit_named(module) != unit_of(path):
                uses[unit_of(path)].add(unit_named(module))
    graphlib.TopologicalSorter(uses).prepare()  # raises CycleError


def test_units_import_only_the_libraries_that_they_may() -> None:
    foreign = [
        f"{shown(path)}:{line} imports {module}"
        for path in PACKAGE
        for module, line in imported(parse(path))
        if (top := module.split(".")[0]) not in sys.stdlib_module_names | {"attnprobe"}
        and top not in ONLY.get(unit_of(path), {top})
    ]
    assert foreign == []


def test_heavy_libraries_are_imported_inside_functions() -> None:
    early = [
        f"{shown(path)}:{line} imports {module}"
        for path in PACKAGE
        for module, line in imported_early(parse(path))
        if module.split(".")[0] in LATE
    ]
    assert early == []


def test_commands_and_cli_import_no_array_library_when_they_are_imported() -> None:
    early = [
        f"{shown(path)}:{line} imports {module}"
        for path in PACKAGE
        if unit_of(path) in {"cli", "commands", "__main__"}
        for module, line in imported_early(parse(path))
        if module not in {"attnprobe", "attnprobe.errors", "attnprobe.cli"}
        and not module.startswith("attnprobe.commands.")
        and module.split(".")[0] not in sys.stdlib_module_names
    ]
    assert early == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from attnprobe.layouts import rows", ["attnprobe.layouts"]),
        ("from attnprobe import layouts, __version__", ["attnprobe.layouts"]),
        ("from attnprobe import attention_that_is_no_module", ["attnprobe"]),
        ("def f():\n    import cupy as cp", ["cupy"]),
    ],
)
def test_the_reader_of_imports_reads_them(text: str, found: list[str]) -> None:
    assert [module for module, _ in imported(ast.parse(text))] == found


def test_the_reader_of_early_imports_leaves_out_the_late_ones() -> None:
    text = """\
import a
if TYPE_CHECKING:
    import b
def f():
    import c
try:
    import d
except ImportError:
    pass
class E:
    import e
    def g(self):
        import g
"""
    assert {module for module, _ in imported_early(ast.parse(text))} == {"a", "d", "e"}


def test_every_module_says_its_subject_in_its_first_line() -> None:
    def subject(path: Path) -> str:
        return (ast.get_docstring(parse(path)) or "").split("\n")[0]

    silent = [shown(path) for path in PYTHON if not subject(path) and path.stat().st_size]
    unfinished = [
        shown(path) for path in PYTHON if subject(path) and subject(path)[-1] not in ".:?"
    ]
    assert silent == []
    assert unfinished == []


def test_no_file_is_so_long_that_it_has_two_subjects() -> None:
    def lines(path: Path) -> int:
        return len(path.read_text(encoding="utf-8").splitlines())

    too_long = {shown(path): lines(path) for path in PYTHON if lines(path) > MAX_LINES}
    too_long |= {shown(path): lines(path) for path in KERNELS if lines(path) > MAX_KERNEL_LINES}
    assert too_long == {}


def test_kernels_include_nothing_but_kernels() -> None:
    outside = [
        f"{shown(path)}: {name}"
        for path in KERNELS
        for name in re.findall(r"^\s*#\s*include\s*(\S+)", path.read_text("utf-8"), re.MULTILINE)
        if not any(
            (folder / name.strip('"')).is_file() for folder in (path.parent, ROOT / "kernels")
        )
    ]
    assert outside == []


def test_attention_kernels_have_no_assembly_of_their_own() -> None:
    attention = [path for path in KERNELS if path.is_relative_to(ROOT / "kernels" / "attention")]
    assert [
        shown(path) for path in attention if re.search(r"\basm\b", path.read_text("utf-8"))
    ] == []


def test_nothing_names_a_path_of_one_machine() -> None:
    of_a_machine = re.compile(r"(?<![\w.\-])/(?:work|home|root|tmp|Users|mnt)/")
    kinds = {".py", ".md", ".toml", ".cu", ".cuh", ".json", ".txt", ".yml", ".sh"}
    folders = ("attnprobe", "tests", "tools", "benchmarks", "kernels", "probes", "docs", ".ci")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    files += ROOT.glob("*.*")
    files.append(ROOT / "Makefile")
    named = [
        f"{shown(path)}:{number}"
        for path in files
        if path.is_file() and (path.suffix in kinds or path.name in {"Makefile", "run"})
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if of_a_machine.search(line)
    ]
    assert named == []
