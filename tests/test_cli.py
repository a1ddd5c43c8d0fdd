"""The command line as a whole: help, exit codes, messages, and what it does not import."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

import attnprobe
from attnprobe import cli, errors

HEAVY = ("numpy", "cupy", "rich", "ml_dtypes")


def run_python(*args: str, **kwargs: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args], capture_output=True, text=True, timeout=60, **kwargs
    )  # type: ignore[call-overload,no-any-return]


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield the parser and all parsers below it."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from parsers(below)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[BaseException]]:
    """Make ``attnprobe layout list`` raise the last exception of the list that is handed out."""
    raised: list[BaseException] = []

    def run(args: argparse.Namespace) -> int:
        raise raised[-1]

    monkeypatch.setattr("attnprobe.commands.layout.run_list", run)
    return raised


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"attnprobe {attnprobe.__version__}\n"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"    {name} " in out for name in cli.COMMANDS)


def test_every_command_s_help_has_examples() -> None:
    without = [
        parser.prog
        for parser in parsers(cli.build_parser())
        if "attnprobe " not in (parser.epilog or "")
    ]
    assert without == []


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from attnprobe.cli import main; main(['layout', 'show', '--help']); "
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    assert run_python("-c", code).stderr == "[]\n"


def test_importing_the_package_imports_neither_cupy_nor_rich() -> None:
    code = "import sys, attnprobe; print([n for n in ('cupy', 'rich') if n in sys.modules])"
    assert run_python("-c", code).stdout == "[]\n"


def test_python_m_attnprobe_is_the_command() -> None:
    done = run_python("-m", "attnprobe", "layout", "list", "ldmatrix", "m8n8.x4.trans", "--json")
    assert done.returncode == 0
    assert done.stderr == ""
    assert [row["family"] for row in json.loads(done.stdout)] == ["ldmatrix"]


@pytest.mark.parametrize(
    "argv",
    [[], ["no-such-command"], ["layout"], ["layout", "show"], ["layout", "list", "--nothing"]],
)
def test_a_mistake_in_the_call_is_exit_code_2_and_says_usage(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("usage: attnprobe")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UsageError("no such name"), 2),
        (errors.ProblemError("head_dim 80"), 2),
        (errors.DeviceError("no GPU"), 3),
        (errors.CompileError("NVRTC refused", "line 3: error"), 4),
        (errors.UnsupportedError("not on sm_75"), 5),
        (errors.EmulatorError("out of bounds"), 1),
    ],
)
def test_an_error_is_a_message_on_stderr_and_its_exit_code(
    error: errors.AttnprobeError,
    code: int,
    command: list[BaseException],
    capsys: pytest.CaptureFixture[str],
) -> None:
    command.append(error)
    assert cli.main(["layout", "list"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"attnprobe: {error}\n"


@pytest.mark.parametrize(
    "argv",
    [["--debug", "layout", "list"], ["layout", "--debug", "list"], ["layout", "list", "--debug"]],
)
def test_debug_shows_the_traceback_wherever_it_stands(
    argv: list[str], command: list[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    command.append(errors.DeviceError("no GPU"))
    assert cli.main(argv) == 3
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert err.endswith("attnprobe.errors.DeviceError: no GPU\n")


def test_a_fault_of_our_own_is_told_from_a_user_s_mistake(
    command: list[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    command.append(ZeroDivisionError("division by zero"))
    assert cli.main(["layout", "list"]) == cli.INTERNAL_ERROR
    expected = "attnprobe: ZeroDivisionError: division by zero (--debug shows where)\n"
    assert capsys.readouterr().err == expected


def test_an_interrupt_is_exit_code_130_without_a_traceback(
    command: list[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    command.append(KeyboardInterrupt())
    assert cli.main(["layout", "list"]) == 130
    assert capsys.readouterr().err == "attnprobe: interrupted\n"


def test_a_reader_that_stops_reading_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "attnprobe", "layout", "show", "m16n8k8 bf16"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    os.close(write)
    assert done.returncode == cli.BROKEN_PIPE
    assert done.stderr == ""
