"""torch's scaled_dot_product_attention, pinned to one backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attnprobe.bench.cases import Case
from attnprobe.bench.engines.engine import Call, Engine, dense
from attnprobe.bench.inputs import Inputs
from attnprobe.rig import torch_sdpa
from attnprobe.rig.libraries import LIBRARIES
from attnprobe.rig.torch_sdpa import Backend

FLASH, CUDNN, EFFICIENT = "torch flash", "torch cuDNN", "torch efficient"


def as_torch(array: Any, dtype: str = "") -> Any:
    """Return a CuPy array as a torch tensor over the same memory; bytes of e4m3 get their dtype."""
    import torch

    tensor = torch.from_dlpack(array)
    return tensor.view(torch.float8_e4m3fn) if dtype == "e4m3" else tensor


def torch_missing() -> str:
    """Return "" where torch sees a GPU, else why not."""
    return LIBRARIES["torch"].missing()


def torch_versions() -> Mapping[str, str]:
    """Return torch's version and that of the cuDNN which it loads."""
    import torch

    number = int(torch.backends.cudnn.version() or 0)
    cudnn = f"{number // 10000}.{number // 100 % 100}.{number % 100}"
    return {"torch": str(torch.__version__), "cudnn": cudnn}


def _sdpa(name: str, unit: str, backend: Backend) -> Engine:
    def make(inputs: Inputs) -> Call:
        import torch

        case = inputs.case
        q, k, v = (as_torch(array).transpose(1, 2) for array in (inputs.q, inputs.k, inputs.v))
        grouped = case.heads != case.kv_heads
        sdpa = torch.nn.functional.scaled_dot_product_attention

        def call() -> Any:
            with backend.pinned():
                return sdpa(q, k, v, is_causal=case.causal, enable_gqa=grouped)

        return call

    return Engine(
        name, "torch", unit, torch_missing, torch_versions, dense, make, lambda O: O.transpose(1, 2)
    )


def _grouped_alike(case: Case) -> str:
    """The memory-efficient backend takes no grouped heads."""
    return dense(case) or ("" if case.heads == case.kv_heads else "takes no grouped heads")


def _efficient() -> Engine:
    row = _sdpa(EFFICIENT, "mma.sync", torch_sdpa.EFFICIENT)
    return Engine(**{**vars(row), "refusal": _grouped_alike})


ENGINES: tuple[Engine, ...] = (
    _sdpa(FLASH, "mma.sync", torch_sdpa.FLASH),
    _sdpa(CUDNN, "", torch_sdpa.CUDNN),
    _efficient(),
)
