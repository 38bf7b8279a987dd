// Batch normalisation, clipped, and its gradient.
//
//   batch_norm_moments    of share j of each channel: how many numbers, about where they lie, how
//                         far from there their mean is, the sum of squares around that
//   batch_norm_merge      mean[c] and var[c] (biased) of the moments of all shares
//   batch_norm            y = clip((x - mean) * scale + bias), where scale = weight * inverse,
//                         inverse = 1 / sqrt(var + eps)
//   batch_norm_sums       sums[j, 0, c] = sum of d, sums[j, 1, c] = sum of d * (x - mean) * inverse
//                         over share j, d being dy where clipping left y alone, else 0
//   batch_norm_gradient   dx = scale * (d - sums[0] / n - (x - mean) * inverse * sums[1] / n)
//
// Of several shares, a second launch of channel_sums adds the sums (J, 2C). A mean is kept as one
// of the numbers, the origin, and an offset from it, so that squares of differences lose no digits
// however far from 0 all lie.
//
// Shapes    x, y, dy, dx (N, C, S); mean, var, weight, bias (C,); moments (J, C, 4); sums
//           (J, 2, C), in the gradient (2, C). n is o.count, N * S.
// Memory    x, y, dy, dx alike, without gaps, channels first or last; where LANES > 1, in packs of
//           LANES: along the channels where these are LAST, else along S, of which LANES is a
//           divisor.
// Types     T half, bfloat16, float or double; all that is per channel is float or double.
// Threads   each takes some numbers of a channel, or of LANES of them; those of a block are merged.
//           Blocks of 256, static shared memory. From sm_75 on.
// The same input gives the same bits: the order is the geometry's, without atomics.
// Source: Chan, Golub and LeVeque, "Algorithms for computing the sample variance", 1983.
#include "bounds.cuh"
#include "channels.cuh"

template <typename C>
struct Moments {
    C count, origin, offset, squares;

    // The origin that is nearer to its mean becomes that of both.
    __device__ void merge(Moments other) {
        if (other.count == 0) return;
        if (count == 0 || fabs(other.offset) < fabs(offset)) {
            const Moments own = *this;
            *this = other;
            other = own;
        }
        const C both = count + other.count, there = other.offset + (other.origin - origin);
        const C apart = there - offset;
        squares += other.squares + apart * apart * (count * other.count / both);
        offset = (count * offset + other.count * there) / both;
        count = both;
    }
};

template <typename T, int LANES, bool LAST>
__global__ void batch_norm_moments(const Pack<T, LANES>* x, computed<T>* moments,
                                   const Channels g) {
    using C = computed<T>;
    constexpr int WIDE = LAST ? LANES : 1;
    const Stand own = own_stand(g);
    int visits = 0;
    C origin[WIDE] = {}, sum[WIDE] = {}, squares[WIDE] = {};
    for_units<Pack<T, LANES>, 1>(g, own, {x}, [&](long long, const auto& units) {
        for (int lane = 0; lane < LANES; ++lane) {
            const int n = LAST ? lane : 0;
            const C value = load(units[0].lanes[lane]);
            if (visits == 0 && lane == n) origin[n] = value - value == 0 ? value : C(0);
            const C away = value - origin[n];
            sum[n] += away;
            squares[n] += away * away;
        }
        ++visits;
    });
    Moments<C> parts[WIDE];
    const C count = visits * (LANES / WIDE);
    for (int n = 0; n < WIDE; ++n) {
        const C offset = visits ? sum[n] / count : C(0), around = squares[n] - sum[n] * offset;
        parts[n] = {count, origin[n], offset, around < 0 ? C(0) : around};
    }
    merge_rows(g, own, parts);
    if (own.row > 0 || own.column >= g.columns) return;
    auto* to = (Moments<C>*)moments + ((long long)blockIdx.y * g.columns + own.column) * WIDE;
    for (int n = 0; n < WIDE; ++n) to[n] = parts[n];
}

// Here a unit is the moments of a share.
template <typename C>
__global__ void batch_norm_merge(const C* moments, C* mean, C* var, const Channels g) {
    const Stand own = own_stand(g);
    Moments<C> parts[1] = {};
    for_units<Moments<C>, 1>(g, own, {(const Moments<C>*)moments},
                             [&](long long, const auto& units) { parts[0].merge(units[0]); });
    merge_rows(g, own, parts);
    if (own.row > 0 || own.column >= g.columns) return;
    mean[own.column] = parts[0].origin + parts[0].offset;
    var[own.column] = parts[0].squares / parts[0].count;
}

// What all channels share; a weight or a bias that is not there is not looked at.
template <typename C>
struct Options {
    C eps, low, high, count;
    int has_weight, has_bias;
};

template <typename C>
struct Vectors {
    const C *mean, *var, *weight, *bias;
};

// What a channel is normalised by.
template <typename C>
struct Line {
    C mean, inverse, scale, bias;

    __device__ C away(C x) const { return x - mean; }
    // one rounding, said outright: the gradient must find what was clipped to the bit
    __device__ C standard(C x) const { return fma(away(x), scale, bias); }
};

template <typename C>
__device__ Line<C> line(const Vectors<C>& of, const Options<C>& o, int channel) {
    const C inverse = 1 / sqrt(of.var[channel] + o.eps);
    return {of.mean[channel], inverse, o.has_weight ? of.weight[channel] * inverse : inverse,
            o.has_bias ? of.bias[channel] : C(0)};
}

template <int WIDE, typename C>
__device__ void own_lines(Line<C> (&lines)[WIDE], const Vectors<C>& of, const Options<C>& o,
                          const Channels& g, const Stand& own) {
    if (own.column < g.columns)
        for (int n = 0; n < WIDE; ++n) lines[n] = line(of, o, own.column * WIDE + n);
}

template <typename T, int LANES, bool LAST>
__global__ void batch_norm(const Pack<T, LANES>* x, Pack<T, LANES>* y, const computed<T>* mean,
                           const computed<T>* var, const computed<T>* weight,
                           const computed<T>* bias, const Options<computed<T>> o,
                           const Channels g) {
    using C = computed<T>;
    const Stand own = own_stand(g);
    Line<C> lines[LAST ? LANES : 1];
    own_lines(lines, {mean, var, weight, bias}, o, g, own);
    for_units<Pack<T, LANES>, 1>(g, own, {x}, [&](long long at, const auto& units) {
        C found[LANES];
        for (int lane = 0; lane < LANES; ++lane) {
            const C value = lines[LAST ? lane : 0].standard(load(units[0].lanes[lane]));
            found[lane] = clipped(value, o.low, o.high);
        }
        y[at] = packed<T>(found);
    });
}

template <typename T, int LANES, bool LAST>
__global__ void batch_norm_sums(const Pack<T, LANES>* dy, const Pack<T, LANES>* x,
                                computed<T>* sums, const computed<T>* mean,
                                const computed<T>* var, const computed<T>* weight,
                                const computed<T>* bias, const Options<computed<T>> o,
                                const Channels g) {
    using C = computed<T>;
    constexpr int WIDE = LAST ? LANES : 1;
    const Stand own = own_stand(g);
    Line<C> lines[WIDE];
    own_lines(lines, {mean, var, weight, bias}, o, g, own);
    Sums<C, 2> parts[WIDE] = {};
    for_units<Pack<T, LANES>, 2>(g, own, {dy, x}, [&](long long, const auto& units) {
        for (int lane = 0; lane < LANES; ++lane) {
            const int n = LAST ? lane : 0;
            const C value = load(units[1].lanes[lane]);
            const C d = kept(load(units[0].lanes[lane]), lines[n].standard(value), o.low, o.high);
            parts[n].numbers[0] += d;
            parts[n].numbers[1] += d * lines[n].away(value);
        }
    });
    merge_rows(g, own, parts);
    if (own.row > 0 || own.column >= g.columns) return;
    const long long channels = g.columns * WIDE;
    C* to = sums + blockIdx.y * 2 * channels + own.column * WIDE;
    for (int n = 0; n < WIDE; ++n) {
        to[n] = parts[n].numbers[0];
        to[n + channels] = lines[n].inverse * parts[n].numbers[1];
    }
}

template <typename T, int LANES, bool LAST>
__global__ void batch_norm_gradient(const Pack<T, LANES>* dy, const Pack<T, LANES>* x,
                                    Pack<T, LANES>* dx, const computed<T>* sums,
                                    const computed<T>* mean, const computed<T>* var,
                                    const computed<T>* weight, const computed<T>* bias,
                                    const Options<computed<T>> o, const Channels g) {
    using C = computed<T>;
    constexpr int WIDE = LAST ? LANES : 1;
    const Stand own = own_stand(g);
    Line<C> lines[WIDE];
    own_lines(lines, {mean, var, weight, bias}, o, g, own);
    C level[WIDE], slope[WIDE];
    if (own.column < g.columns)
        for (int n = 0; n < WIDE; ++n) {
            const int channel = own.column * WIDE + n;
            level[n] = sums[channel] / o.count;
            slope[n] = lines[n].inverse * sums[channel + g.columns * WIDE] / o.count;
        }
    for_units<Pack<T, LANES>, 2>(g, own, {dy, x}, [&](long long at, const auto& units) {
        C found[LANES];
        for (int lane = 0; lane < LANES; ++lane) {
            const int n = LAST ? lane : 0;
            const C value = load(units[1].lanes[lane]);
            const C d = kept(load(units[0].lanes[lane]), lines[n].standard(value), o.low, o.high);
            found[lane] = lines[n].scale * (d - level[n] - lines[n].away(value) * slope[n]);
        }
        dx[at] = packed<T>(found);
    });
}
