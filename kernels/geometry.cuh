// Where things are: which element a thread owns, and how a window lies over its input.
//
// The launcher works all of this out and passes it as one value, a Geometry. An index type I is int
// or long long: whichever holds every number of the call. Sizes and strides count packs along the
// channels where a kernel works on packs, else elements.
#pragma once

__device__ inline unsigned high_product(unsigned a, unsigned b) { return __umulhi(a, b); }
__device__ inline unsigned long long high_product(unsigned long long a, unsigned long long b) {
    return __umul64hi(a, b);
}

template <typename I>
struct Unsigned {
    using type = unsigned;
};

template <>
struct Unsigned<long long> {
    using type = unsigned long long;
};

// Division of 0 <= n by a number known at the launch: a product, a sum and a shift.
// Source: Granlund and Montgomery, "Division by invariant integers using multiplication", 1994.
template <typename I>
struct Divider {
    using U = typename Unsigned<I>::type;

    I divisor;
    U magic;
    I shift;

    __device__ I quotient(I n) const { return (I)((high_product((U)n, magic) + (U)n) >> shift); }
};

template <typename I>
struct Place {
    I n, c, d, h, w;
};

template <typename I>
struct Strides {
    I n, c, d, h, w;

    __device__ I offset(const Place<I>& at) const {
        return at.n * n + at.c * c + at.d * d + at.h * h + at.w * w;
    }
};

// Along one axis of space, output o of kernel place k reads input o * stride - before + k * dilation.
template <typename I>
struct Axis {
    I in, out, kernel, dilation, before;
    I low, high;  // the inputs, padding among them, that count in an average
    Divider<I> stride;

    // The input that an output reads, which may lie outside.
    __device__ I read(I o, I k) const { return o * stride.divisor - before + k * dilation; }
    __device__ bool has(I i) const { return 0 <= i && i < in; }

    // How many of an output's places count in an average; there is no dilation in one.
    __device__ I counted(I o) const {
        const I start = read(o, 0), end = start + kernel;
        return (end < high ? end : high) - (start > low ? start : low);
    }

    // The output that reads input i at kernel place k, or -1.
    __device__ I reader(I i, I k) const {
        const I start = i + before - k * dilation;
        if (start < 0) return -1;
        const I o = stride.quotient(start);
        return o * stride.divisor == start && o < out ? o : -1;
    }
};

// What a call is about. Every thread owns one place: of the outputs, or where a kernel gathers a
// gradient, of the inputs.
template <typename I>
struct Geometry {
    I count;              // of places
    I channels_last;      // whether neighbouring threads own neighbouring channels
    Divider<I> sizes[4];  // of the axes by which places are counted, the innermost first
    Axis<I> d, h, w;
    Strides<I> x, y;      // of inputs and outputs; columns are y, which k leads through
    Strides<I> places;    // of the maxima's places
    I k;                  // from one kernel place of columns to the next
    I divisor;            // of averages; 0 where each output divides by its own count

    // The number of an input in its plane.
    __device__ I flat_input(const Place<I>& at) const { return (at.d * h.in + at.h) * w.in + at.w; }
};

template <typename I>
__device__ I own_number() {
    return (I)blockIdx.x * (I)blockDim.x + (I)threadIdx.x;
}

template <typename I>
__device__ Place<I> own_place(const Geometry<I>& g) {
    I at[5], rest = own_number<I>();
    for (int axis = 0; axis < 4; ++axis) {
        const I quotient = g.sizes[axis].quotient(rest);
        at[axis] = rest - quotient * g.sizes[axis].divisor;
        rest = quotient;
    }
    at[4] = rest;
    if (g.channels_last) return {at[4], at[0], at[3], at[2], at[1]};
    return {at[4], at[3], at[2], at[1], at[0]};
}

// Calls visit(input, k, exists) for all that an output reads, k being the number of the kernel
// place, in row-major order. EXTENT is 0 for any kernel, else of (1, EXTENT, EXTENT), and unrolled.
template <int EXTENT, typename I, typename Visit>
__device__ void for_inputs(const Geometry<I>& g, const Place<I>& output, const Visit& visit) {
    const I kd = EXTENT ? 1 : g.d.kernel, kh = EXTENT ? EXTENT : g.h.kernel,
            kw = EXTENT ? EXTENT : g.w.kernel;
    for (I a = 0; a < kd; ++a)
#pragma unroll(EXTENT ? EXTENT : 1)
        for (I b = 0; b < kh; ++b)
#pragma unroll(EXTENT ? EXTENT : 1)
            for (I c = 0; c < kw; ++c) {
                const I d = g.d.read(output.d, a), h = g.h.read(output.h, b),
                        w = g.w.read(output.w, c);
                const bool exists = g.d.has(d) && g.h.has(h) && g.w.has(w);
                visit(Place<I>{output.n, output.c, d, h, w}, (a * kh + b) * kw + c, exists);
            }
}

// Calls visit(output, k) for all outputs that read an input, at kernel place k, in the same order.
template <int EXTENT, typename I, typename Visit>
__device__ void for_readers(const Geometry<I>& g, const Place<I>& input, const Visit& visit) {
    const I kd = EXTENT ? 1 : g.d.kernel, kh = EXTENT ? EXTENT : g.h.kernel,
            kw = EXTENT ? EXTENT : g.w.kernel;
    for (I a = 0; a < kd; ++a)
#pragma unroll(EXTENT ? EXTENT : 1)
        for (I b = 0; b < kh; ++b)
#pragma unroll(EXTENT ? EXTENT : 1)
            for (I c = 0; c < kw; ++c) {
                const I d = g.d.reader(input.d, a), h = g.h.reader(input.h, b),
                        w = g.w.reader(input.w, c);
                if (d >= 0 && h >= 0 && w >= 0)
                    visit(Place<I>{input.n, input.c, d, h, w}, (a * kh + b) * kw + c);
            }
}
