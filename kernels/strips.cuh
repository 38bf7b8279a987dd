// Strips: outputs that are neighbours along H, of which one thread reads what they share once.
//
// They are outputs of a kernel of (1, EXTENT, EXTENT), of stride and dilation 1 along H. To the
// geometry a strip is one output, of a kernel that is higher and a stride of as many rows.
#pragma once
#include "geometry.cuh"

// Outputs of a strip, by the channels that a thread has of each: it sums 16 numbers at most.
template <int LANES>
constexpr int ROWS = LANES == 1 ? 8 : 16 / LANES;

// Calls visit(from, row, column, exists) for all that COUNT such neighbours read of a channel, from
// being its offset: neighbour j reads, at kernel place (b, c), what is in row j + b, column c. A
// single output may have any stride and dilation.
template <int EXTENT, int COUNT, typename I, typename Visit>
__device__ void for_inputs_of_strip(const Geometry<I>& g, const Place<I>& strip, I channel,
                                    const Visit& visit) {
    const I d = g.d.read(strip.d, 0), h = g.h.read(strip.h, 0), step = g.h.dilation.divisor * g.x.h;
    I from[EXTENT];
    bool has_column[EXTENT];
#pragma unroll
    for (int column = 0; column < EXTENT; ++column) {
        const I w = g.w.read(strip.w, column);
        from[column] = g.x.offset({strip.n, channel, d, h, w});
        has_column[column] = g.d.has(d) && g.w.has(w);
    }
#pragma unroll
    for (int row = 0; row < EXTENT + COUNT - 1; ++row) {
        const bool has_row = g.h.has(h + row * g.h.dilation.divisor);
#pragma unroll
        for (int column = 0; column < EXTENT; ++column) {
            visit(from[column], row, column, has_row && has_column[column]);
            from[column] += step;
        }
    }
}
