"""Random numbers by counting: the same key gives the same numbers on every library.

Number i of a key is a cipher's answer to the question i, so there is no generator whose state moves
along: a draw is a function of its key, and a key serves one draw. `fold_in` makes new keys of one,
for each layer, step or epoch. Weights and shuffles are drawn on the host; dropout masks (`bits`)
where the arrays live, inside jax.jit too.

The cipher is Threefry-2x32 with 20 rounds, in the int32 operations that all libraries share: sums
wrap around, and a logical right shift is an arithmetic one and a mask.

Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from typing import Any

import numpy as np

from ._xp import Array, device_of, namespace, product

Key = tuple[Any, Any]
"""Two int32 values: Python ints, or 0-d integer arrays, which jax.jit can trace."""

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
WORD = 0xFFFFFFFF  # the bits of a word
PARITY = 0x1BD11BDA  # keeps an all-zero key from leaving the counter unmixed

DRAW, FOLD = 0, 1  # the counter's second word: no folded key repeats the bits drawn with its parent
BLOCK = 1 << 15  # counters at a time on the host: they stay in cache


def key(seed: int) -> Key:
    """The key of a seed, an integer in [0, 2**64): its low and its high 32 bits.

    Raises TypeError for what is no integer and ValueError outside that range, rather than have two
    seeds share a key.

    >>> key(7)
    (7, 0)
    """
    try:
        seed = operator.index(seed)
    except TypeError:
        raise TypeError(f"key: seed must be an integer, not {seed!r}") from None
    if not 0 <= seed < 1 << 64:
        raise ValueError(f"key: seed must lie in [0, 2**64); it is {seed}")
    return _signed(seed & WORD), _signed(seed >> 32)


def require_key(call: str, key: Key) -> None:
    """Raise TypeError for what is no key.

    >>> require_key("dropout", key(0))
    """
    if not isinstance(key, tuple) or len(key) != 2 or not all(map(_is_word, key)):
        raise TypeError(f"{call}: key={key!r}; make one of a seed: xpcnn.random.key(0)")


def fold_in(key: Key, i: int | Array) -> Key:
    """A new key, of `key` and the integer i in [0, 2**31): one for each layer, step or epoch.

    Two ints where all that is given are ints; else two 0-d int32 arrays, so that a traced step can
    be folded in. Raises ValueError for an int outside the range (arrays are not looked at), and
    TypeError for what is no key.

    >>> fold_in(key(0), 1) == fold_in(key(0), 2)
    False
    """
    require_key("fold_in", key)
    arrays = [part for part in (*key, i) if not _is_int(part)]
    if _is_int(i) and not 0 <= i < 1 << 31:
        raise ValueError(f"fold_in: i must lie in [0, 2**31); it is {i}")
    if not arrays:
        return _threefry_of_ints(key, (int(i), FOLD))
    xp, device = namespace(arrays[0]), device_of(arrays[0])
    first, second = threefry(_spread(key, xp, device), _spread((i, FOLD), xp, device))
    return xp.reshape(first, ()), xp.reshape(second, ())


def bits(key: Key, shape: tuple[int, ...], xp: Any, device: Any) -> Array:
    """An int32 array of random bits on `device` of the library `xp`; equal bits on every library.

    A longer draw begins with the shorter one. Raises ValueError for a negative size or more than
    2**31 numbers.

    >>> bits(key(0), (4,), np, "cpu")
    array([ 1797259609, -1715843330,  1351547692, -1059176654], dtype=int32)
    """
    count = _count("bits", key, shape)
    if xp is np:
        words = np.empty((count + 1) // 2, "<u8")
        for at, block in _words(key, words.size):
            words[at] = block
        flat = words.view("<i4").astype(np.int32, copy=False)
    else:
        counter = xp.arange((count + 1) // 2, dtype=xp.int32, device=device)
        (draw,) = _spread((DRAW,), xp, device)
        pairs = threefry(_spread(key, xp, device), (counter, draw))
        flat = xp.reshape(xp.stack(pairs, axis=1), (-1,))
    return xp.reshape(flat[:count], shape)


def uniform(key: Key, shape: tuple[int, ...]) -> np.ndarray:
    """Host float64 numbers, uniform in [0, 1): the multiples of 2**-53, each as likely.

    Raises ValueError for a negative size or more than 2**31 numbers.

    >>> uniform(key(0), (2,)).round(3)
    array([0.6  , 0.753])
    """
    out = np.empty(_count("uniform", key, shape), np.float64)
    for at, words in _words(key, out.size):
        out[at] = _fraction(words)
    return out.reshape(shape)


def normal(key: Key, shape: tuple[int, ...]) -> np.ndarray:
    """Host float64 numbers of the standard normal distribution.

    Logarithm and sine may differ in their last bit from one CPU to the next; rounded to float32 the
    numbers are the same. Raises ValueError for a negative size or more than 2**31 numbers.

    >>> normal(key(0), (2,)).round(3)
    array([ 0.029, -1.354])

    Source: Box and Muller, "A note on the generation of random normal deviates", 1958.
    """
    count = _count("normal", key, shape)
    out = np.empty(count + count % 2, np.float64)
    for at, words in _words(key, out.size):
        radius = np.sqrt(-2.0 * np.log(1.0 - _fraction(words[::2])))  # 1 - u: never log(0)
        angle = 2.0 * math.pi * _fraction(words[1::2])
        out[at][::2], out[at][1::2] = radius * np.cos(angle), radius * np.sin(angle)
    return out[:count].reshape(shape)


def permutation(key: Key, n: int) -> np.ndarray:
    """The numbers 0 to n - 1 in random order: (n,) int64 on the host.

    Raises ValueError for a negative n or one over 2**31.

    >>> permutation(key(0), 5)
    array([3, 0, 4, 1, 2])
    """
    words = np.empty(_count("permutation", key, (n,)), np.uint64)
    for at, block in _words(key, n):
        words[at] = block
    return np.argsort(words, kind="stable").astype(np.int64, copy=False)


def threefry(key: tuple[Array, Array], counter: tuple[Array, Array]) -> tuple[Array, Array]:
    """Encrypt counters: two int32 words of random bits for each pair of int32 words.

    The key's words are of shape (1,) (not 0-d: NumPy warns of an overflow there) and the counter's
    of any shapes that broadcast with each other.

    >>> zero = np.zeros(1, np.int32)
    >>> [hex(int(word[0]) & 0xFFFFFFFF) for word in threefry((zero, zero), (zero, zero))]
    ['0x6b200159', '0x99ba4efe']

    Source: Salmon et al. 2011, and its reference implementation, Random123.
    """
    keys = (*key, key[0] ^ key[1] ^ PARITY)
    x0, x1 = counter[0] + keys[0], counter[1] + keys[1]
    for group in range(5):
        for distance in ROTATIONS[group % 2]:
            x0 = x0 + x1
            x1 = _rotate(x1, distance) ^ x0
        x0 = x0 + keys[(group + 1) % 3]
        x1 = x1 + (keys[(group + 2) % 3] + (group + 1))
    return x0, x1


def _threefry_of_ints(key: Key, counter: tuple[int, int]) -> Key:
    """`threefry` of one pair in Python's own integers: ten times quicker than arrays of one."""
    low, high = (int(word) & WORD for word in key)
    keys = (low, high, low ^ high ^ PARITY)
    x0, x1 = (counter[0] + low) & WORD, (counter[1] + high) & WORD
    for group in range(5):
        for distance in ROTATIONS[group % 2]:
            x0 = (x0 + x1) & WORD
            x1 = ((x1 << distance | x1 >> 32 - distance) & WORD) ^ x0
        x0 = (x0 + keys[(group + 1) % 3]) & WORD
        x1 = (x1 + keys[(group + 2) % 3] + group + 1) & WORD
    return _signed(x0), _signed(x1)


def _signed(word: int) -> int:
    """An unsigned 32-bit word as the int32 of the same bits."""
    return word - (word >> 31 << 32)


def _rotate(x: Array, distance: int) -> Array:
    return (x << distance) | ((x >> (32 - distance)) & ((1 << distance) - 1))


def _words(key: Key, count: int) -> Iterator[tuple[slice, np.ndarray]]:
    """The key's first `count` 64-bit words on the host, block by block: (where, uint64 words)."""
    key = _spread(tuple(int(part) for part in key), np, "cpu")
    (draw,) = _spread((DRAW,), np, "cpu")
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        low, high = threefry(key, (np.arange(start, stop, dtype=np.int32), draw))
        words = high.view(np.uint32).astype(np.uint64)
        words <<= np.uint64(32)
        yield slice(start, stop), words | low.view(np.uint32)


def _fraction(words: np.ndarray) -> np.ndarray:
    return (words >> np.uint64(11)) * 2.0**-53


def _spread(parts: tuple[Any, ...], xp: Any, device: Any) -> tuple[Array, ...]:
    """Integers and 0-d integer arrays as int32 arrays of shape (1,)."""
    return tuple(
        xp.full((1,), int(part), dtype=xp.int32, device=device)
        if _is_int(part)
        else xp.reshape(xp.astype(part, xp.int32), (1,))
        for part in parts
    )


def _is_int(part: Any) -> bool:
    return isinstance(part, int | np.integer)


def _is_word(part: Any) -> bool:
    return -(1 << 31) <= part < 1 << 31 if _is_int(part) else hasattr(part, "dtype")


def _count(call: str, key: Key, shape: tuple[int, ...]) -> int:
    """How many numbers are asked for, once key and shape are known to be such."""
    require_key(call, key)
    count = product(shape)
    if min(shape, default=0) < 0 or count > 1 << 31:
        raise ValueError(f"{call}: sizes must be >= 0 and their product <= 2**31; they are {shape}")
    return count
