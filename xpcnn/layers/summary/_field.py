"""What an output sees of the input, along each axis of space.

A layer whose outputs read `span` neighbours, `step` apart from output to output, makes of fields of
some size and stride those of size + (span - 1) * stride and stride * step.

Source: Araujo, Norris & Sim, "Computing receptive fields of convolutional neural networks", 2019.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Any, NamedTuple

from ..._check import entries
from ..base import Layer, Shape
from ..linear import Linear
from ..resize import Upsample
from ..shape import Pad


class Field(NamedTuple):
    """How many places of the input an output sees along an axis, and how far the next one's lie."""

    size: Fraction
    stride: Fraction


Fields = tuple[Field, ...] | None
"""One for each axis of space; None where an output sees all."""


def fields_of_input(in_shape: Shape) -> Fields:
    """Each place of the input (C, *space) sees itself."""
    return (Field(Fraction(1), Fraction(1)),) * (len(in_shape) - 1)


def fields_after(layer: Layer | None, fields: Fields, in_shape: Shape, out_shape: Shape) -> Fields:
    """The fields of what `layer` makes of (C, *space); None stands for a layer that is not known.

    Statistics of a normalisation are not taken for seeing: nobody does.
    """
    if not fields:
        return fields
    if len(out_shape) != len(in_shape) or isinstance(layer, Linear):
        return None
    sizes = zip(in_shape[1:], out_shape[1:], strict=True)
    windows = (_window(layer, axis, *pair) for axis, pair in enumerate(sizes))
    return tuple(
        Field(size + (span - 1) * stride, stride * step)
        for (size, stride), (span, step) in zip(fields, windows, strict=True)
    )


def merged(several: Iterable[Fields]) -> Fields:
    """The fields of what is made of several arrays: the largest, as fine as the finest."""
    fields: list[Any] = list(several)
    if None in fields:
        return None
    return tuple(
        Field(max(one.size for one in axis), min(one.stride for one in axis))
        for axis in zip(*fields, strict=False)  # a gradient's have no axes
    )


def _window(layer: Layer | None, axis: int, n: int, outputs: int) -> tuple[int, Fraction]:
    """How many neighbours each of the outputs over n places reads, and how far apart."""
    if hasattr(layer, "kernel_size"):
        return _kernel(layer, axis, n < outputs)
    if n == outputs or isinstance(layer, Pad):
        return 1, Fraction(1)
    if isinstance(layer, Upsample):
        return 1 if layer.mode == "nearest" else 2, Fraction(n, outputs)
    starts = (i * n // outputs for i in range(outputs))
    ends = (-(-(i + 1) * n // outputs) for i in range(outputs))
    return max(end - start for start, end in zip(starts, ends, strict=True)), Fraction(n, outputs)


def _kernel(layer: Any, axis: int, enlarges: bool) -> tuple[int, Fraction]:
    """The same of a layer with a kernel; one that enlarges sees its window from the other side."""
    kernel, stride = layer.kernel_size, layer.stride
    stride = kernel if stride is None else stride
    k, s, d = (entries(n, axis + 1)[axis] for n in (kernel, stride, getattr(layer, "dilation", 1)))
    span = d * (k - 1) + 1
    return (-(-span // s), Fraction(1, s)) if enlarges else (span, Fraction(s))
