"""What regression runs on real devices found, from tests/recorded/regress-*.json, explained."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doc_sections import markdown_table, section

ROOT = Path(__file__).resolve().parent.parent.parent
RECORDS = ROOT / "tests" / "recorded"
FAILED = ("refused", "error", "crashed", "timeout")

Record = dict[str, Any]


@dataclass(frozen=True)
class Explained:
    """One difference that records show, and what is behind it.

    Attributes
    ----------
    targets : names of the targets that show it.
    jobs : pattern of case/fill; the whole of it.
    why : what the target does, and why.
    """

    targets: tuple[str, ...]
    jobs: str
    why: str


EXPLAINED: tuple[Explained, ...] = (
    Explained(
        ("torch:flash", "torch:cudnn"),
        "(scale 0: equal weights|negative scale)/.*",
        "NaN. FlashAttention-2 multiplies masked scores by the scale in the exponent: -inf × 0 is "
        "NaN, and a negative scale makes it +inf. cuDNN gives the same. Both take a scale above 0 "
        "for granted.",
    ),
    Explained(
        ("torch:cudnn",),
        ".*rows with no key/.*",
        "A row whose mask hides every key is not 0 but what it would be without the mask, to about "
        "1e-3: the mask is added as a large finite number, which the softmax takes out again.",
    ),
    Explained(
        ("torch:flash",),
        "rows at odd elements/.*",
        "CUDA's misaligned address: FlashAttention-2 loads 16 bytes at once, and torch does not "
        "ask where rows begin. The process is lost, and the rig goes on in another.",
    ),
    Explained(
        ("torch:cudnn",),
        "(rows at odd elements|head_dim 64, V of 208)/.*",
        "Wrong without a word: rows that begin at no multiple of 16 bytes are read from another "
        "place, here from the NaN beside them.",
    ),
    Explained(
        ("torch:flash",),
        ".*/(nan_in_q|nan_in_k|inf_in_q)",
        "LSE of a row that sees NaN. O is NaN as it should be, but the kernel takes a sum that is "
        "NaN for that of a row with no key: LSE is +inf, or where the keys are split, that of the "
        "other splits.",
    ),
    Explained(
        ("torch:cudnn", "torch:efficient"),
        ".*/(nan_in_k|nan_in_v|inf_in_v)",
        "NaN or infinity in a key that the mask hides reaches the rows that do not see it: the "
        "mask is added to scores that are NaN already, and P = 0 still meets V.",
    ),
)


def records() -> list[Record]:
    """Return the records by target."""
    paths = sorted(RECORDS.glob("regress-*.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def failures(record: Record) -> list[Record]:
    """Return the results that a target is at fault for."""
    return [each for each in record["results"] if each["verdict"] in FAILED]


def explanation(target: str, job: str) -> Explained | None:
    """Return what is known of a failure of ``target`` on ``job``, case/fill."""
    fitting = (row for row in EXPLAINED if target in row.targets and re.fullmatch(row.jobs, job))
    return next(fitting, None)


def job_of(result: Record) -> str:
    """Return case/fill of a result."""
    return f"{result['case']}/{result['fill']}"


@section("docs/rig.md", "regress")
def regress() -> str:
    """Verdicts of every record, then the differences with what is behind them."""
    found = records()
    if not found:
        return "No record yet: `attnprobe regress --full --record` on a GPU writes one."
    e = found[0]["environment"]
    versions = ", ".join(f"{name} {e[name]}" for name in ("driver", "nvrtc", "cupy") if name in e)
    with_torch = next((r["environment"] for r in found if "torch" in r["environment"]), {})
    torch = f", torch {with_torch['torch']}, cuDNN {with_torch['cudnn']}" if with_torch else ""
    parts = [f"{e['device']}, {versions}{torch}, {found[0]['date'][:10]}.", _verdicts(found)]
    differences = _differences(found)
    if differences:
        parts += [
            "What was refused of kernels not broken on purpose, and why:",
            differences,
        ]
    parts += [_of_mutant(record) for record in found if record["target"].startswith("mutant:")]
    return "\n\n".join(parts)


def _verdicts(found: list[Record]) -> str:
    rows = []
    for record in found:
        counts = Counter(each["verdict"] for each in record["results"])
        failed = sum(counts[verdict] for verdict in FAILED)
        sound = [each for each in record["results"] if each["verdict"] == "sound"]
        rows.append(
            [
                f"`{record['target']}`",
                record["command"].split()[-1],
                counts["sound"],
                failed,
                counts["not applicable"],
                record["left"],
                _worst(sound, "o_share"),
                _worst(sound, "lse_share"),
                f"{record['seconds']:.0f}",
            ]
        )
    header = [
        "target",
        "run",
        "sound",
        "refused",
        "n/a",
        "not run",
        "O of bound",
        "LSE of bound",
        "s",
    ]
    return markdown_table(header, rows)


def _worst(results: list[Record], name: str) -> str:
    """Return the greatest share among sound results."""
    shares = [each[name] for each in results if each.get(name) is not None]
    return f"{max(shares):.2g}" if shares else "-"


def _differences(found: list[Record]) -> str:
    rows: dict[tuple[str, str], list[str]] = {}
    for record in found:
        if record["target"].startswith("mutant:"):
            continue
        for each in failures(record):
            row = explanation(record["target"], job_of(each))
            why = row.why if row else "not explained"
            rows.setdefault((f"`{record['target']}`", why), []).append(job_of(each))
    lines = [[target, _listed(jobs), why] for (target, why), jobs in rows.items()]
    return markdown_table(["target", "case/fill", "what is behind it"], lines) if lines else ""


def _listed(jobs: list[str]) -> str:
    """Return some names of jobs, and how many more there are."""
    more = f" and {len(jobs) - 4} more" if len(jobs) > 4 else ""
    return "; ".join(jobs[:4]) + more


def _of_mutant(record: Record) -> str:
    likely = record["likely"] or {"text": "no guess", "jobs": 0, "refused": 0}
    return (
        f"`{record['target']}`, by `{record['command']}`, in {record['seconds']:.0f} s: "
        f"{len(failures(record))} of {len(record['results'])} jobs refused. The guess, in "
        f"{likely['jobs']} of {likely['refused']}: {likely['text']}."
    )
