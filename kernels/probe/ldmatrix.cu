// One matrix load: every lane passes an address in shared memory and writes out what it received.
//
// The generator defines:
//   REGISTERS         32-bit registers that one lane receives
//   LANES             threads that execute the instruction together
//   MEMORY_WORDS      32-bit words of shared memory that a block fills from `memory`
//   LOAD(r, address)  the instruction
//
// memory is [block][word], offsets [block][lane] in bytes from the start of shared memory,
// registers [block][register][lane].
typedef unsigned int u32_t;

extern "C" __global__ void ldmatrix(const u32_t *memory, const u32_t *offsets, u32_t *registers) {
    __shared__ __align__(128) u32_t rows_smem[MEMORY_WORDS];
    const int lane = threadIdx.x;
    for (int word = lane; word < MEMORY_WORDS; word += LANES) {
        rows_smem[word] = memory[blockIdx.x * MEMORY_WORDS + word];
    }
    __syncthreads();  // a lane's address is of rows that other lanes wrote

    const u32_t base = static_cast<u32_t>(__cvta_generic_to_shared(rows_smem));
    u32_t r[REGISTERS];
    LOAD(r, base + offsets[blockIdx.x * LANES + lane]);
#pragma unroll
    for (int i = 0; i < REGISTERS; ++i) {
        registers[(blockIdx.x * REGISTERS + i) * LANES + lane] = r[i];
    }
}
