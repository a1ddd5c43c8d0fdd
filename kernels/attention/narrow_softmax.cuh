// Online softmax for the 64 rows of a warpgroup as in warpgroup_softmax.cuh, whose P is e4m3: it comes out packed, in the
// order in which the tensor core takes it.
#pragma once
#include "attention/warpgroup_softmax.cuh"
#include "ptx/pack8.cuh"

struct NarrowSoftmax : RowSoftmaxIn<NarrowRange> {
    float bias[kRowsPerLane];        // what a scaled score gets to become the exponent of P
    u32_t outgrowing[kRowsPerLane];  // the least score that row_max follows: bits, compared without a sign

    // Lets the maxima follow S, the scores of a block, where it has outgrown them. Returns whether it did in a row of this warp:
    // O is then to be scaled. In the first block of a tile nothing was accumulated before.
    template <bool kFirst, int kCount>
    __device__ __forceinline__ bool follow(const float (&S)[kCount], float exponent_scale) {
        if constexpr (!kFirst) {
            // Each lane looks at its own scores, and mostly no row has outgrown its maximum: then nobody has to know that of a
            // whole row. A lane whose scores are all negative cannot say, since their bits compare the other way round.
            const bool first = static_cast<u32_t>(lane_max_bits(S, 0)) >= outgrowing[0];
            const bool second = static_cast<u32_t>(lane_max_bits(S, 1)) >= outgrowing[1];
            rescale[0] = rescale[1] = 1.0f;
            if (!vote_any(first | second)) return false;
        }
        float block_max[kRowsPerLane];
        find_maxima(block_max, S);
        const float slack = kSlack * rcp_approx(exponent_scale);
#pragma unroll
        for (int r = 0; r < kRowsPerLane; ++r) {
            if constexpr (kFirst) {
                row_max[r] = block_max[r];
            } else {
                // The same comparison for lanes and rows, so that no row's bits depend on what else is in the warp.
                const bool grown = block_max[r] > row_max[r] + slack;
                rescale[r] = grown ? ex2_approx((row_max[r] - block_max[r]) * exponent_scale) : 1.0f;
                row_max[r] = grown ? block_max[r] : row_max[r];
                row_sum[r] *= rescale[r];
            }
            bias[r] = row_max[r] == -infinity() ? kOffset : fma_rn(-row_max[r], exponent_scale, kOffset);
            const float most = row_max[r] + slack;
            outgrowing[r] = most < 0.0f ? 0 : __float_as_uint(most) + 1;
        }
        return true;
    }

    // P of S, words [kBegin, kEnd). Each word is what a lane has of a row in two neighbouring 64x8 accumulator blocks, one register
    // of an A fragment where the keys are in the order of transpose_values.cuh. sums: of P before it is rounded.
    template <int kBegin, int kEnd, int kCount>
    __device__ __forceinline__ void powers(u32_t (&P)[kCount / 4], float (&sums)[kRowsPerLane],
                                           const float (&S)[kCount], float exponent_scale) const {
#pragma unroll
        for (int i = kBegin; i < kEnd; ++i) {
            const int at = i / 2 * 8 + i % 2 * 2, r = i % 2;
            float weight[4];
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                weight[j] = ex2_approx(fma_rn(S[at + j / 2 * 4 + j % 2], exponent_scale, bias[r]));
            }
            const float pair = weight[0] + weight[1];
            sums[r] = i < 2 ? pair : sums[r] + pair;
            sums[r] += weight[2] + weight[3];
            P[i] = pack4_e4m3(weight[0], weight[1], weight[2], weight[3]);
        }
    }

    // Adds the sums of a block.
    template <bool kFirst>
    __device__ __forceinline__ void add(const float (&sums)[kRowsPerLane]) {
#pragma unroll
        for (int r = 0; r < kRowsPerLane; ++r) row_sum[r] = kFirst ? sums[r] : row_sum[r] + sums[r];
    }

    // Keeps a wait behind the P that sums are of: the compiler moves it across everything but a branch.
    static __device__ __forceinline__ void hold(const float (&sums)[kRowsPerLane]) {
        if (sums[0] + sums[1] < 0.0f) nanosleep(0);
    }

  private:
    // The maxima of both rows. Bits of floats compare as integers where the greatest of them is not negative, and the machine
    // takes the maximum of three integers at once, but of two floats only.
    template <int kCount>
    static __device__ __forceinline__ void find_maxima(float (&block_max)[kRowsPerLane], const float (&S)[kCount]) {
        int bits[kRowsPerLane];
#pragma unroll
        for (int r = 0; r < kRowsPerLane; ++r) bits[r] = quad_max_s32(lane_max_bits(S, r));
        if (vote_any(bits[0] < 0 || bits[1] < 0)) {
#pragma unroll
            for (int r = 0; r < kRowsPerLane; ++r) block_max[r] = quad_max(lane_max(S, r));
        } else {
#pragma unroll
            for (int r = 0; r < kRowsPerLane; ++r) block_max[r] = __int_as_float(bits[r]);
        }
    }

    // The greatest of this lane's scores of row r, as integers.
    template <int kCount>
    static __device__ __forceinline__ int lane_max_bits(const float (&S)[kCount], int r) {
        constexpr int kChains = NarrowRange::kChains;
        static_assert(kChains == 4 && kCount >= 16, "each chain begins with two scores");
        int maxima[kChains];
#pragma unroll
        for (int i = 0; i < kCount; i += 4) {
            const int first = __float_as_int(S[i + 2 * r]), second = __float_as_int(S[i + 2 * r + 1]);
            int &chain = maxima[i / 4 % kChains];
            chain = i / 4 < kChains ? max(first, second) : max(max(chain, first), second);
        }
        return max(max(maxima[0], maxima[1]), max(maxima[2], maxima[3]));
    }

    // The greatest of this lane's scores of row r.
    template <int kCount>
    static __device__ __forceinline__ float lane_max(const float (&S)[kCount], int r) {
        float result = max_f32(S[2 * r], S[2 * r + 1]);
#pragma unroll
        for (int i = 4; i < kCount; i += 4) result = max_f32(result, max_f32(S[i + 2 * r], S[i + 2 * r + 1]));
        return result;
    }

    static __device__ __forceinline__ int quad_max_s32(int x) {
        x = max(x, static_cast<int>(shfl_bfly(static_cast<u32_t>(x), 1)));
        return max(x, static_cast<int>(shfl_bfly(static_cast<u32_t>(x), 2)));
    }
};
