# ruff: noqa: E501
"""wgmma: values and bits of the products, when they are there, and every way to look too early."""

from __future__ import annotations

import numpy as np
import pytest

from attnprobe import layouts
from attnprobe.backends.emulator import EmulatorBackend
from attnprobe.errors import DeadlockError, EmulatorError, MemoryFault, RaceError
from attnprobe.layouts.wgmma import matrices
from attnprobe.probing import definition, evidence, session, tiles, warpgroup_arithmetic
from attnprobe.probing.report import MATCH
from tests.ptx.hopper import run

NARROW = [row for row in layouts.rows("wgmma") if row.shape[1] in (8, 24)]
RECORD = evidence.load(evidence.folder() / "wgmma.json")["wgmma"]["tiles"]


@pytest.mark.parametrize("row", NARROW[::3], ids=lambda row: row.ptx)
def test_the_probes_of_wgmma_find_what_hardware_gave(row: layouts.Instruction) -> None:
    """The rows are what the recorded dumps say; here the same kernels give the same on no GPU."""
    for name in ("wgmma_layout", "wgmma_a"):
        for each, question in session.pairs([row], [definition.find(name)]):
            assert session.ask(each, question, EmulatorBackend()).verdict == MATCH


def _wanted(row: layouts.Instruction, held: tuple[np.ndarray, ...]) -> np.ndarray:
    a, b, c = (row[name].format.decode(bits) for name, bits in zip("ABC", held, strict=True))
    return a @ b + c


EXACT = [row for row in warpgroup_arithmetic.rows() if row["D"].format.ptx != "f16"][::3]


@pytest.mark.parametrize("row", EXACT, ids=lambda row: row.ptx)
def test_exact_products_have_the_recorded_bits(row: layouts.Instruction) -> None:
    """The hashes are of what an H200 gave for the same tiles."""
    whole, there = matrices(row), RECORD[matrices(row).ptx]
    backend = EmulatorBackend(mma="exact")
    for regime, chunk, size in list(evidence.chunks(whole, there["tiles"]))[:3]:
        found = warpgroup_arithmetic.products(row, tiles.make(whole, regime, chunk, size), backend)
        assert evidence.digest(found) == there["regimes"][regime]["hashes"][chunk], regime


@pytest.mark.parametrize("row", EXACT[:4], ids=lambda row: row.ptx)
def test_fast_products_are_the_sums_within_rounding(row: layouts.Instruction) -> None:
    whole = matrices(row)
    held = tiles.make(whole, next(iter(tiles.regimes(whole))), 0, 20)
    found = warpgroup_arithmetic.products(row, held, EmulatorBackend())
    wanted, got = _wanted(whole, held), whole["D"].format.decode(found)
    size = np.abs(whole["A"].format.decode(held[0])) @ np.abs(whole["B"].format.decode(held[1]))
    size += np.abs(whole["C"].format.decode(held[2]))
    # Each of k + 1 additions rounds by half a unit in the last place of float32.
    assert (np.abs(got - wanted) <= (row.shape[2] + 1) * 2.0**-24 * size).all()


# In shared memory rows of 128 bytes: A is rows 0-63 and B, 8 columns, rows 64-71; k is the first 16
# elements of a row.
FILL = "for (int i = t; i < 72 * 32; i += blockDim.x) box[i] = in[i];\nfence_async(); __syncthreads();\n"
STORE = "for (int i = 0; i < 4; ++i) reinterpret_cast<float *>(out)[t * 4 + i] = d[i];\n"
PLAIN = (
    FILL
    + "float d[4] = {0, 0, 0, 0}; settle(d); group_fence(); mma(d, at, at + 8192, 0); group_commit();\nGROUP_WAIT(0);\n"
    + STORE
)


def operands() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the words of the tile, A (64, 64) and B (8, 64): chunks are swizzled."""
    generator = np.random.default_rng(1)
    plain = generator.integers(-8, 9, (72, 64)).astype(np.float16)
    row, chunk = np.indices((72, 8))
    moved = plain.reshape(72, 8, 8)[row, chunk ^ row % 8]
    return moved.reshape(-1).view(np.uint32), plain[:64].astype(float), plain[64:].astype(float)


def go(code: str, threads: int = 128, **options: object) -> np.ndarray:
    out = np.zeros(threads * 4, np.uint32)
    run(code, [operands()[0].copy(), out], threads=threads, **options)  # type: ignore[arg-type]
    row = layouts.exact("wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16")
    assert row is not None
    return row["D"].fragment.scatter(out[:512].view(np.float32).reshape(128, 4))


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("cc", [90, 100])
def test_a_product_is_there_after_its_wait(checked: bool, cc: int) -> None:
    _, a, b = operands()
    assert (go(PLAIN, checked=checked, cc=cc) == a[:, :16] @ b[:, :16].T).all()


@pytest.mark.parametrize("mma", ["fast", "exact"])
def test_products_that_add_up_are_one_sum(mma: str) -> None:
    """Steps of k are 32 bytes apart within the swizzle's rows."""
    _, a, b = operands()
    code = (
        FILL
        + "float d[4] = {0, 0, 0, 0}; settle(d); group_fence(); for (int k = 0; k < 4; ++k) mma(d, at + k * 32, at + 8192 + k * 32, k); group_commit();\nGROUP_WAIT(0);\n"
        + STORE
    )
    assert (go(code, mma=mma) == a @ b.T).all()


def test_a_from_registers() -> None:
    _, _, b = operands()
    code = (
        FILL
        + "float d[4] = {0, 0, 0, 0}; u32 a[4] = {0x3c003c00, 0x3c003c00, 0x3c003c00, 0x3c003c00}; settle(d); settle(a); group_fence(); mma_rs(d, a, at + 8192); group_commit();\nGROUP_WAIT(0);\n"
        + STORE
    )
    assert (go(code) == np.ones((64, 16)) @ b[:, :16].T).all()


def test_wait_group_leaves_the_latest_groups_running() -> None:
    _, a, b = operands()
    code = (
        FILL
        + """
    float d[4] = {0, 0, 0, 0}, e[4] = {0, 0, 0, 0};
    settle(d); settle(e); group_fence(); mma(d, at, at + 8192, 0); group_commit(); mma(e, at + 32, at + 8224, 0); group_commit();
    GROUP_WAIT(1);
    for (int i = 0; i < 4; ++i) d[i] *= 2;
    GROUP_WAIT(0);
    for (int i = 0; i < 4; ++i) d[i] += e[i];
    """
        + STORE
    )
    wanted = 2 * a[:, :16] @ b[:, :16].T + a[:, 16:32] @ b[:, 16:32].T
    assert (go(code) == wanted).all()
    with pytest.raises(
        EmulatorError,
        match=r"this uses a register of a wgmma that nobody has waited for, issued(.|\n)*at PTX line \d+: (add|fma)",
    ):
        go(code.replace("GROUP_WAIT(0);", ""))


def test_warps_part_while_a_product_runs() -> None:
    """Some warps wait early and scale; all wait in the end. A product after that would be refused."""
    _, a, b = operands()
    code = (
        FILL
        + """
    float d[4] = {0, 0, 0, 0};
    settle(d); group_fence(); mma(d, at, at + 8192, 0); group_commit();
    if (lane == 3) out[0] = 1;
    if (warp % 2 && in[0] != 12345) { GROUP_WAIT(0); for (int i = 0; i < 4; ++i) d[i] *= 4; }
    GROUP_WAIT(0);
    """
        + STORE
    )
    wanted = a[:, :16] @ b[:, :16].T * np.where(np.arange(64) // 16 % 2, 4, 1)[:, None]
    assert (go(code) == wanted).all()


def test_warpgroups_at_other_places_take_turns() -> None:
    """Two warpgroups pass a token through named barriers; each has its own operand."""
    _, a, b = operands()
    code = (
        FILL
        + """
    float d[4] = {0, 0, 0, 0};
    const int group = t / 128;
    if (group == 1) ASM("bar.arrive 1, 256;" ::);
    ASM("bar.sync %0, 256;" :: "r"(1 + group));
    settle(d); group_fence(); mma(d, at + group * 32, at + 8192 + group * 32, 0); group_commit();
    ASM("bar.arrive %0, 256;" :: "r"(2 - group));
    GROUP_WAIT(0);
    if (group == 0) ASM("bar.sync 1, 256;" ::);
    """
        + STORE
    )
    out = np.zeros(1024, np.uint32)
    run(code, [operands()[0].copy(), out], threads=256)
    row = layouts.exact("wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16")
    assert row is not None
    for group in range(2):
        found = row["D"].fragment.scatter(out[group * 512 :][:512].view(np.float32).reshape(128, 4))
        k = slice(16 * group, 16 * group + 16)
        assert (found == a[:, k] @ b[:, k].T).all()


_EARLY = {
    "no wait": (
        PLAIN.replace("GROUP_WAIT(0);", ""),
        EmulatorError,
        "uses a register of a wgmma that nobody has waited for",
    ),
    "no commit": (
        PLAIN.replace("group_commit();", ""),
        EmulatorError,
        "uses a register of a wgmma that nobody has waited for",
    ),
    "A is written": (
        FILL
        + "float d[4] = {0, 0, 0, 0}; u32 a[4] = {in[t], in[t + 1], 0, 0}; settle(d); settle(a); group_fence(); mma_rs(d, a, at + 8192); group_commit();\n"
        'asm volatile("add.u32 %0, %0, 1;" : "+r"(a[0]));\nGROUP_WAIT(0);\nout[1] = a[0];\n'
        + STORE,
        EmulatorError,
        "this writes a register of a wgmma that nobody has waited for",
    ),
    "shared memory is written": (
        PLAIN.replace("\nGROUP_WAIT", "\nbox[t] = 0;\nGROUP_WAIT"),
        RaceError,
        r"wgmma still reads this: nobody has waited for it(.|\n)*warps 0-3 issued wgmma that read it",
    ),
    "no fence after generic writes": (
        PLAIN.replace("fence_async(); ", ""),
        RaceError,
        r"no fence.proxy.async between a write and wgmma, which does not see it",
    ),
    "no barrier after other warps' writes": (
        PLAIN.replace("__syncthreads();\n", "\n"),
        RaceError,
        "race: no barrier orders two accesses",
    ),
    "nothing written": (
        PLAIN.replace("i < 72 * 32", "i < 70 * 32"),
        MemoryFault,
        "shared memory that nothing wrote",
    ),
    "past shared memory": (
        PLAIN.replace("mma(d, at,", "mma(d, at + 15 * 1024,"),
        MemoryFault,
        "out of bounds: the matrix behind descriptor",
    ),
    "a descriptor for each lane": (
        PLAIN.replace("mma(d, at,", "mma(d, at + lane * 16,"),
        EmulatorError,
        "the lanes of a warpgroup disagree about a matrix descriptor",
    ),
    "three warps": (
        "if (warp == 3) return;\n" + PLAIN,
        EmulatorError,
        "only some warps of a warpgroup execute this",
    ),
    "half a warp": (
        PLAIN.replace("group_fence();", "group_fence(); if (t % 32 < 20)"),
        EmulatorError,
        "only some",
    ),
}


@pytest.mark.parametrize("name", _EARLY)
def test_what_is_too_early_or_astray_is_an_error(name: str) -> None:
    code, kind, what = _EARLY[name]
    with pytest.raises(kind, match=what):
        go(code)


def test_a_stage_written_by_a_copy_while_wgmma_reads_it_is_found() -> None:
    """The consumer gives the stage back before it has waited for its product."""
    code = (
        FILL
        + """
    if (t == 128) { wait(bar + 8, 0); expect(bar, 9216); load_bytes(at, in, 9216, bar); wait(bar, 0); }
    if (t < 128) {
        float d[4] = {0, 0, 0, 0}; settle(d); group_fence(); mma(d, at, at + 8192, 0); group_commit();
        EARLY
        GROUP_WAIT(0);
        LATE
        STORE
    }""".replace("STORE", STORE)
    )
    give_back = 'asm volatile("bar.sync 1, 128;" ::: "memory"); if (t == 0) arrive(bar + 8);'
    _, a, b = operands()
    good = code.replace("EARLY", "").replace("LATE", give_back)
    assert (go(good, 160) == a[:, :16] @ b[:, :16].T).all()
    with pytest.raises(
        RaceError,
        match=r"wgmma still reads that: nobody has waited for it(.|\n)*cp.async.bulk(.|\n)*wgmma.mma_async",
    ):
        go(code.replace("LATE", "").replace("EARLY", give_back), 160)


def test_warps_that_never_come_are_a_deadlock() -> None:
    with pytest.raises((DeadlockError, EmulatorError), match=r"only some warps|at the mbarrier"):
        go(
            FILL
            + "float d[4]; group_fence(); if (warp == 2) wait(bar, 0);\nmma(d, at, at + 8192, 0); group_commit(); GROUP_WAIT(0);\n"
            + STORE
        )


@pytest.mark.parametrize("checked", [True, False])
def test_warps_of_a_warpgroup_wait_in_one_place(checked: bool) -> None:
    """Within a branch that each warp takes for itself they do not, and the next product says so."""
    code = (
        FILL
        + """
    float d[4] = {0, 0, 0, 0};
    settle(d); group_fence(); mma(d, at, at + 8192, 0); group_commit();
    if (warp % 2 && in[0] != 12345) { GROUP_WAIT(0); for (int i = 0; i < 4; ++i) d[i] *= 4; }
    GROUP_WAIT(0);
    settle(d); group_fence(); mma(d, at, at + 8192, 1); group_commit();
    GROUP_WAIT(0);
    """
        + STORE
    )
    with pytest.raises(EmulatorError, match="not executed the same") as caught:
        go(code, checked=checked)
    assert str(caught.value).count("kernel.cu") >= 3
    go(code.replace("warp % 2 && in[0]", "in[0]"), checked=checked)
