"""Hypothesis strategies: windows that are valid by construction, and arrays that are views.

Sizes are small, since every mistake about an index shows on a small window. Entries are small whole
numbers by default: their sums are exact in every floating dtype and in every order, and they tie.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import naive
import numpy as np
from hypothesis import strategies as st

from xpcnn.window import Window

LAYOUTS = ("plain", "channels last", "every second", "backwards", "read-only", "broadcast")


@dataclass(frozen=True)
class Geometry:
    """One window over one input size."""

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: int | tuple[int, ...]
    padding: int | str | tuple
    dilation: int | tuple[int, ...]
    ceil_mode: bool = False

    @property
    def ndim(self) -> int:
        return len(self.size)

    @property
    def out(self) -> tuple[int, ...]:
        return naive.out_size(
            self.size, self.kernel, self.stride, self.padding, self.dilation, self.ceil_mode
        )

    @property
    def meets_input(self) -> bool:
        return naive.meets_input(
            self.size, self.kernel, self.stride, self.padding, self.dilation, self.ceil_mode
        )


def left_over(g: Geometry) -> list[int]:
    """What the stride leaves over along each axis."""
    stride, dilation = naive.each(g.stride, g.ndim), naive.each(g.dilation, g.ndim)
    around = naive.pads(g.padding, g.size, g.kernel, stride, dilation)
    return [
        (i + sum(p) - d * (k - 1) - 1) % s
        for i, p, d, k, s in zip(g.size, around, dilation, g.kernel, stride, strict=True)
    ]


@st.composite
def geometries(
    draw, dims=(1, 2, 3), *, dilations=(1, 2), ceil_modes=(False,), strings=True, pad=(0, 2)
) -> Geometry:
    """Windows with room for at least one place; options as one int or as one per dimension."""
    n = draw(st.sampled_from(dims))
    largest = {1: 4, 2: 3, 3: 2}[n]

    def per_dimension(element):
        return draw(st.one_of(element, st.tuples(*[element] * n)))

    kernel = draw(st.tuples(*[st.integers(1, largest)] * n))
    stride = per_dimension(st.integers(1, 3))
    dilation = per_dimension(st.sampled_from(dilations))
    ints = st.integers(*pad)
    paddings = [ints, st.tuples(*[ints] * n), st.tuples(*[st.tuples(ints, ints)] * n)]
    paddings += [st.sampled_from(["valid", "same", "same_lower"])] * strings
    padding = draw(st.one_of(*paddings))
    reach = [d * (k - 1) + 1 for d, k in zip(naive.each(dilation, n), kernel, strict=True)]
    if padding in ("same", "same_lower"):
        least = [1] * n
    else:
        around = [sum(p) for p in naive.pads(padding, reach, kernel, None, None)]
        least = [max(1, r - p) for r, p in zip(reach, around, strict=True)]
    size = tuple(low + draw(st.integers(0, 4 if n < 3 else 2)) for low in least)
    return Geometry(size, kernel, stride, padding, dilation, draw(st.sampled_from(ceil_modes)))


@st.composite
def pools(draw, dims=(1, 2, 3), *, dilations=(1, 2)) -> Geometry:
    """Windows of which each meets the input, as max pooling asks."""
    windows = geometries(dims, dilations=dilations, ceil_modes=(False, True), pad=(0, 1))
    return draw(windows.filter(lambda g: g.meets_input))


@st.composite
def parts(draw, window: Window) -> Window:
    """`window`, or that of some of its outputs: its padding may be negative."""
    if draw(st.booleans()):
        return window
    boxes = [draw(st.tuples(st.integers(0, n - 1), st.integers(1, n))) for n in window.out_size]
    return window.part([slice(a, max(a + 1, b)) for a, b in boxes])


@st.composite
def arrays(draw, shape, dtype=np.float64, *, special=()) -> np.ndarray:
    """Small whole numbers, many of them equal, with `special` ones among them; often a view."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    values = rng.integers(-4, 5, shape).astype(dtype)
    for value in special:
        values[rng.random(shape) < 0.15] = value
    return view(values, draw(st.sampled_from(LAYOUTS)))


def view(a: np.ndarray, layout: str) -> np.ndarray:
    """The entries of `a`, laid out in memory otherwise ("broadcast": a[0] repeated)."""
    if layout == "channels last" and a.ndim > 2:
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1)
    if layout == "every second":
        buffer = np.full((*a.shape[:-1], 2 * a.shape[-1]), np.nan, a.dtype)
        buffer[..., ::2] = a
        return buffer[..., ::2]
    if layout == "backwards":
        everywhere = (slice(None, None, -1),) * a.ndim
        return np.ascontiguousarray(a[everywhere])[everywhere]
    if layout == "read-only":
        a = a.copy()
        a.flags.writeable = False
    if layout == "broadcast" and a.size:
        return np.broadcast_to(a[:1], a.shape)
    return a


@dataclass(frozen=True)
class Convolution:
    """The arguments of one convolution, and a gradient for its result."""

    x: np.ndarray
    w: np.ndarray
    b: np.ndarray | None
    dy: np.ndarray
    window: Geometry
    groups: int

    @property
    def args(self) -> tuple:
        """What follows (x, w, b) by position, here and in `naive`."""
        return self.window.stride, self.window.padding, self.window.dilation, self.groups

    @property
    def terms(self) -> int:
        """The longest sum in the result or in any of the gradients."""
        places = self.x.shape[0] * prod(self.window.out)
        return max(prod(self.w.shape[1:]), self.w.shape[0] * prod(self.w.shape[2:]), places)


@st.composite
def convolutions(draw, dims=(1, 2, 3), dtype=np.float64) -> Convolution:
    """Convolutions of every rank, grouping and memory layout, of zero images too."""
    window = draw(geometries(dims))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    n, c, o = draw(st.integers(0, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    x = draw(arrays((n, c * groups, *window.size), dtype))
    w = draw(arrays((o * groups, c, *window.kernel), dtype))
    b = draw(st.one_of(st.none(), arrays((o * groups,), dtype)))
    dy = draw(arrays((n, o * groups, *window.out), dtype))
    return Convolution(x, w, b, dy, window, groups)
