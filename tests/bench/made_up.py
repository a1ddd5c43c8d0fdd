"""A record that nobody measured: every suite, rates from a formula, for tests without a GPU."""

from __future__ import annotations

from collections.abc import Sequence

from attnprobe.bench import ceilings, host
from attnprobe.bench.cases import DECODE, PREFILL, Case
from attnprobe.bench.checking import Error
from attnprobe.bench.engines import ENGINES, OURS, OURS_MMA, TORCH_FLASH
from attnprobe.bench.engines.engine import Engine
from attnprobe.bench.features import CASES as FEATURES
from attnprobe.bench.machine import result_of
from attnprobe.bench.record import Ceiling, Record, Result

ENVIRONMENT = {
    "device": "NVIDIA Made-Up",
    "arch": "sm_90",
    "driver": "1.2.3",
    "nvrtc": "13.0",
    "cupy": "14.0",
    "python": "3.12",
    "date": "2030-01-02",
    "kernels": "0123456789abcdef",
    "effort": "5 batches of 6 ms",
    "command": "attnprobe bench --suite all",
}
CEILINGS = (
    Ceiling(ceilings.MMA, 640e12, ceilings.FLOP, (1750.0, 1751.0)),
    Ceiling(ceilings.WGMMA, 890e12, ceilings.FLOP, (900.0, 901.0)),
    Ceiling(ceilings.LIBRARY, 680e12, ceilings.FLOP, (1600.0, 1601.0)),
    Ceiling(ceilings.EX2, 4.1e12, ceilings.EXPONENTIALS, (250.0, 251.0)),
    Ceiling(ceilings.READ, 4.45e12, ceilings.BYTES, (480.0, 481.0)),
)
# Share of the best rate that an engine has at long lengths, and how slowly it gets there, in keys.
SPEEDS = {
    OURS: (0.70, 250), OURS_MMA: (0.46, 220), TORCH_FLASH: (0.38, 300), "torch cuDNN": (0.66, 260),
    "torch efficient": (0.27, 200), "flash-attn 3": (0.68, 420), "JAX cuDNN": (0.62, 300),
}  # fmt: skip
SPREAD = (0.0, 0.004, -0.003, 0.006, -0.005)


def engine(name: str) -> Engine:
    """Return the row of an engine."""
    return next(row for row in ENGINES if row.name == name)


def samples(case: Case, name: str, slower: float = 1.0) -> tuple[float, ...]:
    """Return seconds of five batches."""
    share, ramp = SPEEDS[name]
    if case.kind == "decode":
        seconds = 4e-6 + case.cache_bytes / (4.4e12 * (0.9 + share / 10))
    else:
        wide = {64: 0.8, 128: 1.0, 256: 1.05}[case.head_dim]
        masked = 1.0 if not case.causal else case.seqlen_k / (case.seqlen_k + 2 * ramp)
        rate = 890e12 * share * wide * case.seqlen_k / (case.seqlen_k + ramp) * masked
        seconds = case.flop / rate * (0.7 if case.dtype == "e4m3" else 1.0)
    return tuple(seconds * slower * (1 + each) for each in SPREAD)


def results_of(case: Case, names: Sequence[str], slower: float = 1.0) -> list[Result]:
    """Return the results of a case on some engines."""
    how = ("graph", "cold" if case.kind == "decode" else "warm", "")
    error = Error(1.3e-4, 0.4)
    found = []
    for name in names:
        taken = samples(case, name, slower)
        found.append(result_of(case, engine(name), taken, CEILINGS, error, how))
    return found


def names_for(case: Case) -> list[str]:
    """Return the engines that take a case."""
    if case.kind == "feature" or case.layout != "padded" or case.kv_format or case.dtype == "e4m3":
        return [OURS]
    if case.kind == "decode":
        return [OURS, TORCH_FLASH, "torch cuDNN"]
    return list(SPEEDS)


def host_results() -> list[Result]:
    """Return what calls cost the host."""
    calls = [
        Result("host attention", host.KIND, OURS, samples_us=(8.0, 8.1, 8.4)),
        Result("host scaled_dot_product_attention", host.KIND, "torch", samples_us=(25.0, 25.5)),
    ]
    firsts = [
        Result(f"first call d{d} causal, {state}", host.FIRST, OURS, feature=state, head_dim=d,
               samples_us=(time, time * 1.01))
        for d in host.FIRST_HEAD_DIMS
        for state, time in ((host.COLD, 3.1e6), (host.WARM, 4.1e4))
    ]  # fmt: skip
    return [*calls, *firsts]


def record(cases: Sequence[Case] = (*PREFILL, *DECODE, *FEATURES), slower: float = 1.0) -> Record:
    """Return a record of ``cases`` and of the host suite; ``slower`` scales our times."""
    results: list[Result] = []
    for case in cases:
        for name in names_for(case):
            results += results_of(case, [name], slower if name == OURS else 1.0)
    absent = {"flash-attn 2": "flash-attn is not installed"}
    refused = {DECODE[0].name: {"JAX cuDNN": "its dispatch takes longer than such a call"}}
    results += host_results()
    done = tuple(case.name for case in cases)
    return Record(ENVIRONMENT, tuple(SPEEDS), absent, CEILINGS, tuple(results), refused, done)
