"""Formats kernels/ with clang-format, or checks that it is formatted.

clang-format is the pip package of that name, so every machine has the version of pyproject.toml.
"""

from __future__ import annotations

import argparse
import difflib
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def kernel_files() -> list[Path]:
    """Return every source below kernels/."""
    return sorted((ROOT / "kernels").rglob("*.cu")) + sorted((ROOT / "kernels").rglob("*.cuh"))


def clang_format() -> str:
    """Return the clang-format beside this interpreter.

    Raises
    ------
    SystemExit
        If it is not installed; says how to install it.
    """
    program = Path(sysconfig.get_path("scripts")) / "clang-format"
    if not program.is_file():
        sys.exit("clang-format is not installed; install it with: pip install -e '.[check]'")
    return str(program)


def formatted(path: Path) -> str:
    """Return the file's text as the style at the root wants it."""
    command = [clang_format(), "--style=file", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main() -> int:
    """Format, or check; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 on a difference"
    )
    parser.add_argument("files", nargs="*", type=Path, help="these files only")
    args = parser.parse_args()
    different = 0
    for path in args.files or kernel_files():
        before, after = path.read_text(encoding="utf-8"), formatted(path)
        if before == after:
            continue
        different += 1
        shown = path.resolve().relative_to(ROOT).as_posix()
        if args.check:
            lines = difflib.unified_diff(
                before.splitlines(), after.splitlines(), shown, "formatted", lineterm="", n=1
            )
            print("\n".join(lines))
        else:
            path.write_text(after, encoding="utf-8")
            print(f"formatted {shown}")
    if args.check and different:
        print(f"{different} files differ; run: python tools/format_kernels.py", file=sys.stderr)
    return 1 if args.check and different else 0


if __name__ == "__main__":
    sys.exit(main())
