"""attention(): kinds of arrays, out, empty sizes, non-finite values, memory that nobody sees."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import attnprobe
from attnprobe.engine import known, launch
from attnprobe.errors import ProblemError
from attnprobe.numerics.error import check_attention
from attnprobe.numerics.reference import Features
from attnprobe.numerics.reference import attention as exact_attention
from tests.conftest import Backend

Array = Any


def qkv(
    seqlen_q: int = 70,
    seqlen_k: int = 90,
    heads: tuple[int, int] = (2, 1),
    head_dim: int = 64,
    dtype: Any = np.float16,
    seed: int = 0,
) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    shapes = ((1, seqlen_q, heads[0], head_dim), *[(1, seqlen_k, heads[1], head_dim)] * 2)
    q, k, v = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    return q, k, v


class Exported:
    """An array of some other library: DLPack, and a namespace that makes more of its kind."""

    def __init__(self, array: Array) -> None:
        self.array = array
        self.dtype = array.dtype

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()

    def __array_namespace__(self) -> Any:
        return Library


class Library:
    @staticmethod
    def from_dlpack(array: Any) -> Exported:
        return Exported(np.from_dlpack(array))


def test_numpy_in_numpy_out() -> None:
    q, k, v = qkv()
    O, LSE = attnprobe.attention(q, k, v, return_lse=True)
    assert isinstance(O, np.ndarray)
    assert (O.shape, O.dtype) == (q.shape, q.dtype)
    assert (LSE.shape, LSE.dtype) == ((1, 2, 70), np.float32)


def test_dlpack_objects_come_back_in_kind() -> None:
    q, k, v = qkv()
    O, LSE = attnprobe.attention(*(Exported(array) for array in (q, k, v)), return_lse=True)
    assert isinstance(O, Exported)
    assert isinstance(LSE, Exported)
    plain = attnprobe.attention(q, k, v)
    assert O.array.tobytes() == plain.tobytes()


def test_out_is_written_whole_and_returned(xp_backend: Backend) -> None:
    q, k, v = (xp_backend.asarray(array) for array in qkv())
    plain = xp_backend.asnumpy(attnprobe.attention(q, k, v))
    room = xp_backend.asarray(np.full((1, 71, 2, 128), np.nan, np.float16))
    out = room[:, 1:, :, 64:]
    assert attnprobe.attention(q, k, v, out=out) is out
    assert xp_backend.asnumpy(out).tobytes() == plain.tobytes()
    around = xp_backend.asnumpy(room)
    assert np.isnan(around[:, 0]).all()
    assert np.isnan(around[:, :, :, :64]).all()


def test_unaligned_out(xp_backend: Backend) -> None:
    q, k, v = (xp_backend.asarray(array) for array in qkv())
    plain = xp_backend.asnumpy(attnprobe.attention(q, k, v))
    out = xp_backend.asarray(np.full((1, 70, 2, 67), np.nan, np.float16))[..., 1:65]
    attnprobe.attention(q, k, v, out=out)
    assert xp_backend.asnumpy(out).tobytes() == plain.tobytes()


@pytest.mark.parametrize(
    "shapes",
    [
        ((0, 5, 2, 64), (0, 7, 2, 64)),
        ((1, 0, 2, 64), (1, 7, 2, 64)),
        ((1, 5, 0, 64), (1, 7, 0, 64)),
    ],
    ids=["batch 0", "no query", "no head"],
)
def test_empty_problems_give_empty_arrays(xp_backend: Backend, shapes: Any) -> None:
    q, kv = (xp_backend.asarray(np.zeros(shape, np.float16)) for shape in shapes)
    O, LSE = attnprobe.attention(q, kv, kv, return_lse=True)
    assert O.shape == shapes[0]
    assert LSE.shape == (shapes[0][0], shapes[0][2], shapes[0][1])


@pytest.mark.parametrize("causal", [False, True])
def test_no_keys_give_zero_and_minus_infinity(xp_backend: Backend, causal: bool) -> None:
    q, k, v = (xp_backend.asarray(array) for array in qkv(5, 0))
    out = xp_backend.asarray(np.full((1, 5, 2, 64), np.nan, np.float16))
    O, LSE = attnprobe.attention(q, k, v, causal=causal, return_lse=True, out=out)
    assert not xp_backend.asnumpy(O).any()
    assert np.isneginf(xp_backend.asnumpy(LSE)).all()


@pytest.mark.parametrize("softcap", [0.5, 20.0, 1e3, 1e4, 1e6])
def test_softcap_of_any_size_is_accurate(xp_backend: Backend, softcap: float) -> None:
    q, k, v = qkv(40, 70)
    features = Features(softcap=softcap, softmax_scale=1.0)
    O, LSE = attnprobe.attention(
        *(xp_backend.asarray(a) for a in (q, k, v)), **features.arguments(), return_lse=True
    )
    actual = (xp_backend.asnumpy(O), xp_backend.asnumpy(LSE))
    check_attention(*actual, q, k, v, **features.arguments())


# Where the specials stand: in keys of the diagonal block, of whole blocks, and of the tail.
SPECIALS = {
    "nan": [(np.nan, 3)],
    "inf": [(np.inf, 75)],
    "minus inf": [(-np.inf, 81)],
    "both infinities": [(np.inf, 70), (-np.inf, 85)],
    "all": [(np.nan, 2), (np.inf, 74), (-np.inf, 88), (np.nan, 89)],
}


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["f16", "bf16"])
@pytest.mark.parametrize(
    "features",
    [
        Features(),
        Features(causal=True),
        Features(window_size=(9, 4)),
    ],
    ids=["full", "causal", "window"],
)
@pytest.mark.parametrize("specials", SPECIALS)
def test_nonfinite_v_reaches_the_rows_that_see_it_and_no_other(
    xp_backend: Backend, specials: str, features: Features, dtype: Any
) -> None:
    q, k, v = qkv(dtype=dtype)
    clean = attnprobe.attention(*(xp_backend.asarray(a) for a in (q, k, v)), **features.arguments())
    for value, key in SPECIALS[specials]:
        v[0, key, 0, key % 64] = value
    O = attnprobe.attention(*(xp_backend.asarray(a) for a in (q, k, v)), **features.arguments())
    actual, unspoiled = xp_backend.asnumpy(O), xp_backend.asnumpy(clean)
    exact = exact_attention(q, k, v, features).o
    for kind in (np.isnan, np.isposinf, np.isneginf):
        assert np.array_equal(kind(actual.astype(np.float32)), kind(exact))
    finite = np.isfinite(exact)
    assert finite.any()
    assert np.array_equal(actual[finite], unspoiled[finite])  # bit for bit


def test_arrays_in_different_places_are_refused() -> None:
    class Elsewhere:
        """Claims to be in the memory of a GPU, where taking it in needs one."""

        dtype = np.float16

        def __dlpack__(self, **options: Any) -> Any:
            raise BufferError("no such device")

        def __dlpack_device__(self) -> tuple[int, int]:
            return (2, 0)

    q, k, _ = qkv()
    with pytest.raises(ProblemError, match="v: Elsewhere could not be taken in"):
        attnprobe.attention(q, k, Elsewhere())


# --- what only a GPU can show ---------------------------------------------------------------------


@pytest.mark.gpu
def test_runs_on_the_current_stream() -> None:
    """What the stream was given before is seen, with no synchronisation in between."""
    import cupy

    q, k, v = (cupy.asarray(array) for array in qkv(512, 512, (8, 8), 128))
    plain = attnprobe.attention(q, k, v)
    late = cupy.zeros_like(q)
    stream = cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.Device().synchronize()
    with stream:
        heavy = cupy.ones((4096, 4096), np.float32)
        for _ in range(20):
            heavy = cupy.sin(heavy)
        late[...] = q
        O = attnprobe.attention(late, k, v)
    stream.synchronize()
    assert O.tobytes() == plain.tobytes()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_torch_tensors_in_and_out(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    generator = torch.Generator(device="cuda").manual_seed(0)
    shape = (2, 130, 4, 64)
    q, k, v = (
        torch.randn(shape, device="cuda", generator=generator).to(getattr(torch, dtype))
        for _ in range(3)
    )
    O, LSE = attnprobe.attention(q, k, v, causal=True, return_lse=True)
    assert isinstance(O, torch.Tensor)
    assert (O.dtype, O.shape, LSE.dtype) == (q.dtype, q.shape, torch.float32)
    out = torch.full_like(q, float("nan"))
    assert attnprobe.attention(q, k, v, causal=True, out=out) is out
    assert torch.equal(out, O)
    heads_first = (x.transpose(1, 2) for x in (q, k, v))
    peer = torch.nn.functional.scaled_dot_product_attention(*heads_first, is_causal=True)
    assert (O - peer.transpose(1, 2)).abs().max().item() < 0.02


@pytest.mark.gpu
def test_torch_side_stream() -> None:
    torch = pytest.importorskip("torch")
    q = torch.randn((1, 512, 8, 128), device="cuda").half()
    plain = attnprobe.attention(q, q, q)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        heavy = torch.ones((4096, 4096), device="cuda")
        for _ in range(20):
            heavy = heavy.sin()
        late = q + 0 * heavy[0, 0].half()
        out = torch.zeros_like(q)
        O = attnprobe.attention(late, late, late, out=out)
        total = (O - plain).abs().max()  # queued behind it on the same stream
    torch.cuda.synchronize()
    assert total.item() == 0


@pytest.mark.gpu
def test_cuda_array_interface_only() -> None:
    import cupy

    class Bare:
        def __init__(self, array: Any) -> None:
            self.__cuda_array_interface__ = array.__cuda_array_interface__
            self.keep = array

    q, k, v = (cupy.asarray(array) for array in qkv())
    O = attnprobe.attention(Bare(q), Bare(k), Bare(v))
    assert isinstance(O, cupy.ndarray)
    assert O.tobytes() == attnprobe.attention(q, k, v).tobytes()


@pytest.mark.gpu
def test_a_known_call_gives_the_same_bits_as_the_first() -> None:
    import cupy

    first = [cupy.asarray(array) for array in qkv(130, 200)]
    second = [cupy.asarray(array) for array in qkv(130, 200, seed=5)]
    known._calls.clear()
    slow, slow_lse = attnprobe.attention(*first, causal=True, return_lse=True)
    assert len(known._calls) == 1
    quick, quick_lse = attnprobe.attention(*first, causal=True, return_lse=True)
    assert (quick.tobytes(), quick_lse.tobytes()) == (slow.tobytes(), slow_lse.tobytes())
    other = attnprobe.attention(*second, causal=True)  # no LSE: its address is null
    known._calls.clear()
    assert other.tobytes() == attnprobe.attention(*second, causal=True).tobytes()


@pytest.mark.gpu
def test_mixed_places_are_refused() -> None:
    import cupy

    q, k, v = qkv()
    with pytest.raises(ProblemError, match="different places"):
        attnprobe.attention(cupy.asarray(q), k, v)


@pytest.mark.gpu
def test_strides_past_two_to_the_31() -> None:
    """Rows so far apart that a 32-bit product of row and stride would wrap."""
    import cupy

    far = 2**31 // 40 + 8 - (2**31 // 40) % 8
    room = cupy.zeros(60 * far, np.float16)
    q, k, v = (cupy.asarray(array) for array in qkv(60, 60, (1, 1)))
    wide = cupy.ndarray(
        (1, 60, 1, 64), np.float16, room.data, strides=(2 * 60 * far, 2 * far, 128, 2)
    )
    wide[...] = k
    assert attnprobe.attention(q, wide, v).tobytes() == attnprobe.attention(q, k, v).tobytes()


@pytest.mark.gpu
@pytest.mark.parametrize("causal", [False, True])
def test_gpu_and_emulator_agree_in_every_bit(causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import cupy

    if cupy.cuda.Device().compute_capability != "90":
        pytest.skip("the exact model is measured on sm_90 only")
    q, k, v = qkv(130, 200)
    # The kernel that the emulator runs, not the one of sm_90a.
    monkeypatch.setattr(launch, "gpu_arch", lambda device: launch.emulated_arch())
    monkeypatch.setattr(known, "_calls", {})
    monkeypatch.setenv("ATTNPROBE_MMA", "exact")
    emulated = attnprobe.attention(q, k, v, causal=causal, return_lse=True)
    device = (cupy.asarray(array) for array in (q, k, v))
    real = attnprobe.attention(*device, causal=causal, return_lse=True)
    for ours, theirs in zip(emulated, real, strict=True):
        assert ours.tobytes() == cupy.asnumpy(theirs).tobytes()
