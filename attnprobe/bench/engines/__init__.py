"""Everything that is timed, in the order of the tables: ours first, then every peer."""

from __future__ import annotations

from attnprobe.bench.engines import flash_attn, flashinfer, jax_cudnn, ours, torch_sdpa
from attnprobe.bench.engines.engine import Engine
from attnprobe.errors import UsageError

ENGINES: tuple[Engine, ...] = (
    *ours.ENGINES,
    *torch_sdpa.ENGINES,
    *flash_attn.ENGINES,
    *flashinfer.ENGINES,
    *jax_cudnn.ENGINES,
)
OURS, OURS_MMA = ours.NAME, ours.MMA_NAME
TORCH_FLASH = torch_sdpa.FLASH


def chosen(names: str) -> tuple[Engine, ...]:
    """Return the engines whose names hold one of the comma-separated texts; all for "".

    Raises
    ------
    UsageError
        For a text that no name holds; lists the names.
    """
    wanted = [text.strip() for text in names.split(",") if text.strip()]
    for text in wanted:
        if not any(text in engine.name for engine in ENGINES):
            listed = ", ".join(engine.name for engine in ENGINES)
            raise UsageError(f"--engines has {text!r}, which is in the name of none: {listed}")
    return tuple(e for e in ENGINES if not wanted or any(text in e.name for text in wanted))
