"""``attnprobe discover``: find a layout from what the hardware answers alone, with no row."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnprobe.layouts import Fragment, Instruction, wmma

_EXAMPLES = """\
INSTR is a whole mnemonic, or any part that one instruction has. Its formats, shape and
registers are used. The layout row, where there is one, is only compared with what was found.

Without a GPU the recorded dumps of one answer.

examples:
  attnprobe discover m16n8k16.row.col.f32.f16 --backend recorded
  attnprobe discover wmma.load.a.sync.aligned.row.m16n16k16.shared.f16 --backend gpu
  attnprobe discover ldmatrix x4.trans --backend emulator --json
  attnprobe discover --all             every layout, from the recorded dumps: minutes
  attnprobe discover --record          on a GPU: find every wmma fragment, keep dumps and table

exit codes: 0 found (and as the row says, where there is one), 1 it contradicts the row,
            2 a mistake in the call, 3 no usable GPU, 5 no digits were found or nothing could run
"""


NOTHING_FOUND = 5  # the exit code where no digits give what was dumped


def add_parser(subparsers: Any) -> None:
    """Add ``discover``."""
    from attnprobe.commands.probe import add_backend

    parser = subparsers.add_parser(
        "discover",
        help="find a layout from hardware alone: its digits and closed formula",
        description="Finds the layout of an instruction from the dump of a probe, with no row.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("instr", nargs="*", metavar="INSTR", help="a mnemonic, or parts of it")
    add_backend(parser)
    parser.add_argument("--json", action="store_true", help="what was found as one JSON object")
    parser.add_argument(
        "--all", action="store_true", help="find every layout that the backend can answer for"
    )
    parser.add_argument(
        "--record", action="store_true", help="find all wmma fragments of this GPU and keep them"
    )
    parser.add_argument(
        "--record-to", type=Path, metavar="DIR", help="keep dumps and table there instead"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Find, print, and return the exit code.

    Raises
    ------
    UsageError
        For an instruction that does not exist.
    DeviceError
        If a GPU is asked for, or needed to record, and there is none.
    """
    from attnprobe import backends
    from attnprobe.errors import UsageError

    recording = args.record or args.record_to is not None
    backend, said = backends.select(_backend(args.backend, recording))
    print(said, file=sys.stderr)
    if recording:
        return _record(args.record_to, backend)
    if args.all:
        return _find_all(backend)
    if not args.instr:
        raise UsageError("name an instruction: attnprobe discover INSTR; or --record on a GPU")
    return _find(" ".join(args.instr), backend, as_json=args.json)


def _backend(name: str, recording: bool) -> str:
    """Return the backend to ask: for "auto" the GPU, and where there is none its records."""
    from attnprobe.backends import gpu

    if name != "auto":
        return name
    return "gpu" if recording or not gpu.usable() else "recorded"


def _find(text: str, backend: Any, *, as_json: bool) -> int:
    """Find one layout and print it."""
    from attnprobe.errors import LayoutError
    from attnprobe.probing import discovery
    from attnprobe.render import console, discovered, json

    row, has_layout = _row(text)
    try:
        found = discovery.discover(row, backend, compare=has_layout)
    except LayoutError as error:
        print(f"attnprobe: {row.ptx}: nothing was found: {error}", file=sys.stderr)
        return NOTHING_FOUND
    if as_json:
        sys.stdout.write(json.dumps(discovered.as_object(found)))
    else:
        console.write(discovered.as_document(found), sys.stdout)
    if backend.name == "emulator":
        print(
            "the emulator computes from the rows: this shows that discovery works, no more",
            file=sys.stderr,
        )
    return 0 if found.agrees else 1


def _find_all(backend: Any) -> int:
    """Find every layout, print how many of each family are the row, and those that are not."""
    from attnprobe import layouts
    from attnprobe.backends import NotRunError
    from attnprobe.errors import LayoutError
    from attnprobe.probing import discovery

    wrong = 0
    for family in discovery.families():
        counts: dict[str, int] = {}
        for row in layouts.rows(family):
            if not row.runs_on(backend.cc):
                continue
            try:
                verdict = discovery.discover(row, backend).verdict
            except (LayoutError, NotRunError) as error:
                verdict = "nothing found" if isinstance(error, LayoutError) else "not recorded"
            counts[verdict] = counts.get(verdict, 0) + 1
            if verdict in ("not the row", "nothing found"):
                print(f"{verdict}: {row.ptx}")
                wrong += 1
        said = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
        print(f"{family}: {said or 'none'}", flush=True)
    return 1 if wrong else 0


def _row(text: str) -> tuple[Instruction, bool]:
    """Return the instruction that ``text`` names, and whether the catalogue has a layout of it."""
    from attnprobe import layouts
    from attnprobe.layouts import wmma
    from attnprobe.probing import signature

    if layouts.exact(text) is None and text in wmma.load_names() | wmma.store_names():
        return signature.blank(signature.wmma_move(text)), False
    return layouts.find(text), True


def _record(folder: Path | None, backend: Any) -> int:
    """Find all fragments of wmma, check its products, keep dumps and table."""
    from attnprobe.backends.recorded import RecordedBackend, Recorder, default_folder
    from attnprobe.errors import UsageError
    from attnprobe.layouts import wmma
    from attnprobe.probing import wmma_table

    if backend.name == "emulator":
        raise UsageError("wmma has no layout but the hardware's: a GPU is needed, or its records")
    recorder = backend
    if not isinstance(backend, RecordedBackend):
        recorder = Recorder(backend, "attnprobe discover --record")
    failed: list[str] = []
    try:
        table = wmma_table.measure(recorder, lambda name, found: _show(name, found, failed))
        table.save(wmma.TABLE if folder is None else folder / wmma.TABLE.name)
        report = wmma_table.check_products(table, recorder)
    finally:  # what came before an error is evidence all the same
        if isinstance(recorder, Recorder):
            count = recorder.save(folder or default_folder(backend.cc))
            print(f"recorded {count} dumps", file=sys.stderr)
    print(_summary(table, failed, report))
    return NOTHING_FOUND if failed else report.exit_code


def _show(name: str, found: Fragment | Exception, failed: list[str]) -> None:
    if isinstance(found, Exception):  # no digits give what was dumped
        failed.append(name)
        print(f"no digits: {name}: {found}", file=sys.stderr)
    else:
        print(f"{name}: {found.elements} elements of each of {found.lanes} lanes")


def _summary(table: wmma.Table, failed: list[str], report: Any) -> str:
    distinct = len(set(table.fragments.values()))
    products = len(report.results)
    lines = [
        f"{len(table.fragments)} loads and stores have digits, {distinct} different fragments; "
        f"{len(failed)} have none",
        f"{report.count('match')} of {products} products take these fragments",
    ]
    lines += [
        f"  {item.verdict}: {item.ptx} {item.reason}"
        for item in report.results
        if item.verdict != "match"
    ]
    return "\n".join(lines)
