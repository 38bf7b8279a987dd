// The gradient of a convolution's weights, without columns: sums over parts of the outputs, then
// over the parts.
//
//   weight_parts   parts[s, o, i, k] = sum of x[n, c, q] * dy[n, o, p] over the outputs (n, p) of
//                  part s, c being term i of o's group and q the input that p reads at place k;
//                  where there is one part, dw[o, i, k] itself
//   weight_sums    dw[o, i, k] = sum of parts[s, o, i, k] over s
//
// Shapes    x (N, C, D, H, W); dy (N, O, OD, OH, OW); dw (O, C/G, K); parts (S, O, C/G, K); fewer
//           axes have ones in front.
// Memory    x and dy of any strides; dw and parts in C order.
// Types     I int or long long; T half, bfloat16, float or double; parts are float or double, and
//           so are all sums.
// Threads   weight_parts: a block of (X, Y) owns part blockIdx.y of X neighbouring o, one i and, if
//           EXTENT is 0, one k, else all; its Y threads take outputs in turn, in strips of ROWS<1>
//           if STRIPS. weight_sums: a block of (X, Y) owns X neighbouring weights; its Y threads
//           take parts in turn. Both: X * Y numbers of shared memory for each weight that a thread
//           sums (EXTENT * EXTENT, or one). From sm_75 on.
// The same input gives the same bits: every order is that of the launch, there are no atomics.
#include "geometry.cuh"
#include "numbers.cuh"
#include "strips.cuh"

template <typename I>
struct Parts {
    I channels, terms;  // of a group: dy's, and x's
    I places;           // of the kernel that blocks share out: all, or one if each takes all
    I width, height;    // of the kernel
    I outs;             // channels of dy
    I weights;          // in all
    I count, each;      // outputs, or strips of them: in all, and in a part
    I rows, row;        // as in direct.cu: outputs along H, and dy's stride from one on
};

// Sums numbers over the block's threads of the same threadIdx.x; those of threadIdx.y 0 have them.
template <int NUMBERS, typename C>
__device__ void sum_over_y(C (&numbers)[NUMBERS]) {
    extern __shared__ double memory[];
    const unsigned threads = blockDim.x * blockDim.y;
    C* const own = (C*)memory + threadIdx.y * blockDim.x + threadIdx.x;
    for (int n = 0; n < NUMBERS; ++n) own[n * threads] = numbers[n];
    for (unsigned rest = blockDim.y; rest > 1;) {
        const unsigned half = (rest + 1) / 2;
        __syncthreads();
        if (threadIdx.y + half < rest)
            for (int n = 0; n < NUMBERS; ++n)
                own[n * threads] += own[n * threads + half * blockDim.x];
        rest = half;
    }
    for (int n = 0; n < NUMBERS; ++n) numbers[n] = own[n * threads];
}

// n % divisor, and n becomes n / divisor.
template <typename I>
__device__ I divide(I& n, const Divider<I>& by) {
    const I quotient = by.quotient(n), rest = n - quotient * by.divisor;
    n = quotient;
    return rest;
}

// Of the geometry's outputs of one channel, the one of this number.
template <typename I>
__device__ Place<I> output_at(const Geometry<I>& g, I number, I channel) {
    const I w = divide(number, g.sizes[0]), h = divide(number, g.sizes[1]),
            d = divide(number, g.sizes[2]);
    return {number, channel, d, h, w};
}

// The kernel place of a number.
template <typename I>
__device__ Place<I> place_at(const Parts<I>& v, I k) {
    return {0, 0, k / v.width / v.height, k / v.width % v.height, k % v.width};
}

// Adds an output's product with what it reads of a channel at one kernel place.
template <typename I, typename T>
__device__ void add_product(computed<T>& sum, const T* x, const T* dy, const Geometry<I>& g,
                            const Place<I>& output, I channel, const Place<I>& place) {
    const Place<I> from = {output.n, channel, g.d.read(output.d, place.d),
                           g.h.read(output.h, place.h), g.w.read(output.w, place.w)};
    const bool exists = g.d.has(from.d) & g.h.has(from.h) & g.w.has(from.w);
    sum += (exists ? load(x[g.x.offset(from)]) : computed<T>(0)) * load(dy[g.y.offset(output)]);
}

// Adds the products of up to COUNT neighbouring outputs with all that they read of a channel.
template <int EXTENT, int COUNT, typename I, typename T>
__device__ void add_products(computed<T> (&sums)[EXTENT * EXTENT], const T* x, const T* dy,
                             const Geometry<I>& g, const Parts<I>& v, const Place<I>& strip,
                             I channel) {
    const I rows = v.rows - strip.h * COUNT;
    computed<T> grads[COUNT];
    dy += g.y.offset(strip);
#pragma unroll
    for (int j = 0; j < COUNT; ++j, dy += v.row) grads[j] = j < rows ? load(*dy) : 0;
    for_inputs_of_strip<EXTENT, COUNT>(
        g, strip, channel, [&](I from, int row, int column, bool exists) {
            const computed<T> value = exists ? load(x[from]) : 0;
#pragma unroll
            for (int j = 0; j < COUNT; ++j)
                if (0 <= row - j && row - j < EXTENT && j < rows)
                    sums[(row - j) * EXTENT + column] += value * grads[j];
        });
}

template <typename I, typename T, int EXTENT, bool STRIPS>
__global__ void weight_parts(const T* x, const T* dy, computed<T>* parts, T* dw,
                             const Geometry<I> g, const Parts<I> v) {
    constexpr int COUNT = STRIPS ? ROWS<1> : 1, PLACES = EXTENT ? EXTENT * EXTENT : 1;
    const I block = blockIdx.x, k = block % v.places, term = block / v.places % v.terms;
    const I out = block / v.places / v.terms * (I)blockDim.x + (I)threadIdx.x;
    const I channel = out / v.channels * v.terms + term;
    const I part = blockIdx.y, end = out < v.outs ? min((part + 1) * v.each, v.count) : 0;
    const Place<I> place = place_at(v, k);
    computed<T> sums[PLACES] = {};
    for (I number = part * v.each + (I)threadIdx.y; number < end; number += (I)blockDim.y) {
        const Place<I> output = output_at(g, number, out);
        if constexpr (EXTENT == 0)
            add_product(sums[0], x, dy, g, output, channel, place);
        else
            add_products<EXTENT, COUNT>(sums, x, dy, g, v, output, channel);
    }
    sum_over_y(sums);
    if (threadIdx.y > 0 || out >= v.outs) return;
    const I first = ((out * v.terms + term) * v.places + k) * PLACES;
    for (int n = 0; n < PLACES; ++n)
        if (gridDim.y == 1)
            store(dw[first + n], sums[n]);
        else
            parts[part * v.weights + first + n] = sums[n];
}

template <typename T>
__global__ void weight_sums(const computed<T>* parts, T* dw, long long weights, long long count) {
    const long long own = own_number<long long>();
    computed<T> sum[1] = {};
    for (long long part = own < weights ? threadIdx.y : count; part < count; part += blockDim.y)
        sum[0] += parts[part * weights + own];
    sum_over_y(sum);
    if (threadIdx.y == 0 && own < weights) store(dw[own], sum[0]);
}
