"""Windows: sizes and pads against counting, what each place reads, and every shape error."""

from __future__ import annotations

import re
from dataclasses import replace

import naive
import numpy as np
import pytest
from hypothesis import given
from strategies import Geometry, geometries, left_over

from xpcnn.window import conv_transpose_window, conv_window, fold_window, pool_window


def window_of(g: Geometry, **options):
    shape = (1, 1, *g.size)
    return pool_window(
        "pool", g.ndim, shape, g.kernel, g.stride, g.padding, g.dilation,
        ceil_mode=g.ceil_mode, **options,
    )  # fmt: skip


@given(geometries(ceil_modes=(False, True)))
def test_sizes_and_pads_are_those_counted(g):
    window = window_of(g)
    assert window.out_size == g.out
    stride, dilation = naive.each(g.stride, g.ndim), naive.each(g.dilation, g.ndim)
    assert list(window.padding) == naive.pads(g.padding, g.size, g.kernel, stride, dilation)


@given(geometries(ceil_modes=(False, True)))
def test_taps_read_what_the_places_read(g):
    window = window_of(g)
    places = naive.Places(g.size, g.kernel, g.stride, g.padding, g.dilation, g.ceil_mode)
    numbers = np.arange(np.prod(g.size)).reshape(g.size)
    padded = places.pad(numbers, fill=-1)
    expected = np.stack([padded[box] for _, box in places]).reshape(*g.out, *g.kernel)
    actual = np.full_like(expected, -1)
    for place, outputs, inputs in window.taps:
        actual[(*outputs, *place)] = numbers[inputs]
    np.testing.assert_array_equal(actual, expected)
    assert window.reads_padding == bool((expected < 0).any())


@given(geometries(ceil_modes=(False, True)))
def test_counts_are_the_divisors_of_an_average(g):
    window = window_of(g)
    places = naive.Places(g.size, g.kernel, g.stride, g.padding, g.dilation, g.ceil_mode)
    inside = places.inside()
    expected = np.array([inside[box].sum() for _, box in places]).reshape(g.out)
    counts = [np.array(axis) for axis in window.counts(count_include_pad=False)]
    product = counts[0]
    for axis in counts[1:]:
        product = product[..., None] * axis
    np.testing.assert_array_equal(product, expected)


@given(geometries())
def test_a_transposed_window_is_the_window_it_transposes(g):
    """x as large as conv's output gives back conv's input, up to what the stride left over."""
    stride, dilation = naive.each(g.stride, g.ndim), naive.each(g.dilation, g.ndim)
    around = naive.pads(g.padding, g.size, g.kernel, stride, dilation)
    window = conv_transpose_window(
        "transpose", g.ndim, (2, 3, *g.out), (3, 1, *g.kernel), None, stride, around,
        left_over(g), 1, dilation,
    )  # fmt: skip
    assert (window.in_size, window.out_size) == (g.size, g.out)


@given(geometries())
def test_exact_refuses_what_does_not_divide_and_names_what_would(g):
    rests = left_over(g)
    if not any(rests):
        assert window_of(g, exact=True) == window_of(g)
        return
    with pytest.raises(ValueError, match="exact=True") as raised:
        window_of(g, exact=True)
    axis = next(axis for axis, rest in enumerate(rests) if rest)
    named = re.search(r"(-?\d+)(?: or (\d+))? would fit", str(raised.value))
    for size in [int(n) for n in named.groups() if n]:
        fitting = replace(g, size=(*g.size[:axis], size, *g.size[axis + 1 :]))
        assert size > 0 and fitting.out[axis] > 0 and left_over(fitting)[axis] == 0


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "same", "same_lower"),
    [  # TensorFlow's and ONNX's arithmetic, by hand
        (5, 3, 1, (1, 1), (1, 1)),
        (5, 2, 1, (0, 1), (1, 0)),
        (6, 3, 2, (0, 1), (1, 0)),
        (5, 3, 2, (1, 1), (1, 1)),
        (32, 8, 2, (3, 3), (3, 3)),
        (7, 1, 3, (0, 0), (0, 0)),
        (2, 5, 3, (1, 2), (2, 1)),
    ],
)
def test_same_by_hand(size, kernel, stride, same, same_lower):
    for name, pads in (("same", same), ("same_lower", same_lower)):
        window = pool_window("pool", 1, (1, 1, size), kernel, stride, name, 1)
        assert window.padding == (pads,)
        assert window.out_size == (-(-size // stride),)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "floor", "ceil"),
    [
        (5, 2, 2, 0, 2, 3),  # one overhangs
        (6, 2, 2, 0, 3, 3),  # nothing is left over
        (3, 2, 2, 1, 2, 2),  # the third would start at 3, in the right padding
        (4, 2, 2, 1, 3, 3),
        (5, 3, 3, 1, 2, 2),
        (6, 3, 3, 1, 2, 3),  # the third starts at 5, the last element
    ],
)
def test_ceil_mode_by_hand(size, kernel, stride, padding, floor, ceil):
    for ceil_mode, out in ((False, floor), (True, ceil)):
        window = pool_window(
            "pool", 1, (1, 1, size), kernel, stride, padding, 1, ceil_mode=ceil_mode
        )
        assert window.out_size == (out,)


X, W = (2, 4, 6, 5), (8, 4, 3, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: conv_window("c", 2, X, W, None, 0, 0, 1, 1), "stride=0"),
        (lambda: conv_window("c", 2, X, W, None, 1, -1, 1, 1), "negative"),
        (lambda: conv_window("c", 2, X, W, None, 1, ((0, 0), (-1, 0)), 1, 1), "negative"),
        (lambda: conv_window("c", 2, X, W, None, 1, 0, 0, 1), "dilation=0"),
        (lambda: conv_window("c", 2, X, W, None, 1, 0, 3, 1), "along H a kernel of 3"),
        (lambda: conv_window("c", 2, X, W, None, 1, 0, 1, 0), "groups=0"),
        (lambda: conv_window("c", 2, X, W, None, 1, 0, 1, 3), "groups=3"),
        (lambda: conv_window("c", 2, X, W, None, 1, "full", 1, 1), "padding='full'"),
        (lambda: conv_window("c", 2, X, W, None, (1, 1, 1), 0, 1, 1), "stride"),
        (lambda: conv_window("c", 2, X, W, None, 1.5, 0, 1, 1), "stride=1.5"),
        (lambda: conv_window("c", 2, X, W, None, 1, 0.5, 1, 1), "padding=0.5"),
        (lambda: conv_window("c", 2, X, W, (4,), 1, 0, 1, 1), "b must be"),
        (lambda: conv_window("c", 2, X, W[1:], None, 1, 0, 1, 1), "w must be"),
        (lambda: conv_window("c", 2, X[1:], W, None, 1, 0, 1, 1), r"x\[None, ...\]"),
        (lambda: conv_window("c", 2, (2, 4, 0, 5), W, None, 1, 2, 1, 1), "along H"),
        (lambda: pool_window("p", 2, X, (2, 0), None, 0, 1), "kernel_size"),
        (lambda: pool_window("p", 2, X, 2, None, 2, 1, covered=True), "wholly in the padding"),
        (lambda: fold_window("f", (1, 9, 5), (4, 4), 3, 1, 0, 1), r"\(N, C\*9, 4\)"),
        (lambda: conv_transpose_window("t", 2, X, W, None, 1, 0, 0, 1, 1), "8 channels"),
        (
            lambda: conv_transpose_window("t", 2, X, (4, 1, 3, 3), None, 2, 0, 2, 1, 1),
            "output_padding=2",
        ),
        (
            lambda: conv_transpose_window("t", 2, X, (4, 1, 3, 3), None, 1, 9, 0, 1, 1),
            "reduce the padding",
        ),
    ],
)
def test_errors_name_the_argument(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_zero_images_are_fine():
    assert conv_window("c", 2, (0, *X[1:]), W, None, 1, 0, 1, 1).out_size == (4, 3)


@given(g=geometries(dims=(1,), dilations=(1, 2, 3)))
def test_every_pair_of_input_and_place_is_in_one_adjoint(g):
    """Input i meets output o at place k where o*stride - before + k*dilation = i."""
    window = window_of(g)
    (stride,), (dilation,), ((before, _),) = window.stride, window.dilation, window.padding
    expected = {
        (o * stride - before + k * dilation, k, o)
        for k in range(g.kernel[0])
        for o in range(window.out_size[0])
    }
    found = []
    for (inputs,), (places,), part in window.adjoints:
        read, kept = range(g.size[0])[inputs], range(g.kernel[0])[places][::-1]
        assert (part.out_size, part.kernel) == ((len(read),), (len(kept),))
        for (place,), (to,), (come,) in part.taps:
            pairs = zip(read[to], range(g.out[0])[come], strict=True)
            found += [(i, kept[place], o) for i, o in pairs]
    assert sorted(found) == sorted(e for e in expected if 0 <= e[0] < g.size[0])


@given(geometries(ceil_modes=(False, True)))
def test_disjoint_boxes_share_out_the_outputs_and_read_no_input_twice(g):
    window = window_of(g)
    outputs = np.arange(np.prod(g.out)).reshape(g.out)
    reads = np.full((*g.out, *g.kernel), -1)
    for place, to, inputs in window.taps:
        reads[(*to, *place)] = np.arange(np.prod(g.size)).reshape(g.size)[inputs]
    shared = []
    for box in window.disjoint:
        shared += list(outputs[box].flat)
        places = reads[box][reads[box] >= 0]
        assert len(set(places)) == len(places)
    assert sorted(shared) == list(outputs.flat)


def test_who_calls_alike_shares_a_window_unless_it_is_large():
    def of(kernel, stride=2, padding=0):
        return pool_window("pool", 2, (1, 1, 99, 99), kernel, stride, padding, 1)

    assert of((2, 3)) is of((2, 3))
    assert of([2, 3], [2, 2]) == of((2, 3))  # lists are taken, and not remembered
    assert of(2, padding=((1, 1), (0, 0))).padding == ((1, 1), (0, 0))
    assert of(12) == of(12) and of(12) is not of(12)


@pytest.mark.parametrize("padding", [True, 1.0, (1, True), ((1, 1), (1, 1.0))])
def test_equal_is_not_alike(padding):
    """Nor is an error ever forgotten."""
    for good in (1, (1, 1), ((1, 1), (1, 1))):
        conv_window("c", 2, X, W, None, 1, good, 1, 1)
    for _ in range(2):
        with pytest.raises(TypeError, match="padding="):
            conv_window("c", 2, X, W, None, 1, padding, 1, 1)
