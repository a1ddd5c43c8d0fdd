"""Recorded launches of attention, whole: text, shape and arguments as they were on the hardware.

What a record shows of the emulator's arithmetic it shows with the kernel that ran, and goes on
showing when the kernels have changed since.
"""

from __future__ import annotations

import hashlib
import json
import lzma
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from attnprobe import compile as compile_
from attnprobe import ptx
from attnprobe.engine.launch import stride_fields, tensor_maps
from attnprobe.engine.params import pack_params, params_offset
from attnprobe.engine.plan import Plan
from attnprobe.errors import UsageError
from attnprobe.layouts.tensor_map import TensorMap

Array = npt.NDArray[Any]
Json = dict[str, Any]

SCHEMA = "attnprobe.attention-launches/1"
_POINTER_BYTES = 8
# The field of ``AttentionParams`` that each process draws anew: no part of a plan.
DRAWN = "arrival_tag"


def describe(plan: Plan, arrays: Mapping[str, Array]) -> Json:
    """Return what ``plan`` launches on ``arrays``, by field of ``AttentionParams``: one launch.

    Raises
    ------
    UsageError
        If the plan has several launches.
    """
    (step, *others) = plan.steps
    if others:
        raise UsageError(f"{step.entry}: only plans of one launch are kept")
    source = plan.source(step.source)
    maps = tensor_maps(plan, step, arrays, dict.fromkeys(arrays, 0))
    steps = stride_fields(*(arrays[name] for name in ("Q", "K", "V", "O")))
    struct = pack_params({**plan.fields(), **steps, **dict.fromkeys(arrays, 0)})
    return {
        "text": source.text,
        "file": source.name,
        "cc": plan.arch.cc,
        "entry": step.entry,
        "grid": list(step.grid),
        "block": list(step.block),
        "shared_bytes": step.shared_bytes,
        "params": struct.tobytes().hex(),
        "maps": [{"array": name, **_told(each)} for name, each in maps.items()],
        "pointers": {name: params_offset(name) for name in (*arrays, *plan.scratch)},
        "shapes": {name: list(arrays[name].shape) for name in ("O", "LSE")},
        "scratch": {
            name: [list(shape), np.dtype(dtype).name]
            for name, (shape, dtype) in plan.scratch.items()
        },
    }


def _told(tensor: TensorMap) -> Json:
    """Return a tensor map without the address."""
    return {name: value for name, value in vars(tensor).items() if name != "address"}


def same_plan(one: Json, other: Json) -> bool:
    """Whether two launches are of one plan, whatever their texts: in shape and arguments alike."""
    return _plan(one) == _plan(other)


def _plan(launch: Json) -> Json:
    """Return what a plan decides of a launch, as it is when it has been kept."""
    params = bytearray.fromhex(launch["params"])
    at = params_offset(DRAWN)
    params[at : at + _POINTER_BYTES] = bytes(_POINTER_BYTES)
    fields = {name: launch[name] for name in launch if name not in ("text", "file")}
    found: Json = json.loads(json.dumps({"maps": [], **fields, "params": params.hex()}))
    return found


def _mapped(told: Json, addresses: Mapping[str, int]) -> TensorMap:
    fields: Json = {
        name: tuple(each) if isinstance(each, list) else each for name, each in told.items()
    }
    return TensorMap(addresses[fields.pop("array")], **fields)


def save(path: Path, launches: Mapping[str, Json]) -> None:
    """Write launches, each text once."""
    texts: dict[str, str] = {}
    kept = {}
    for name, launch in launches.items():
        digest = hashlib.sha256(launch["text"].encode()).hexdigest()[:16]
        texts[digest] = launch["text"]
        kept[name] = {**launch, "text": digest}
    content = json.dumps({"schema": SCHEMA, "texts": texts, "launches": kept}, sort_keys=True)
    path.write_bytes(lzma.compress(content.encode(), preset=9 | lzma.PRESET_EXTREME))


@lru_cache(maxsize=4)
def load(path: Path) -> dict[str, Json]:
    """Return the launches of a file that ``save`` wrote.

    Raises
    ------
    UsageError
        If it has another schema.
    """
    content = json.loads(lzma.decompress(path.read_bytes()))
    if content.get("schema") != SCHEMA:
        raise UsageError(f"{path.name} has schema {content.get('schema')!r}, not {SCHEMA!r}")
    texts = content["texts"]
    return {
        name: {**launch, "text": texts[launch["text"]]}
        for name, launch in content["launches"].items()
    }


def source_of(launch: Json) -> compile_.Source:
    """Return the kernel text of a launch."""
    return compile_.Source(launch["text"], launch["file"])


def replay(launch: Json, q: Array, k: Array, v: Array) -> tuple[Array, Array]:
    """Return O, of q's dtype, and LSE of a launch on the emulator, to the bit of the hardware."""
    o = np.empty(launch["shapes"]["O"], q.dtype)
    lse = np.empty(launch["shapes"]["LSE"], np.float32)
    memory = ptx.GlobalMemory()
    params = bytearray.fromhex(launch["params"])
    scratch = {
        name: np.empty(shape, dtype) for name, (shape, dtype) in launch.get("scratch", {}).items()
    }
    addresses = {}
    for name, array in {"Q": q, "K": k, "V": v, "O": o, "LSE": lse, **scratch}.items():
        buffer = memory.map(array, name=name, writable=name not in ("Q", "K", "V"))
        addresses[name] = int(buffer.address)
        at = launch["pointers"][name]
        params[at : at + _POINTER_BYTES] = addresses[name].to_bytes(_POINTER_BYTES, "little")
    maps = [_mapped(told, addresses) for told in launch.get("maps", ())]
    ptx.launch(
        ptx.load(compile_.ptx(source_of(launch), launch["cc"])),
        launch["entry"],
        tuple(launch["grid"]),
        tuple(launch["block"]),
        [*maps, bytes(params)],
        launch["shared_bytes"],
        checked=False,
        mma="exact",
        memory=memory,
    )
    return o, lse
