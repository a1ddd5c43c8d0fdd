// One warpgroup product on operands that come from memory as they are: D = A B + D.
//
// The generator defines (attnprobe/probing/warpgroup.py):
//   D_REGISTERS                     32-bit registers of one lane
//   A_REGISTERS or A_WORDS          registers of one lane, or 32-bit words of the image of A in shared memory
//   B_WORDS                         words of the image of B
//   A_STRIDES, B_STRIDES            the offsets of the descriptors, in their bits
//   PRODUCT(d, a, b, e, selector)   the instruction between its fence and its wait; e and selector are of sparse
//                                   products alone
//
// Block i takes images, registers and metadata of the numbers in control[i]: A, B, C, E, selector. The arrays
// are A [number][word] or [number][register][lane], B [number][word], C and D [.][register][lane] and
// E [number][lane]. Of D the first `control[i][5]` registers are written. Which element a register holds is
// not known here: it is the question.
typedef unsigned int u32_t;
typedef unsigned long long u64_t;

#define LANES   128
#define CONTROL 6

__device__ __forceinline__ u64_t descriptor(const u32_t *smem, u64_t strides) {
    const u32_t address = static_cast<u32_t>(__cvta_generic_to_shared(smem));
    return strides | (address >> 4 & 0x3fff);
}

extern "C" __global__ void __launch_bounds__(LANES)
    wgmma(const u32_t *control, const u32_t *A, const u32_t *B, const u32_t *C, const u32_t *E, u32_t *D) {
    const u32_t *use = control + blockIdx.x * CONTROL;
    const int lane = threadIdx.x;
    const int written = use[5];

    __shared__ __align__(128) u32_t b_smem[B_WORDS];
    for (int i = lane; i < B_WORDS; i += LANES) b_smem[i] = B[use[1] * B_WORDS + i];
#ifdef A_REGISTERS
    u32_t a[A_REGISTERS];
#pragma unroll
    for (int i = 0; i < A_REGISTERS; ++i) a[i] = A[(use[0] * A_REGISTERS + i) * LANES + lane];
#else
    __shared__ __align__(128) u32_t a_smem[A_WORDS];
    for (int i = lane; i < A_WORDS; i += LANES) a_smem[i] = A[use[0] * A_WORDS + i];
    const u64_t a = descriptor(a_smem, A_STRIDES);
#endif
    u32_t d[D_REGISTERS];
#pragma unroll
    for (int i = 0; i < D_REGISTERS; ++i) d[i] = C[(use[2] * D_REGISTERS + i) * LANES + lane];
    const u32_t e = E[use[3] * LANES + lane];

    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");  // the stores above, seen by the tensor core
    __syncthreads();

    // D = A B + C   [64, n]
    PRODUCT(d, a, descriptor(b_smem, B_STRIDES), e, use[4]);

    u32_t *mine = D + blockIdx.x * written * LANES + lane;
#pragma unroll
    for (int i = 0; i < D_REGISTERS; ++i) {
        if (i < written) mine[i * LANES] = d[i];
    }
}
