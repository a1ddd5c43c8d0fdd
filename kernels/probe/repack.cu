// D of one product, moved within and between lanes until it is an operand of the next.
//
// The generator defines:
//   D_TILES, D_WORDS     tiles of D that a lane holds, and 32-bit words of each
//   T_TILES, T_WORDS     the same of the operand
//   LANES                threads that execute the recipe together
//   REPACK(t, d, lane)   statements that fill t[tile][word] from d[tile][word]
//
// D is [block][tile][word][lane], the result T likewise.
#include "ptx/words.cuh"

extern "C" __global__ void repack(const u32_t *D, u32_t *T) {
    const int lane = threadIdx.x;
    u32_t d[D_TILES][D_WORDS], t[T_TILES][T_WORDS];
#pragma unroll
    for (int tile = 0; tile < D_TILES; ++tile) {
#pragma unroll
        for (int i = 0; i < D_WORDS; ++i) {
            d[tile][i] = D[((blockIdx.x * D_TILES + tile) * D_WORDS + i) * LANES + lane];
        }
    }
    REPACK(t, d, lane)
#pragma unroll
    for (int tile = 0; tile < T_TILES; ++tile) {
#pragma unroll
        for (int i = 0; i < T_WORDS; ++i) {
            T[((blockIdx.x * T_TILES + tile) * T_WORDS + i) * LANES + lane] = t[tile][i];
        }
    }
}
