"""The attention of real models, one row for each kind of layer, and how it is made small."""

from __future__ import annotations

from dataclasses import dataclass, replace

from attnprobe.engine.variants import VARIANTS

FULL_LENGTH = 4096  # tokens of a whole prefill at full size
MOST_GROUP = 16  # query heads to a K/V head in the small shapes: the rows of one fragment


@dataclass(frozen=True)
class ModelShape:
    """The attention of one kind of layer of one model.

    Attributes
    ----------
    name : model, and kind of layer where it has several.
    num_heads, num_kv_heads, head_dim : sizes.
    v_head_dim : width of V; 0 is head_dim.
    window : keys that a query sees, its own among them; 0 is all before it.
    softcap : of the scores; 0 is none.
    sinks : one logit per head joins the softmax.
    causal : False for encoders.
    layout : how Q, K and V lie in memory where they are not contiguous (memory.LAYOUTS).
    length : tokens of a whole prefill.
    source : where the numbers stand.
    """

    name: str
    num_heads: int
    num_kv_heads: int
    head_dim: int
    v_head_dim: int = 0
    window: int = 0
    softcap: float = 0.0
    sinks: bool = False
    causal: bool = True
    layout: str = "contiguous"
    length: int = FULL_LENGTH
    source: str = ""

    @property
    def group(self) -> int:
        """Query heads to a K/V head."""
        return self.num_heads // self.num_kv_heads

    @property
    def window_size(self) -> tuple[int, int]:
        """(left, right) as attention takes it."""
        return (self.window - 1, 0) if self.window else (-1, -1)

    @property
    def tiles(self) -> tuple[int, int]:
        """Queries and keys of the largest tile that one of our kernels would serve it with."""
        v_head_dim = self.v_head_dim or self.head_dim
        fits = [
            row
            for row in VARIANTS
            if self.head_dim <= row.head_dim and v_head_dim <= row.v_head_dim
        ]
        least = min(row.head_dim for row in fits)
        own = [row for row in fits if row.head_dim == least]
        return max(row.block_m for row in own), max(row.block_n for row in own)

    @property
    def edge(self) -> int:
        """The larger side of the tile: lengths stand around its multiples."""
        return max(self.tiles)


def small(shape: ModelShape) -> ModelShape:
    """Return ``shape`` in the size of an emulator, with what can break in it still there.

    head_dim, query heads to a K/V head (up to MOST_GROUP), softcap, sinks and layout stay. Of
    several K/V heads two stay, so that a head can still read the wrong one. The prefill has two
    tiles and a half, so that there is a first, a middle and a last one. A window keeps what it
    leaves over whole tiles, and where it is longer than a tile, one tile.
    """
    kv_heads = min(shape.num_kv_heads, 2)
    edge = shape.edge
    window = shape.window if shape.window <= edge else edge + shape.window % edge
    return replace(
        shape,
        num_heads=kv_heads * min(shape.group, MOST_GROUP),
        num_kv_heads=kv_heads,
        window=window,
        length=2 * edge + edge // 2,
    )


# fmt: off
SHAPES: tuple[ModelShape, ...] = (
    ModelShape("Qwen3-8B", 32, 8, 128, source="config.json of Qwen/Qwen3-8B"),
    # A query lies beside its gate, in rows of 2 x 256; two K/V heads: the widest GQA group here.
    ModelShape("Qwen3.6-35B-A3B", 16, 2, 256, layout="gated",
               source="config.json of Qwen/Qwen3.6-35B-A3B: full attention, attn_output_gate"),
    ModelShape("Gemma-4-26B window", 16, 8, 256, window=1024,
               source="config.json of google/gemma-4-26B-A4B: sliding_window, head_dim"),
    ModelShape("Gemma-4-26B global", 16, 2, 512,
               source="config.json of google/gemma-4-26B-A4B: global_head_dim and K/V heads"),
    # Gemma 4 caps its final logits only; of its family Gemma 2 caps the scores.
    ModelShape("Gemma-2-9B", 16, 8, 256, window=4096, softcap=50.0, length=FULL_LENGTH + 512,
               source="config.json of google/gemma-2-9b: attn_logit_softcapping"),
    ModelShape("Llama-3.1-70B", 64, 8, 128, source="config.json of meta-llama/Llama-3.1-70B"),
    ModelShape("GPT-OSS-20B window", 64, 8, 64, window=128, sinks=True,
               source="config.json of openai/gpt-oss-20b: sliding_window"),
    ModelShape("GPT-OSS-20B full", 64, 8, 64, sinks=True,
               source="config.json of openai/gpt-oss-20b"),
    ModelShape("DeepSeek-V3", 128, 128, 192, 128,
               source="config.json of deepseek-ai/DeepSeek-V3: qk_nope 128 + qk_rope 64, v 128"),
    ModelShape("DeepSeek-V3 absorbed", 128, 1, 576, 512,
               source="config.json of deepseek-ai/DeepSeek-V3: kv_lora_rank 512 + qk_rope 64"),
    ModelShape("SmolLM2-135M", 9, 3, 64, length=2048,
               source="config.json of HuggingFaceTB/SmolLM2-135M"),
    ModelShape("MiniLM-L6", 12, 12, 32, causal=False, length=512,
               source="config.json of sentence-transformers/all-MiniLM-L6-v2"),
)
# fmt: on
