// Maximum pooling: values, values with their places, and the gradient.
//
//   max_pool            y[n, c, o] = max of x[n, c, i] over the inputs i that output o reads
//   max_pool_places     the same, and places[n, c, o] = i, flat in the plane (D, H, W)
//   max_pool_gradient   dx[n, c, i] = sum of dy[n, c, o] over the outputs o of places[n, c, o] = i
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

template <typename I, typename T, int LANES, int EXTENT>
__global__ void max_pool(const Pack<T, LANES>* __restrict__ x, Pack<T, LANES>* __restrict__ y,
                         const Geometry<I> g) {
    if (own_number<I>() >= g.count) return;
    const Place<I> at = own_place(g);
    computed<T> best[LANES];
    for (auto& value : best) value = least<computed<T>>();
    for_inputs<EXTENT>(g, at, [&](const Place<I>& from, I, bool exists) {
        const Pack<T, LANES> pack = fetch(x + (exists ? g.x.offset(from) : 0));
        for (int lane = 0; lane < LANES; ++lane) {
            const computed<T> value = load(pack.lanes[lane]);
            best[lane] = exists & wins(value, best[lane]) ? value : best[lane];
        }
    });
    y[g.y.offset(at)] = packed<T>(best);
}

template <typename I, typename T, int LANES, int EXTENT>
__global__ void max_pool_places(const Pack<T, LANES>* __restrict__ x,
                                Pack<T, LANES>* __restrict__ y,
                                Pack<long long, LANES>* __restrict__ places, const Geometry<I> g) {
    if (own_number<I>() >= g.count) return;
    const Place<I> at = own_place(g);
    computed<T> best[LANES];
    I place[LANES];
    for (auto& value : best) value = least<computed<T>>();
    for (auto& number : place) number = -1;
    for_inputs<EXTENT>(g, at, [&](const Place<I>& from, I, bool exists) {
        const Pack<T, LANES> pack = fetch(x + (exists ? g.x.offset(from) : 0));
        const I here = g.flat_input(from);
        for (int lane = 0; lane < LANES; ++lane) {
            const computed<T> value = load(pack.lanes[lane]);
            const bool taken = exists & ((place[lane] < 0) | wins(value, best[lane]));
            best[lane] = taken ? value : best[lane];
            place[lane] = taken ? here : place[lane];
        }
    });
    y[g.y.offset(at)] = packed<T>(best);
    Pack<long long, LANES> found;
    for (int lane = 0; lane < LANES; ++lane) found.lanes[lane] = place[lane];
    places[g.places.offset(at)] = found;
}

template <typename I, typename T, int LANES, int READERS>
__global__ void max_pool_gradient(const Pack<T, LANES>* __restrict__ dy,
                                  const Pack<long long, LANES>* __restrict__ places,
                                  Pack<T, LANES>* __restrict__ dx, const Geometry<I> g) {
    if (own_number<I>() >= g.count) return;
    const Place<I> at = own_place(g);
    const long long own = g.flat_input(at);
    computed<T> sum[LANES] = {};
    for_readers<READERS>(g, at, [&](const Place<I>& output, I, bool exists) {
        const auto place = fetch(places + (exists ? g.places.offset(output) : 0));
        const auto pack = fetch(dy + (exists ? g.y.offset(output) : 0));
        for (int lane = 0; lane < LANES; ++lane) {
            const computed<T> value = load(pack.lanes[lane]);
            sum[lane] += exists & (place.lanes[lane] == own) ? value : computed<T>(0);
        }
    });
    dx[g.x.offset(at)] = packed<T>(sum);
}
