// Columns: for each output, the inputs that it reads.
//
//   cols[n, c, k, o] = x[n, c, i], i being what output o reads at kernel place k; 0 in the padding
//
// Shapes    x (N, C, D, H, W); cols (N, C, K, OD, OH, OW); fewer axes have ones in front.
// Memory    any strides, so that cols may lie as (N, C*K, L) or as (N, L, K, C); where LANES > 1,
//           contiguous channels in packs of LANES.
// Types     I int or long long. Bits are copied as they are, so Word is an unsigned integer of the
//           size of an element.
// Threads   each owns one output of one channel, LANES neighbouring channels of it, and writes its
//           column entries at all kernel places. Blocks of 256, no shared memory. From sm_75 on.
#include "geometry.cuh"
#include "numbers.cuh"

template <typename I, typename Word, int LANES, int EXTENT>
__global__ void im2col(const Pack<Word, LANES>* __restrict__ x,
                       Pack<Word, LANES>* __restrict__ cols, const Geometry<I> g) {
    if (own_number<I>() >= g.count) return;
    const Place<I> at = own_place(g);
    Pack<Word, LANES>* to = cols + g.y.offset(at);
    for_inputs<EXTENT>(g, at, [&](const Place<I>& from, I k, bool exists) {
        const Pack<Word, LANES> pack = fetch(x + (exists ? g.x.offset(from) : 0));
        to[k * g.k] = exists ? pack : Pack<Word, LANES>{};
    });
}
