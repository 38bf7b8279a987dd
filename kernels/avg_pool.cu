// Average pooling and its gradient.
//
//   avg_pool            y[n, c, o] = sum of x[n, c, i] over the inputs i that output o reads / D(o)
//   avg_pool_gradient   dx[n, c, i] = sum of dy[n, c, o] / D(o) over the outputs o that read i
//
// D(o) is the geometry's divisor, or where that is 0, how many of o's places lie from low to high.
//
// Shapes    x, dx (N, C, D, H, W); y, dy (N, C, OD, OH, OW); fewer axes have ones in front.
// Memory    any strides; where LANES > 1, contiguous channels in packs of LANES.
// Types     I int or long long; T half, bfloat16, float or double, summed in float or double.
// Threads   each owns one y or, in the gradient, one dx: LANES neighbouring channels of it.
//           Blocks of 256, no shared memory. From sm_75 on.
// The same input gives the same bits: sums run in row-major order, the gradient without atomics.
#include "geometry.cuh"
#include "numbers.cuh"

template <typename I>
__device__ I divisor(const Geometry<I>& g, const Place<I>& output) {
    const I count = g.d.counted(output.d) * g.h.counted(output.h) * g.w.counted(output.w);
    return g.divisor ? g.divisor : count;
}

template <typename I, typename T, int LANES, int EXTENT>
__global__ void avg_pool(const Pack<T, LANES>* __restrict__ x, Pack<T, LANES>* __restrict__ y,
                         const Geometry<I> g) {
    if (own_number<I>() >= g.count) return;
    const Place<I> at = own_place(g);
    computed<T> sum[LANES] = {};
    for_inputs<EXTENT>(g, at, [&](const Place<I>& from, I, bool exists) {
        add_where<T>(sum, fetch(x + (exists ? g.x.offset(from) : 0)), exists);
    });
    const computed<T> number = divisor(g, at), share = 1 / number;
    for (auto& value : sum) value = quotient(value, number, share);
    y[g.y.offset(at)] = packed<T>(sum);
}

template <typename I, typename T, int LANES, int READERS>
__global__ void avg_pool_gradient(const Pack<T, LANES>* __restrict__ dy,
                                  Pack<T, LANES>* __restrict__ dx, const Geometry<I> g) {
    if (own_number<I>() >= g.count) return;
    const Place<I> at = own_place(g);
    computed<T> sum[LANES] = {};
    for_readers<READERS>(g, at, [&](const Place<I>& output, I, bool exists) {
        const computed<T> number = divisor(g, output), share = 1 / number;
        const Pack<T, LANES> pack = fetch(dy + (exists ? g.y.offset(output) : 0));
        for (int lane = 0; lane < LANES; ++lane) {
            const computed<T> part = quotient(load(pack.lanes[lane]), number, share);
            sum[lane] += exists ? part : computed<T>(0);
        }
    });
    dx[g.x.offset(at)] = packed<T>(sum);
}
