// Sums over all but channels.
//
//   channel_sums   sums[j, c] = sum of x[n, c, s] over the numbers of share j
//
// Of several shares, a second launch adds the sums (J, C) as x (N, C), in one.
//
// Shapes    x (N, C, S); sums (J, C).
// Memory    x without gaps, channels first or last; where LANES > 1, in packs of LANES: along the
//           channels where these are LAST, else along S, of which LANES is a divisor.
// Types     T half, bfloat16, float or double; To the same, or what it is added in.
// Threads   each adds some numbers of a channel, or LANES of them; those of a block are merged.
//           Blocks of 256, static shared memory. From sm_75 on.
// The same input gives the same bits: the order is the geometry's, without atomics.
#include "channels.cuh"

template <typename T, typename To, int LANES, bool LAST>
__global__ void channel_sums(const Pack<T, LANES>* x, To* sums, const Channels g) {
    constexpr int WIDE = LAST ? LANES : 1;
    const Stand own = own_stand(g);
    Sums<computed<T>, 1> parts[WIDE] = {};
    for_units<Pack<T, LANES>, 1>(g, own, {x}, [&](long long, const auto& units) {
        for (int lane = 0; lane < LANES; ++lane)
            parts[LAST ? lane : 0].numbers[0] += load(units[0].lanes[lane]);
    });
    merge_rows(g, own, parts);
    if (own.row > 0 || own.column >= g.columns) return;
    To* to = sums + ((long long)blockIdx.y * g.columns + own.column) * WIDE;
    for (int n = 0; n < WIDE; ++n) store(to[n], parts[n].numbers[0]);
}
