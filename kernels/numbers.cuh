// Numbers as they lie in memory, the numbers they are computed in, and packs of neighbours.
//
// A type of two bytes is computed in float and rounded once, to the nearest, ties to even. There is
// no cuda_fp16.h where CuPy comes as a wheel, so the conversions are spelt out here.
#pragma once

struct half {
    unsigned short bits;
};

struct bfloat16 {
    unsigned short bits;
};

template <typename T>
struct Computed {
    using type = float;
};

template <>
struct Computed<double> {
    using type = double;
};

template <typename T>
using computed = typename Computed<T>::type;

__device__ inline float load(float x) { return x; }
__device__ inline double load(double x) { return x; }
__device__ inline void store(float& to, float x) { to = x; }
__device__ inline void store(double& to, double x) { to = x; }

__device__ inline float load(bfloat16 x) { return __uint_as_float((unsigned)x.bits << 16); }

__device__ inline void store(bfloat16& to, float x) {
    const unsigned bits = __float_as_uint(x);
    const unsigned rounded = bits + 0x7fff + (bits >> 16 & 1);
    to.bits = x == x ? rounded >> 16 : bits >> 16 | 0x40;  // the carry could make NaN infinite
}

#ifdef __CUDA_ARCH__

__device__ inline float load(half x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
    return y;
}

__device__ inline void store(half& to, float x) {
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(to.bits) : "f"(x));
}

// CuPy compiles with -ftz=true, by which a plain comparison would take subnormals for 0.
__device__ inline bool greater(float a, float b) {
    unsigned answer;
    asm("{ .reg .pred p; setp.gt.f32 p, %1, %2; selp.u32 %0, 1, 0, p; }"
        : "=r"(answer) : "f"(a), "f"(b));
    return answer;
}

// Whether a maximum gives way to a value: to what is more, and to the first NaN.
__device__ inline bool wins(float value, float best) {
    unsigned answer;
    asm("{ .reg .pred p, q; setp.num.f32 p, %2, %2; setp.gtu.and.f32 q, %1, %2, p;"
        "  selp.u32 %0, 1, 0, q; }"
        : "=r"(answer) : "f"(value), "f"(best));
    return answer;
}

#else

__device__ inline float load(half x) {
    _Float16 y;
    __builtin_memcpy(&y, &x, 2);
    return y;
}

__device__ inline void store(half& to, float x) {
    const _Float16 rounded = x;
    __builtin_memcpy(&to, &rounded, 2);
}

__device__ inline bool greater(float a, float b) { return a > b; }
__device__ inline bool wins(float value, float best) { return !(value <= best) & (best == best); }

#endif

__device__ inline bool greater(double a, double b) { return a > b; }
__device__ inline bool wins(double value, double best) { return !(value <= best) & (best == best); }

template <typename C>
__device__ inline bool is_nan(C x) {
    return x != x;
}

// a / n, where r is 1 / n: rounded as the division is, without its branches.
// Source: Markstein, "Computation of elementary functions on the IBM RISC System/6000", 1990.
template <typename C>
__device__ inline C quotient(C a, C n, C r) {
    const C q = a * r, better = fma(fma(-q, n, a), r, q);
    return is_nan(better) ? q : better;  // as it is where a is infinite
}

template <typename C>
__device__ inline C least() {
    return (C)__int_as_float(0xff800000);  // -infinity
}

// Neighbours in memory that are read and written at once, by an instruction of up to 16 bytes.
template <typename T, int LANES>
struct alignas(LANES * sizeof(T)) Pack {
    T lanes[LANES];
};

// Reads a pack of what no thread writes, whole: where lanes are then chosen from, the compiler
// would else read them one by one.
template <typename T, int LANES>
__device__ Pack<T, LANES> fetch(const Pack<T, LANES>* from) {
    Pack<T, LANES> pack;
#ifdef __CUDA_ARCH__
    if constexpr (sizeof(pack) % 16 == 0) {
        unsigned words[sizeof(pack) / 4];
#pragma unroll
        for (int i = 0; i < sizeof(pack) / 4; i += 4)
            asm("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];"
                : "=r"(words[i]), "=r"(words[i + 1]), "=r"(words[i + 2]), "=r"(words[i + 3])
                : "l"((const char*)from + 4 * i));
        memcpy(&pack, words, sizeof(pack));
        return pack;
    }
#endif
    pack = *from;
    return pack;
}

// Adds a pack, or zeros.
template <typename T, int LANES>
__device__ void add_where(computed<T> (&sums)[LANES], const Pack<T, LANES> pack, bool exists) {
    for (int lane = 0; lane < LANES; ++lane)
        sums[lane] += exists ? load(pack.lanes[lane]) : computed<T>(0);
}

// The pack that holds computed numbers, rounded.
template <typename T, int LANES>
__device__ Pack<T, LANES> packed(const computed<T> (&numbers)[LANES]) {
    Pack<T, LANES> pack;
    for (int lane = 0; lane < LANES; ++lane) store(pack.lanes[lane], numbers[lane]);
    return pack;
}
