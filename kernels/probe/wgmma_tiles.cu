// One warpgroup product D = A B on matrices that lie in shared memory as each block's descriptors say.
//
// The generator defines (attnprobe/probing/warpgroup_tiles.py):
//   D_REGISTERS                32-bit registers of one lane
//   A_WORDS, B_WORDS           words of the images of A and B; both start on a multiple of 1024 bytes
//   OUT_WORDS                  words that a block writes
//   PRODUCT(d, a, b, form)     the instruction between its fence and its wait; forms are transpositions of A and B
//
// Block i takes what control[i] says: the numbers of the images of A and B, the bytes at which the matrices start in
// them, the form, the registers and lanes of D that are written, and the descriptors without their addresses. Which
// element of an image is which of the matrix is not known here: it is the question.
typedef unsigned int u32_t;
typedef unsigned long long u64_t;

#define LANES 128

struct Control {
    u32_t a, b, a_start, b_start, form, registers, lanes, unused;
    u64_t a_layout, b_layout;
};

extern "C" __global__ void __launch_bounds__(LANES)
    wgmma_tiles(const Control *control, const u32_t *A, const u32_t *B, u32_t *D) {
    const Control use = control[blockIdx.x];
    const int lane = threadIdx.x;

    extern __shared__ __align__(1024) u32_t images[];
    for (int i = lane; i < A_WORDS; i += LANES) images[i] = A[use.a * A_WORDS + i];
    for (int i = lane; i < B_WORDS; i += LANES) images[A_WORDS + i] = B[use.b * B_WORDS + i];
    const u32_t a_smem = static_cast<u32_t>(__cvta_generic_to_shared(images)) + use.a_start;
    const u32_t b_smem = static_cast<u32_t>(__cvta_generic_to_shared(images + A_WORDS)) + use.b_start;
    const u64_t a = use.a_layout | (a_smem >> 4 & 0x3fff), b = use.b_layout | (b_smem >> 4 & 0x3fff);

    u32_t d[D_REGISTERS];
#pragma unroll
    for (int i = 0; i < D_REGISTERS; ++i) d[i] = 0;

    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");  // the stores above, seen by the tensor core
    __syncthreads();

    // D = A B   [64, n]
    PRODUCT(d, a, b, use.form);

    u32_t *mine = D + blockIdx.x * OUT_WORDS;
#pragma unroll
    for (int i = 0; i < D_REGISTERS; ++i) {
        if (i < use.registers && lane < use.lanes) mine[i * use.lanes + lane] = d[i];
    }
}
