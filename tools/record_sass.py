"""Writes attnprobe/layouts/data/sass.json: what ptxas makes of each row, on each GPU.

Every row is assembled with NVRTC for each target that takes it, and the tensor-core instructions of
the result are read with nvdisasm (given as the argument, or found on the path; it comes with the
CUDA toolkit). What is recorded is the machine code, not a run.

    python tools/record_sass.py [NVDISASM]
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]  # a checkout need not be installed

from attnprobe import compile as compiler  # noqa: E402
from attnprobe import layouts, nvrtc  # noqa: E402
from attnprobe.layouts import Instruction, hardware  # noqa: E402
from tests.layouts.test_rows_assemble import ptx_version, runs_on, source, version  # noqa: E402

TARGETS = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120a")
BATCH = 300

_FUNCTION = re.compile(r"^\.text\.k(\d+):$")
_OPCODE = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)")
_TENSOR = re.compile(r"^(?:[HIBDQO]G?MMA|LDSM|STSM|MOVM)\b")
_ARITHMETIC = re.compile(r"^(?:HADD2|HMUL2|HFMA2|FADD|FMUL|FFMA|SHFL|IMAD|IDP|LOP3|POPC)\b")


def main() -> int:
    """Assemble all rows for all targets and write the record; return the exit code."""
    nvdisasm = sys.argv[1] if len(sys.argv) > 1 else shutil.which("nvdisasm")
    if nvdisasm is None:
        print("nvdisasm was not found; give its path", file=sys.stderr)
        return 1
    found: dict[str, dict[str, str]] = {}
    for target in TARGETS:
        rows = [row for row in layouts.rows() if not row.measured and runs_on(row, target)]
        rows = [row for row in rows if version(row) <= ptx_version()]
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            for row, code in zip(batch, _codes(nvdisasm, batch, target), strict=True):
                _keep(found, row, target, code)
        print(f"{target}: {len(rows)} rows", file=sys.stderr)
    record = {"nvrtc": nvrtc.identity().shown, "rows": found}
    text = json.dumps(record, indent=0, sort_keys=True) + "\n"
    hardware.RECORD.write_text(text, encoding="utf-8")
    return 0


def _keep(found: dict[str, dict[str, str]], row: Instruction, target: str, code: str) -> None:
    """Keep the code of a row; rows of wgmma that differ in N must agree, and are kept once."""
    name, code = hardware.key(row), hardware.generic(row, code)
    old = found.setdefault(name, {}).setdefault(target, code)
    if old != code:
        raise ValueError(f"{row.ptx} on {target}: {code}, but other widths are {old}")


def _codes(nvdisasm: str, rows: list[Instruction], target: str) -> list[str]:
    """Return the tensor-core instructions of each row: ``2x HMMA.16816.F32``, else its others."""
    cubin, _ = compiler.cubin(source(rows), target)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        listing = subprocess.run(
            [nvdisasm, "-c", file.name], capture_output=True, text=True, check=True
        ).stdout
    return [_summary(ops) for ops in _functions(listing.splitlines(), len(rows))]


def _functions(lines: Iterable[str], count: int) -> list[list[str]]:
    functions: list[list[str]] = [[] for _ in range(count)]
    current: list[str] = []
    for line in lines:
        start, opcode = _FUNCTION.match(line), _OPCODE.match(line)
        if start is not None:
            current = functions[int(start[1])]
        elif opcode is not None:
            current.append(opcode[1])
    return functions


def _summary(ops: list[str]) -> str:
    tensor = Counter(op for op in ops if _TENSOR.match(op))
    if not tensor:
        kinds = sorted({op.split(".")[0] for op in ops if _ARITHMETIC.match(op)})
        return "no tensor core: " + ", ".join(kinds)
    return " + ".join(f"{count}x {op}" if count > 1 else op for op, count in tensor.items())


if __name__ == "__main__":
    sys.exit(main())
