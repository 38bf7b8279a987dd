"""The geometry of a convolution or pooling: integers only, and every shape error.

Along each axis, output o of kernel place k reads input o*stride - before + k*dilation, where
`before` is the padding on the left. Everything else follows from that one line.

Source: Dumoulin & Visin, "A guide to convolution arithmetic for deep learning", 2016.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

Ints = tuple[int, ...]
Size = int | Sequence[int]
Padding = int | str | Sequence[int] | Sequence[Sequence[int]]

_SPACE = {1: ("W",), 2: ("H", "W"), 3: ("D", "H", "W")}


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
    def reads_padding(self) -> bool:
        """Whether any output reads outside the input."""
        whole = tuple(slice(0, n) for n in self.out_size)
        return len(self.taps) < len(self.places) or any(out != whole for _, out, _ in self.taps)

    def part(self, outputs: Sequence[slice]) -> Window:
        """The window of a box of outputs alone, over the same input."""
        padding = tuple(
            (before - box.start * stride, after)
            for box, stride, (before, after) in zip(
                outputs, self.stride, self.padding, strict=True
            )
        )
        out_size = tuple(box.stop - box.start for box in outputs)
        return Window(
            self.in_size, self.kernel, self.stride, self.dilation, padding, out_size, self.groups
        )

    def adjoint(self) -> Window:
        """The window by which a stride-1 convolution's data gradient is a convolution.

        It reads the output's gradient with the kernel rotated by 180 degrees.
        """
        padding = tuple(
            (span - 1 - before, span - 1 - after)
            for span, (before, after) in zip(self.span, self.padding, strict=True)
        )
        return Window(
            self.out_size, self.kernel, self.stride, self.dilation, padding, self.in_size,
            self.groups,
        )  # fmt: skip

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


def conv_window(
    call: str,
    rank: int,
    x_shape: Ints,
    w_shape: Ints,
    b_shape: Ints | None,
    stride: Size,
    padding: Padding,
    dilation: Size,
    groups: int,
    exact: bool = False,
) -> Window:
    """Window of a convolution of x (N, C, *space) by w (O, C/G, *kernel) and b (O,).

    Raises ValueError where the shapes do not fit, restating the call.

    >>> conv_window("conv2d", 2, (2, 3, 8, 8), (4, 3, 3, 3), None, 2, 1, 1, 1).out_size
    (4, 4)
    """
    _require_batched(call, x_shape, rank)
    x_shape, w_shape = tuple(x_shape), tuple(w_shape)
    if len(w_shape) != rank + 2:
        raise ValueError(f"{call}: w must be {_layout('O', 'C/G', rank, 'K')}; w is {w_shape}")
    _require_groups(call, groups)
    out_channels, per_group = w_shape[:2]
    if x_shape[1] != per_group * groups or out_channels % groups:
        raise ValueError(
            f"{call}: w {_named(w_shape, rank, kernel=True)} needs x with {per_group * groups} "
            f"channels at groups={groups}"
            + (f" and O divisible by {groups}" if out_channels % groups else "")
            + f"; x is {_named(x_shape, rank)}"
        )
    _require_bias(call, b_shape, out_channels)
    return _window(call, x_shape[2:], w_shape[2:], stride, padding, dilation, groups, exact=exact)


def conv_transpose_window(
    call: str,
    rank: int,
    x_shape: Ints,
    w_shape: Ints,
    b_shape: Ints | None,
    stride: Size,
    padding: Padding,
    output_padding: Size,
    groups: int,
    dilation: Size,
) -> Window:
    """Window of the convolution whose data gradient the transposed convolution is.

    x is (N, C, *space) and w (C, O/G, *kernel): `in_size` is the transposed convolution's output
    (i - 1)*stride - before - after + dilation*(k - 1) + output_padding + 1, `out_size` x's space.

    >>> conv_transpose_window(
    ...     "conv_transpose2d", 2, (1, 4, 4, 4), (4, 3, 3, 3), None, 2, 1, 1, 1, 1
    ... ).in_size
    (8, 8)
    """
    _require_batched(call, x_shape, rank)
    x_shape, w_shape = tuple(x_shape), tuple(w_shape)
    if len(w_shape) != rank + 2:
        raise ValueError(f"{call}: w must be {_layout('C', 'O/G', rank, 'K')}; w is {w_shape}")
    _require_groups(call, groups)
    if x_shape[1] != w_shape[0] or x_shape[1] % groups:
        raise ValueError(
            f"{call}: w (C={w_shape[0]}, O/G={w_shape[1]}, ...) needs x with {w_shape[0]} channels, "
            f"divisible by groups={groups}; x is {_named(x_shape, rank)}"
        )
    _require_bias(call, b_shape, w_shape[1] * groups)
    kernel, stride = w_shape[2:], _sizes(call, "stride", stride, rank)
    dilation = _sizes(call, "dilation", dilation, rank)
    extra = _sizes(call, "output_padding", output_padding, rank, least=0)
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
    if min(in_size) < 1 or 0 in kernel or 0 in x_shape[2:]:
        raise ValueError(
            f"{call}: the output would be {_by(in_size)}; x is {_named(x_shape, rank)}, kernel "
            f"{_by(kernel)}, stride {_by(stride)}, padding {pairs}: reduce the padding"
        )
    return Window(in_size, kernel, stride, dilation, pairs, x_shape[2:], groups)


def pool_window(
    call: str,
    rank: int,
    x_shape: Ints,
    kernel_size: Size,
    stride: Size | None,
    padding: Padding,
    dilation: Size,
    *,
    ceil_mode: bool = False,
    exact: bool = False,
    covered: bool = False,
) -> Window:
    """Window of a pooling over x (N, C, *space); stride None means kernel_size.

    `covered` demands that every window meets the input.

    >>> pool_window("avg_pool1d", 1, (1, 1, 5), 2, None, 0, 1).out_size
    (2,)
    """
    _require_batched(call, x_shape, rank)
    x_shape = tuple(x_shape)
    kernel = _sizes(call, "kernel_size", kernel_size, rank)
    stride = kernel if stride is None else stride
    window = _window(
        call, x_shape[2:], kernel, stride, padding, dilation, 1, exact=exact, ceil_mode=ceil_mode
    )
    if covered:
        for name, counts in zip(_SPACE[rank], window.counts(False), strict=True):
            if 0 in counts:
                raise ValueError(
                    f"{call}: along {name} window {counts.index(0)} lies wholly in the padding "
                    f"{window.padding}; x is {_named(x_shape, rank)}: reduce the padding"
                )
    return window


def fold_window(
    call: str, cols_shape: Ints, output_size: Size, kernel_size: Size, stride: Size,
    padding: Padding, dilation: Size,
) -> Window:  # fmt: skip
    """Window by which columns (N, C*K, L) came from an image (N, C, *output_size).

    >>> fold_window("fold", (1, 4, 9), 4, 2, 1, 0, 1).out_size
    (3, 3)
    """
    rank, cols_shape = 2, tuple(cols_shape)
    kernel = _sizes(call, "kernel_size", kernel_size, rank)
    size = _sizes(call, "output_size", output_size, rank)
    window = _window(call, size, kernel, stride, padding, dilation, 1)
    k, length = _product(kernel), _product(window.out_size)
    if len(cols_shape) != 3 or cols_shape[1] % k or cols_shape[2] != length:
        raise ValueError(
            f"{call}: columns of {_by(kernel)} windows over {_by(size)} must be (N, C*{k}, {length}); "
            f"they are {cols_shape}"
        )
    return window


def spatial_shape(call: str, x_shape: Ints, output_size: Size) -> tuple[Ints, Ints]:
    """Space of images x (N, C, H, W), and `output_size` as (OH, OW), both without zeros.

    >>> spatial_shape("adaptive_avg_pool2d", (1, 3, 9, 9), 4)
    ((9, 9), (4, 4))
    """
    _require_batched(call, x_shape, 2)
    if 0 in x_shape[2:]:
        raise ValueError(f"{call}: x {_named(x_shape, 2)} has an empty plane; give it pixels")
    return tuple(x_shape[2:]), _sizes(call, "output_size", output_size, 2)


def _window(call, in_size, kernel, stride, padding, dilation, groups, *, exact=False, ceil_mode=False):
    rank = len(in_size)
    stride = _sizes(call, "stride", stride, rank)
    dilation = _sizes(call, "dilation", dilation, rank)
    pairs = _pairs(call, padding, in_size, kernel, stride, dilation)
    out_size = tuple(
        _out_size(call, rank, axis, in_size, kernel, stride, dilation, pairs, exact, ceil_mode)
        for axis in range(rank)
    )
    return Window(tuple(in_size), tuple(kernel), stride, dilation, pairs, out_size, groups)


def _out_size(call, rank, axis, in_size, kernel, stride, dilation, pairs, exact, ceil_mode):
    """floor((i + p - d(k-1) - 1)/s) + 1, or its ceiling without windows that start beyond i."""
    i, k, s, d = in_size[axis], kernel[axis], stride[axis], dilation[axis]
    before, after = pairs[axis]
    span = d * (k - 1) + 1
    room = i + before + after - span
    name = _SPACE[rank][axis]
    if k < 1 or i < 1 or room < 0:
        raise ValueError(
            f"{call}: along {name} a kernel of {k} (dilation {d}, so spanning {span}) does not fit "
            f"{i} elements padded by {(before, after)}; it needs at least {max(span, 1)}"
        )
    rest = room % s
    if exact and rest:
        raise ValueError(
            f"{call}: exact=True, but along {name} {i} elements padded by {(before, after)} leave "
            f"a rest of {rest} at kernel {k}, stride {s}; {i - rest} or {i - rest + s} would fit"
        )
    out = room // s + 1
    if ceil_mode and rest and out * s < i + before:
        out += 1
    return out


def _pairs(call, padding, in_size, kernel, stride, dilation, named=True):
    """Padding as one (before, after) pair per axis."""
    rank = len(in_size)
    if isinstance(padding, str):
        if padding == "valid":
            return ((0, 0),) * rank
        if named and padding in ("same", "same_lower"):
            totals = (
                max(0, (-(-i // s) - 1) * s + d * (k - 1) + 1 - i)
                for i, k, s, d in zip(in_size, kernel, stride, dilation, strict=True)
            )
            upper = padding == "same"
            return tuple((t // 2, t - t // 2) if upper else (t - t // 2, t // 2) for t in totals)
        raise ValueError(
            f"{call}: padding={padding!r}; give "
            + ("'valid', 'same', 'same_lower', " if named else "'valid', ")
            + "an int, one int per axis, or (before, after) pairs"
        )
    if _is_int(padding):
        padding = (padding,) * rank
    pairs = tuple((p, p) if _is_int(p) else tuple(p) for p in padding)
    if len(pairs) != rank or any(len(p) != 2 or not all(map(_is_int, p)) for p in pairs):
        raise ValueError(
            f"{call}: padding={padding!r} for {rank} spatial axes; give an int, {rank} ints or "
            f"{rank} (before, after) pairs"
        )
    if any(n < 0 for p in pairs for n in p):
        raise ValueError(f"{call}: padding={padding!r} must not be negative; crop x instead")
    return tuple((int(p), int(q)) for p, q in pairs)


def _sizes(call, name, value, rank, least=1):
    sizes = (value,) * rank if _is_int(value) else tuple(value)
    if len(sizes) != rank or not all(map(_is_int, sizes)):
        raise ValueError(f"{call}: {name}={value!r}; give an int or {rank} ints")
    if min(sizes) < least:
        raise ValueError(f"{call}: {name}={value!r} must be at least {least}")
    return tuple(int(n) for n in sizes)


def _is_int(value) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)


def _require_batched(call: str, x_shape: Ints, rank: int) -> None:
    if len(x_shape) == rank + 2:
        return
    hint = ": pass x[None, ...] for a batch of one" if len(x_shape) == rank + 1 else ""
    raise ValueError(f"{call}: x must be {_layout('N', 'C', rank)}; x is {tuple(x_shape)}{hint}")


def _require_groups(call: str, groups: int) -> None:
    if not _is_int(groups) or groups < 1:
        raise ValueError(f"{call}: groups={groups!r} must be an int of at least 1")


def _require_bias(call: str, b_shape: Ints | None, out_channels: int) -> None:
    if b_shape is not None and tuple(b_shape) != (out_channels,):
        raise ValueError(f"{call}: b must be (O={out_channels},); b is {tuple(b_shape)}")


def _layout(first: str, second: str, rank: int, prefix: str = "") -> str:
    return f"({', '.join((first, second, *(prefix + s for s in _SPACE[rank])))})"


def _named(shape: Ints, rank: int, kernel: bool = False) -> str:
    names = ("O", "C/G") if kernel else ("N", "C")
    space = (("K" if kernel else "") + s for s in _SPACE[rank])
    return f"({', '.join(f'{a}={n}' for a, n in zip((*names, *space), shape, strict=True))})"


def _by(sizes: Ints) -> str:
    return "x".join(map(str, sizes))


def _product(sizes: Ints) -> int:
    return functools.reduce(lambda a, b: a * b, sizes, 1)
