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

// Along one axis, output o reads at kernel place k input o * stride - before + k * dilation.
template <typename I>
struct Axis {
    using U = typename Unsigned<I>::type;

    I in, out, kernel, before;
    I readers;    // outputs that read one input, at most
    I low, high;  // the inputs, padding among them, that count in an average
    Divider<I> stride, dilation;

    // What is negative is not there either: as an unsigned number it is too large.
    __device__ bool has(I i) const { return (U)i < (U)in; }
    __device__ bool has_output(I o) const { return (U)o < (U)out; }
    __device__ bool has_place(I k) const { return (U)k < (U)kernel; }

    // The input that an output reads, which may lie outside.
    __device__ I read(I o, I k) const { return o * stride.divisor - before + k * dilation.divisor; }

    // How many of an output's places count in an average; there is no dilation in one.
    __device__ I counted(I o) const {
        const I start = read(o, 0), end = start + kernel;
        return (end < high ? end : high) - (start > low ? start : low);
    }

    // The last output that may read input i; those before it are the others.
    __device__ I last_reader(I i) const { return stride.quotient(i + before > 0 ? i + before : 0); }

    // The kernel place at which output o reads input i without dilation, if the kernel has it.
    __device__ I place(I i, I o) const { return i + before - o * stride.divisor; }

    // The same with dilation.
    __device__ I dilated_place(I i, I o) const {
        const I apart = place(i, o), k = dilation.quotient(apart > 0 ? apart : 0);
        return k * dilation.divisor == apart ? k : -1;
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
// place, in row-major order. EXTENT is 0 for any kernel, else of (1, EXTENT, EXTENT), and unrolled:
// as long as visit has no branches, all that it reads is then on its way at once.
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
                const bool exists = g.d.has(d) & g.h.has(h) & g.w.has(w);
                visit(Place<I>{output.n, output.c, d, h, w}, (a * kh + b) * kw + c, exists);
            }
}

// Calls visit(output, k, exists) for all outputs that read an input, in the order of their kernel
// places k. READERS is 0 for any window; else at most (1, READERS, READERS) outputs read an input,
// there is no dilation, and it is unrolled.
template <int READERS, typename I, typename Visit>
__device__ void for_readers(const Geometry<I>& g, const Place<I>& input, const Visit& visit) {
    const I nd = READERS ? 1 : g.d.readers, nh = READERS ? READERS : g.h.readers,
            nw = READERS ? READERS : g.w.readers;
    const I d = g.d.last_reader(input.d), h = g.h.last_reader(input.h),
            w = g.w.last_reader(input.w);
    const auto place = [](const Axis<I>& axis, I i, I o) {
        return READERS ? axis.place(i, o) : axis.dilated_place(i, o);
    };
    for (I a = 0; a < nd; ++a)
#pragma unroll(READERS ? READERS : 1)
        for (I b = 0; b < nh; ++b)
#pragma unroll(READERS ? READERS : 1)
            for (I c = 0; c < nw; ++c) {
                const Place<I> from = {input.n, input.c, d - a, h - b, w - c};
                const I kd = place(g.d, input.d, from.d), kh = place(g.h, input.h, from.h),
                        kw = place(g.w, input.w, from.w);
                const bool reads = g.d.has_place(kd) & g.h.has_place(kh) & g.w.has_place(kw);
                const bool exists = g.d.has_output(from.d) & g.h.has_output(from.h) &
                                    g.w.has_output(from.w);
                visit(from, (kd * g.h.kernel + kh) * g.w.kernel + kw, reads & exists);
            }
}
