// One pass over arrays that lie alike in memory, without gaps: whichever entry is which does not
// matter, so they are walked flat, in packs of 16 bytes where all begin at a multiple of that.
#pragma once
#include "numbers.cuh"

constexpr int BLOCK = 256;  // threads of a block

template <typename T, int ARRAYS>
__device__ bool begin_packs(T* const (&arrays)[ARRAYS]) {
    bool all = true;
    for (T* array : arrays) all = all && (unsigned long long)array % 16 == 0;
    return all;
}

// The entries of a pack, which may end before count, or begin at any address.
template <typename T, int LANES>
__device__ Pack<T, LANES> read(const T* from, long long first, long long count, bool whole) {
    if (whole) return *(const Pack<T, LANES>*)(from + first);
    Pack<T, LANES> pack = {};
    for (int lane = 0; lane < LANES; ++lane)
        if (first + lane < count) pack.lanes[lane] = from[first + lane];
    return pack;
}

template <typename T, int LANES>
__device__ void write(T* to, long long first, long long count, bool whole,
                      const Pack<T, LANES>& pack) {
    if (whole) {
        *(Pack<T, LANES>*)(to + first) = pack;
        return;
    }
    for (int lane = 0; lane < LANES; ++lane)
        if (first + lane < count) to[first + lane] = pack.lanes[lane];
}

// Calls step(i, lane, in, out) for every entry number i + lane below count, i being that of its
// pack's first: in are the inputs' entries of this number, out becomes the outputs'. Beyond the
// count, to the end of a block, step sees zeros. A block takes BLOCK * PACKS packs of each array,
// of which those of a thread are on their way at once.
template <typename T, int PACKS, int INPUTS, int OUTPUTS, typename Step>
__device__ void one_pass(const T* const (&from)[INPUTS], T* const (&to)[OUTPUTS], long long count,
                         const Step& step) {
    constexpr int LANES = 16 / sizeof(T);
    const bool packs = begin_packs(from) && begin_packs(to);
    long long first[PACKS];
    Pack<T, LANES> in[PACKS][INPUTS], out[OUTPUTS];
#pragma unroll
    for (int n = 0; n < PACKS; ++n) {
        first[n] = (((long long)blockIdx.x * PACKS + n) * BLOCK + threadIdx.x) * LANES;
        for (int k = 0; k < INPUTS; ++k)
            in[n][k] = read<T, LANES>(from[k], first[n], count, packs && first[n] + LANES <= count);
    }
#pragma unroll
    for (int n = 0; n < PACKS; ++n) {
#pragma unroll
        for (int lane = 0; lane < LANES; ++lane) {
            computed<T> given[INPUTS], found[OUTPUTS];
            for (int k = 0; k < INPUTS; ++k) given[k] = load(in[n][k].lanes[lane]);
            step(first[n], lane, given, found);
            for (int k = 0; k < OUTPUTS; ++k) store(out[k].lanes[lane], found[k]);
        }
        for (int k = 0; k < OUTPUTS; ++k)
            write(to[k], first[n], count, packs && first[n] + LANES <= count, out[k]);
    }
}
