// Clipping to [low, high]. NaN passes, and as a bound it is none. Subnormals are not taken for 0.
#pragma once
#include "numbers.cuh"

template <typename C>
__device__ C clipped(C x, C low, C high) {
    const C raised = greater(low, x) ? low : x;
    return greater(raised, high) ? high : raised;
}

// Whether clipping left y alone: y itself at a bound was not.
template <typename C>
__device__ bool within(C y, C low, C high) {
    return (is_nan(low) || greater(y, low)) && (is_nan(high) || greater(high, y));
}

// The gradient of clipping. dy * 1 would lose subnormals.
template <typename C>
__device__ C kept(C dy, C y, C low, C high) {
    return within(y, low, high) ? dy : dy * 0;
}
