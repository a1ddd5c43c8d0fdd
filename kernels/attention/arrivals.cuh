// Who is the last? Blocks that each compute a part count themselves in; the last one goes on with what all have left.
//
// The words that count lie in scratch memory of the call, which holds whatever was there before. So a word says by its
// upper bits whether it is one of ours: they are a random number of this process (arrival_tag, whose lower kCountBits
// are 0), which no other memory holds. Each block looks before it asks for keys, and makes a word that is not ours into a
// count of 0 before it arrives: no warp waits for either. At the end one addition is left to do.
// The last block leaves a count of 0, so that a launch that is repeated (a captured graph) finds what it needs, and so
// does any other launch that is given this memory.
#pragma once
#include "attention/params.cuh"
#include "ptx/atomic.cuh"

constexpr int kCountBits = 10;  // engine/parts.py draws the tag

// Before it arrives, by one thread of each block: makes the word a count. found: what stood there when the block began; where
// somebody else was quicker, the word is ours by now and stays as it is.
__device__ __forceinline__ void open_count(const AttentionParams &p, u64_t *word, u64_t found) {
    if ((found ^ p.arrival_tag) >> kCountBits != 0) atom_cas_relaxed(word, found, p.arrival_tag);
}

// By all threads of a block: it arrives at the word, the last of `expected` or not; is_last tells. flag: in shared memory,
// nobody's until then. What comes between the two, all warps but the first do while the answer is under way.
__device__ __forceinline__ void arrive(const AttentionParams &p, u64_t *word, int expected, u32_t *flag) {
    __syncthreads();  // the block has written all that it leaves
    if (threadIdx.x == 0) {
        const u64_t before = atom_add_acq_rel(word, 1) - p.arrival_tag;
        const bool last = before == static_cast<u64_t>(expected - 1);
        if (last) st_relaxed(word, p.arrival_tag);
        *flag = last;
    }
}

// By all threads of a block that has arrived. What the blocks wrote before they arrived, all threads of the last one see.
__device__ __forceinline__ bool is_last(const u32_t *flag) {
    __syncthreads();
    return *flag != 0;
}
