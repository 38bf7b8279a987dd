"""Fixed calls of every windowed op, with what the definition answers, for all libraries alike.

Hypothesis looks for odd shapes on NumPy, where a call costs microseconds; these few stand for them
where it costs seconds, as under jax.jit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import naive
import numpy as np

import xpcnn


@dataclass(frozen=True)
class Case:
    """`ops.<op>(*arrays of these shapes, **options)`, and its definition."""

    id: str
    op: str
    definition: Callable
    shapes: tuple
    options: dict = field(default_factory=dict)

    @property
    def call(self) -> Callable:
        return functools.partial(getattr(xpcnn.ops, self.op), **self.options)

    def vjp(self, *arrays: Any) -> tuple[Any, Callable]:
        return xpcnn.vjp(getattr(xpcnn.ops, self.op), *arrays, **self.options)

    @functools.cached_property
    def arrays(self) -> list[np.ndarray]:
        """float64, normal: no ties, so that every rule about the maximum agrees."""
        rng = np.random.default_rng(len(self.id))
        return [rng.standard_normal(shape) for shape in self.shapes]

    @functools.cached_property
    def expected(self) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, ...]]:
        """y, a gradient dy for it, and the arrays' gradients."""
        y = self.definition(*self.arrays, **self.options)
        y, indices = y if isinstance(y, tuple) else (y, None)
        dy = np.random.default_rng(1).standard_normal(y.shape)
        if indices is None:
            f = functools.partial(self.definition, **self.options)
            return y, dy, naive.gradients(f, self.arrays, dy)
        return y, dy, (naive.max_pool_dx(dy, indices, self.shapes[0][2:]),)

    @property
    def terms(self) -> int:
        """More than the longest sum in y or a gradient."""
        return max(a.size for a in (*self.arrays, self.expected[0]))


def _conv(id: str, x, w, **options) -> Case:
    return Case(id, f"conv{len(x) - 2}d", naive.conv, (x, w, w[:1]), options)


def _conv_transpose(id: str, x, w, **options) -> Case:
    shapes = (x, w, (w[1] * options.get("groups", 1),))
    return Case(id, f"conv_transpose{len(x) - 2}d", naive.conv_transpose, shapes, options)


def _max_pool(id: str, x, kernel_size, **options) -> Case:
    options = {"kernel_size": kernel_size, **options}
    return Case(id, f"max_pool{len(x) - 2}d", naive.max_pool, (x,), options)


def _avg_pool(id: str, x, kernel_size, **options) -> Case:
    options = {"kernel_size": kernel_size, **options}
    return Case(id, f"avg_pool{len(x) - 2}d", naive.avg_pool, (x,), options)


CONVOLUTIONS = (
    _conv("pointwise", (2, 3, 5, 4), (4, 3, 1, 1)),
    _conv("pointwise, strided", (2, 3, 5, 4), (2, 3, 1, 1), stride=2),
    _conv("same", (2, 2, 6, 5), (3, 2, 3, 3), padding="same"),
    _conv("same_lower, even, strided", (2, 2, 5, 6), (3, 2, 4, 2), stride=2, padding="same_lower"),
    _conv("pairs", (1, 2, 5, 6), (2, 2, 3, 2), stride=(2, 1), padding=((0, 2), (1, 0))),
    _conv("dilated, grouped", (2, 4, 7, 6), (6, 2, 2, 3), dilation=(3, 2), padding=2, groups=2),
    _conv("depthwise", (2, 4, 5, 5), (8, 1, 3, 3), padding=1, stride=2, groups=4),
    _conv("as large as the image", (3, 2, 3, 4), (4, 2, 3, 4)),
    _conv("1-d", (2, 3, 9), (4, 3, 3), stride=2, padding=1),
    _conv("3-d", (1, 2, 4, 5, 3), (2, 2, 2, 3, 2), stride=(1, 2, 1), padding=1),
    _conv_transpose("transposed", (2, 3, 3, 4), (3, 2, 3, 2)),
    _conv_transpose(
        "transposed, all options",
        (1, 4, 3, 4),
        (4, 3, 3, 2),
        stride=(2, 3),
        padding=1,
        output_padding=(1, 2),
        groups=2,
        dilation=(2, 1),
    ),
    _conv_transpose("transposed 1-d", (2, 2, 4), (2, 3, 3), stride=2, padding=1),
    _conv_transpose("transposed 3-d", (1, 2, 2, 3, 2), (2, 2, 2, 2, 2), stride=2),
)

POOLINGS = (
    _max_pool("max", (2, 3, 6, 4), 2),
    _max_pool("max, overlapping, padded", (1, 2, 7, 6), 3, stride=2, padding=1),
    _max_pool("max, ceil", (2, 1, 6, 5), (3, 2), stride=(2, 3), ceil_mode=True),
    _max_pool("max, dilated 1-d", (2, 2, 9), 3, stride=1, dilation=2),
    _max_pool("max 3-d, same", (1, 2, 3, 4, 5), 2, padding="same"),
    _avg_pool("avg", (2, 3, 6, 4), 2),
    _avg_pool("avg, padded", (1, 2, 7, 6), 3, stride=2, padding=1),
    _avg_pool("avg, ceil", (2, 1, 6, 5), 3, stride=2, padding=1, ceil_mode=True),
    _avg_pool("avg, same, padding apart", (1, 2, 5, 4), 3, padding="same", count_include_pad=False),
    _avg_pool("avg 1-d", (2, 2, 9), 4, stride=3, divisor_override=3),
    _avg_pool("avg 3-d", (1, 2, 3, 4, 5), 2, stride=1),
    Case("adaptive max", "adaptive_max_pool2d", naive.adaptive_max_pool, ((2, 2, 5, 7),),
         {"output_size": (3, 4)}),
    Case("adaptive avg", "adaptive_avg_pool2d", naive.adaptive_avg_pool, ((2, 2, 5, 7),),
         {"output_size": (3, 4)}),
    Case("global avg", "global_avg_pool", lambda x: x.mean((2, 3)), ((2, 3, 4, 5),)),
)  # fmt: skip

RESAMPLED = (
    Case("nearest, by size", "interpolate", naive.interpolate, ((2, 3, 4, 5),), {"size": (7, 3)}),
    Case("nearest, by a factor", "interpolate", naive.interpolate, ((2, 3, 5),),
         {"scale_factor": 2.5}),
    Case("bilinear", "interpolate", naive.interpolate, ((2, 3, 4, 5),),
         {"size": (7, 3), "mode": "bilinear"}),
    Case("bilinear, corners", "interpolate", naive.interpolate, ((2, 3, 4, 5),),
         {"scale_factor": (2, 0.5), "mode": "bilinear", "align_corners": True}),
    Case("trilinear", "interpolate", naive.interpolate, ((1, 2, 2, 3, 2),),
         {"scale_factor": 2, "mode": "trilinear"}),
)  # fmt: skip

PRODUCTS = (
    Case("gate", "multiply", np.multiply, ((2, 3, 4, 5), (2, 3, 1, 1))),
    Case("both repeat", "multiply", np.multiply, ((2, 1, 4), (2, 3, 1))),
    Case("linear", "linear", lambda x, w, b: x @ w.T + b, ((3, 4), (2, 4), (2,))),
    Case("linear, more axes", "linear", lambda x, w, b: x @ w.T + b, ((2, 3, 4), (5, 4), (5,))),
    Case(
        "locally connected", "locally_connected2d", naive.locally_connected,
        ((2, 2, 5, 4), (3, 2, 2, 2, 2, 3), (2, 3, 2)), {"stride": 2, "padding": ((1, 0), (0, 1))},
    ),
    Case("unfold", "unfold", naive.unfold, ((2, 2, 5, 4),),
         {"kernel_size": (2, 3), "stride": (2, 1), "padding": 1, "dilation": (2, 1)}),
    Case("fold", "fold", naive.fold, ((2, 12, 12),),
         {"output_size": (5, 4), "kernel_size": (2, 3), "stride": (2, 1), "padding": 1,
          "dilation": (2, 1)}),
    Case("correlate 1-d", "correlate", naive.correlate, ((5,), (3,)), {"mode": "full"}),
    Case("convolve 2-d", "convolve", naive.convolve, ((4, 5), (2, 4)), {"mode": "same"}),
)  # fmt: skip

ALL = CONVOLUTIONS + POOLINGS + RESAMPLED + PRODUCTS
