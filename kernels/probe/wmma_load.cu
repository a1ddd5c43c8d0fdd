// One wmma.load: what each lane holds of a matrix in shared memory.
//
// The generator defines:
//   WORDS             32-bit words that one lane receives; of 64-bit registers two, low first
//   MEMORY_WORDS      words of shared memory that a block fills from `memory`
//   LOAD(r, address)  the instruction
//
// memory is [block][word], registers [block][word][lane]. Elements in memory are numbered; which of them a
// register receives is the question, and nothing else is known: PTX leaves it open.
typedef unsigned int u32_t;

#define LANES 32

extern "C" __global__ void wmma_load(const u32_t *memory, u32_t *registers) {
    __shared__ __align__(256) u32_t tile_smem[MEMORY_WORDS];
    const int lane = threadIdx.x;
    for (int word = lane; word < MEMORY_WORDS; word += LANES) {
        tile_smem[word] = memory[blockIdx.x * MEMORY_WORDS + word];
    }
    __syncthreads();  // the instruction reads what other lanes wrote

    const u32_t base = static_cast<u32_t>(__cvta_generic_to_shared(tile_smem));
    u32_t r[WORDS];
    LOAD(r, base);
#pragma unroll
    for (int i = 0; i < WORDS; ++i) registers[(blockIdx.x * WORDS + i) * LANES + lane] = r[i];
}
