// Warps that share rows of S and O. Of the same 16 * kMTiles rows each computes S for its share of the keys of a block and
// O for its share of the columns: K, V and the accumulators of O are dealt out, and each fragment of K and V feeds more
// rows than one warp could hold the O of. What each needs of the other goes through shared memory: maxima, sums, P.
//
// The pair keeps the same maxima and takes the same branches. One named barrier per exchange; the barrier of the block at
// the head of each key block lies between the reads of one block and the writes of the next.
#pragma once
#include "attention/online_softmax.cuh"
#include "attention/products.cuh"
#include "ptx/shared.cuh"
#include "ptx/warpgroup.cuh"

// A warp that has its rows to itself.
struct WarpAlone : OneWarp {
    static constexpr int kSharers = 1;
    static constexpr int kBytes = 0;
    static constexpr int rank = 0;  // which share of keys and columns is this warp's

    __device__ __forceinline__ explicit WarpAlone(u32_t) {}
    __device__ __forceinline__ int column(int d) const { return d * 8; }
    __device__ __forceinline__ WarpAlone part(int, int) const { return *this; }
    __device__ __forceinline__ void sync() const {}
    template <int kMTiles>
    __device__ __forceinline__ void join_sums(float (&)[kMTiles][kRowsPerLane]) const {}
    template <class Element, int kMTiles, int kDTiles, class VAddress>
    __device__ __forceinline__ void add_product_of_other(float (&)[kMTiles][kDTiles][4], const VAddress &) const {}
};

// Those of a warp in a tile whose rows kSharers warps share.
template <int kSharers, int kMTiles, int kKeys, int kParts>
struct SharersOf {
    using Type = WarpAlone;
};

// Two of them. kKeys: of a key block, which is taken in kParts parts.
template <int kMTiles, int kKeys, int kParts>
struct WarpPair {
    static constexpr int kSharers = 2;
    static constexpr int kRows = kMTiles * 16;
    static constexpr int kSteps = kKeys / kParts / 2 / 16;  // of the second product, with the P of one warp
    using PTile = Tile<kRows, kKeys>;
    static constexpr int kStatBytes = kRows * static_cast<int>(sizeof(float));  // of one warp
    static constexpr int kBytes = 2 * PTile::kBytes + 2 * kStatBytes;
    static_assert(kKeys % (32 * kParts) == 0, "each has whole fragments of keys");

    int rank;  // 0, 1: which share is this warp's
    int barrier;
    int step;  // of 16 keys, where the part begins that is exchanged
    u32_t P_tile;
    u32_t stats;

    // smem: of all pairs of the block, kBytes each.
    __device__ __forceinline__ explicit WarpPair(u32_t smem)
        : rank(warp_id() % 2),
          barrier(1 + warp_id() / 2),  // 0 is __syncthreads
          step(0),
          P_tile(smem + warp_id() / 2 * kBytes),
          stats(P_tile + 2 * PTile::kBytes) {}

    // Where n8 block d of this warp's columns of O begins: pairs of blocks are dealt out in turn.
    __device__ __forceinline__ int column(int d) const { return (d / 2 * kSharers + rank) * 16 + d % 2 * 8; }

    // The same for one part of a block. Blocks take two tiles of P in turn: while one warp still reads the P of a block,
    // the other may write that of the next.
    __device__ __forceinline__ WarpPair part(int block, int number) const {
        WarpPair result = *this;
        result.P_tile += block % 2 * PTile::kBytes;
        result.step = number * kSharers * kSteps;
        return result;
    }

    __device__ __forceinline__ void sync() const { bar_sync(barrier, 2 * kWarpSize); }
    __device__ __forceinline__ bool any(bool predicate) const { return bar_red_or(barrier, 2 * kWarpSize, predicate); }

    // Maxima of both warps' keys, from those of this warp's, which all lanes of a quad hold.
    __device__ __forceinline__ void join_maxima(float (&maxima)[kMTiles][kRowsPerLane]) const {
        float other[kMTiles][kRowsPerLane];
        exchange(other, maxima);
#pragma unroll
        for (int m = 0; m < kMTiles; ++m) {
#pragma unroll
            for (int r = 0; r < kRowsPerLane; ++r) maxima[m][r] = max_f32(maxima[m][r], other[m][r]);
        }
    }

    // Sums over both warps' keys, from this lane's share of those over this warp's: lane 0 of a quad has all of it then.
    __device__ __forceinline__ void join_sums(float (&sums)[kMTiles][kRowsPerLane]) const {
        float other[kMTiles][kRowsPerLane];
#pragma unroll
        for (int m = 0; m < kMTiles; ++m) {
#pragma unroll
            for (int r = 0; r < kRowsPerLane; ++r) sums[m][r] = quad_sum(sums[m][r]);
        }
        exchange(other, sums);
#pragma unroll
        for (int m = 0; m < kMTiles; ++m) {
#pragma unroll
            for (int r = 0; r < kRowsPerLane; ++r) {
                sums[m][r] = lane_id() % 4 == 0 ? sums[m][r] + other[m][r] : 0.0f;
            }
        }
    }

    // Writes this warp's P where the other reads it, after the next barrier.
    __device__ __forceinline__ void publish(const u32_t (&P_frag)[kSteps][kMTiles][4]) const {
        const int lane_row = lane_id() / 4;
        const u32_t lane_place = P_tile + lane_row * PTile::kRowBytes + lane_id() % 4 * 4;
#pragma unroll
        for (int k = 0; k < kSteps; ++k) {
#pragma unroll
            for (int m = 0; m < kMTiles; ++m) {
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const int row = m * 16 + i % 2 * 8, chunk = (step + rank * kSteps + k) * 2 + i / 2;
                    st_shared(lane_place + row * PTile::kRowBytes + swizzled_chunk(lane_row, chunk), P_frag[k][m][i]);
                }
            }
        }
    }

    // O += P V for the keys of the other: its P, published. V_smem: its keys, this warp's columns.
    template <class Element, int kDTiles, class VAddress>
    __device__ __forceinline__ void add_product_of_other(float (&O_acc)[kMTiles][kDTiles][4],
                                                         const VAddress &V_smem) const {
        const QFragment<kKeys> P_smem(P_tile, 0);
#pragma unroll
        for (int k = 0; k < kSteps; ++k) {
            u32_t P_frag[kMTiles][4];
#pragma unroll
            for (int m = 0; m < kMTiles; ++m) ldmatrix_x4(P_frag[m], P_smem.at(m * 16, step + (rank ^ 1) * kSteps + k));
            product_pv<Element, kSharers>(O_acc, P_frag, V_smem, k * 16);
        }
    }

  private:
    __device__ __forceinline__ void exchange(float (&other)[kMTiles][kRowsPerLane],
                                             const float (&own)[kMTiles][kRowsPerLane]) const {
        const u32_t lane_place = stats + lane_id() / 4 * sizeof(float);
#pragma unroll
        for (int m = 0; m < kMTiles; ++m) {
#pragma unroll
            for (int r = 0; r < kRowsPerLane; ++r) {
                const int offset = (m * 16 + r * 8) * static_cast<int>(sizeof(float));
                if (lane_id() % 4 == 0) st_shared(lane_place + rank * kStatBytes + offset, __float_as_uint(own[m][r]));
            }
        }
        sync();
#pragma unroll
        for (int m = 0; m < kMTiles; ++m) {
#pragma unroll
            for (int r = 0; r < kRowsPerLane; ++r) {
                const int offset = (m * 16 + r * 8) * static_cast<int>(sizeof(float));
                other[m][r] = __uint_as_float(ld_shared(lane_place + (rank ^ 1) * kStatBytes + offset));
            }
        }
    }
};

template <int kMTiles, int kKeys, int kParts>
struct SharersOf<2, kMTiles, kKeys, kParts> {
    using Type = WarpPair<kMTiles, kKeys, kParts>;
};
