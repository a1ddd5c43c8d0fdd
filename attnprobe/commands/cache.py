"""``attnprobe cache``: what the store of compiled kernels on disk holds, and emptying it."""

from __future__ import annotations

import argparse
import datetime
import json
from typing import Any

SCHEMA = "attnprobe.cache/1"
_KEY_SHOWN = 12  # digits of a key that tell entries apart

_EPILOG = """\
The folder is ATTNPROBE_CACHE_DIR, else attnprobe in XDG_CACHE_HOME, else ~/.cache/attnprobe.
ATTNPROBE_CACHE_SIZE_MB bounds it (512; what was used longest ago goes first), ATTNPROBE_CACHE=0
turns it off.

examples:
  attnprobe cache
  attnprobe cache --json
  attnprobe cache --clear
"""


def add_parser(subparsers: Any) -> None:
    """Add ``cache``."""
    parser = subparsers.add_parser(
        "cache",
        help="list or clear the compiled kernels on disk",
        description="Lists the compiled kernels that are kept on disk.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--clear", action="store_true", help="remove them all")
    parser.add_argument("--json", action="store_true", help="one object, all facts")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the entries, what was used last first, or remove them."""
    from attnprobe import cache
    from attnprobe.errors import UsageError

    store = cache.store()
    if store is None:
        raise UsageError("the cache is turned off (ATTNPROBE_CACHE=0), or has no folder")
    if args.clear:
        count, freed = store.clear()
        if args.json:
            print(json.dumps({"schema": SCHEMA, "removed": count, "bytes": freed}))
        else:
            print(f"{count} kernels removed, {_size(freed)} freed: {store.folder}")
        return 0
    entries = store.entries()
    if args.json:
        print(json.dumps(_facts(store, entries), indent=2))
        return 0
    for entry in entries:
        print(_line(entry))
    total = sum(entry.size for entry in entries)
    print(f"{len(entries)} kernels, {_size(total)} of {_size(store.limit)}: {store.folder}")
    return 0


def _facts(store: Any, entries: list[Any]) -> dict[str, Any]:
    listed = [
        {"key": each.key, "bytes": each.size, "used": _when(each.used, "auto"), **each.facts}
        for each in entries
    ]
    return {
        "schema": SCHEMA,
        "folder": str(store.folder),
        "limit_bytes": store.limit,
        "total_bytes": sum(entry.size for entry in entries),
        "entries": listed,
    }


def _line(entry: Any) -> str:
    from attnprobe.render.kernels import shown_macros

    facts = entry.facts
    name = facts.get("kernel", "(damaged)")
    head = f"{entry.key[:_KEY_SHOWN]}  {name:26s} {facts.get('target', '-'):11s}"
    sizes = f"{_size(entry.size):>8s}  {_when(entry.used, 'minutes')}"
    return f"{head} {sizes}  {shown_macros(facts.get('macros', {}))}".rstrip()


def _when(seconds: float, precision: str) -> str:
    """Return a local time with its offset from UTC, as ISO 8601 writes it."""
    when = datetime.datetime.fromtimestamp(seconds).astimezone()
    return when.isoformat(sep=" " if precision == "minutes" else "T", timespec=precision)


def _size(bytes_: int) -> str:
    for unit, scale in (("MB", 1 << 20), ("KB", 1 << 10)):
        if bytes_ >= scale:
            return f"{bytes_ / scale:.1f} {unit}"
    return f"{bytes_} bytes"
