// One product instruction on registers that come from memory as they are: D = A B + C.
//
// The generator defines (attnprobe/probing/generate.py):
//   A_REGISTERS, B_REGISTERS, C_REGISTERS, D_REGISTERS   32-bit registers of one lane
//   LANES                                                threads that execute the instruction together
//   PRODUCT(d, a, b, c)                                  the instruction
//
// Every array is [block][register][lane]. No layout is known here: which element a register holds is
// the question. A probe kernel includes nothing, so evidence recorded with it stays valid when the
// wrappers of kernels/ptx/ change.
typedef unsigned int u32_t;

template <int kRegisters>
__device__ __forceinline__ void read_registers(u32_t (&held)[kRegisters], const u32_t *gmem) {
    const u32_t *mine = gmem + blockIdx.x * (kRegisters * LANES) + threadIdx.x;
#pragma unroll
    for (int r = 0; r < kRegisters; ++r) held[r] = mine[r * LANES];
}

template <int kRegisters>
__device__ __forceinline__ void write_registers(u32_t *gmem, const u32_t (&held)[kRegisters]) {
    u32_t *mine = gmem + blockIdx.x * (kRegisters * LANES) + threadIdx.x;
#pragma unroll
    for (int r = 0; r < kRegisters; ++r) mine[r * LANES] = held[r];
}

extern "C" __global__ void mma_sync(const u32_t *A, const u32_t *B, const u32_t *C, u32_t *D) {
    u32_t a[A_REGISTERS], b[B_REGISTERS], c[C_REGISTERS], d[D_REGISTERS];
    read_registers(a, A);
    read_registers(b, B);
    read_registers(c, C);
    PRODUCT(d, a, b, c);
    write_registers(D, d);
}
