// Maximum pooling: values, values with their places, and the gradient.
//
//   max_pool            y[n, c, o] = max of x[n, c, i] over the inputs i that output o reads
//   max_pool_places     the same, and places[n, c, o] = i, flat in the plane (D, H, W)
//   max_pool_gradient   dx[n, c, i] = sum of dy[n, c, o] over the outputs o with places[n, c, o] = i
//
// Of equal maxima the first in row-major order wins; NaN is larger than anything, and the first of
// them wins. A window that meets no input has the value -inf and the place -1.
//
// Shapes    x, dx (N, C, D, H, W); y, dy, places (N, C, OD, OH, OW); fewer axes have ones in front.
// Memory    any strides; where LANES > 1, contiguous channels in packs of LANES.
// Types     I int or long long; T half, bfloat16, float or double; places are long long.
// Threads   each owns one y or, in the gradient, one dx: LANES neighbouring channels of it.
//           Blocks of 256, no shared memory. From sm_75 on.
// The same input gives the same bits: the gradient is gathered, without atomics.
#include "geometry.cuh"
#include "numbers.cuh"

template <typename C>
__device__ bool wins(C value, C best) {
    return greater(value, best) || (is_nan(value) && !is_nan(best));
}

template <typename I, typename T, int LANES, int EXTENT>
__global__ void max_pool(const Pack<T, LANES>* x, Pack<T, LANES>* y, const Geometry<I> g) {
    if (own_number<I>() >= g.count) return;
    const Place<I> at = own_place(g);
    computed<T> best[LANES];
    for (auto& value : best) value = least<computed<T>>();
    for_inputs<EXTENT>(g, at, [&](const Place<I>& from, I, bool exists) {
        if (!exists) return;
        const Pack<T, LANES> pack = x[g.x.offset(from)];
        for (int lane = 0; lane < LANES; ++lane) {
            const computed<T> value = load(pack.lanes[lane]);
            if (wins(value, best[lane])) best[lane] = value;
        }
    });
    y[g.y.offset(at)] = packed<T>(best);
}

template <typename I, typename T, int LANES, int EXTENT>
__global__ void max_pool_places(const Pack<T, LANES>* x, Pack<T, LANES>* y,
                                Pack<long long, LANES>* places, const Geometry<I> g) {
    if (own_number<I>() >= g.count) return;
    const Place<I> at = own_place(g);
    computed<T> best[LANES];
    Pack<long long, LANES> place;
    for (auto& value : best) value = least<computed<T>>();
    for (auto& number : place.lanes) number = -1;
    for_inputs<EXTENT>(g, at, [&](const Place<I>& from, I, bool exists) {
        if (!exists) return;
        const Pack<T, LANES> pack = x[g.x.offset(from)];
        for (int lane = 0; lane < LANES; ++lane) {
            const computed<T> value = load(pack.lanes[lane]);
            if (place.lanes[lane] >= 0 && !wins(value, best[lane])) continue;
            best[lane] = value;
            place.lanes[lane] = g.flat_input(from);
        }
    });
    y[g.y.offset(at)] = packed<T>(best);
    places[g.places.offset(at)] = place;
}

template <typename I, typename T, int LANES, int EXTENT>
__global__ void max_pool_gradient(const Pack<T, LANES>* dy, const Pack<long long, LANES>* places,
                                  Pack<T, LANES>* dx, const Geometry<I> g) {
    if (own_number<I>() >= g.count) return;
    const Place<I> at = own_place(g);
    const I own = g.flat_input(at);
    computed<T> sum[LANES] = {};
    for_readers<EXTENT>(g, at, [&](const Place<I>& output, I) {
        const Pack<long long, LANES> place = places[g.places.offset(output)];
        const Pack<T, LANES> pack = dy[g.y.offset(output)];
        for (int lane = 0; lane < LANES; ++lane)
            if (place.lanes[lane] == own) sum[lane] += load(pack.lanes[lane]);
    });
    dx[g.x.offset(at)] = packed<T>(sum);
}
