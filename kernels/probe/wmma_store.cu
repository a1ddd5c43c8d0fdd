// One wmma.store: where in shared memory each register of each lane goes.
//
// The generator defines WORDS and MEMORY_WORDS as in wmma_load.cu, and STORE(address, r).
//
// registers is [block][word][lane], memory [block][word]. Memory holds UNWRITTEN where nothing was stored.
typedef unsigned int u32_t;

#define LANES     32
#define UNWRITTEN 0xa5a5a5a5u

extern "C" __global__ void wmma_store(const u32_t *registers, u32_t *memory) {
    __shared__ __align__(256) u32_t tile_smem[MEMORY_WORDS];
    const int lane = threadIdx.x;
    for (int word = lane; word < MEMORY_WORDS; word += LANES) tile_smem[word] = UNWRITTEN;
    u32_t r[WORDS];
#pragma unroll
    for (int i = 0; i < WORDS; ++i) r[i] = registers[(blockIdx.x * WORDS + i) * LANES + lane];
    __syncthreads();  // nobody overwrites what the instruction stores

    STORE(static_cast<u32_t>(__cvta_generic_to_shared(tile_smem)), r);
    __syncthreads();  // words are read by other lanes than stored them
    for (int word = lane; word < MEMORY_WORDS; word += LANES) {
        memory[blockIdx.x * MEMORY_WORDS + word] = tile_smem[word];
    }
}
