// Is D, packed to 16 bits in the order of its registers, the A of the next product?
//
// The generator defines:
//   A_REGISTERS, B_REGISTERS, D_REGISTERS, LANES, PRODUCT(d, a, b, c)   as in mma_sync.cu
//   TILES                products whose D, side by side along n, are as wide as A is along k
//   PACK(packed, low, high)   two f32 registers to one of two 16-bit values, where D is f32
//
// A is [block][register][lane], B [block][tile][register][lane]; of the results, packed is
// [block][register][lane] and D [block][tile][register][lane].
typedef unsigned int u32_t;

extern "C" __global__ void d_is_next_a(const u32_t *A, const u32_t *B, u32_t *packed, u32_t *D) {
    const int lane = threadIdx.x;
    u32_t a[A_REGISTERS], b[TILES][B_REGISTERS], d[D_REGISTERS], next_a[A_REGISTERS];
    u32_t zero[D_REGISTERS] = {};
#pragma unroll
    for (int i = 0; i < A_REGISTERS; ++i) a[i] = A[(blockIdx.x * A_REGISTERS + i) * LANES + lane];
#pragma unroll
    for (int t = 0; t < TILES; ++t) {
#pragma unroll
        for (int i = 0; i < B_REGISTERS; ++i) {
            b[t][i] = B[((blockIdx.x * TILES + t) * B_REGISTERS + i) * LANES + lane];
        }
    }

    // next_a = pack(A B_0), pack(A B_1), ...   [m, n] each
#pragma unroll
    for (int t = 0; t < TILES; ++t) {
        PRODUCT(d, a, b[t], zero);
#ifdef PACK
#pragma unroll
        for (int i = 0; i < D_REGISTERS / 2; ++i) {
            PACK(next_a[t * (D_REGISTERS / 2) + i], d[2 * i], d[2 * i + 1]);
        }
#else
#pragma unroll
        for (int i = 0; i < D_REGISTERS; ++i) next_a[t * D_REGISTERS + i] = d[i];
#endif
    }
#pragma unroll
    for (int i = 0; i < A_REGISTERS; ++i) {
        packed[(blockIdx.x * A_REGISTERS + i) * LANES + lane] = next_a[i];
    }

    // D = next_a B_t   [m, n] each
#pragma unroll
    for (int t = 0; t < TILES; ++t) {
        PRODUCT(d, next_a, b[t], zero);
#pragma unroll
        for (int i = 0; i < D_REGISTERS; ++i) {
            D[((blockIdx.x * TILES + t) * D_REGISTERS + i) * LANES + lane] = d[i];
        }
    }
}
