"""The GPU of a run: its facts, its ceilings, and one case on every engine in turn."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from attnprobe import compile as compile_
from attnprobe._paths import data_dir
from attnprobe.bench import ceilings, checking, host, inputs, timing
from attnprobe.bench.cases import Case
from attnprobe.bench.engines import OURS, OURS_MMA
from attnprobe.bench.engines.engine import Engine
from attnprobe.bench.engines.ours import plan_of
from attnprobe.bench.record import Ceiling, Result
from attnprobe.bench.timing import Effort, Sampler
from attnprobe.engine import tuned
from attnprobe.engine.arrays import take
from attnprobe.errors import DeviceError, ProblemError, UnsupportedError

MOST_REASON = 200  # characters of a reason that a record keeps
_KEPT_BYTES = 24 << 30  # of CuPy's pool; past it the memory goes back to the device between cases


class Machine(Protocol):
    """What a session asks of a device; the tests have one without a GPU."""

    def environment(self) -> dict[str, str]:
        """Return device, driver, versions."""

    def compile_ahead(self, cases: Sequence[Case]) -> int:
        """Compile what our engines launch for ``cases``; return how many texts."""

    def ceilings(self) -> tuple[Ceiling, ...]:
        """Measure what the card can do at most."""

    def time(
        self, case: Case, engines: Sequence[Engine], found: Sequence[Ceiling]
    ) -> tuple[list[Result], dict[str, str]]:
        """Return the results of a case, and for each other engine why it has none."""

    def host(self) -> list[Result]:
        """Return what calls cost the host."""


@dataclass(frozen=True)
class Gpu:
    """The current CUDA device.

    Raises
    ------
    DeviceError
        If there is no usable GPU.
    """

    effort: Effort
    first_rounds: int = 2

    def __post_init__(self) -> None:
        from attnprobe.backends.gpu import usable

        reason = usable()
        if reason:
            raise DeviceError(
                f"attnprobe bench times kernels and needs a GPU: {reason}; --render and --compare "
                "read records anywhere"
            )

    @property
    def _cc(self) -> int:
        import cupy

        return int(cupy.cuda.Device().compute_capability)

    def environment(self) -> dict[str, str]:
        """Return device, driver, versions, and the digest of the kernel texts."""
        from attnprobe.backends.gpu import GpuBackend

        effort = f"{self.effort.batches} batches of {1e3 * self.effort.batch_s:g} ms"
        counts = sum(not tuned.why_not(entry) for entry in tuned.table().values())
        of_table = {"tuned": f"{counts} shape classes"} if counts else {}
        facts = {"kernels": kernels_digest(), "effort": effort, **of_table}
        return {**GpuBackend().environment(), **facts}

    def compile_ahead(self, cases: Sequence[Case]) -> int:
        """Compile what our engines launch for ``cases``, in parallel; return how many texts."""
        from attnprobe import cache
        from attnprobe.engine.warmup import Wanted, compile_all, texts_of

        if cache.store() is None:
            return 0  # nothing would be kept
        plans = []
        for case in cases:
            for mma in (False, True) if case.kind == "prefill" else (False,):
                try:
                    plans.append(plan_of(case, mma=mma))
                except (ProblemError, UnsupportedError):
                    continue
        others = ceilings.texts(self._cc)
        others += [(inputs.normal_source(inputs.FORMAT_OF[name]), "") for name in _dtypes(cases)]
        wanted = {
            Wanted(source, compile_.device_target(self._cc, suffix)): None
            for source, suffix in others
        }
        every = [*texts_of(plans), *wanted]
        return len(list(compile_all(every)))

    def ceilings(self) -> tuple[Ceiling, ...]:
        """Measure what the card can do at most."""
        found = []
        for name, (unit, makers) in ceilings.calls(self._cc).items():
            if ceilings.is_missing(name):
                continue
            tried = [self._ceiling(name, unit, *make()) for make in makers]
            found.append(max(tried, key=lambda each: each.rate))
        return tuple(found)

    def _ceiling(self, name: str, unit: str, call: Callable[[], Any], work: float) -> Ceiling:
        sampler = timing.sampler(ceilings.library_of(name), [call], self.effort.batch_s)
        samples = timing.in_turn({name: sampler}, self.effort.batches)[name]
        return ceilings.as_ceiling(name, unit, work, samples)

    def time(
        self, case: Case, engines: Sequence[Engine], found: Sequence[Ceiling]
    ) -> tuple[list[Result], dict[str, str]]:
        """Return the results of a case, and for each other engine why it has none."""
        refused = {e.name: why for e in engines if (why := e.refusal(case))}
        taking = [engine for engine in engines if engine.name not in refused]
        if not taking:
            return [], {name: short(why) for name, why in refused.items()}
        l2_bytes = self._l2_bytes()
        try:
            given = inputs.make(case, l2_bytes)
        except Exception as error:  # most likely the memory does not suffice; the next case may fit
            why = f"failed: {type(error).__name__}: {error}"
            return [], {name: short(why) for name in (*refused, *(e.name for e in taking))}
        judge = _Judge(given[0])
        samplers: dict[str, Sampler] = {}
        errors: dict[str, checking.Error] = {}
        for engine in taking:
            try:
                calls = [engine.make(each) for each in given]
                errors[engine.name] = judge.error(engine, calls[0])
                samplers[engine.name] = timing.sampler(engine.library, calls, self.effort.batch_s)
            except Exception as error:  # a peer may raise anything; the others go on
                refused[engine.name] = f"failed: {type(error).__name__}: {error}"
        samples = timing.in_turn(samplers, self.effort.batches)
        cold = "cold" if len(given) * case.cache_bytes > l2_bytes else "warm"
        results = [
            result_of(
                case,
                engine,
                samples[engine.name],
                found,
                errors[engine.name],
                (samplers[engine.name].method, cold, kernel_of(engine.name, case)),
            )
            for engine in taking
            if engine.name in samples
        ]
        del samplers, judge, given
        _free()
        return results, {name: short(why) for name, why in refused.items()}

    def host(self) -> list[Result]:
        """Return what calls cost the host."""
        return host.measure(self.first_rounds)

    def _l2_bytes(self) -> int:
        import cupy

        return int(cupy.cuda.Device().attributes["L2CacheSize"])


class _Judge:
    """Holds results against float64, which is worked out once for each dtype of O."""

    def __init__(self, given: inputs.Inputs) -> None:
        self._given = given
        self._expected: dict[str, Any] = {}

    def error(self, engine: Engine, call: Callable[[], Any]) -> checking.Error:
        """Return the error of what ``call`` returns."""
        O = take("O", engine.o_of(call())).array
        dtype = str(O.dtype)
        if dtype not in self._expected:
            self._expected[dtype] = checking.expected(self._given, O.dtype)
        return checking.error_of(O, self._expected[dtype])


def result_of(
    case: Case,
    engine: Engine,
    samples_s: Sequence[float],
    found: Iterable[Ceiling],
    error: checking.Error | None,
    how: tuple[str, str, str],
) -> Result:
    """Return the result of timed calls; ``how`` is (method, l2, kernel)."""
    samples_us = tuple(1e6 * each for each in samples_s)
    method, l2, kernel = how
    plain = Result(case.name, case.kind, engine.name, samples_us=samples_us)
    seconds = plain.median_us / 1e6
    bound = ceilings.binding(case, engine.unit, found) if case.kind != "feature" else None
    of_case: Mapping[str, Any] = {
        name: getattr(case, name)
        for name in Result.__dataclass_fields__
        if name in Case.__dataclass_fields__ and name != "kind"
    }
    return Result(
        case.name,
        case.kind,
        engine.name,
        **of_case,
        samples_us=samples_us,
        tflops=case.flop / seconds / 1e12 if case.kind == "prefill" else None,
        gbps=case.cache_bytes / seconds / 1e9 if case.kind == "decode" else None,
        error=error.max_abs if error else None,
        error_share=error.share if error else None,
        ceiling=bound[0] if bound else "",
        ceiling_share=bound[1] / seconds if bound else None,
        method=method,
        l2=l2,
        kernel=kernel,
    )


def kernel_of(engine: str, case: Case) -> str:
    """Return kernel and tile where the engine is ours, else ""."""
    if engine not in (OURS, OURS_MMA):
        return ""
    plan = plan_of(case, mma=engine == OURS_MMA)
    variant = plan.variant
    splits = f", {plan.num_splits} splits" if plan.num_splits > 1 else ""
    return f"{variant.entry} {variant.block_m}x{variant.block_n}, {variant.warps} warps{splits}"


def kernels_digest() -> str:
    """Return a hash of the kernel texts: what a commit number would say, without git."""
    digest = hashlib.sha256()
    root = data_dir("kernels")
    for path in sorted(root.rglob("*.cu*")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def short(reason: str) -> str:
    """Return a reason on one line, cut."""
    line = " ".join(reason.split())
    return line if len(line) <= MOST_REASON else f"{line[: MOST_REASON - 3]}..."


def _dtypes(cases: Iterable[Case]) -> list[str]:
    """Return the dtypes of which random numbers are needed."""
    return sorted({name for c in cases for name in (c.dtype, c.kv_format) if name} | {"float16"})


def _free() -> None:
    """Give memory back to the device where much of it is held."""
    import cupy

    gc.collect()
    pool = cupy.get_default_memory_pool()
    if pool.total_bytes() > _KEPT_BYTES:
        pool.free_all_blocks()
