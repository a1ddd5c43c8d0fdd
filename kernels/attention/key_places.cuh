// Where the keys of a block's queries are, in global and in shared memory. They are taken from the last block to the first.
#pragma once
#include "attention/sequence.cuh"
#include "ptx/tma.cuh"

struct KeyPlaces {
    static constexpr int kStages = 2;
    u32_t K_tiles;  // of each stage, one after the other
    u32_t V_tiles;
    u32_t barriers;  // mbarriers of the stages
    int begin_block;
    int end_block;
    int seqlen_k;
    KeyRows K_gmem;
    KeyRows V_gmem;
    // The same through tensor maps, where the plan has made some: coordinates of key 0 and of V's first column.
    const TensorMap *K_map;
    const TensorMap *V_map;
    int first_row;
    int kv_head;
    int batch;
    int v_column;
};
