"""PyTorch's own primitives, on any device, wherever they mean exactly what the verbs mean.

Declined are maxima of integers, pools whose padding PyTorch does not take (over half a kernel, or
another on the right than its ceil_mode gives), indices into volumes (wrong for a window of -inf),
averages and columns of anything but images, statistics of channels that are last in memory (which
PyTorch adds one by one, losing two digits) and whatever autograd would not find its way through.
PyTorch's settings hold: where they allow TF32, a GPU's float32 convolutions take it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch.nn import functional as F

from .._xp import Array, product
from ..window import Ints, Window
from . import Bounds, Divisor, generic

_convolution_backward = torch.ops.aten.convolution_backward.default
_avg_pool2d_backward = torch.ops.aten.avg_pool2d_backward.default
_hardtanh_backward = torch.ops.aten.hardtanh_backward.default
_leaky_relu_backward = torch.ops.aten.leaky_relu_backward.default
_batch_norm_backward = torch.ops.aten.native_batch_norm_backward.default


def conv(x: Array, w: Array, window: Window, b: Array | None = None) -> Array:
    pads, _, options = _convolution(window)
    return torch.convolution(_extend(x, pads), w, b, *options)


def conv_dx(dy: Array, w: Array, window: Window) -> Array:
    pads, size, options = _convolution(window)
    x = _empty(dy, w.shape[1] * window.groups, size)
    wanted = [True, False, False]
    dx, _, _ = _convolution_backward(dy, x, w, None, *options, wanted)
    return _extend(dx, [-n for n in pads])


def conv_dw(x: Array, dy: Array, window: Window) -> Array:
    pads, _, options = _convolution(window)
    w = x.new_empty(dy.shape[1], x.shape[1] // window.groups, *window.kernel)
    wanted = [False, True, False]
    _, dw, _ = _convolution_backward(dy, _extend(x, pads), w, None, *options, wanted)
    return dw


def max_pool(x: Array, window: Window, indices: bool = False) -> tuple[Array, Array | None]:
    options = _pooling(window)
    if options is None or not x.is_floating_point() or (indices and window.rank == 3):
        return NotImplemented
    if not indices:
        return getattr(torch, f"max_pool{window.rank}d")(x, *options), None
    pool = getattr(F, f"max_pool{window.rank}d_with_indices")
    y, index = pool(x, *options)
    # PyTorch finds the last NaN of a window. To ask a GPU whether there is one is to wait for it.
    if y.device.type != "cpu" or y.detach().sum().isnan():
        _, first = pool(x.isnan().to(x.dtype), *options)
        index = torch.where(y.isnan(), first, index)
    return y, index


def max_pool_dx(dy: Array, indices: Array, window: Window) -> Array:
    dx = dy.new_zeros(*dy.shape[:2], product(window.in_size))
    # A GPU adds in any order, so no two outputs of one call may go to one place there.
    for part in [()] if dy.device.type == "cpu" else window.disjoint:
        dx.scatter_add_(2, indices[..., *part].flatten(2), dy[..., *part].flatten(2))
    return dx.reshape(*dy.shape[:2], *window.in_size)


def avg_pool(x: Array, window: Window, divisor: Divisor) -> Array:
    options = _averaging(window, divisor)
    if options is None:
        return NotImplemented
    y = F.avg_pool2d(x, *options)
    return y if isinstance(divisor, int) else y / generic.as_divisor(y, divisor)


def avg_pool_dx(dy: Array, window: Window, divisor: Divisor) -> Array:
    options = _averaging(window, divisor)
    if options is None:
        return NotImplemented
    dy = dy if isinstance(divisor, int) else dy / generic.as_divisor(dy, divisor)
    return _avg_pool2d_backward(dy, _empty(dy, dy.shape[1], window.in_size), *options)


def im2col(x: Array, window: Window) -> Array:
    if window.rank != 2:
        return NotImplemented
    pads, _, (stride, padding, dilation, *_) = _convolution(window)
    return F.unfold(_extend(x, pads), window.kernel, dilation, padding, stride)


def col2im(cols: Array, window: Window) -> Array:
    if window.rank != 2:
        return NotImplemented
    pads, size, (stride, padding, dilation, *_) = _convolution(window)
    x = F.fold(cols, size, window.kernel, dilation, padding, stride)
    return _extend(x, [-n for n in pads])


def clip(x: Array, low: float, high: float | None) -> Array:
    if low != 0.0:
        return NotImplemented
    return x.relu() if high is None else F.hardtanh(x, low, high)  # with autograd's 0 at the ends


def clip_dx(dy: Array, y: Array, low: float, high: float | None) -> Array:
    if low != 0.0:
        return NotImplemented
    dy = dy if high is None else _hardtanh_backward(dy, y, low, high)
    return _leaky_relu_backward(dy, y, 0.0, False)  # a relu's own would pass dy where y is NaN


def channel_sums(x: Array) -> Array:
    return x.sum((0, *range(2, x.ndim)))


def batch_norm(
    x: Array, mean: Array, var: Array, weight: Array | None, bias: Array | None, eps: float,
    bounds: Bounds | None = None,
) -> Array:  # fmt: skip
    if mean.requires_grad or var.requires_grad or not _clips(bounds):
        return NotImplemented
    y = torch.batch_norm(x, weight, bias, mean, var, False, 0.0, eps, False)
    return y if bounds is None else clip(y, *bounds)


def batch_norm_train(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    eps: float,
    bounds: Bounds | None = None,
) -> tuple[Array, Array, Array]:
    if not _sums_well(x) or not _clips(bounds):
        return NotImplemented
    mean, var = torch.batch_norm_update_stats(x, None, None, 0.0)
    return batch_norm(x, mean, var, weight, bias, eps, bounds), mean, var


def batch_norm_train_dx(
    dy: Array, x: Array, mean: Array, var: Array, weight: Array | None, bias: Array | None,
    eps: float, bounds: Bounds | None = None,
) -> tuple[Array, Array, Array]:  # fmt: skip
    if not _sums_well(x) or not _clips(bounds):
        return NotImplemented
    if bounds is not None:
        y = batch_norm(x, mean, var, weight, bias, eps, None)
        dy = clip_dx(dy, y, *bounds)
    inverse, wanted = (var + eps).rsqrt(), [True, True, True]
    return _batch_norm_backward(dy, x, weight, None, None, mean, inverse, True, eps, wanted)


def _clips(bounds: Bounds | None) -> bool:
    """Whether `clip` takes the bounds."""
    return bounds is None or bounds[0] == 0.0


def _sums_well(x: Array) -> bool:
    """Whether PyTorch's statistics of x keep their digits, and no autograd wants a way back."""
    return x.is_contiguous() and x.stride(1) > 1 and not x.requires_grad


@lru_cache
def _convolution(window: Window) -> tuple[Ints, Ints, tuple[Any, ...]]:
    """What to pad first, as `_extend` takes it, the size that gives, what follows (x, w, b)."""
    margins, zeros = generic.margins(window), (0,) * window.rank
    pads: Ints = ()
    size, padding = window.in_size, tuple(before for before, _ in margins)
    if min(padding) < 0 or not _floors(window):
        pads = tuple(n for pair in reversed(margins) for n in pair)
        size = tuple(n + sum(pair) for n, pair in zip(size, margins, strict=True))
        padding = zeros
    return pads, size, (window.stride, padding, window.dilation, False, zeros, window.groups)


@lru_cache
def _pooling(window: Window) -> tuple[Any, ...] | None:
    """What follows x in PyTorch's maximum: kernel, stride, padding, dilation and ceil_mode."""
    padding, floors = tuple(before for before, _ in window.padding), _floors(window)
    axes = zip(generic.margins(window), window.span, window.stride, strict=True)
    ceils = all(before <= after < min(before + s, span) for (before, after), span, s in axes)
    fits = all(0 <= 2 * p <= k for p, k in zip(padding, window.kernel, strict=True))
    if not fits or not (floors or ceils):
        return None
    return window.kernel, window.stride, padding, window.dilation, not floors


def _floors(window: Window) -> bool:
    """Whether padding the right like the left leaves over less than a stride, which floor drops."""
    axes = zip(generic.margins(window), window.stride, strict=True)
    return all(0 <= before - after < stride for (before, after), stride in axes)


def _averaging(window: Window, divisor: Divisor) -> tuple[Any, ...] | None:
    """The same for its average, which it divides by `divisor` where that is one number."""
    options = _pooling(window)
    if options is None or window.rank != 2 or max(window.dilation) > 1:
        return None
    kernel, stride, padding, _, ceil_mode = options
    return kernel, stride, padding, ceil_mode, True, divisor if isinstance(divisor, int) else 1


def _extend(x: Array, pads: Sequence[int]) -> Array:
    """Pad by zeros, the last axis first; what is negative crops, after what is padded."""
    if not pads:
        return x
    x = F.pad(x, [max(0, n) for n in pads])
    return F.pad(x, [min(0, n) for n in pads]) if min(pads) < 0 else x


def _empty(like: Array, channels: int, size: Ints) -> Array:
    """The shape (N, channels, *size) to a gradient: channels last in memory as `like` has them."""
    if like.stride(1) == 1 and not like.is_contiguous():
        return like.new_empty(like.shape[0], *size, channels).movedim(-1, 1)
    return like.new_empty(like.shape[0], channels, *size)
