// One matrix store: every lane passes an address in shared memory and what is to be stored.
//
// The generator defines:
//   REGISTERS          32-bit registers that one lane gives
//   LANES              threads that execute the instruction together
//   MEMORY_WORDS       32-bit words of shared memory that a block writes out
//   STORE(address, r)  the instruction
//
// registers is [block][register][lane], offsets [block][lane] in bytes from the start of shared memory,
// memory [block][word]. Words that nothing was stored to are zero.
typedef unsigned int u32_t;

extern "C" __global__ void stmatrix(const u32_t *registers, const u32_t *offsets, u32_t *memory) {
    __shared__ __align__(128) u32_t rows_smem[MEMORY_WORDS];
    const int lane = threadIdx.x;
    for (int word = lane; word < MEMORY_WORDS; word += LANES) rows_smem[word] = 0;
    __syncthreads();  // the zeros of other lanes stand before anything is stored

    const u32_t base = static_cast<u32_t>(__cvta_generic_to_shared(rows_smem));
    u32_t r[REGISTERS];
#pragma unroll
    for (int i = 0; i < REGISTERS; ++i) r[i] = registers[(blockIdx.x * REGISTERS + i) * LANES + lane];
    STORE(base + offsets[blockIdx.x * LANES + lane], r);
    __syncthreads();  // a word is written out by another lane than stored it

    for (int word = lane; word < MEMORY_WORDS; word += LANES) {
        memory[blockIdx.x * MEMORY_WORDS + word] = rows_smem[word];
    }
}
