"""What a target is asked: cases x fills x formats, each of them one job, in three sizes of run.

quick   a case for each kind of fault, with the fills that show it: under a minute anywhere
full    every case with its fills, two cases with every fill, real models made small
large   real models in their own sizes as well: minutes, and for a GPU
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from attnprobe.errors import UsageError
from attnprobe.numerics.cases import CASES, Case
from attnprobe.numerics.fills import E4M3_FILLS, FILLS
from attnprobe.numerics.model_cases import FULL as LARGE_MODELS
from attnprobe.numerics.model_cases import SMALL as SMALL_MODELS
from attnprobe.numerics.relations import RELATIONS

DTYPES = ("f16", "bf16", "e4m3")
SIZES = ("quick", "full", "large")

ALL_RELATIONS = tuple(relation.name for relation in RELATIONS)
CHEAP_RELATIONS = ("garbage",)  # with one call more, and that only where there is garbage
CHEAP_ON_A_GPU = ("garbage", "repeat")

# fmt: off
QUICK: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("65 x 65", ("normal", "one_hot", "equal_one_hot", "constant_v", "subnormals", "extremes",
                 "nan_in_v")),
    ("129 x 257", ("normal", "rising", "peaked", "outliers_100", "scores_minus_100",
                   "scores_plus_1000")),
    ("causal 65 x 65", ("normal", "one_hot")),
    ("causal, many tiles", ("normal", "real", "rising")),
    ("causal, more queries: rows with no key", ("normal",)),
    ("four query heads to one, two batches", ("normal", "sink")),
    ("gaps full of NaN", ("normal",)),
    ("window (63, 0) causal", ("normal", "one_hot")),
    ("softcap", ("normal",)),
    ("head_dim 128, bf16, causal", ("normal", "q4")),
    ("SmolLM2-135M, decode, edge +1, small", ("normal",)),
)
# fmt: on
# These two meet every fill in a full run: whole and broken tiles, with and without a mask.
HOMES = ("129 x 257", "causal, many tiles")
TELLING_EDGE = "edge +1"  # where a full run asks all fills of a model: a tile begun by one key
DECODE = "decode, edge +1"  # of a model in its own size, what is quickly worked out in float64


@dataclass(frozen=True)
class Job:
    """One case with one fill in one format.

    Attributes
    ----------
    case : in the format of the job.
    fill : name of its fill.
    relations : names of the demands on several results that are made.
    """

    case: Case
    fill: str
    relations: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """How it is called in reports and between processes: case/fill/dtype."""
        return f"{self.case.name}/{self.fill}/{self.case.dtype}"

    @property
    def kernel(self) -> str:
        """What jobs have in common that run the same kernel: one worker compiles for all."""
        case = self.case
        sizes, asked = case.sizes, sorted(case.features.arguments())
        return repr((case.entry, case.dtype, sizes.head_dim, sizes.v_head_dim, asked))

    @property
    def wanted(self) -> tuple[str, ...]:
        """Names of what it asks for: features that are not the default, and facts of shape."""
        sizes = self.case.sizes
        shape = [
            ("gqa", sizes.group > 1),
            ("v_head_dim", sizes.v_head_dim not in (0, sizes.head_dim)),
        ]
        return (*self.case.features.arguments(), *(name for name, asked in shape if asked))


def every_case() -> dict[str, Case]:
    """Return all cases by name."""
    return {case.name: case for case in (*CASES, *SMALL_MODELS, *LARGE_MODELS)}


def find(name: str) -> Job:
    """Return the job called ``name``.

    Raises
    ------
    UsageError
        If there is none.
    """
    case, fill, dtype = [*name.rsplit("/", 2), "", ""][:3]
    found = every_case().get(case)
    if found is None or fill not in FILLS or dtype not in DTYPES:
        raise UsageError(f"no job {name!r}; a job is case/fill/dtype")
    return Job(replace(found, dtype=dtype), fill)


def select(
    size: str = "quick",
    *,
    on_gpu: bool = False,
    cases: tuple[str, ...] = (),
    fills: tuple[str, ...] = (),
    dtype: str = "",
) -> tuple[Job, ...]:
    """Return the jobs of a run.

    Parameters
    ----------
    size : of SIZES.
    on_gpu : the target runs on a GPU, where one call more costs little.
    cases : names of cases, or parts of them, of any size; those of ``size`` where there are none.
    fills : names of fills, for every chosen case; each case's own where there are none.
    dtype : format of every case; each case's own where it is "".
    """
    pairs = _named(cases) if cases else _of_size(size, on_gpu)
    if fills:
        pairs = [
            (case, fill) for case in dict.fromkeys(case for case, _ in pairs) for fill in fills
        ]
    jobs = (
        Job(replace(case, dtype=dtype or case.dtype), fill, _relations(size, fill, on_gpu))
        for case, fill in pairs
    )
    return tuple(job for job in jobs if _is_for(job.fill, job.case.dtype))


def _is_for(fill: str, dtype: str) -> bool:
    """Return whether a fill's numbers keep their meaning in a format."""
    return fill in E4M3_FILLS if dtype == "e4m3" else dtype in FILLS[fill].formats


def _relations(size: str, fill: str, on_gpu: bool) -> tuple[str, ...]:
    if size != "quick" and fill == "normal":
        return ALL_RELATIONS
    return CHEAP_ON_A_GPU if on_gpu else CHEAP_RELATIONS


Pair = tuple[Case, str]


def _named(texts: tuple[str, ...]) -> list[Pair]:
    """Return the cases that are called one of ``texts``; those with it in them where none is."""
    every = every_case()
    chosen = {
        name: case
        for name, case in every.items()
        if any(text == name or (text not in every and text in name) for text in texts)
    }
    return [(case, fill) for case in chosen.values() for fill in case.fills]


def _of_size(size: str, on_gpu: bool) -> list[Pair]:
    every = every_case()
    if size == "quick":
        return [(every[name], fill) for name, fills in QUICK for fill in fills]
    pairs = [(case, fill) for case in CASES for fill in case.fills]
    pairs += [(every[name], fill) for name in HOMES for fill in FILLS]
    pairs += [(case, "normal") for case in SMALL_MODELS]
    if size == "large":
        pairs += [(case, fill) for case in SMALL_MODELS for fill in case.fills]
        pairs += [(case, "normal") for case in LARGE_MODELS]
    else:
        some = (case for case in SMALL_MODELS if TELLING_EDGE in case.name)
        pairs += [(case, fill) for case in some for fill in case.fills]
        pairs += [(case, "normal") for case in LARGE_MODELS if on_gpu and DECODE in case.name]
    return list({(case.name, fill): (case, fill) for case, fill in pairs}.values())
