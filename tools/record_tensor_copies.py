"""Record what the GPU of this machine does with bulk tensor copies: where each element goes.

    python tools/record_tensor_copies.py [--out FILE]

Every case of ``attnprobe.probing.tensor_copies`` runs once. What comes is written, whether or not
it is what the tensor maps say: a hash of each result and the dumps of shared memory as they are. A
case that the GPU refuses ends the process, so another one goes on behind it, and the error is what
is recorded; cases whose refusal is on record are not run again. Tests compare the emulator and the
tensor maps with the record.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from attnprobe.backends.gpu import GpuBackend
from attnprobe.probing import evidence, tensor_copies


def main() -> int:
    """Run all cases and write the record; exit code 1 where one is not as the maps say."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, help="the file; default: that of this GPU's arch")
    parser.add_argument("--missing", action="store_true", help="only what is not on record")
    parser.add_argument("--from", type=int, dest="first", help=argparse.SUPPRESS)
    parser.add_argument("--known", default="[]", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.first is not None:
        return _run(args.first, set(json.loads(args.known)))
    backend = GpuBackend()
    path = args.out or tensor_copies.record_path(backend.cc)
    found = _known(path, "hash" if args.missing else "")
    for number, case in enumerate(tensor_copies.cases()):
        if case.name not in found:
            found |= _process(number, set(found))
    record = {
        "schema": tensor_copies.SCHEMA,
        "environment": backend.environment(),
        "cases": found,
    }
    path.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    wrong = [case.name for case in tensor_copies.cases() if not _as_told(case, found[case.name])]
    for name in wrong:
        print(f"not as told: {name}: {found[name].get('error', 'other words')}")
    print(f"{len(found)} cases, {len(wrong)} not as told; {path}")
    return bool(wrong)


def _known(path: Path, kept: str) -> dict[str, Any]:
    """Return the entries on record that are refusals, or have what is ``kept``."""
    if not path.is_file():
        return {}
    known = json.loads(path.read_text(encoding="utf-8"))["cases"]
    return {name: entry for name, entry in known.items() if "error" in entry or kept in entry}


def _as_told(case: tensor_copies.Case, entry: dict[str, str]) -> bool:
    if case.refused:
        return "error" in entry
    return entry.get("hash") == evidence.digest(tensor_copies.expected(case))


def _process(first: int, known: set[str]) -> dict[str, Any]:
    """Return the entries of the cases from ``first`` on that are not ``known``, up to one that
    ends the process.
    """
    command = [sys.executable, __file__, "--from", str(first), "--known", json.dumps(sorted(known))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = dict(map(json.loads, done.stdout.splitlines()))
    if done.returncode:
        left = [one for one in tensor_copies.cases()[first:] if one.name not in known]
        case = left[len(found)]
        errors = [line for line in done.stderr.splitlines() if "Error:" in line]
        found[case.name] = {"error": errors[0].split("Error: ", 1)[1] if errors else "unknown"}
    return found


def _run(first: int, known: set[str]) -> int:
    """Run the cases from ``first`` on that are not ``known``, and print a line for each."""
    backend = GpuBackend()
    for case in tensor_copies.cases()[first:]:
        if case.name in known:
            continue
        array = tensor_copies.ask(case, backend)
        entry = {"hash": evidence.digest(array)}
        if not case.store:
            entry["dumps"] = evidence.packed(array)
        print(json.dumps((case.name, entry)), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
