"""The process that a target runs in: ``python -m attnprobe.rig.worker``, one job a line.

It reads an order and then jobs from stdin, and answers in lines of JSON on what was stdout. The
target's own prints go to stderr, where they cannot be taken for answers.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from attnprobe.errors import AttnprobeError, UsageError
from attnprobe.rig import judging, suite, targets
from attnprobe.rig.crew import Order
from attnprobe.rig.report import ERROR

_PR_SET_PDEATHSIG = 1  # Source: prctl(2)

Say = Callable[[dict[str, Any]], None]


def main() -> int:
    """Load the target, answer jobs until stdin ends."""
    _die_with_parent()
    say = _private_stdout()
    order = Order(**json.loads(sys.stdin.readline()))
    try:
        opened = targets.find(order.target, order.signature).open(order.arrays)
        environment = opened.environment()
    except AttnprobeError as error:
        say({"failed": str(error), "exit_code": error.exit_code})
        return 0
    except Exception as error:  # whatever importing somebody's module raises
        text = f"target {order.target!r} cannot be loaded: {type(error).__name__}: {error}"
        say({"failed": text, "exit_code": UsageError.exit_code})
        return 0
    say({"ready": environment})
    for line in sys.stdin:
        asked = json.loads(line)
        job = replace(suite.find(asked["job"]), relations=tuple(asked["relations"]))
        result = judging.judged(job, opened, lambda calling: say({"calling": calling}))
        lost = result.verdict == ERROR and not opened.alive()
        say({"result": result.as_json(), "lost": lost})
        if lost:  # the next job would be blamed for what this one did
            return 1
    return 0


def _private_stdout() -> Say:
    """Return what writes a line to stdout; whatever else writes there writes to stderr now."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(message: dict[str, Any]) -> None:
        stream.write(json.dumps(message) + "\n")
        stream.flush()

    return say


def _die_with_parent() -> None:
    """Ask Linux to end this process when its parent is gone: a hung target must not stay behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
