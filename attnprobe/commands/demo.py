"""``attnprobe demo``: the main job in one go: the kernels' probes, then attention on real input."""

from __future__ import annotations

import argparse
import sys
from typing import Any

_EPILOG = """\
Runs on the GPU where CuPy finds one, else on the emulator, and says which.

examples:
  attnprobe demo
  attnprobe demo --backend emulator
"""


def add_parser(subparsers: Any) -> None:
    """Add ``demo``."""
    parser = subparsers.add_parser(
        "demo",
        help="the main job: probes, then attention on the Q, K, V of a real model",
        description="Runs the probes of the instructions that the attention kernels use, then "
        "attention on the Q, K, V of a real model, and prints the error against float64.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--backend",
        choices=("auto", "gpu", "emulator"),
        default="auto",
        help="where to run; auto (the default) takes the GPU when there is one",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print both halves; return 1 if a probe or an error bound fails, else 0."""
    from attnprobe.backends.select import select

    backend, why = select(args.backend)
    environment = backend.environment()
    print(why)
    print("  " + ", ".join(f"{key} {value}" for key, value in environment.items()))
    probes_hold = _probes(backend)
    attention_holds = _attention(backend.name)
    return 0 if probes_hold and attention_holds else 1


def _probes(backend: Any) -> bool:
    from attnprobe import layouts
    from attnprobe.probing import session
    from attnprobe.probing.definition import questions
    from attnprobe.probing.report import MATCH, ProbeResult

    print("\nprobes: does each layout row say what this backend does?")

    def show(result: ProbeResult) -> None:
        print(f"  {result.verdict:9s} {result.probe:22s} {result.ptx}", flush=True)

    rows = [row for row in layouts.rows("mma", "ldmatrix") if _of_16_bits(row)]
    report = session.run(rows, questions(), backend, show)
    matching = sum(result.verdict == MATCH for result in report.results)
    print(
        f"  {matching} of {len(report.results)} match; attnprobe probe --all asks all that there is"
    )
    return matching == len(report.results)


def _of_16_bits(row: Any) -> bool:
    """Whether it is an instruction of the attention kernels' kind: m16n8 products, m8n8 loads."""
    if row.family == "ldmatrix":
        return "m8n8" in row.ptx
    return bool(row.shape[:2] == (16, 8) and row["A"].format.name in ("f16", "bf16"))


def _attention(backend: str) -> bool:
    import numpy as np

    import attnprobe
    from attnprobe.numerics import real
    from attnprobe.numerics.error import compare, expect
    from attnprobe.numerics.reference import Features

    move, back = _movers(backend)
    print("\nattention: Q, K, V of SmolLM2-135M-Instruct, 96 tokens, causal, against float64")
    print(f"  {'layer':>5s} {'max |error| O':>14s} {'of its bound':>12s} {'max |error| LSE':>16s}")
    sound = True
    for layer, (q, k, v) in real.layers().items():
        O, LSE = attnprobe.attention(
            move(q),
            move(k),
            move(v),
            causal=True,
            return_lse=True,
            out=move(np.full_like(q, np.nan)),
        )
        report = compare(expect(q, k, v, Features(causal=True)), back(O), back(LSE))
        assert report.lse is not None
        sound &= report.ok
        verdict = "" if report.ok else "  OVER THE BOUND"
        print(
            f"  {layer:5d} {report.o.max_abs:14.2e} {report.o.share:12.2f} "
            f"{report.lse.max_abs:16.2e}{verdict}",
            flush=True,
        )
        if not report.ok:
            print(report, file=sys.stderr)
    return sound


def _movers(backend: str) -> tuple[Any, Any]:
    """Return how arrays get to the backend and back."""
    import numpy as np

    if backend != "gpu":
        return np.asarray, np.asarray
    import cupy

    return cupy.asarray, cupy.asnumpy
