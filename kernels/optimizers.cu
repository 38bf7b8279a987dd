// The steps of optimizers: new weights and averages, of weights w and gradients g.
//
//   sgd            w' = w - lr * d, where d = g + decay * w
//   sgd_momentum   v' = momentum * v + d;  w' = w - lr * v', or with nesterov
//                  w' = w - lr * (d + momentum * v')
//   adam           mean' = beta1 * mean + rest1 * d;  square' = beta2 * square + rest2 * d * d;
//                  w' = shrink * w - rate * mean' / (sqrt(square') * correction + eps)
//
// No decay is no 0 * w, which could be NaN.
//
// Shapes    all arrays of `count` entries.
// Memory    all alike, without gaps; in packs of 16 bytes where all begin at a multiple of that.
// Types     T half, bfloat16, float or double, computed in float or double.
// Threads   each owns a pack, or as many entries. Blocks of 256, no shared memory.
//           From sm_75 on.
#include "passes.cuh"

template <typename C>
__device__ C decayed(C g, C w, C decay) {
    return decay != 0 ? g + decay * w : g;
}

template <typename T>
__global__ void sgd(const T* w, const T* g, T* new_w, long long count, computed<T> lr,
                    computed<T> decay) {
    one_pass<T, 1, 2, 1>({w, g}, {new_w}, count, [&](auto, auto, auto& in, auto& out) {
        out[0] = in[0] - lr * decayed(in[1], in[0], decay);
    });
}

template <typename T>
__global__ void sgd_momentum(const T* w, const T* g, const T* v, T* new_w, T* new_v,
                             long long count, computed<T> lr, computed<T> momentum, int nesterov,
                             computed<T> decay) {
    one_pass<T, 1, 3, 2>({w, g, v}, {new_w, new_v}, count, [&](auto, auto, auto& in, auto& out) {
        const computed<T> gradient = decayed(in[1], in[0], decay);
        out[1] = momentum * in[2] + gradient;
        out[0] = in[0] - lr * (nesterov ? gradient + momentum * out[1] : out[1]);
    });
}

template <typename C>
struct Adam {
    C beta1, rest1, beta2, rest2, rate, correction, eps, shrink, decay;
};

template <typename T>
__global__ void adam(const T* w, const T* g, const T* mean, const T* square, T* new_w, T* new_mean,
                     T* new_square, long long count, const Adam<computed<T>> a) {
    one_pass<T, 1, 4, 3>({w, g, mean, square}, {new_w, new_mean, new_square}, count,
                         [&](auto, auto, auto& in, auto& out) {
        const computed<T> gradient = decayed(in[1], in[0], a.decay);
        out[1] = a.beta1 * in[2] + a.rest1 * gradient;
        out[2] = a.beta2 * in[3] + a.rest2 * gradient * gradient;
        out[0] = a.shrink * in[0] - a.rate * (out[1] / (sqrt(out[2]) * a.correction + a.eps));
    });
}
