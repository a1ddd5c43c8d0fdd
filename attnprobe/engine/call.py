"""From the arguments of a public call to its results: take in, check, plan, run, hand back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from attnprobe import formats
from attnprobe.engine import extras as extras_
from attnprobe.engine import launch
from attnprobe.engine.arrays import Operand, in_kind, library_of, stream_of, take
from attnprobe.engine.checks import OUT_FORMAT_NAMES, check_axes
from attnprobe.engine.plan import Plan, make_plan
from attnprobe.engine.problem import Problem, make_problem
from attnprobe.engine.spec import ArraySpec
from attnprobe.errors import ProblemError
from attnprobe.formats import FORMATS, Format
from attnprobe.frozen import dataclass


@dataclass(frozen=True)
class Call:
    """The arguments of one call, named as the kernel's side names them.

    Attributes
    ----------
    q, k, v : as the caller gave them, or taken in already; packed ones of three axes where
        ``extras`` has cu_seqlens.
    options : numbers, passed to ``make_problem``.
    extras : arrays of extras.py by field name; None where not given.
    out : array to write O to, or None.
    out_dtype : dtype of O, or None for that of ``out`` or q.
    kv_format : "e4m3" where K and V, and Q if it has 8 bits, are bytes of it, or None.
    """

    q: Any
    k: Any
    v: Any
    options: Mapping[str, Any]
    extras: Mapping[str, Any]
    out: Any = None
    out_dtype: Any = None
    kv_format: str | None = None


@dataclass(frozen=True)
class Done:
    """What a call found and wrote: ``o`` and ``lse`` in the engine's arrays, and in q's kind.

    ``launched`` is what ran on a GPU, None where nothing did.
    """

    plan: Plan
    query: Operand
    o: Any
    lse: Any
    out: Any
    launched: launch.Launched | None = None

    def results(self, return_lse: bool) -> Any:
        """Return O, or (O, LSE), as the caller's kind of array."""
        O = self.out if self.out is not None else in_kind(self.o, self.query)
        return (O, in_kind(self.lse, self.query)) if return_lse else O


def perform(call: Call) -> Done:
    """Check, plan and run ``call``.

    Raises
    ------
    ProblemError
        For arrays or arguments that are not supported, before anything is compiled.
    UnsupportedError
        Where no kernel serves these widths on this GPU.
    DeviceError, CompileError, EmulatorError
        Where the GPU, NVRTC or the emulated kernel fails.
    """
    operands = _operands(call)
    check_places(operands)
    query = operands["q"]
    specs = _specs(operands, call.kv_format)
    packed = call.extras.get("cu_seqlens_q") is not None
    with place_of_run(query):
        more = extras_.take_extras(query, _sizes(specs, call), call.extras)
        options = {**call.options, "out_format": out_format(call.out_dtype)}
        problem = make_problem(
            specs["q"],
            specs["k"],
            specs["v"],
            specs.get("out"),
            **options,
            extras=extras_.extra_specs(more),
        )
        plan = make_plan(problem, arch_of(query, problem))
        o = operands["out"].array if call.out is not None else _empty_output(query, problem)
        lse = launch.empty_lse(plan, query.array)
        launched = None
        arrays = (query.array, operands["k"].array, operands["v"].array)
        if query.on_gpu and not problem.empty:
            launched = launch.run_gpu(plan, *arrays, o, lse, extras=more)
        elif not problem.empty:
            launch.run_emulator(plan, *arrays, o, lse, extras=more)
    return Done(plan, query, o[0] if packed else o, lse, call.out, launched)


def _operands(call: Call) -> dict[str, Operand]:
    """Take the arrays in; packed ones get a batch axis of 1."""
    given = {"q": call.q, "k": call.k, "v": call.v}
    if call.out is not None:
        given["out"] = call.out
    operands = {
        name: array if isinstance(array, Operand) else take(name, array)
        for name, array in given.items()
    }
    packed = {"cu_seqlens_q": ("q", "out"), "cu_seqlens_k": ("k", "v")}
    for boundaries, names in packed.items():
        if call.extras.get(boundaries) is None:
            continue
        for name in names:
            if name in operands:
                operands[name] = _with_batch_axis(name, operands[name], boundaries)
    return operands


def _with_batch_axis(name: str, operand: Operand, boundaries: str) -> Operand:
    shape = tuple(operand.array.shape)
    if len(shape) != 3:
        raise ProblemError(
            f"{name} has {len(shape)} axes {shape}; with {boundaries} three are wanted, (total "
            "rows of all sequences, heads, head_dim)"
        )
    return replace(operand, array=operand.array[None])


def _specs(operands: Mapping[str, Operand], kv_format: str | None) -> dict[str, ArraySpec]:
    specs = {name: operand.spec(name) for name, operand in operands.items()}
    byte_query = specs["q"].format is not None and specs["q"].format.bits == 8
    for name in ("q", "k", "v") if byte_query else ("k", "v"):
        specs[name] = with_kv_format(specs[name], kv_format)
    return specs


def with_kv_format(spec: ArraySpec, kv_format: str | None) -> ArraySpec:
    """Return ``spec`` with the number format that its bytes are said to have.

    Raises
    ------
    ProblemError
        For an unknown name, or elements that are no bytes.
    """
    if kv_format is None:
        return spec
    names = {"e4m3": "e4m3", "int8": "s8"}
    if kv_format not in names:
        raise ProblemError(f"kv_format is {kv_format!r}; supported: 'e4m3', 'int8'")
    if spec.format is None or spec.format.bits != 8:
        raise ProblemError(
            f"{spec.name} has dtype {spec.dtype} and kv_format is {kv_format!r}; an array of "
            "bytes is wanted: uint8, int8 or ml_dtypes.float8_e4m3fn"
        )
    return replace(spec, format=FORMATS[names[kv_format]])


def _sizes(specs: Mapping[str, ArraySpec], call: Call) -> extras_.Sizes:
    """Return what bias, mask and numbers per head are broadcast to; refuse what lacks axes."""
    q, k = specs["q"], specs["k"]
    for spec in (q, k):
        check_axes(spec)
    batch, rows, heads, _ = q.shape
    return extras_.Sizes(batch, heads, rows, k.shape[1], k.shape[2])


def out_format(out_dtype: Any) -> Format | None:
    """Return the number format that ``out_dtype`` names: a dtype of any library, or a name."""
    if out_dtype is None:
        return None
    name = str(out_dtype).rpartition(".")[2]  # torch.float32
    short = {"float16": "f16", "bfloat16": "bf16", "float32": "f32"}
    if name in short:
        return FORMATS[short[name]]
    try:
        found = formats.of_dtype(out_dtype)
    except TypeError:
        found = None
    if found is None or found.name not in OUT_FORMAT_NAMES:
        raise ProblemError(f"out_dtype is {out_dtype!r}; float16, bfloat16 or float32 is wanted")
    return found


def arch_of(query: Operand, problem: Problem) -> Any:
    """Return the arch that the call runs on."""
    if query.on_gpu:
        return launch.gpu_arch(int(query.array.device.id))
    return launch.emulated_arch(problem)


@contextmanager
def place_of_run(query: Operand) -> Iterator[None]:
    """Make q's device current, and the stream of the library that q comes from."""
    if not query.on_gpu:
        yield
        return
    with query.array.device, stream_of(query):
        yield


def _empty_output(query: Operand, problem: Problem) -> Any:
    shape = (*query.array.shape[:3], problem.v_head_dim)
    return library_of(query).empty(shape, problem.out_format.dtype)


def check_places(operands: Mapping[str, Operand]) -> None:
    """Refuse arrays in different memories, and an ``out`` that is read-only or one of the inputs.

    Raises
    ------
    ProblemError
        Says which array is where.
    """
    places = {name: _place(operand) for name, operand in operands.items()}
    if len(set(places.values())) > 1:
        listed = ", ".join(f"{name} {place}" for name, place in places.items())
        raise ProblemError(f"the arrays are in different places: {listed}; move them to q's")
    if "out" not in operands:
        return
    out = operands["out"]
    if not out.on_gpu and not out.array.flags.writeable:
        raise ProblemError("out is read-only; pass a writable array")
    begin, end = _extent(out)
    for name in ("q", "k", "v"):
        low, high = _extent(operands[name])
        if begin < high and low < end:
            raise ProblemError(f"out shares memory with {name}; pass an array of its own")


def _place(operand: Operand) -> str:
    return f"on CUDA device {operand.array.device.id}" if operand.on_gpu else "in CPU memory"


def _extent(operand: Operand) -> tuple[int, int]:
    """Return first and end byte address of the array's elements."""
    array = operand.array
    start = int(array.data.ptr if operand.on_gpu else array.__array_interface__["data"][0])
    if array.size == 0:
        return start, start
    steps = [(extent - 1) * step for extent, step in zip(array.shape, array.strides, strict=True)]
    low = start + sum(step for step in steps if step < 0)
    return low, start + sum(step for step in steps if step > 0) + array.dtype.itemsize
