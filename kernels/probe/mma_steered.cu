// One product instruction that further operands steer: the metadata of a sparse A, or scale factors.
//
// The generator defines (attnprobe/probing/macros.py):
//   A_REGISTERS, B_REGISTERS, C_REGISTERS, D_REGISTERS   32-bit words of one lane
//   X_REGISTERS                                          words of all further operands
//   LANES                                                threads that execute the instruction together
//   PRODUCT(d, a, b, c, x, variant)                      the instruction with its immediates number `variant`
//
// variant is [block], every other array [block][word][lane]. A block takes one variant, so that its
// lanes execute the same instruction.
typedef unsigned int u32_t;

template <int kWords>
__device__ __forceinline__ void read_words(u32_t (&held)[kWords], const u32_t *gmem) {
    const u32_t *mine = gmem + blockIdx.x * (kWords * LANES) + threadIdx.x;
#pragma unroll
    for (int r = 0; r < kWords; ++r) held[r] = mine[r * LANES];
}

extern "C" __global__ void mma_steered(const u32_t *A, const u32_t *B, const u32_t *C, const u32_t *X,
                                       const u32_t *variant, u32_t *D) {
    u32_t a[A_REGISTERS], b[B_REGISTERS], c[C_REGISTERS], x[X_REGISTERS], d[D_REGISTERS];
    read_words(a, A);
    read_words(b, B);
    read_words(c, C);
    read_words(x, X);
    PRODUCT(d, a, b, c, x, variant[blockIdx.x]);

    u32_t *mine = D + blockIdx.x * (D_REGISTERS * LANES) + threadIdx.x;
#pragma unroll
    for (int r = 0; r < D_REGISTERS; ++r) mine[r * LANES] = d[r];
}
