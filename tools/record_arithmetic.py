"""Record what only a GPU can show about arithmetic: ex2, scalars, products, attention, to the bit.

    python tools/record_arithmetic.py                            # on a GPU; about two minutes
    python tools/record_arithmetic.py --only attention           # after a change of its kernels
    python tools/record_arithmetic.py --backend emulator --out DIR --quick     # a rehearsal

Writes ex2.xz, scalars.json, attention.json and attention_launches.xz, questions.json, tiles.json
and wgmma.json to probes/recorded/<arch>/arithmetic/, and compares all but attention with the rules
at once: what
differs is printed. The operands of differing products (differences.npz) and O and LSE whole
(attention_results.npz) go to build/arithmetic/, or details/ in --out: they are for looking at, not
for keeping. Exits 1 if anything differs, 3 without a GPU.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]  # a checkout need not be installed

import numpy as np  # noqa: E402

from attnprobe import layouts  # noqa: E402
from attnprobe.backends.base import Backend  # noqa: E402
from attnprobe.backends.emulator import EmulatorBackend  # noqa: E402
from attnprobe.errors import AttnprobeError  # noqa: E402
from attnprobe.layouts import Instruction  # noqa: E402
from attnprobe.numerics import recorded_attention, recorded_launches  # noqa: E402
from attnprobe.probing import (  # noqa: E402
    arithmetic,
    evidence,
    scalars,
    tiles,
    warpgroup_arithmetic,
)
from attnprobe.ptx import exact_ex2, exact_plan  # noqa: E402

PARTS = ("ex2", "scalars", "attention", "questions", "tiles", "wgmma")
KEPT = 200  # differing elements of one instruction that are written out
QUICK_TILES = 60


class Session:
    """One recording.

    Attributes
    ----------
    backend : what answers.
    out : folder that the files go to.
    details : folder for what is to be looked at, not kept.
    environment : what the files say they come from.
    quick : a few tiles and cases only.
    problems : what differs from the rules.
    """

    def __init__(self, backend: Backend, out: Path, command: str, quick: bool) -> None:
        self.backend = backend
        self.out = out
        self.details = (
            ROOT / "build" / "arithmetic" if out == evidence.folder() else out / "details"
        )
        self.environment = {**backend.environment(), "command": command}
        self.quick = quick
        self.problems: list[str] = []
        self.differing: dict[str, Any] = {}

    def say(self, text: str) -> None:
        """Print one line at once."""
        print(text, flush=True)

    def problem(self, text: str) -> None:
        """Note that something differs."""
        self.problems.append(text)
        self.say(f"DIFFERS {text}")

    def ex2(self) -> None:
        """Record the table of ex2.approx, and use it from here on."""
        bits = scalars.table(self.backend)
        differences = bits.astype(np.int64) - exact_ex2.rounded().astype(np.int64)
        counts = {
            int(d): int(n) for d, n in zip(*np.unique(differences, return_counts=True), strict=True)
        }
        self.say(f"ex2: differences from correct rounding {counts}")
        if np.abs(differences).max() > 1:
            self.problem("ex2: the table is more than one unit off correct rounding")
            return
        data = exact_ex2.pack(differences.astype(np.int8))
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / exact_ex2.FILE).write_bytes(data)
        exact_ex2.install(differences.astype(np.int8))

    def scalars(self) -> None:
        """Record hashes of the scalar instructions; compare with the emulator."""
        rule = EmulatorBackend(checked=False, mma="exact")
        found = evidence.record_scalars(self.backend)
        expected = evidence.record_scalars(rule)
        for scalar in scalars.SCALARS:
            for regime in scalars.REGIMES:
                if found[scalar.ptx][regime]["hash"] != expected[scalar.ptx][regime]["hash"]:
                    self._scalar_differs(scalar, regime, rule)
        evidence.save(self.out / "scalars.json", self.environment, "scalars", found)

    def _scalar_differs(self, scalar: scalars.Scalar, regime: str, rule: Backend) -> None:
        words = scalars.words(scalar.ptx, regime)
        there, here = (scalars.ask(scalar, regime, one) for one in (self.backend, rule))
        at = np.flatnonzero(there != here)
        shown = [
            " ".join(f"{array[i]:08x}" for array in (*words, there, here)) for i in at[:6].tolist()
        ]
        self.problem(
            f"{scalar.ptx}, {regime}: {at.size} of {there.size}; a b c there here: {shown}"
        )

    def questions(self) -> None:
        """Record the answers to all questions; compare with the rule."""
        rows = arithmetic.rows()
        if self.quick:
            rows = tuple(row for row in rows if row.shape in ((16, 8, 16), (16, 8, 8)))
        data = self._asked(self._that_run(rows))
        evidence.save(self.out / "questions.json", self.environment, "questions", data)

    def _that_run(self, rows: tuple[Instruction, ...]) -> tuple[Instruction, ...]:
        """Return the rows whose kernel compiles and runs; the others are problems."""
        found = []
        for row in rows:
            regime = next(iter(tiles.regimes(row)))
            try:
                self._products_of(row)(tiles.make(row, regime, 0, 1))
            except AttnprobeError as error:
                self.problem(f"{row.ptx} does not run: {error}")
            else:
                found.append(row)
        return tuple(found)

    def _asked(self, rows: tuple[Instruction, ...]) -> evidence.Json:
        data = evidence.record_questions(rows, self._products_of)
        for outcome in evidence.recorded_outcomes({"questions": data}, rows):
            wrong = np.flatnonzero(outcome.answers != outcome.predicted)
            if wrong.size:
                shown = [
                    f"{outcome.packed.says[i]}: {outcome.answers[i]:x} not {outcome.predicted[i]:x}"
                    for i in wrong[:8].tolist()
                ]
                self.problem(f"{outcome.question.name}, {outcome.row.ptx}: {wrong.size}; {shown}")
        return data

    def tiles(self) -> None:
        """Record hashes of random tiles of every product; compare with the rule."""
        data = self._multiplied(self._that_run(arithmetic.rows()))
        evidence.save(self.out / "tiles.json", self.environment, "tiles", data)

    def _multiplied(self, rows: tuple[Instruction, ...]) -> evidence.Json:
        data = {}
        for row in rows:
            count = QUICK_TILES if self.quick else evidence.tile_count(row, rows)
            there, here = evidence.record_tiles(row, count, self._products_of(row), rule_of(row))
            wrong = evidence.differing_chunks(there, here)
            if wrong:
                self.problem(f"tiles, {row.ptx}: chunks {wrong}")
                self._tiles_differ(row, wrong[0], count)
            data[row.ptx] = there
        return data

    def wgmma(self) -> None:
        """Record questions and tiles of wgmma, which the emulator has not."""
        if self.backend.name != "gpu":
            self.say("wgmma: the emulator does not run it; left out")
            return
        rows = self._that_run(tuple(map(warpgroup_arithmetic.twin, warpgroup_arithmetic.rows())))
        data = {"questions": self._asked(rows), "tiles": self._multiplied(rows)}
        evidence.save(self.out / "wgmma.json", self.environment, "wgmma", data)

    def _products_of(self, row: Instruction) -> evidence.Multiply:
        if row.family == "wgmma":
            whole = layouts.exact(row.ptx)
            assert whole is not None
            return lambda held: warpgroup_arithmetic.products(whole, held, self.backend)
        return lambda held: arithmetic.products(row, held, self.backend)

    def _tiles_differ(self, row: Any, chunk: str, count: int) -> None:
        """Keep operands and results of some elements of the first chunk that differs."""
        regime, number = chunk.split()
        sizes = {(name, i): size for name, i, size in evidence.chunks(row, count)}
        held = tiles.make(row, regime, int(number), sizes[regime, int(number)])
        there = self._products_of(row)(held)
        here = exact_plan.tiles(row, *held)
        t, i, j = np.nonzero(there != here)
        self.say(f"  {regime}: {t.size} of {there.size} elements")
        t, i, j = t[:KEPT], i[:KEPT], j[:KEPT]
        name = row.ptx
        parts = {"a": held[0][t, i], "b": held[1][t, :, j], "c": held[2][t, i, j]}
        parts |= {"there": there[t, i, j], "here": here[t, i, j]}
        self.differing |= {f"{name}|{regime}|{part}": array for part, array in parts.items()}

    def attention(self) -> None:
        """Record O and LSE of all cases; the tests compare them, which takes a minute."""
        on_gpu = self.backend.name == "gpu"
        run = recorded_attention.on_gpu if on_gpu else recorded_attention.on_emulator
        names = list(recorded_attention.cases())[:: 9 if self.quick else 1]
        data, results, launches = {}, {}, {}
        for name in names:
            data[name], (o, lse) = recorded_attention.record(name, run)
            launches[name] = recorded_attention.launch_of(name)
            results |= {f"{name}|O": bits(o), f"{name}|LSE": bits(lse)}
        evidence.save(self.out / "attention.json", self.environment, "attention", data)
        recorded_launches.save(self.out / recorded_attention.LAUNCHES, launches)
        arrays: dict[str, Any] = results
        self.details.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(self.details / "attention_results.npz", **arrays)

    def finish(self) -> int:
        """Write out what differs and return the exit code."""
        if self.differing:
            arrays: dict[str, Any] = self.differing
            self.details.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(self.details / "differences.npz", **arrays)
        self.say(f"{len(self.problems)} differences from the rules")
        return 1 if self.problems else 0


def rule_of(row: Instruction) -> evidence.Multiply:
    """Return what the rule makes of ``row``'s tiles."""
    return lambda held: exact_plan.tiles(row, *held)


def bits(array: Any) -> Any:
    """Return an array as unsigned integers of its width."""
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")


def main() -> int:
    """Record, compare; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=PARTS, action="append", help="record this part alone")
    parser.add_argument("--backend", choices=("gpu", "emulator"), default="gpu")
    parser.add_argument("--out", type=Path, help="folder to write to; the shipped one by default")
    parser.add_argument("--quick", action="store_true", help="few tiles and cases: a rehearsal")
    arguments = parser.parse_args()
    if arguments.backend == "emulator" and arguments.out is None:
        parser.error("--backend emulator is a rehearsal and needs --out")
    try:
        backend = _backend(arguments.backend)
        parts = [
            f"--only {part}" for part in arguments.only or ()
        ]  # where files went is no evidence
        command = " ".join(["python tools/record_arithmetic.py", *parts])
        out = arguments.out or evidence.folder(backend.cc)
        session = Session(backend, out, command, arguments.quick)
        for part in arguments.only or PARTS:
            start = time.monotonic()
            try:
                getattr(session, part)()
            except Exception:  # the other parts are worth having all the same
                session.problem(f"{part} broke off:\n{traceback.format_exc()}")
            session.say(f"{part}: {time.monotonic() - start:.0f} s")
    except AttnprobeError as error:
        print(f"record_arithmetic: {error}", file=sys.stderr)
        return error.exit_code
    return session.finish()


def _backend(name: str) -> Backend:
    """Return the GPU, or the emulator in exact mode with a table of its own.

    Raises
    ------
    DeviceError
        If there is no usable GPU.
    """
    if name == "gpu":
        from attnprobe.backends.gpu import GpuBackend

        return GpuBackend()
    if not exact_ex2.path().is_file():
        exact_ex2.install(np.zeros(exact_ex2.SIZE, np.int8))
    return EmulatorBackend(checked=False, mma="exact")


if __name__ == "__main__":
    raise SystemExit(main())
