// The channels of x (N, C, S): which numbers a thread takes, and how a block's results become one.
//
// A unit is a pack of neighbours in memory, or one number where packs do not fit. A column is what
// lies in the same lanes: a channel or, where channels are last in memory, LANES of them. A block
// takes a share of the units of some neighbouring columns; its threads stand in rows that wide.
#pragma once
#include "geometry.cuh"
#include "numbers.cuh"

constexpr int BLOCK = 256;  // threads of a block

struct Channels {
    int columns, units;  // how many columns, and units of each
    Divider<int> plane;  // units of an image, where these lie together
    int next, skipped;   // from unit to unit, and more than that to the next image
    int apart;           // from column to column
    int width, share;    // of a block: columns, and units of each

    __device__ long long offset(int column, int unit) const {
        return (long long)column * apart + (long long)unit * next +
               (long long)plane.quotient(unit) * skipped;
    }
};

// A thread's place in its block, and its units of a column: first, first + rows, ... up to end.
struct Stand {
    int row, rows, column, first, end;
};

__device__ inline Stand own_stand(const Channels& g) {
    const int rows = BLOCK / g.width, row = (int)threadIdx.x / g.width;
    const int column = (int)blockIdx.x * g.width + (int)threadIdx.x - row * g.width;
    const int start = (int)blockIdx.y * g.share, end = min(start + g.share, g.units);
    return {row, rows, column, start + row, row < rows && column < g.columns ? end : 0};
}

// Calls visit(offset, units) for all of a thread's units, one of each array, several of which are
// on their way at once.
template <typename Unit, int ARRAYS, typename Visit>
__device__ void for_units(const Channels& g, const Stand& own, const Unit* const (&from)[ARRAYS],
                          const Visit& visit) {
    constexpr int BATCH = (sizeof(Unit) > 8 ? 64 / sizeof(Unit) : 8) / ARRAYS;
    for (int first = own.first; first < own.end; first += BATCH * own.rows) {
        Unit units[BATCH][ARRAYS];
#pragma unroll
        for (int n = 0; n < BATCH; ++n)
            if (first + n * own.rows < own.end)
                for (int k = 0; k < ARRAYS; ++k)
                    units[n][k] = from[k][g.offset(own.column, first + n * own.rows)];
#pragma unroll
        for (int n = 0; n < BATCH; ++n)
            if (first + n * own.rows < own.end)
                visit(g.offset(own.column, first + n * own.rows), units[n]);
    }
}

// Merges what the threads of each column have, in an order of its own: the threads of row 0 get it.
template <int NUMBER, typename Part>
__device__ void merge_rows(const Channels& g, const Stand& own, Part (&parts)[NUMBER]) {
    __shared__ Part shared[BLOCK][NUMBER];
    Part(&mine)[NUMBER] = shared[threadIdx.x];
    for (int n = 0; n < NUMBER; ++n) mine[n] = parts[n];
    for (int left = own.rows, half; left > 1; left = half) {
        half = (left + 1) / 2;
        __syncthreads();
        if (own.row + half < left)
            for (int n = 0; n < NUMBER; ++n)
                mine[n].merge(shared[threadIdx.x + half * g.width][n]);
    }
    for (int n = 0; n < NUMBER; ++n) parts[n] = mine[n];
}

// Numbers that are added.
template <typename C, int NUMBER>
struct Sums {
    C numbers[NUMBER];

    __device__ void merge(const Sums& other) {
        for (int n = 0; n < NUMBER; ++n) numbers[n] += other.numbers[n];
    }
};
