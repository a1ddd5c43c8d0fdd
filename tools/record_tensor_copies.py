"""Record what the GPU of this machine does with bulk tensor copies: where each element goes.

    python tools/record_tensor_copies.py [--out FILE]

Every case of ``attnprobe.probing.tensor_copies`` runs once. What comes is written, whether or not
it is what the tensor maps say, with a hash of each result and the dumps of shared memory as they
are; cases that differ are listed. Tests compare the emulator and the tensor maps with the record.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from attnprobe.backends.gpu import GpuBackend
from attnprobe.probing import evidence, tensor_copies


def main() -> int:
    """Run all cases and write the record; exit code 1 where one differs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, help="the file; default: that of this GPU's arch")
    out = parser.parse_args().out
    backend = GpuBackend()
    found, differing = {}, []
    for case in tensor_copies.cases():
        array = tensor_copies.ask(case, backend)
        found[case.name] = {"hash": evidence.digest(array)}
        if not case.store:
            found[case.name]["dumps"] = evidence.packed(array)
        wrong = int((array != tensor_copies.expected(case)).sum())
        if wrong:
            differing.append(case.name)
            print(f"{case.name}: {wrong} of {array.size} differ", file=sys.stderr)
    record = {
        "schema": tensor_copies.SCHEMA,
        "environment": backend.environment(),
        "cases": found,
    }
    path = out or tensor_copies.record_path(backend.cc)
    path.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{len(found)} cases, {len(differing)} differ; {path}")
    return bool(differing)


if __name__ == "__main__":
    raise SystemExit(main())
