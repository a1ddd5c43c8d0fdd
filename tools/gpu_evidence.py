"""Run what only a GPU can show, and record it: the GPU tests, compute-sanitizer, and repeats.

    python tools/gpu_evidence.py                   # all; needs a GPU, CuPy, compute-sanitizer
    python tools/gpu_evidence.py --only sanitizer

Writes tests/recorded/gpu-<device>.json: device, driver, NVRTC, command, date, what was said.
Exits 1 if anything failed, 3 without a GPU.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]  # a checkout need not be installed

from attnprobe.backends.gpu import GpuBackend  # noqa: E402
from attnprobe.errors import DeviceError  # noqa: E402

SCHEMA = "attnprobe.gpu-evidence/2"
# Runs of compute-sanitizer: tool, cases of TARGET. Where one lane says for its warp what has been
# read, racecheck has a run of its own (TARGET says why); the controls are what it does not follow,
# and the same with a word from each lane.
SANITIZERS = (
    ("memcheck", ""),
    ("racecheck", "rest"),
    ("racecheck", "arriving"),
    ("initcheck", ""),
    ("synccheck", ""),
)
CONTROLS = (("racecheck", "one lane"), ("racecheck", "each lane"))
TARGET = Path(__file__).with_name("sanitizer_target.py")
PROCESSES = 12  # of pytest, and for compiling
QUICK = "gpu and not slow"  # the models' cases have a record of their own: attnprobe regress
MOST_CASES = 40  # that TARGET may have
_CLEAN = re.compile(r"(?:ERROR SUMMARY: 0 errors|RACECHECK SUMMARY: 0 hazards)")
_COUNTS = re.compile(r"(\d+) (passed|failed|skipped|deselected|errors?)")


def main() -> int:
    """Run, print, record; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=PARTS, help="run one part only")
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "recorded")
    arguments = parser.parse_args()
    try:
        environment = GpuBackend().environment()
    except DeviceError as error:
        print(f"gpu_evidence: {error}", file=sys.stderr)
        return error.exit_code
    args = [f"--only {arguments.only}"] if arguments.only else []
    environment["command"] = " ".join(["python tools/gpu_evidence.py", *args])
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"gpu-{environment['device'].lower().replace(' ', '-')}.json"
    asked = PARTS if arguments.only is None else {arguments.only: PARTS[arguments.only]}
    sound = True
    for name, part in asked.items():
        found = {"environment": environment, **part()}
        record = {**_kept(path), name: found}  # kept at once: a later part may be cut off
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        sound = sound and found["ok"]
    print(f"record: {path.name}", file=sys.stderr)
    return 0 if sound else 1


def _kept(path: Path) -> dict[str, Any]:
    """Return the record as it is, so that a run of one part keeps the others."""
    if path.is_file():
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if found.get("schema") == SCHEMA:
            return found
    return {"schema": SCHEMA}


def run_tests() -> dict[str, Any]:
    """Run ``pytest -m gpu`` and return its counts."""
    spread = (
        ["-n", str(PROCESSES), "-p", "no:benchmark"] if importlib.util.find_spec("xdist") else []
    )
    command = [sys.executable, "-m", "pytest", "-m", QUICK, "-q", "--no-header", *spread]
    code, output, seconds = _run(command)
    counts = {name: int(number) for number, name in _COUNTS.findall(output.splitlines()[-1])}
    print(output[-6000:])
    return {
        "command": f"python -m pytest -m '{QUICK}'",
        "ok": code == 0 and counts.get("passed", 0) > 0,
        "counts": counts,
        "seconds": round(seconds, 1),
    }


def run_sanitizers() -> dict[str, Any]:
    """Run all tools of compute-sanitizer side by side."""
    compile_ahead()
    with ThreadPoolExecutor() as pool:  # each has a process of its own
        found = list(pool.map(run_sanitizer, (*SANITIZERS, *CONTROLS)))
    tools, controls = found[: len(SANITIZERS)], found[len(SANITIZERS) :]
    return {"ok": all(tool["ok"] for tool in tools), "tools": tools, "controls": controls}


def run_repeats() -> dict[str, Any]:
    """Repeat every kernel's calls, and return what was found."""
    import repeats

    return repeats.run()


def compile_ahead() -> None:
    """Run the sanitizer's cases side by side without it, so that their kernels are on disk."""
    with ThreadPoolExecutor(PROCESSES) as pool:
        for code, output, _ in pool.map(
            lambda number: _run([sys.executable, str(TARGET), str(number)]), range(MOST_CASES)
        ):
            if code:
                print(output[-1500:])


def run_sanitizer(row: tuple[str, str]) -> dict[str, Any]:
    """Run one tool of compute-sanitizer over some cases and return its summary line."""
    tool, which = row
    program = shutil.which("compute-sanitizer")
    if program is None:
        return {"tool": tool, "ok": False, "summary": "compute-sanitizer is not on the PATH"}
    command = [program, "--tool", tool, "--error-exitcode", "9", sys.executable]
    code, output, seconds = _run([*command, str(TARGET), *([which] if which else [])])
    lines = output.splitlines()
    summary = next((line.strip("= ") for line in reversed(lines) if "SUMMARY" in line), lines[-1])
    cases = sum(line.startswith("case ") for line in lines)
    sound = code == 0 and _CLEAN.search(output) is not None and cases > 0
    if not sound and row not in CONTROLS:
        print("\n".join(lines[-60:]))
    name = f"{tool} {which}".strip()
    print(f"{name}: {summary} ({cases} cases, {seconds:.0f} s)", flush=True)
    return {
        "tool": name,
        "ok": sound,
        "summary": summary,
        "cases": cases,
        "seconds": round(seconds, 1),
    }


def _run(command: list[str]) -> tuple[int, str, float]:
    start = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return (
        done.returncode,
        (done.stdout + done.stderr).strip() or "(no output)",
        time.monotonic() - start,
    )


PARTS = {"tests": run_tests, "sanitizer": run_sanitizers, "repeats": run_repeats}

if __name__ == "__main__":
    raise SystemExit(main())
