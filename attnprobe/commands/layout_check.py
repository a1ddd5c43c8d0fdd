"""``attnprobe layout repack --check``: run recipes, compare, and keep what a GPU answers."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnprobe.probing.repack_check import Checked


def run(args: argparse.Namespace) -> int:
    """Run the recipes asked for, print a line each; 0 all match, 1 one does not, 5 nothing ran.

    Raises
    ------
    UsageError
        For an instruction or operand that does not exist.
    DeviceError
        If a GPU is asked for, or needed to record, and there is none.
    """
    from attnprobe import backends
    from attnprobe.backends.recorded import RecordedBackend, Recorder
    from attnprobe.layouts.questions import repack
    from attnprobe.probing import repack_check

    recording = args.record or args.record_to is not None
    name = "gpu" if args.record and args.backend == "auto" else args.backend
    backend, said = backends.select(name)
    if name == "recorded":
        backend = RecordedBackend(repack_check.folder())
    print(said, file=sys.stderr)
    if args.target is None:
        asked: Any = repack_check.known()
    else:
        asked = [repack.repack(args.source, args.target, args.operand, transposed=args.transpose)]
    if recording:
        recorder = Recorder(backend, "attnprobe layout repack --record")
        results = repack_check.check(asked, recorder)
        place = Path(args.record_to) if args.record_to else repack_check.folder(backend.cc)
        print(f"{recorder.save(place)} answers kept in {place}", file=sys.stderr)
    else:
        results = repack_check.check(asked, backend)
    _print(results, args.format)
    return _exit_code(results)


def _print(results: list[Checked], form: str) -> None:
    from dataclasses import asdict

    from attnprobe.render import json

    if form == "json":
        sys.stdout.write(json.dumps([asdict(each) for each in results]))
        return
    for each in results:
        more = each.reason or (f"{each.wrong} of {each.words} words differ" if each.wrong else "")
        line = f"{each.verdict:8}  {each.source} -> {each.target}: {each.how}"
        print(f"{line}; {more}" if more else line)
    verdicts = [each.verdict for each in results]
    counts = ", ".join(f"{verdicts.count(name)} {name}" for name in sorted({*verdicts}))
    print(f"{len(results)} recipes: {counts}")


def _exit_code(results: list[Checked]) -> int:
    verdicts = {each.verdict for each in results}
    if "mismatch" in verdicts:
        return 1
    return 0 if "match" in verdicts else 5
