// One bulk tensor copy (TMA) for each block: a box into shared memory, or out of it, as the tensor map says.
//
// The generator defines (attnprobe/probing/tensor_copies.py):
//   RANK        axes of the tensor
//   START       byte of the dump at which the box is to lie, a multiple of 128
//   BYTES       bytes of the box, which the barrier waits for
//   DUMP_WORDS  words of the dump, which starts on a multiple of 1024 bytes
//   STORE       1 where the copy goes out of shared memory
//
// Block i takes the box at corners[i]. Before a load every word of the dump is 0xA5A5A5A5, and it is written out after;
// before a store word j is 2j | (2j + 1) << 16. Which byte is which element is not known here: it is the question.
typedef unsigned int u32_t;
typedef unsigned long long u64_t;

#define THREADS   128
#define MAX_RANK  5
#define PATIENCE  256  // how often the barrier is asked before the dump is written all the same
#define UNWRITTEN 0xA5A5A5A5u

struct alignas(64) TensorMap {
    u64_t words[16];
};

__device__ __forceinline__ u32_t address_of(const void *smem) {
    return static_cast<u32_t>(__cvta_generic_to_shared(smem));
}

// Coordinates of the box: as many as the tensor has axes.
#if RANK == 1
#define COORDINATES "{%3}"
#elif RANK == 2
#define COORDINATES "{%3, %4}"
#elif RANK == 3
#define COORDINATES "{%3, %4, %5}"
#elif RANK == 4
#define COORDINATES "{%3, %4, %5, %6}"
#else
#define COORDINATES "{%3, %4, %5, %6, %7}"
#endif
#define TEXT_(x) #x
#define TEXT(x)  TEXT_(x)
#define TENSOR   "cp.async.bulk.tensor." TEXT(RANK) "d."

__device__ __forceinline__ void load(u32_t smem, const TensorMap &map, u32_t barrier, const int *c) {
    asm volatile(TENSOR "shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, " COORDINATES
                        "], [%2];" ::"r"(smem),
                 "l"(&map), "r"(barrier), "r"(c[0]), "r"(c[1]), "r"(c[2]), "r"(c[3]), "r"(c[4])
                 : "memory");
}

__device__ __forceinline__ void store(u32_t smem, const TensorMap &map, const int *c) {
    asm volatile(TENSOR "global.shared::cta.bulk_group [%1, " COORDINATES "], [%0];" ::"r"(smem), "l"(&map), "r"(0),
                 "r"(c[0]), "r"(c[1]), "r"(c[2]), "r"(c[3]), "r"(c[4])
                 : "memory");
    asm volatile("cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;" ::: "memory");
}

__device__ __forceinline__ bool complete(u32_t barrier) {
    u32_t done;
    asm volatile("{.reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], 0; selp.u32 %0, 1, 0, p;}"
                 : "=r"(done)
                 : "r"(barrier)
                 : "memory");
    return done != 0;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    tensor_copy(const __grid_constant__ TensorMap map, const int *corners, const void *tensor, u32_t *dump) {
    extern __shared__ __align__(1024) u32_t dump_smem[];
    __shared__ __align__(8) u64_t landed;
    for (int i = threadIdx.x; i < DUMP_WORDS; i += THREADS)
        dump_smem[i] = STORE ? 2 * i | (2 * i + 1) << 16 : UNWRITTEN;
    if (threadIdx.x == 0) {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(address_of(&landed)) : "memory");
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");  // the stores above, seen by the copy
    __syncthreads();

    const int *corner = corners + blockIdx.x * MAX_RANK;
    if (threadIdx.x == 0) {
        if (STORE) {
            store(address_of(dump_smem) + START, map, corner);
        } else {
            asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address_of(&landed)), "r"(BYTES)
                         : "memory");
            load(address_of(dump_smem) + START, map, address_of(&landed), corner);
            for (int i = 0; i < PATIENCE && !complete(address_of(&landed)); ++i) {
            }
        }
    }
    __syncthreads();
    if (STORE) return;
    // Everybody has to wait at the barrier to see the copy; after so long it has come, or never will.
    for (int i = 0; i < PATIENCE && !complete(address_of(&landed)); ++i) {
    }
    for (int i = threadIdx.x; i < DUMP_WORDS; i += THREADS) dump[blockIdx.x * DUMP_WORDS + i] = dump_smem[i];
}
