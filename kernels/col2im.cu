// The adjoint of columns: every column entry is added where it came from.
//
//   x[n, c, i] = sum of cols[n, c, k, o] over the outputs o that read i, at kernel place k
//
// Shapes    cols (N, C, K, OD, OH, OW); x (N, C, D, H, W); fewer axes have ones in front.
// Memory    any strides; where LANES > 1, contiguous channels in packs of LANES.
// Types     I int or long long; T half, bfloat16, float or double. Columns are float or double, as
//           are the sums, so that a gradient in half precision is rounded once.
// Threads   each owns one x, LANES neighbouring channels of it, and gathers what reaches it.
//           Blocks of 256, no shared memory. From sm_75 on.
// The same input gives the same bits: sums run in the order of kernel places, without atomics.
#include "geometry.cuh"
#include "numbers.cuh"

template <typename I, typename T, int LANES, int READERS>
__global__ void col2im(const Pack<computed<T>, LANES>* __restrict__ cols,
                       Pack<T, LANES>* __restrict__ x, const Geometry<I> g) {
    if (own_number<I>() >= g.count) return;
    const Place<I> at = own_place(g);
    computed<T> sum[LANES] = {};
    for_readers<READERS>(g, at, [&](const Place<I>& output, I k, bool exists) {
        add_where<computed<T>>(sum, fetch(cols + (exists ? g.y.offset(output) + k * g.k : 0)), exists);
    });
    x[g.x.offset(at)] = packed<T>(sum);
}
