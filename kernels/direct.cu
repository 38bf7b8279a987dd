// Convolution and its input's gradient, each result summed where it is written: without columns.
//
//   convolve            y[n, o, p] = b[o] + sum of x[n, i, q] * w[o, i, k] over the channels i of
//                       o's group and the kernel places k, q being the input that p reads at k
//   depthwise           the same, where i is one channel, in strips of outputs if STRIPS
//   convolve_gradient   dx[n, i, q] = sum of dy[n, o, p] * w[o, i, k] over the channels o of i's
//                       group and the outputs p that read q, at kernel place k
//
// Shapes    x, dx (N, C, D, H, W); w (O, C/G, K); b (O); y, dy (N, O, OD, OH, OW); fewer axes have
//           ones in front. Depthwise kernels have a K of (1, EXTENT, EXTENT).
// Memory    any strides, w's of its own; where LANES > 1, each group is one channel, and all arrays
//           have contiguous channels in packs of LANES. There may be no b.
// Types     I int or long long; T half, bfloat16, float or double, summed in float or double.
// Threads   each owns one y, or a strip of ROWS<LANES>, or one dx: LANES neighbouring channels.
//           Blocks of 128, no shared memory. From sm_75 on.
// The same input gives the same bits: sums run in one order, without atomics. At stride 1 the
// gradient is a convolution too, of dy with w's places backwards.
#include "geometry.cuh"
#include "numbers.cuh"
#include "strips.cuh"

template <typename I>
struct Weights {
    Divider<I> channels;            // of a group, of what is computed
    I terms;                        // channels of a group, of what is summed
    I group, channel, term, place;  // strides
    I biased, bias;                 // whether there is a b, and its stride
    I absent;                       // whether what lies outside of x is not there, rather than 0
    I rows, row;                    // of what is computed, along H: how many, and the stride

    // The first weight of a channel of what is computed, and the first channel summed for it.
    __device__ I first_weight(I c) const {
        const I own = channels.quotient(c);
        return own * group + (c - own * channels.divisor) * channel;
    }
    __device__ I first_term(I c) const { return channels.quotient(c) * terms; }

    __device__ Place<I> at_term(const Place<I>& result, I term) const {
        return {result.n, first_term(result.c) + term, result.d, result.h, result.w};
    }
};

template <typename T, int LANES>
__device__ void add_products(computed<T> (&sums)[LANES], Pack<T, LANES> a, Pack<T, LANES> b) {
    for (int lane = 0; lane < LANES; ++lane)
        sums[lane] += load(a.lanes[lane]) * load(b.lanes[lane]);
}

// Sums begin with the bias of their channel, where there is one.
template <typename T, int LANES, typename I>
__device__ void begin(computed<T> (&sums)[LANES], const Pack<T, LANES>* b, I channel,
                      const Weights<I>& v) {
    const Pack<T, LANES> bias = v.biased ? b[channel * v.bias] : Pack<T, LANES>{};
    for (int lane = 0; lane < LANES; ++lane) sums[lane] = load(bias.lanes[lane]);
}

template <typename I, typename T, int LANES, int EXTENT>
__global__ void convolve(const Pack<T, LANES>* x, const Pack<T, LANES>* w, const Pack<T, LANES>* b,
                         Pack<T, LANES>* y, const Geometry<I> g, const Weights<I> v) {
    if (own_number<I>() >= g.count) return;
    const Place<I> at = own_place(g);
    computed<T> sums[LANES];
    begin<T>(sums, b, at.c, v);
    w += v.first_weight(at.c);
    for (I term = 0; term < v.terms; ++term, w += v.term)
        for_inputs<EXTENT>(g, v.at_term(at, term), [&](const Place<I>& from, I k, bool exists) {
            const Pack<T, LANES> pack = exists ? x[g.x.offset(from)] : Pack<T, LANES>{};
            if (exists | !v.absent) add_products<T>(sums, pack, w[k * v.place]);
        });
    y[g.y.offset(at)] = packed<T>(sums);
}

template <typename I, typename T, bool STRIPS, int LANES, int EXTENT>
__global__ void depthwise(const Pack<T, LANES>* x, const Pack<T, LANES>* w,
                          const Pack<T, LANES>* b, Pack<T, LANES>* y, const Geometry<I> g,
                          const Weights<I> v) {
    constexpr int COUNT = STRIPS ? ROWS<LANES> : 1;
    if (own_number<I>() >= g.count) return;
    const Place<I> at = own_place(g);
    computed<T> sums[COUNT][LANES];
    for (auto& sum : sums) begin<T>(sum, b, at.c, v);
    Pack<T, LANES> weights[EXTENT * EXTENT];
    w += v.first_weight(at.c);
#pragma unroll
    for (int k = 0; k < EXTENT * EXTENT; ++k, w += v.place) weights[k] = *w;
    for_inputs_of_strip<EXTENT, COUNT>(
        g, at, v.first_term(at.c), [&](I from, int row, int column, bool exists) {
            const Pack<T, LANES> pack = exists ? x[from] : Pack<T, LANES>{};
#pragma unroll
            for (int j = 0; j < COUNT; ++j)
                if (0 <= row - j && row - j < EXTENT && (exists | !v.absent))
                    add_products<T>(sums[j], pack, weights[(row - j) * EXTENT + column]);
        });
    y += g.y.offset(at);
#pragma unroll
    for (int j = 0; j < COUNT; ++j, y += v.row)
        if (at.h * COUNT + j < v.rows) *y = packed<T>(sums[j]);
}

template <typename I, typename T, int LANES, int READERS>
__global__ void convolve_gradient(const Pack<T, LANES>* dy, const Pack<T, LANES>* w,
                                  Pack<T, LANES>* dx, const Geometry<I> g, const Weights<I> v) {
    if (own_number<I>() >= g.count) return;
    const Place<I> at = own_place(g);
    computed<T> sums[LANES] = {};
    w += v.first_weight(at.c);
    for (I term = 0; term < v.terms; ++term, w += v.term)
        for_readers<READERS>(
            g, v.at_term(at, term), [&](const Place<I>& output, I k, bool exists) {
                const Pack<T, LANES> pack = dy[exists ? g.y.offset(output) : 0];
                const Pack<T, LANES> weight = exists ? w[k * v.place] : Pack<T, LANES>{};
                add_products<T>(sums, exists ? pack : Pack<T, LANES>{}, weight);
            });
    dx[g.x.offset(at)] = packed<T>(sums);
}
