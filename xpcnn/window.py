"""The geometry of a convolution or pooling: integers only, and every shape error.

Along each axis, output o of kernel place k reads input o*stride - before + k*dilation, where
`before` is the padding on the left. Everything else follows from that one line.

Source: Dumoulin & Visin, "A guide to convolution arithmetic for deep learning", 2016.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ParamSpec

from ._check import (
    AXES,
    Ints,
    Size,
    batch_hint,
    entries,
    is_int,
    kind_of,
    named,
    require_axes,
    require_count,
    sizes,
)  # fmt: skip

Padding = int | str | Sequence[int] | Sequence[Sequence[int]]

Given = ParamSpec("Given")

KEPT_PLACES = 128
"""Windows of kernels up to this size are shared: a larger one's taps would hold too much memory."""


@dataclass(frozen=True)
class Window:
    """A window over `in_size` that yields `out_size`; one entry per spatial axis in each tuple.

    `padding` holds (before, after) pairs. `out_size` stands by itself, because ceil_mode lets the
    last window hang over the padding, and a part of the outputs is a window too.

    >>> pool_window("max_pool2d", 2, (1, 1, 4, 4), 3, 2, 0, 1, ceil_mode=True).out_size
    (2, 2)
    """

    in_size: Ints
    kernel: Ints
    stride: Ints
    dilation: Ints
    padding: tuple[tuple[int, int], ...]
    out_size: Ints
    groups: int = 1

    @property
    def rank(self) -> int:
        """Number of spatial axes."""
        return len(self.in_size)

    @property
    def places(self) -> list[Ints]:
        """All kernel places, in row-major order."""
        return list(itertools.product(*map(range, self.kernel)))

    @functools.cached_property
    def taps(self) -> tuple[tuple[Ints, tuple[slice, ...], tuple[slice, ...]], ...]:
        """(kernel place, outputs, inputs) for every place that meets the input.

        The two tuples of slices pair each output with the input it reads; outputs left out of a
        tap read padding there.
        """
        axes = [[self._tap(axis, k) for k in range(n)] for axis, n in enumerate(self.kernel)]
        found = []
        for place in self.places:
            pairs = [axes[axis][k] for axis, k in enumerate(place)]
            if all(pairs):
                outputs, inputs = zip(*pairs, strict=True)
                found.append((place, outputs, inputs))
        return tuple(found)

    def _tap(self, axis: int, k: int) -> tuple[slice, slice] | None:
        stride, size = self.stride[axis], self.in_size[axis]
        shift = k * self.dilation[axis] - self.padding[axis][0]
        first = max(0, -(shift // stride))
        last = min(self.out_size[axis] - 1, (size - 1 - shift) // stride)
        if first > last:
            return None
        start = first * stride + shift
        return slice(first, last + 1), slice(start, start + (last - first) * stride + 1, stride)

    @property
    def whole(self) -> tuple[slice, ...]:
        """The box of all outputs."""
        return tuple(slice(0, n) for n in self.out_size)

    @functools.cached_property
    def reads_padding(self) -> bool:
        """Whether any output reads outside the input."""
        return len(self.taps) < math.prod(self.kernel) or any(
            outputs != self.whole for _, outputs, _ in self.taps
        )

    def part(self, outputs: Sequence[slice]) -> Window:
        """The window of a box of outputs alone, over the same input."""
        if tuple(outputs) == self.whole:
            return self  # and with it the taps, if they are known
        padding = tuple(
            (before - box.start * stride, after)
            for box, stride, (before, after) in zip(outputs, self.stride, self.padding, strict=True)
        )
        return replace(self, padding=padding, out_size=tuple(b.stop - b.start for b in outputs))

    @functools.cached_property
    def adjoints(self) -> tuple[tuple[tuple[slice, ...], tuple[slice, ...], Window], ...]:
        """The data gradient as convolutions of stride 1, one for each class of inputs mod stride.

        (inputs, kernel places, window): those inputs' gradient is the convolution, by this window,
        of the output's gradient with the kernel's places, the last first. Inputs of a class left
        out are read by no output.
        """
        axes = [self._classes(axis) for axis in range(self.rank)]
        found = []
        for classes in itertools.product(*axes):
            inputs, places, in_size, kernel, dilation, padding, out_size = zip(
                *classes, strict=True
            )
            ones = (1,) * self.rank
            window = Window(in_size, kernel, ones, dilation, padding, out_size, self.groups)
            found.append((inputs, places, window))
        return tuple(found)

    def _classes(self, axis: int) -> Iterator[tuple]:
        stride, dilation, size = self.stride[axis], self.dilation[axis], self.in_size[axis]
        before, outputs = self.padding[axis][0], self.out_size[axis]
        shared = math.gcd(stride, dilation)
        step, apart = stride // shared, dilation // shared
        for first in range(min(stride, size)):
            reached = [
                k for k in range(self.kernel[axis]) if (first + before - k * dilation) % stride == 0
            ]
            if not reached:
                continue
            count, inputs = len(reached), -(-(size - first) // stride)
            shift = (first + before - reached[0] * dilation) // stride
            margin = (count - 1) * apart - shift
            yield (
                slice(first, None, stride), slice(reached[0], None, step), outputs, count, apart,
                (margin, inputs - outputs - margin + (count - 1) * apart), inputs,
            )  # fmt: skip

    @property
    def disjoint(self) -> tuple[tuple[slice, ...], ...]:
        """Boxes that share out the outputs, so that no two windows of a box meet.

        >>> pool_window("max_pool1d", 1, (1, 1, 9), 3, 2, 0, 1).disjoint
        ((slice(0, None, 2),), (slice(1, None, 2),))
        """
        axes = zip(self.out_size, self.span, self.stride, strict=True)
        steps = [min(out, -(-span // stride)) for out, span, stride in axes]
        boxes = ([slice(first, None, step) for first in range(step)] for step in steps)
        return tuple(itertools.product(*boxes))

    @property
    def span(self) -> Ints:
        """Input elements from a window's first place to its last, both counted."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    def counts(self, count_include_pad: bool) -> tuple[Ints, ...]:
        """Per axis, how many places of each output count in an average.

        With `count_include_pad` the padding counts; what hangs over it never does.
        """
        return tuple(
            tuple(self._count(axis, o, count_include_pad) for o in range(self.out_size[axis]))
            for axis in range(self.rank)
        )

    def _count(self, axis: int, o: int, count_include_pad: bool) -> int:
        before, after = self.padding[axis] if count_include_pad else (0, 0)
        size = self.in_size[axis]
        places = (
            o * self.stride[axis] - self.padding[axis][0] + k * self.dilation[axis]
            for k in range(self.kernel[axis])
        )
        return sum(-before <= i < size + after for i in places)


def _shared(make: Callable[Given, Window]) -> Callable[Given, Window]:
    """Decorate a maker of windows: who calls alike shares one window, and what it has found.

    Alike is what is equal and written alike: of 1, True and 1.0, only the first is a size.
    """

    @functools.lru_cache(maxsize=64)
    def kept(_: str, *args: Any, **options: Any) -> Window:
        return make(*args, **options)

    @functools.wraps(make)
    def window_of(*args: Any, **options: Any) -> Window:
        try:
            hash(args)
        except TypeError:  # lists, say: nothing to remember them by
            return make(*args, **options)
        window = kept(repr(args), *args, **options)
        return window if math.prod(window.kernel) <= KEPT_PLACES else replace(window)

    return window_of


@_shared
def conv_window(
    call: str, rank: int, x_shape: Ints, w_shape: Ints, b_shape: Ints | None, stride: Size,
    padding: Padding, dilation: Size, groups: int, exact: bool = False,
) -> Window:  # fmt: skip
    """Window of a convolution of x (N, C, *space) by w (O, C/G, *kernel) and b (O,).

    Raises ValueError where the shapes do not fit, restating the call.

    >>> conv_window("conv2d", 2, (2, 3, 8, 8), (4, 3, 3, 3), None, 2, 1, 1, 1).out_size
    (4, 4)
    """
    x_shape, w_shape = tuple(x_shape), tuple(w_shape)
    _require_arrays(call, rank, x_shape, w_shape, b_shape, groups, ("O", "C/G"))
    return _window(call, x_shape[2:], w_shape[2:], stride, padding, dilation, groups, exact)


@_shared
def conv_transpose_window(
    call: str, rank: int, x_shape: Ints, w_shape: Ints, b_shape: Ints | None, stride: Size,
    padding: Padding, output_padding: Size, groups: int, dilation: Size,
) -> Window:  # fmt: skip
    """Window of the convolution whose data gradient the transposed convolution is.

    x is (N, C, *space) and w (C, O/G, *kernel): `in_size` is the transposed convolution's output
    (i - 1)*stride - before - after + dilation*(k - 1) + output_padding + 1, `out_size` x's space.

    >>> conv_transpose_window(
    ...     "conv_transpose2d", 2, (1, 4, 4, 4), (4, 3, 3, 3), None, 2, 1, 1, 1, 1
    ... ).in_size
    (8, 8)
    """
    x_shape, w_shape = tuple(x_shape), tuple(w_shape)
    _require_arrays(call, rank, x_shape, w_shape, b_shape, groups, ("C", "O/G"))
    kernel, stride = w_shape[2:], sizes(call, "stride", stride, rank)
    dilation = sizes(call, "dilation", dilation, rank)
    extra = sizes(call, "output_padding", output_padding, rank, least=0)
    pairs = _pairs(call, padding, x_shape[2:], kernel, stride, dilation, named=False)
    for e, s, d in zip(extra, stride, dilation, strict=True):
        if e >= max(s, d):
            raise ValueError(
                f"{call}: output_padding={output_padding} must be smaller than stride={stride} "
                f"or dilation={dilation}"
            )
    in_size = tuple(
        (i - 1) * s - before - after + d * (k - 1) + e + 1
        for i, s, (before, after), d, k, e in zip(
            x_shape[2:], stride, pairs, dilation, kernel, extra, strict=True
        )
    )
    if min(in_size) < 1:
        raise ValueError(
            f"{call}: the output would be {_by(in_size)}, from x {x_shape} with kernel "
            f"{_by(kernel)}, stride {_by(stride)} and padding {pairs}; reduce the padding"
        )
    return Window(in_size, kernel, stride, dilation, pairs, x_shape[2:], groups)


@_shared
def pool_window(
    call: str, rank: int, x_shape: Ints, kernel_size: Size, stride: Size | None, padding: Padding,
    dilation: Size, *, ceil_mode: bool = False, exact: bool = False, covered: bool = False,
) -> Window:  # fmt: skip
    """Window of a pooling over x (N, C, *space); stride None means kernel_size.

    `covered` demands that every window meets the input.

    >>> pool_window("avg_pool1d", 1, (1, 1, 5), 2, None, 0, 1).out_size
    (2,)
    """
    require_axes(call, "x", x_shape, ("N", "C", *AXES[rank]))
    kernel = sizes(call, "kernel_size", kernel_size, rank)
    stride = kernel if stride is None else stride
    in_size = tuple(x_shape[2:])
    return _window(call, in_size, kernel, stride, padding, dilation, 1, exact, ceil_mode, covered)


@_shared
def fold_window(
    call: str, x_shape: Ints, output_size: Size, kernel_size: Size, stride: Size,
    padding: Padding, dilation: Size,
) -> Window:  # fmt: skip
    """Window by which columns x (N, C*K, L) came from an image (N, C, *output_size).

    >>> fold_window("fold", (1, 4, 9), 4, 2, 1, 0, 1).out_size
    (3, 3)
    """
    kernel = sizes(call, "kernel_size", kernel_size, 2)
    size = sizes(call, "output_size", output_size, 2)
    window = _window(call, size, kernel, stride, padding, dilation)
    k, length = math.prod(kernel), math.prod(window.out_size)
    if len(x_shape) != 3 or x_shape[1] % k or x_shape[1] == 0 or x_shape[2] != length:
        raise ValueError(
            f"{call}: columns of {_by(kernel)} windows over {_by(size)} must be (N, C*{k}, "
            f"{length}); x is {tuple(x_shape)}{batch_hint(x_shape, 3)}"
        )
    return window


def spatial_shape(call: str, x_shape: Ints, output_size: Size) -> tuple[Ints, Ints]:
    """Space of images x (N, C, H, W), and `output_size` as (OH, OW), both without zeros.

    >>> spatial_shape("adaptive_avg_pool2d", (1, 3, 9, 9), 4)
    ((9, 9), (4, 4))
    """
    require_axes(call, "x", x_shape, "NCHW")
    return tuple(x_shape[2:]), sizes(call, "output_size", output_size, 2)


def _window(
    call, in_size, kernel, stride, padding, dilation, groups=1, exact=False, ceil_mode=False,
    covered=False,
):  # fmt: skip
    rank = len(in_size)
    stride = sizes(call, "stride", stride, rank)
    dilation = sizes(call, "dilation", dilation, rank)
    pairs = _pairs(call, padding, in_size, kernel, stride, dilation)
    names = AXES[rank]
    axes = zip(names, in_size, kernel, stride, dilation, pairs, strict=True)
    out_size = tuple(_out_size(call, *axis, exact, ceil_mode) for axis in axes)
    window = Window(in_size, kernel, stride, dilation, pairs, out_size, groups)
    if covered:
        for axis, counts in enumerate(window.counts(False)):
            if 0 in counts:
                raise ValueError(
                    f"{call}: along {names[axis]} window {counts.index(0)} lies wholly in the "
                    f"padding {pairs[axis]} of {in_size[axis]} elements; reduce the padding"
                )
    return window


def _out_size(call, name, i, k, s, d, pair, exact, ceil_mode):
    """floor((i + p - d(k-1) - 1)/s) + 1, or its ceiling without windows that start beyond i."""
    span = d * (k - 1) + 1
    room = i + sum(pair) - span
    if room < 0:
        raise ValueError(
            f"{call}: along {name} a kernel of {k} (dilation {d}, so spanning {span}) does not fit "
            f"{i} elements padded by {pair}; it needs at least {span}"
        )
    rest = room % s
    if exact and rest:
        fitting = " or ".join(str(n) for n in (i - rest, i - rest + s) if n > 0)
        raise ValueError(
            f"{call}: exact=True, but along {name} {i} elements padded by {pair} leave "
            f"a rest of {rest} at kernel {k}, stride {s}; {fitting} would fit"
        )
    out = room // s + 1
    if ceil_mode and rest and out * s < i + pair[0]:
        out += 1
    return out


def _pairs(call, padding, in_size, kernel, stride, dilation, named=True):
    """Padding as one (before, after) pair per axis."""
    names = ("valid", "same", "same_lower") if named else ("valid",)
    rank = len(in_size)
    if isinstance(padding, str) and padding in names:
        if padding == "valid":
            return ((0, 0),) * rank
        totals = (
            max(0, (-(-i // s) - 1) * s + d * (k - 1) + 1 - i)
            for i, k, s, d in zip(in_size, kernel, stride, dilation, strict=True)
        )
        pairs = ((t // 2, t - t // 2) for t in totals)
        return tuple(pairs if padding == "same" else (pair[::-1] for pair in pairs))
    pairs = [entries(p, 2) for p in entries(padding, rank)]
    numbers = [n for pair in pairs for n in pair]
    if [len(pair) for pair in pairs] == [2] * rank and all(is_int(n) and n >= 0 for n in numbers):
        return tuple((int(before), int(after)) for before, after in pairs)
    raise (ValueError if isinstance(padding, str) else kind_of(numbers))(
        f"{call}: padding={padding!r}; give {', '.join(map(repr, names))}, a non-negative int, one "
        f"per axis ({', '.join(AXES[rank])}), or a (before, after) pair per axis"
    )


def _require_arrays(call, rank, x_shape, w_shape, b_shape, groups, names) -> None:
    """Check x (N, C, *space), w and b; `names` are those of w's first two axes."""
    x_axes = ("N", "C", *AXES[rank])
    w_axes = (*names, *(f"K{name}" for name in AXES[rank]))
    require_axes(call, "x", x_shape, x_axes)
    require_axes(call, "w", w_shape, w_axes)
    require_count(call, "groups", groups)
    if w_shape[0] % groups:
        raise ValueError(
            f"{call}: groups={groups} must divide {names[0]}; w is {named(w_axes, w_shape)}"
        )
    channels = w_shape[0], w_shape[1] * groups
    out_channels, in_channels = channels if names[0] == "O" else channels[::-1]
    if x_shape[1] != in_channels:
        raise ValueError(
            f"{call}: w {named(w_axes, w_shape)} needs x with {in_channels} channels at "
            f"groups={groups}; x is {named(x_axes, x_shape)}"
        )
    if b_shape is not None and tuple(b_shape) != (out_channels,):
        raise ValueError(f"{call}: b must be (O={out_channels},); b is {tuple(b_shape)}")


def _by(ints: Ints) -> str:
    return "x".join(map(str, ints))
