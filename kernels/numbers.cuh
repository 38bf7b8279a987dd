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

#endif

__device__ inline bool greater(double a, double b) { return a > b; }

template <typename C>
__device__ inline bool is_nan(C x) {
    return x != x;
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

// The pack that holds computed numbers, rounded.
template <typename T, int LANES>
__device__ Pack<T, LANES> packed(const computed<T> (&numbers)[LANES]) {
    Pack<T, LANES> pack;
    for (int lane = 0; lane < LANES; ++lane) store(pack.lanes[lane], numbers[lane]);
    return pack;
}
