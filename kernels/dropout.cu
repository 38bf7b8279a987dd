// Dropout: noise that is a function of a key.
//
//   y = x * scale where r(i) < threshold, else 0
//
// i is the number of an entry in row-major order, r(i) the higher 24 bits of the key's random word
// i: half i % 2 of what Threefry-2x32 makes of the counter (i / 2, 0). The mask is that of
// xpcnn.random to the bit, in every memory format; it is made again for the gradient, not kept.
//
// Shapes    x, y of `count` entries, which an int counts.
// Memory    row-major, or (N, S, C) for an x (N, C, S); without gaps; in packs of 16 bytes where
//           both begin at a multiple of that.
// Types     T half, bfloat16, float or double; scaled in float or double.
// Threads   each owns two packs, or as many entries. Blocks of 256, no shared memory.
//           From sm_75 on.
// Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#include "geometry.cuh"
#include "passes.cuh"

template <typename C>
struct Dropout {
    C scale;
    unsigned threshold, key[2];
    Divider<int> channels, space;

    // The row-major number of the entry at a place in memory where channels are last.
    __device__ unsigned number(int place) const {
        const int pixel = channels.quotient(place), channel = place - pixel * channels.divisor;
        const int image = space.quotient(pixel), rest = pixel - image * space.divisor;
        return (image * channels.divisor + channel) * space.divisor + rest;
    }
};

struct Words {
    unsigned low, high;
};

__device__ inline unsigned rotated(unsigned x, int distance) {
    return x << distance | x >> (32 - distance);
}

__device__ inline Words threefry(const unsigned (&key)[2], Words counter) {
    constexpr int rotations[2][4] = {{13, 15, 26, 6}, {17, 29, 16, 24}};
    const unsigned keys[3] = {key[0], key[1], key[0] ^ key[1] ^ 0x1bd11bda};
    Words x = {counter.low + keys[0], counter.high + keys[1]};
#pragma unroll
    for (int group = 0; group < 5; ++group) {
#pragma unroll
        for (int distance : rotations[group % 2]) {
            x.low += x.high;
            x.high = rotated(x.high, distance) ^ x.low;
        }
        x.low += keys[(group + 1) % 3];
        x.high += keys[(group + 2) % 3] + group + 1;
    }
    return x;
}

template <typename T, bool CHANNELS_LAST>
__global__ void dropout(const T* x, T* y, long long count, const Dropout<computed<T>> p) {
    one_pass<T, 2, 1, 1>({x}, {y}, count, [&](long long first, int lane, auto& in, auto& out) {
        const unsigned i = CHANNELS_LAST ? p.number(first + lane) : first + lane;
        // a pack begins with an even number, so that two lanes share what the cipher makes
        const unsigned pair = CHANNELS_LAST ? i / 2 : first / 2 + lane / 2;
        const Words words = threefry(p.key, {pair, 0});
        out[0] = (i % 2 ? words.high : words.low) >> 8 < p.threshold ? in[0] * p.scale : 0;
    });
}
