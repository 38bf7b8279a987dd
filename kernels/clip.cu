// Clipping, and its gradient.
//
//   clip            y = min(max(x, low), high), NaN passing
//   clip_gradient   dx = dy where low < y < high, else dy * 0
//
// Shapes    all arrays of `count` entries. A bound of NaN is none.
// Memory    all alike, without gaps; in packs of 16 bytes where all begin at a multiple of that.
// Types     T half, bfloat16, float or double.
// Threads   each owns two packs, in the gradient one, or as many entries. Blocks of 256, no shared
//           memory. From sm_75 on.
#include "bounds.cuh"
#include "passes.cuh"

template <typename T>
__global__ void clip(const T* x, T* y, long long count, computed<T> low, computed<T> high) {
    one_pass<T, 2, 1, 1>({x}, {y}, count, [&](auto, auto, auto& in, auto& out) {
        out[0] = clipped(in[0], low, high);
    });
}

template <typename T>
__global__ void clip_gradient(const T* dy, const T* y, T* dx, long long count, computed<T> low,
                              computed<T> high) {
    one_pass<T, 1, 2, 1>({dy, y}, {dx}, count, [&](auto, auto, auto& in, auto& out) {
        out[0] = kept(in[0], in[1], low, high);
    });
}
