// One scalar instruction on every word of its inputs: z = OPERATION(x, y, w).
//
// The generator defines:
//   OPERATION(d, a, b, c)   the instruction on 32-bit words; it may leave b and c out
//   THREADS                 threads of a block
//
// All arrays have one word for each thread.
typedef unsigned int u32_t;

extern "C" __global__ void scalar(const u32_t *A, const u32_t *B, const u32_t *C, u32_t *D) {
    const unsigned int i = blockIdx.x * THREADS + threadIdx.x;
    const u32_t a = A[i], b = B[i], c = C[i];
    u32_t d;
    OPERATION(d, a, b, c);
    D[i] = d;
}
