// Activations: a function of each entry, and its gradient.
//
//   activation            y = F::value(x, a, b)
//   activation_gradient   dx = dy * F::slope(held, a, b), where held is x or, as the slope says, y
//
// Each F is the definition of xpcnn/ops/activation.py, NaN passing and nothing overflowing: where a
// formula holds e**x, it is taken as a fraction of two exponentials of at most 1. a and b are its
// options, in the order of its arguments.
//
// Shapes    all arrays of `count` entries.
// Memory    all alike, without gaps; in packs of 16 bytes where all begin at a multiple of that.
// Types     T half, bfloat16, float or double, computed in float or double.
// Threads   each owns a pack, or as many entries. Blocks of 256, no shared memory.
//           From sm_75 on.
#include "bounds.cuh"
#include "passes.cuh"

// Beyond, every gate is 0 or 1; nearer, none of their powers overflows.
[[maybe_unused]] constexpr double FAR = 1000;

template <typename C>
__device__ C positive(C x) {
    return greater(C(0), x) ? C(0) : x;
}

// p / q = e**x, both in [0, 1] and one of them 1.
template <typename C>
struct Fraction {
    C p, q;
};

template <typename C>
__device__ Fraction<C> fraction_of_exp(C x) {
    const C small = exp(-fabs(x));
    return greater(x, C(0)) ? Fraction<C>{1, small} : Fraction<C>{small, 1};
}

template <typename C>
__device__ C logistic(C x) {
    const auto [p, q] = fraction_of_exp(x);
    return p / (p + q);
}

struct LeakyRelu {
    template <typename C>
    static __device__ C value(C x, C slope, C) {
        return greater(x, C(0)) ? x : slope * x;
    }

    template <typename C>
    static __device__ C slope(C x, C slope, C) {
        return greater(x, C(0)) ? C(1) : is_nan(x) ? C(0) : slope;
    }
};

struct Elu {
    template <typename C>
    static __device__ C value(C x, C alpha, C) {
        return greater(x, C(0)) ? x : alpha * expm1(x);
    }

    template <typename C>
    static __device__ C slope(C x, C alpha, C) {
        return greater(x, C(0)) ? C(1) : alpha * exp(x);
    }
};

struct Selu {
    static constexpr double ALPHA = 1.6732632423543772, SCALE = 1.0507009873554805;

    template <typename C>
    static __device__ C value(C x, C, C) {
        return C(SCALE) * Elu::value(x, C(ALPHA), C(0));
    }

    template <typename C>
    static __device__ C slope(C x, C, C) {
        return C(SCALE) * Elu::slope(x, C(ALPHA), C(0));
    }
};

struct Sigmoid {
    template <typename C>
    static __device__ C value(C x, C, C) {
        return logistic(x);
    }

    template <typename C>
    static __device__ C slope(C y, C, C) {
        return y * (1 - y);
    }
};

struct Tanh {
    template <typename C>
    static __device__ C value(C x, C, C) {
        return tanh(x);
    }

    template <typename C>
    static __device__ C slope(C y, C, C) {
        return 1 - y * y;
    }
};

struct Softplus {
    template <typename C>
    static __device__ C scaled(C x, C beta) {
        return beta * clipped(x, C(-FAR) / beta, C(FAR) / beta);
    }

    template <typename C>
    static __device__ C value(C x, C beta, C threshold) {
        const C z = scaled(x, beta);
        return greater(z, threshold) ? x : positive(x) + log1p(exp(-fabs(z))) / beta;
    }

    template <typename C>
    static __device__ C slope(C x, C beta, C threshold) {
        const C z = scaled(x, beta);
        return greater(z, threshold) ? C(1) : logistic(z);
    }
};

struct HardSigmoid {
    template <typename C>
    static __device__ C value(C x, C, C) {
        return clipped(x + 3, C(0), C(6)) / 6;
    }

    template <typename C>
    static __device__ C slope(C x, C, C) {
        return within(x, C(-3), C(3)) ? C(1) / 6 : C(0);
    }
};

// x * gate(x), and its limit 0 where x is so far below 0 that the gate is shut. Gate::slope is told
// what the gate is.
template <typename Gate>
struct Gated {
    template <typename C>
    static __device__ C value(C x, C, C) {
        const C raised = greater(C(-FAR), x) ? C(-FAR) : x;
        return raised * Gate::value(clipped(x, C(-FAR), C(FAR)));
    }

    template <typename C>
    static __device__ C slope(C x, C, C) {
        const C near = clipped(x, C(-FAR), C(FAR)), gate = Gate::value(near);
        return gate + near * Gate::slope(near, gate);
    }
};

struct LogisticGate {
    template <typename C>
    static __device__ C value(C x) {
        return logistic(x);
    }

    template <typename C>
    static __device__ C slope(C, C gate) {
        return gate * (1 - gate);
    }
};

struct HardGate {
    template <typename C>
    static __device__ C value(C x) {
        return HardSigmoid::value(x, C(0), C(0));
    }

    template <typename C>
    static __device__ C slope(C x, C) {
        return HardSigmoid::slope(x, C(0), C(0));
    }
};

// tanh(softplus(x)) = (u*u + 2u) / (u*u + 2u + 2) with u = e**x.
struct MishGate {
    template <typename C>
    static __device__ C value(C x) {
        const auto [p, q] = fraction_of_exp(x);
        const C rise = p * (p + 2 * q);
        return rise / (rise + 2 * q * q);
    }

    template <typename C>
    static __device__ C slope(C x, C gate) {
        return (1 - gate * gate) * logistic(x);
    }
};

// P(X < x) for a standard normal X.
struct NormalGate {
    template <typename C>
    static __device__ C value(C x) {
        return C(0.5) * erfc(x * C(-0.70710678118654752));
    }

    template <typename C>
    static __device__ C slope(C x, C) {
        return exp(C(-0.5) * x * x) * C(0.39894228040143268);
    }
};

// (1 + tanh(u)) / 2 = logistic(2u), which keeps its digits where tanh is near -1.
struct TanhGate {
    template <typename C>
    static __device__ C value(C x) {
        return logistic(C(1.5957691216057308) * (x + C(0.044715) * x * x * x));
    }

    template <typename C>
    static __device__ C slope(C x, C gate) {
        return gate * (1 - gate) * (C(1.5957691216057308) * (1 + C(0.134145) * x * x));
    }
};

using Silu = Gated<LogisticGate>;
using Mish = Gated<MishGate>;
using HardSwish = Gated<HardGate>;
using Gelu = Gated<NormalGate>;
using GeluByTanh = Gated<TanhGate>;

template <typename T, typename F>
__global__ void activation(const T* x, T* y, long long count, computed<T> a, computed<T> b) {
    one_pass<T, 1, 1, 1>({x}, {y}, count, [&](auto, auto, auto& in, auto& out) {
        out[0] = F::value(in[0], a, b);
    });
}

template <typename T, typename F>
__global__ void activation_gradient(const T* dy, const T* held, T* dx, long long count,
                                    computed<T> a, computed<T> b) {
    one_pass<T, 1, 2, 1>({dy, held}, {dx}, count, [&](auto, auto, auto& in, auto& out) {
        out[0] = in[0] * F::slope(in[1], a, b);
    });
}
