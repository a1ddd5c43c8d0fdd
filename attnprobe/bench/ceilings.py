"""What the card can do at most, measured in the same run, and which of it bounds a case."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from attnprobe import compile as compile_
from attnprobe.bench.cases import Case
from attnprobe.bench.record import Ceiling
from attnprobe.engine import kernels

if TYPE_CHECKING:
    from attnprobe.bench.timing import Call

MMA, WGMMA, LIBRARY = "mma.sync loop", "wgmma loop", "library product"
EX2, READ = "ex2 loop", "memory read"
_MATRIX = 8192  # of the library's product
_READ_BYTES = 2 << 30  # far more than any L2 cache

FLOP, EXPONENTIALS, BYTES = "FLOP", "exponentials", "bytes"


@dataclass(frozen=True)
class Loop:
    """A kernel of kernels/bench/ that does one thing alone.

    Attributes
    ----------
    name : of the ceiling.
    file, entry : kernel file below kernels/, and the function in it.
    unit : what it counts.
    threads, blocks_per_sm : shape of the launch.
    rounds : iterations of its loop.
    per_block : units of one block in one round.
    operands : random 32-bit words, or floats for exponentials, that it reads.
    ccs : compute capabilities that it is for; () is all.
    suffix : as of a variant.
    """

    name: str
    file: str
    entry: str
    unit: str
    threads: int
    blocks_per_sm: int
    rounds: int
    per_block: float
    operands: int
    ccs: tuple[int, ...] = ()
    suffix: str = ""

    @property
    def source(self) -> compile_.Source:
        """The kernel text."""
        return compile_.load_source(self.file)

    def call(self) -> tuple[Call, float]:
        """Return a launch of it, and the units that one does."""
        import cupy

        device = cupy.cuda.Device()
        kernel = kernels.load(self.source, self.entry, device=int(device.id), suffix=self.suffix)
        blocks = self.blocks_per_sm * int(device.attributes["MultiProcessorCount"])
        rng = np.random.default_rng(0)
        numbers = rng.standard_normal(2 * self.operands)
        given = numbers.astype(np.float16).view(np.uint32)
        if self.unit == EXPONENTIALS:
            given = numbers[: self.operands].astype(np.float32)
        operands = cupy.asarray(given)
        sums = cupy.empty(blocks * self.threads, np.float32)
        arguments = (operands, sums, np.int32(self.rounds))
        work = self.per_block * self.rounds * blocks
        return lambda: kernel((blocks,), (self.threads,), arguments), work


# fmt: off
LOOPS: tuple[Loop, ...] = (
    Loop(MMA, "bench/mma_loop.cu", "mma_loop", FLOP, 128, 8, 1024, 4 * 16 * 2 * 16 * 8 * 16,
         128 * 6),
    Loop(WGMMA, "bench/wgmma_loop.cu", "wgmma_loop", FLOP, 256, 1, 512, 2 * 4 * 2 * 64 * 256 * 16,
         (2 * 64 + 256) * 32, (90,), "a"),
    Loop(EX2, "bench/ex2_loop.cu", "ex2_loop", EXPONENTIALS, 128, 16, 4096, 128 * 8, 128),
)
# fmt: on
_READ_FILE, _READ_ENTRY, _READ_THREADS = "bench/read_loop.cu", "read_loop", 256
# Accesses under way and blocks on a multiprocessor; which is the fastest differs between cards.
_READ_SHAPES = tuple((under_way, blocks) for under_way in (4, 8) for blocks in (2, 4, 8))


def texts(cc: int) -> list[tuple[compile_.Source, str]]:
    """Return the kernel texts and their suffixes for compute capability ``cc``."""
    loops = [(loop.source, loop.suffix) for loop in LOOPS if not loop.ccs or cc in loop.ccs]
    return [*loops, *((_read_source(under_way), "") for under_way in (4, 8))]


Made = Callable[[], "tuple[Call, float]"]


def calls(cc: int) -> dict[str, tuple[str, tuple[Made, ...]]]:
    """Return for each ceiling its unit, and makers of (call, work); the best of them counts."""
    rows: dict[str, tuple[str, tuple[Made, ...]]] = {
        loop.name: (loop.unit, (loop.call,)) for loop in LOOPS if not loop.ccs or cc in loop.ccs
    }
    reads = tuple(partial(_memory_read, *shape) for shape in _READ_SHAPES)
    return {**rows, LIBRARY: (FLOP, (_library_product,)), READ: (BYTES, reads)}


def _read_source(under_way: int) -> compile_.Source:
    return compile_.load_source(_READ_FILE, {"BENCH_UNDER_WAY": under_way})


def library_of(name: str) -> str:
    """Return the library in whose streams a ceiling runs."""
    return "torch" if name == LIBRARY else "cupy"


def _library_product() -> tuple[Call, float]:
    """Return torch's f16 product of two random 8192 x 8192 matrices."""
    import torch

    generator = torch.Generator(device="cuda").manual_seed(0)
    shape = (_MATRIX, _MATRIX)
    a, b = (torch.randn(shape, device="cuda", generator=generator).half() for _ in range(2))
    out = torch.empty_like(a)
    return lambda: torch.matmul(a, b, out=out), 2.0 * _MATRIX**3


def _memory_read(under_way: int, blocks_per_sm: int) -> tuple[Call, float]:
    import cupy

    from attnprobe.bench.inputs import normal

    device = cupy.cuda.Device()
    kernel = kernels.load(_read_source(under_way), _READ_ENTRY, device=int(device.id))
    blocks = blocks_per_sm * int(device.attributes["MultiProcessorCount"])
    words = normal((_READ_BYTES // 2,), "float16", 0)
    sums = cupy.empty(blocks * _READ_THREADS, np.uint32)
    arguments = (words, sums, np.int64(_READ_BYTES // (16 * _READ_THREADS * under_way)))
    return lambda: kernel((blocks,), (_READ_THREADS,), arguments), float(_READ_BYTES)


def binding(case: Case, unit: str, ceilings: Iterable[Ceiling]) -> tuple[str, float] | None:
    """Return which ceiling bounds ``case`` on an engine, and the seconds that it takes at least.

    Parameters
    ----------
    unit : the engine's matrix instruction: "mma.sync", "wgmma" or "" for the best that there is.

    Returns None where nothing that bounds it was measured.
    """
    rates: Mapping[str, float] = {row.name: row.rate for row in ceilings}
    products = {"mma.sync": (MMA,), "wgmma": (WGMMA,)}.get(unit, (MMA, WGMMA))
    # An 8-bit product is twice as fast, and its loop was not measured.
    sixteen_bit = case.dtype in ("float16", "bfloat16")
    measured = [name for name in products if name in rates and sixteen_bit]
    least = {name: case.flop / rates[name] for name in measured}
    least = dict([min(least.items(), key=lambda item: item[1])]) if least else {}
    for name, work in ((EX2, case.scores), (READ, case.bytes)):
        if name in rates:
            least[name] = work / rates[name]
    if not least:
        return None
    name = max(least, key=lambda each: least[each])
    return name, least[name]


def is_missing(name: str) -> str:
    """Return "" where a ceiling can be measured here, else why not."""
    if name != LIBRARY:
        return ""
    from attnprobe.rig.libraries import LIBRARIES

    return LIBRARIES["torch"].missing()


def as_ceiling(name: str, unit: str, work: float, samples_s: tuple[float, ...]) -> Ceiling:
    """Return the ceiling of timed launches that do ``work`` units each."""
    middle: Any = np.median(samples_s)
    return Ceiling(name, work / float(middle), unit, tuple(1e6 * each for each in samples_s))
