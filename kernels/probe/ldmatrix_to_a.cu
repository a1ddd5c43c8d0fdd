// Is r[i] of a matrix load the a[i] of a product? The tile goes through both: D = tile B.
//
// The generator defines:
//   A_REGISTERS, B_REGISTERS, D_REGISTERS, LANES, MEMORY_WORDS, PRODUCT(d, a, b, c)   as in mma_sync.cu
//   LOAD(r, address)                                                                as in ldmatrix.cu
//
// memory is [block][word]: the tile, one row of A after the other. offsets is [block][lane] in bytes,
// B, registers and D are [block][register][lane].
typedef unsigned int u32_t;

extern "C" __global__ void ldmatrix_to_a(const u32_t *memory, const u32_t *offsets, const u32_t *B, u32_t *registers,
                                         u32_t *D) {
    __shared__ __align__(128) u32_t tile_smem[MEMORY_WORDS];
    const int lane = threadIdx.x;
    for (int word = lane; word < MEMORY_WORDS; word += LANES) {
        tile_smem[word] = memory[blockIdx.x * MEMORY_WORDS + word];
    }
    __syncthreads();  // a lane's address is of rows that other lanes wrote

    // A = tile   [m, k], register i of the load taken as register i of A
    const u32_t base = static_cast<u32_t>(__cvta_generic_to_shared(tile_smem));
    u32_t a[A_REGISTERS];
    LOAD(a, base + offsets[blockIdx.x * LANES + lane]);

    // D = A B   [m, n]
    u32_t b[B_REGISTERS], d[D_REGISTERS], zero[D_REGISTERS] = {};
#pragma unroll
    for (int i = 0; i < B_REGISTERS; ++i) b[i] = B[(blockIdx.x * B_REGISTERS + i) * LANES + lane];
    PRODUCT(d, a, b, zero);

#pragma unroll
    for (int i = 0; i < A_REGISTERS; ++i) {
        registers[(blockIdx.x * A_REGISTERS + i) * LANES + lane] = a[i];
    }
#pragma unroll
    for (int i = 0; i < D_REGISTERS; ++i) D[(blockIdx.x * D_REGISTERS + i) * LANES + lane] = d[i];
}
