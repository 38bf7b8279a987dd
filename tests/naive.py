"""The definitions, as loops over places: what every engine has to agree with.

Clear before fast, NumPy float64, any number of dimensions. A window is met as the place `p` of its
output and the slices `box` of the padded input that it reads. Padding is given as everywhere in
xpcnn: an int, one int or one (before, after) pair per dimension, "valid", "same" or "same_lower".
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from math import ceil, floor, prod

import numpy as np

ROUNDINGS = 8.0


def tolerance(dtype, terms: int = 1, scale: float = 1.0) -> float:
    """The error allowed to a sum of `terms` products whose result is of size `scale`.

    Every addition rounds by at most half an eps of the partial sum. In whatever order an engine
    adds, `terms` such errors of random sign grow like sqrt(terms), so the result is off by about
    eps * sqrt(terms) * scale. ROUNDINGS is the one constant of the tests: it covers the products'
    own roundings and the unlucky draw; a wrong index or a forgotten term is off by far more.
    """
    return ROUNDINGS * float(np.finfo(dtype).eps) * max(terms, 1) ** 0.5 * max(scale, 1.0)


def assert_close(actual, expected, terms: int = 1, dtype=None) -> None:
    """Equal in shape, in the places of NaN and inf, and to `tolerance` of the largest entry."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"{actual.shape} is not {expected.shape}"
    finite = np.abs(expected[np.isfinite(expected)])
    atol = tolerance(dtype or actual.dtype, terms, float(finite.max(initial=0.0)))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


# ---- geometry ---------------------------------------------------------------------------------


def each(value, n: int) -> tuple:
    """One value per dimension."""
    return (value,) * n if isinstance(value, int | str) else tuple(value)


def pads(padding, size, kernel, stride, dilation) -> list[tuple[int, int]]:
    """(before, after) for every dimension."""
    if padding == "valid":
        padding = 0
    if padding in ("same", "same_lower"):
        pairs = []
        for i, k, s, d in zip(size, kernel, stride, dilation, strict=True):
            total = max(0, (ceil(i / s) - 1) * s + d * (k - 1) + 1 - i)
            small, large = total // 2, total - total // 2
            pairs.append((small, large) if padding == "same" else (large, small))
        return pairs
    return [(p, p) if isinstance(p, int) else tuple(p) for p in each(padding, len(size))]


def out_size(size, kernel, stride=1, padding=0, dilation=1, ceil_mode=False) -> tuple[int, ...]:
    """How many places a window has in each dimension: counted, not computed."""
    n = len(size)
    kernel, stride, dilation = each(kernel, n), each(stride, n), each(dilation, n)
    counts = []
    for i, k, s, d, (before, after) in zip(
        size, kernel, stride, dilation, pads(padding, size, kernel, stride, dilation), strict=True
    ):
        reach = d * (k - 1) + 1
        starts = range(-before, i + after, s)
        fits = [p for p in starts if p + reach <= i + after]
        if ceil_mode and fits and fits[-1] + reach < i + after and fits[-1] + s < i:
            fits.append(fits[-1] + s)  # places are left over, and it starts left of the padding
        counts.append(len(fits))
    return tuple(counts)


class Places:
    """Every place of a window over an input of a given size."""

    def __init__(self, size, kernel, stride=1, padding=0, dilation=1, ceil_mode=False):
        n = len(size)
        self.size, self.kernel = tuple(size), each(kernel, n)
        self.stride, self.dilation = each(stride, n), each(dilation, n)
        self.pads = pads(padding, size, self.kernel, self.stride, self.dilation)
        self.out = out_size(size, self.kernel, stride, padding, dilation, ceil_mode)

    def __iter__(self) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
        """Pairs (place in the output, box of the padded input)."""
        for p in product(*map(range, self.out)):
            yield (
                p,
                tuple(
                    slice(q * s, q * s + d * (k - 1) + 1, d)
                    for q, s, k, d in zip(p, self.stride, self.kernel, self.dilation, strict=True)
                ),
            )

    def pad(self, x: np.ndarray, fill: float = 0.0) -> np.ndarray:
        """x with `fill` around it, also where the last window overhangs."""
        widths = [(0, 0)] * (x.ndim - len(self.size))
        for i, o, k, s, d, (before, after) in zip(
            self.size, self.out, self.kernel, self.stride, self.dilation, self.pads, strict=True
        ):
            overhang = (o - 1) * s + d * (k - 1) + 1 - (before + i + after)
            widths.append((before, after + max(0, overhang)))
        return np.pad(x, widths, constant_values=fill)

    def crop(self, padded: np.ndarray) -> np.ndarray:
        """The inverse of `pad`."""
        inner = (slice(b, b + i) for i, (b, _) in zip(self.size, self.pads, strict=True))
        return padded[(..., *inner)]

    def inside(self) -> np.ndarray:
        """Of the padded plane, what is input."""
        return self.pad(np.ones(self.size)) > 0


def meets_input(size, kernel, stride=1, padding=0, dilation=1, ceil_mode=False) -> bool:
    """Whether every window reads some of the input: what max pooling asks for."""
    places = Places(size, kernel, stride, padding, dilation, ceil_mode)
    inside = places.inside()
    return all(inside[box].any() for _, box in places)


# ---- convolution ------------------------------------------------------------------------------


def _all_but_first(a: np.ndarray) -> tuple[list[int], list[int]]:
    """The axes over which a window and a weight are multiplied and summed."""
    axes = list(range(1, a.ndim))
    return axes, axes


def _grouped(n_in: int, n_out: int, groups: int) -> Iterator[tuple[slice, slice]]:
    i, o = n_in // groups, n_out // groups
    for g in range(groups):
        yield slice(g * i, (g + 1) * i), slice(g * o, (g + 1) * o)


def conv(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    """x (N, C, ...), w (O, C/G, ...), b (O,) -> y (N, O, ...)."""
    places = Places(x.shape[2:], w.shape[2:], stride, padding, dilation)
    padded = places.pad(np.asarray(x, np.float64))
    y = np.zeros((x.shape[0], w.shape[0], *places.out))
    for p, box in places:
        for c, o in _grouped(x.shape[1], w.shape[0], groups):
            window = padded[(slice(None), c, *box)]
            y[(slice(None), o, *p)] = np.tensordot(window, w[o], _all_but_first(w))
    return y if b is None else y + b.reshape(-1, *[1] * len(places.out))


def conv_dx(dy, w, size, stride=1, padding=0, dilation=1, groups=1):
    """Every dy is scattered over the window it came from: dx (N, C, *size)."""
    places = Places(size, w.shape[2:], stride, padding, dilation)
    dx = places.pad(np.zeros((dy.shape[0], w.shape[1] * groups, *size)))
    for p, box in places:
        for c, o in _grouped(dx.shape[1], w.shape[0], groups):
            dx[(slice(None), c, *box)] += np.tensordot(dy[(slice(None), o, *p)], w[o], 1)
    return places.crop(dx)


def conv_dw(x, dy, kernel, stride=1, padding=0, dilation=1, groups=1):
    """Every window is added up, weighed by its dy: dw (O, C/G, *kernel)."""
    places = Places(x.shape[2:], kernel, stride, padding, dilation)
    padded = places.pad(np.asarray(x, np.float64))
    dw = np.zeros((dy.shape[1], x.shape[1] // groups, *kernel))
    for p, box in places:
        for c, o in _grouped(x.shape[1], dy.shape[1], groups):
            window = padded[(slice(None), c, *box)]
            dw[o] += np.tensordot(dy[(slice(None), o, *p)].T, window, 1)
    return dw


def conv_transpose(x, w, b=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """x (N, C, ...), w (C, O/G, ...) -> y (N, O, ...): each x is scattered over a window of y."""
    n = x.ndim - 2
    stride, dilation, extra = each(stride, n), each(dilation, n), each(output_padding, n)
    around = pads(padding, x.shape[2:], w.shape[2:], stride, dilation)
    size = [
        (i - 1) * s - before - after + d * (k - 1) + 1 + e
        for i, k, s, d, e, (before, after) in zip(
            x.shape[2:], w.shape[2:], stride, dilation, extra, around, strict=True
        )
    ]
    y = conv_dx(np.asarray(x, np.float64), w, size, stride, around, dilation, groups)
    return y if b is None else y + b.reshape(-1, *[1] * n)


def locally_connected(x, w, b=None, stride=1, padding=0, dilation=1):
    """A convolution with weights of its own at every place: w (*out, O, C, *kernel)."""
    n = x.ndim - 2
    places = Places(x.shape[2:], w.shape[n + 2 :], stride, padding, dilation)
    padded = places.pad(np.asarray(x, np.float64))
    y = np.zeros((x.shape[0], w.shape[n], *places.out))
    for p, box in places:
        y[(..., *p)] = np.tensordot(padded[(..., *box)], w[p], _all_but_first(w[p]))
    return y if b is None else y + b


def unfold(x, kernel_size, stride=1, padding=0, dilation=1):
    """x (N, C, ...) -> columns (N, C * prod(kernel), places)."""
    places = Places(x.shape[2:], kernel_size, stride, padding, dilation)
    padded = places.pad(x)
    columns = [
        padded[(..., *box)].reshape(len(x), x.shape[1] * prod(places.kernel)) for _, box in places
    ]
    return np.stack(columns, axis=-1)


def fold(columns, output_size, kernel_size, stride=1, padding=0, dilation=1):
    """columns (N, C * prod(kernel), places) -> x (N, C, *output_size), overlaps summed."""
    places = Places(output_size, kernel_size, stride, padding, dilation)
    channels = columns.shape[1] // prod(places.kernel)
    x = places.pad(np.zeros((len(columns), channels, *places.size)))
    for column, (_, box) in enumerate(places):
        x[(..., *box)] += columns[:, :, column].reshape(len(x), channels, *places.kernel)
    return places.crop(x)


# ---- pooling ----------------------------------------------------------------------------------


def max_pool(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
    """-> (y, indices): the first maximum in row-major order, or the first NaN; flat into the plane.

    Only places of the input stand for election, so padding never wins, not even over -inf.
    """
    size = x.shape[2:]
    places = Places(
        size, kernel_size, kernel_size if stride is None else stride, padding, dilation, ceil_mode
    )
    padded = places.pad(x, fill=0)
    flat = places.pad(np.arange(prod(size)).reshape(size), fill=-1)
    y = np.zeros((*x.shape[:2], *places.out), x.dtype)
    indices = np.zeros(y.shape, np.int64)
    for p, box in places:
        candidates = flat[box][flat[box] >= 0]
        window = padded[(..., *box)][..., flat[box] >= 0]
        best = np.argmax(window, axis=-1)  # NumPy's own rule: the first, and NaN before all
        y[(..., *p)] = np.take_along_axis(window, best[..., None], axis=-1)[..., 0]
        indices[(..., *p)] = candidates[best]
    return y, indices


def max_pool_dx(dy, indices, size):
    """Each dy goes to the one place its maximum came from."""
    dx = np.zeros((*dy.shape[:2], prod(size)))
    for n, c, *p in np.ndindex(dy.shape):
        dx[n, c, indices[(n, c, *p)]] += dy[(n, c, *p)]
    return dx.reshape(*dy.shape[:2], *size)


def taken(x, indices):
    """Of each plane of x, the entries at flat indices: the adjoint of `max_pool_dx`."""
    y = np.zeros(indices.shape, x.dtype)
    for n, c, *p in np.ndindex(indices.shape):
        y[(n, c, *p)] = x[n, c].flat[indices[(n, c, *p)]]
    return y


def _avg_weights(places: Places, count_include_pad: bool, divisor_override):
    """Pairs (place, box, 1 / divisor). The overhang of ceil_mode never counts."""
    counted = places.inside()
    if count_include_pad:
        inner = [slice(0, b + i + a) for i, (b, a) in zip(places.size, places.pads, strict=True)]
        counted = np.zeros(counted.shape, bool)
        counted[tuple(inner)] = True
    for p, box in places:
        yield p, box, 1.0 / (divisor_override or counted[box].sum())


def avg_pool(
    x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True,
    divisor_override=None,
):  # fmt: skip
    """The sum of each window over how many places count, or over `divisor_override`."""
    stride = kernel_size if stride is None else stride
    places = Places(x.shape[2:], kernel_size, stride, padding, 1, ceil_mode)
    padded = places.pad(np.asarray(x, np.float64))
    y = np.zeros((*x.shape[:2], *places.out))
    for p, box, weight in _avg_weights(places, count_include_pad, divisor_override):
        y[(..., *p)] = padded[(..., *box)].sum(tuple(range(2, x.ndim))) * weight
    return y


def avg_pool_dx(
    dy, size, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True,
    divisor_override=None,
):  # fmt: skip
    """Each dy is spread evenly over its window."""
    places = Places(
        size, kernel_size, kernel_size if stride is None else stride, padding, 1, ceil_mode
    )
    dx = places.pad(np.zeros((*dy.shape[:2], *size)))
    for p, box, weight in _avg_weights(places, count_include_pad, divisor_override):
        dx[(..., *box)] += dy[(..., *p)].reshape(*dy.shape[:2], *[1] * len(size)) * weight
    return places.crop(dx)


def adaptive_boxes(size, out) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """PyTorch's rule: place i of m reads [floor(i n / m), ceil((i + 1) n / m))."""
    for p in product(*map(range, out)):
        yield (
            p,
            tuple(
                slice(floor(i * n / m), ceil((i + 1) * n / m))
                for i, n, m in zip(p, size, out, strict=True)
            ),
        )


def adaptive_avg_pool(x, output_size):
    y = np.zeros((*x.shape[:2], *output_size))
    for p, box in adaptive_boxes(x.shape[2:], output_size):
        y[(..., *p)] = x[(..., *box)].mean(tuple(range(2, x.ndim)))
    return y


def adaptive_max_pool(x, output_size):
    """-> (y, indices), by the rules of `max_pool`."""
    y = np.zeros((*x.shape[:2], *output_size))
    indices = np.zeros(y.shape, np.int64)
    flat = np.arange(prod(x.shape[2:])).reshape(x.shape[2:])
    for p, box in adaptive_boxes(x.shape[2:], output_size):
        window = x[(..., *box)].reshape(*x.shape[:2], flat[box].size)
        best = np.argmax(window, axis=-1)
        y[(..., *p)] = np.take_along_axis(window, best[..., None], axis=-1)[..., 0]
        indices[(..., *p)] = flat[box].reshape(-1)[best]
    return y, indices


# ---- resampling -------------------------------------------------------------------------------


def interpolate(x, size=None, scale_factor=None, mode="nearest", align_corners=False):
    """Every output weighs the inputs around its point: one of them, or two along each axis."""
    space = x.shape[2:]
    if size is None:
        factors = np.broadcast_to(scale_factor, len(space)).tolist()
        size = [floor(n * factor) for n, factor in zip(space, factors, strict=True)]
        steps = [(1, factor) for factor in factors]
    else:
        size = each(size, len(space))
        steps = [(Fraction(n), m) for n, m in zip(space, size, strict=True)]
    y = np.zeros((*x.shape[:2], *size))
    for p in product(*map(range, size)):
        axes = [
            _weighed(q, n, m, *step, mode, align_corners)
            for q, n, m, step in zip(p, space, size, steps, strict=True)
        ]
        for corner in product(*axes):
            places, weights = zip(*corner, strict=True)
            y[(..., *p)] += float(prod(weights)) * x[(..., *places)]
    return y


def _weighed(q, n, m, over, under, mode, align_corners) -> list[tuple]:
    """(input place, weight) of one axis, for output q of m over n inputs; exact for a size."""
    if mode == "nearest":
        return [(min(floor(q * over / under), n - 1), 1)]
    point = Fraction(2 * q + 1, 2) * over / under - Fraction(1, 2)
    if align_corners:
        point = Fraction(q * (n - 1), max(1, m - 1))
    point = min(max(point, 0), n - 1)
    low, share = floor(point), point - floor(point)
    return [(low, 1 - share), (min(low + 1, n - 1), share)]


# ---- gradients ------------------------------------------------------------------------------


def gradients(f, arrays, dy):
    """The gradients of <f(*arrays), dy>, for an f that is affine in each of its arrays.

    Then the gradient at an entry is what f answers to that entry alone: no calculus needed.
    """
    grads = []
    for which, array in enumerate(arrays):
        unit, grad = np.zeros(array.shape), np.zeros(array.shape)
        args = [*arrays[:which], unit, *arrays[which + 1 :]]
        rest = f(*args)
        for i in np.ndindex(array.shape):
            unit[i] = 1.0
            grad[i] = np.sum((f(*args) - rest) * dy)
            unit[i] = 0.0
        grads.append(grad)
    return tuple(grads)


# ---- signals ----------------------------------------------------------------------------------


def convolve(x, k, mode="full"):
    """The mathematical one: z[m] = sum over i of x[i] k[m - i]; 1-d or 2-d."""
    full = np.zeros([a + b - 1 for a, b in zip(x.shape, k.shape, strict=True)])
    for i in np.ndindex(x.shape):
        full[tuple(slice(a, a + n) for a, n in zip(i, k.shape, strict=True))] += x[i] * k
    if mode == "full":
        return full
    if mode == "same":  # the middle of it, as large as x
        start = [(b - 1) // 2 for b in k.shape]
        return full[tuple(slice(s, s + a) for s, a in zip(start, x.shape, strict=True))]
    # valid: where k lies wholly inside x
    return full[tuple(slice(b - 1, a) for a, b in zip(x.shape, k.shape, strict=True))]


def correlate(x, k, mode="full"):
    """z[m] = sum over i of x[m + i] k[i]: convolution with k turned around."""
    return convolve(x, np.flip(k), mode)
