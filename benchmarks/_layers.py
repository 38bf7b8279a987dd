"""Pooling, batch normalisation, ReLU and linear layers, at sizes of well-known networks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from _rows import Case, Draw, Row
from torch.nn import functional

import xpcnn
from xpcnn import ops

ATEN = torch.ops.aten


@dataclass(frozen=True)
class Layer(Row):
    """A layer without options of its own here: `build` makes its cases from x and dy, paired."""

    name: str
    families: tuple[str, ...]
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    build: Callable[..., Iterator[Case]]
    taps: int = 1
    quick: bool = False

    def cases(self, batch: int, tasks: Collection[str], draw: Draw) -> Iterator[Case]:
        """All its tasks."""
        make = draw.images if len(self.in_shape) == 3 else draw.array
        x, their_x = make(batch, *self.in_shape)
        make = draw.images if len(self.out_shape) == 3 else draw.array
        dy, their_dy = make(batch, *self.out_shape)
        yield from self.build(x, their_x, dy, their_dy, draw)


def max_pool(
    channels: int, size: int, kernel: int, stride: int, padding: int = 0, quick: bool = False
) -> Layer:
    """Maxima alone; then maxima with their places, and the gradient ("training")."""
    window = kernel, stride, padding
    pairs = [[n, n] for n in window]

    def cases(x, their_x, dy, their_dy, draw):
        def ours():
            y, pull = xpcnn.vjp(ops.max_pool2d, x, *window)
            return y, *pull(dy)

        def theirs():
            y, places = ATEN.max_pool2d_with_indices(their_x, *pairs)
            back = ATEN.max_pool2d_with_indices_backward
            return y, back(their_dy, their_x, *pairs, [1, 1], False, places)

        yield Case(
            "forward",
            lambda: ops.max_pool2d(x, *window),
            lambda: functional.max_pool2d(their_x, *window),
        )
        yield Case("training", ours, theirs)

    return _pool("max pool", cases, channels, size, *window, quick)


def avg_pool(
    channels: int, size: int, kernel: int, stride: int, padding: int = 0, quick: bool = False
) -> Layer:
    """Averages, padding counted."""
    window = kernel, stride, padding
    pairs = [[n, n] for n in window]

    def cases(x, their_x, dy, their_dy, draw):
        _, pull = xpcnn.vjp(ops.avg_pool2d, x, *window)
        back = ATEN.avg_pool2d_backward
        yield Case(
            "forward",
            lambda: ops.avg_pool2d(x, *window),
            lambda: functional.avg_pool2d(their_x, *window),
        )
        yield Case(
            "gradients",
            lambda: pull(dy),
            lambda: back(their_dy, their_x, *pairs, False, True, None),
        )

    return _pool("average pool", cases, channels, size, *window, quick)


def _pool(
    kind: str, build: Callable, channels: int, size: int, kernel: int, stride: int, padding: int,
    quick: bool,
) -> Layer:  # fmt: skip
    out = (size + 2 * padding - kernel) // stride + 1
    name = f"{kind} {kernel}x{kernel}/{stride} {channels} @{size}"
    shapes = (channels, size, size), (channels, out, out)
    return Layer(name, (f"{kind}ing",), *shapes, build, kernel**2, quick)


def global_avg_pool(channels: int, size: int, quick: bool = False) -> Layer:
    """The mean of each channel."""

    def cases(x, their_x, dy, their_dy, draw):
        _, pull = xpcnn.vjp(ops.global_avg_pool, x)
        yield Case("forward", lambda: ops.global_avg_pool(x), lambda: their_x.mean((2, 3)))
        yield Case(
            "gradients",
            lambda: pull(dy),
            lambda: their_dy[:, :, None, None].expand(their_x.shape) / size**2,
        )

    name = f"global average pool {channels} @{size}"
    return Layer(
        name, ("global average pooling",), (channels, size, size), (channels,), cases, quick=quick
    )


def batch_norm(channels: int, size: int, quick: bool = False) -> Layer:
    """By the batch's statistics, and in inference by running ones."""

    def cases(x, their_x, dy, their_dy, draw):
        (mean, their_mean), (w, their_w), (b, their_b) = (draw.array(channels) for _ in range(3))
        var, their_var = abs(w), abs(their_w)
        _, pull = xpcnn.vjp(ops.batch_norm_train, x, w, b)

        def their_forward() -> Any:  # by whichever implementation PyTorch takes on the device
            return ATEN._batch_norm_impl_index(
                their_x, their_w, their_b, None, None, True, 0.1, 1e-5, True
            )

        _, *saved, reserved, chosen = their_forward()

        def their_gradients() -> Any:
            statistics = None, None, *saved, True, 1e-5, [True, True, True], reserved
            back = ATEN._batch_norm_impl_index_backward
            return back(chosen, their_x, their_dy, their_w, *statistics)

        yield Case(
            "forward",
            lambda: xpcnn.vjp(ops.batch_norm_train, x, w, b)[0][0],
            lambda: their_forward()[0],
        )
        yield Case("gradients", lambda: pull(dy), their_gradients)
        yield Case(
            "inference",
            lambda: ops.batch_norm(x, mean, var, w, b),
            lambda: functional.batch_norm(their_x, their_mean, their_var, their_w, their_b),
        )

    return _same("BatchNorm", cases, channels, size, quick)


def relu(channels: int, size: int, quick: bool = False) -> Layer:
    """Out of place, as in PyTorch's functional.relu."""

    def cases(x, their_x, dy, their_dy, draw):
        _, pull = xpcnn.vjp(ops.relu, x)
        their_y = functional.relu(their_x)
        yield Case("forward", lambda: ops.relu(x), lambda: functional.relu(their_x))
        yield Case(
            "gradients", lambda: pull(dy), lambda: ATEN.threshold_backward(their_dy, their_y, 0)
        )

    return _same("ReLU", cases, channels, size, quick)


def _same(kind: str, build: Callable, channels: int, size: int, quick: bool) -> Layer:
    shape = (channels, size, size)
    return Layer(f"{kind} {channels} @{size}", (kind,), shape, shape, build, quick=quick)


def linear(features: int, out_features: int, quick: bool = False) -> Layer:
    """With a bias; gradients by the three products that PyTorch's autograd takes."""

    def cases(x, their_x, dy, their_dy, draw):
        w, their_w = draw.array(out_features, features, scale=features**-0.5)
        b, their_b = draw.array(out_features)
        _, pull = xpcnn.vjp(ops.linear, x, w, b)
        yield Case(
            "forward",
            lambda: ops.linear(x, w, b),
            lambda: functional.linear(their_x, their_w, their_b),
        )
        yield Case(
            "gradients",
            lambda: pull(dy),
            lambda: (their_dy @ their_w, their_dy.T @ their_x, their_dy.sum(0)),
        )

    name = f"linear {features}->{out_features}"
    return Layer(name, ("linear",), (features,), (out_features,), cases, features, quick)


LAYERS = [
    max_pool(64, 224, 2, 2),
    max_pool(128, 112, 2, 2, quick=True),
    max_pool(256, 56, 2, 2),
    max_pool(512, 28, 2, 2),
    max_pool(64, 112, 3, 2, 1, quick=True),
    max_pool(256, 28, 3, 1, 1),
    avg_pool(6, 28, 2, 2),
    avg_pool(128, 56, 2, 2, quick=True),
    avg_pool(256, 28, 3, 1, 1),
    global_avg_pool(512, 7),
    global_avg_pool(2048, 7, quick=True),
    batch_norm(64, 112),
    batch_norm(64, 56, quick=True),
    batch_norm(256, 14),
    batch_norm(512, 7),
    relu(64, 112),
    relu(64, 56, quick=True),
    relu(256, 14),
    linear(512, 1000),
    linear(3136, 512, quick=True),
    linear(4096, 4096),
]
"""Every row: the sizes are VGG-16's, ResNet's, GoogLeNet's, LeNet-5's and our convnet's."""
