"""What networks are built of: a convolution and what follows it."""

from __future__ import annotations

from ..layers import BatchNorm, Conv2d, Layer, ReLU, Sequential


def conv_act(out_channels: int, kernel_size: int, **options) -> Sequential:
    """A convolution of `options`, and a ReLU."""
    return Sequential(Conv2d(out_channels, kernel_size, **options), ReLU(), names=("conv", "relu"))


def conv_norm_act(
    out_channels: int, kernel_size: int, *, eps: float = 1e-5, act: Layer | None = None, **options
) -> Sequential:
    """A convolution of `options` without a bias, batch normalisation, and a ReLU unless another."""
    conv = Conv2d(out_channels, kernel_size, bias=False, **options)
    return Sequential(conv, BatchNorm(eps), act or ReLU(), names=("conv", "bn", "relu"))
