"""Every row of a kernel and tile, in the order in which a plan looks at them."""

from __future__ import annotations

from attnprobe.engine.decode import DECODE
from attnprobe.engine.variants import VARIANTS, Variant
from attnprobe.engine.wgmma import WGMMA

ROWS: tuple[Variant, ...] = (*DECODE, *WGMMA, *VARIANTS)
