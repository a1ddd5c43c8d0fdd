// One matrix move between the lanes of a warp.
//
// The generator defines:
//   A_REGISTERS, D_REGISTERS   32-bit registers of one lane
//   LANES                      threads that execute the instruction together
//   MOVE(d, a)                 the instruction
//
// Both arrays are [block][register][lane].
typedef unsigned int u32_t;

extern "C" __global__ void movmatrix(const u32_t *A, u32_t *D) {
    const int lane = threadIdx.x;
    u32_t a[A_REGISTERS], d[D_REGISTERS];
#pragma unroll
    for (int i = 0; i < A_REGISTERS; ++i) a[i] = A[(blockIdx.x * A_REGISTERS + i) * LANES + lane];
    MOVE(d, a);
#pragma unroll
    for (int i = 0; i < D_REGISTERS; ++i) D[(blockIdx.x * D_REGISTERS + i) * LANES + lane] = d[i];
}
