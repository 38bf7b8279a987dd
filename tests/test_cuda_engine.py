"""The cuda engine where it has seams: packs, unrolled kernels, indices, memory, pieces.

What every engine must do on small windows is in test_conv.py, test_pooling.py and test_passes.py;
its kernels run there and here as g++ compiles them (cuda_on_cpu), products as cuBLAS defines them.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from itertools import product
from math import prod

import naive
import numpy as np
import pytest
from cuda_device import Device, on_host
from cuda_on_cpu import Runner, planted
from hypothesis import given
from hypothesis import strategies as st
from strategies import arrays, convolutions, geometries, parts, pools, view

import xpcnn
from xpcnn import ops
from xpcnn.engines import cuda, generic
from xpcnn.engines.cuda import _geometry, _windows
from xpcnn.window import conv_window, pool_window

SPECIAL = (np.nan, np.inf, -np.inf)
TINY = np.float32(1e-45)
DTYPES = [np.float16, np.float32, np.float64]
CHANNELS = [1, 2, 4, 7, 8, 16]
"""Around packs of 16 bytes."""


@pytest.fixture(scope="module", autouse=True)
def device() -> Iterator[Device]:
    with on_host(Device()) as found:
        yield found


@st.composite
def images(draw, g, dtype, special=()):
    """x (N, C, *size) of any layout, often with channels in packs, and its window."""
    shape = draw(st.integers(1, 3)), draw(st.sampled_from(CHANNELS)), *g.size
    x = draw(arrays(shape, dtype, special=special))
    if draw(st.booleans()):
        x = view(np.ascontiguousarray(x), "channels last")
    window = pool_window(
        "pool", g.ndim, shape, g.kernel, g.stride, g.padding, g.dilation, ceil_mode=g.ceil_mode
    )
    return x, draw(parts(window))


def wide(verb, *args):
    """What `generic` says, of half precision in float32."""
    args = [
        a.astype(np.float32) if isinstance(a, np.ndarray) and a.dtype == np.float16 else a
        for a in args
    ]
    return getattr(generic, verb)(*args)


# ---- columns and pooling against the definition -------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_columns_are_copied_to_the_bit(dtype, data):
    x, window = data.draw(images(data.draw(geometries()), dtype, special=(*SPECIAL, TINY)))
    np.testing.assert_array_equal(cuda.im2col(x, window), generic.im2col(x, window))


@pytest.mark.parametrize("dtype", DTYPES[1:])
@given(data=st.data())
def test_columns_are_gathered(dtype, data):
    x, window = data.draw(images(data.draw(geometries()), dtype))
    cols = data.draw(arrays(generic.im2col(x, window).shape, dtype))
    np.testing.assert_array_equal(cuda.col2im(cols, window), generic.col2im(cols, window))


@pytest.mark.parametrize("special", [(), (*SPECIAL, TINY, -TINY)], ids=["ties", "NaN and tiny"])
@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_maxima_and_their_places_are_equal(dtype, special, data):
    x, window = data.draw(images(data.draw(pools()), dtype, special))
    y, places = cuda.max_pool(x, window, True)
    expected = generic.max_pool(x, window, True)
    np.testing.assert_array_equal(y, expected[0])
    np.testing.assert_array_equal(places, expected[1])
    np.testing.assert_array_equal(cuda.max_pool(x, window)[0], expected[0])
    dy = data.draw(arrays(y.shape, dtype))
    dx = cuda.max_pool_dx(dy, places, window)
    np.testing.assert_array_equal(dx, generic.max_pool_dx(dy, places, window))


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_averages_are_rounded_once(dtype, data):
    x, window = data.draw(images(data.draw(pools(dilations=(1,))), dtype))
    divisors = [5, window.counts(True)]
    divisors += [window.counts(False)] * all(0 not in axis for axis in window.counts(False))
    divisors = [d for d in divisors if isinstance(d, int) or all(0 not in axis for axis in d)]
    divisor = data.draw(st.sampled_from(divisors))
    y, expected = cuda.avg_pool(x, window, divisor), wide("avg_pool", x, window, divisor)
    np.testing.assert_array_equal(y, expected.astype(dtype))
    dy = data.draw(arrays(y.shape, dtype))
    dx, expected = cuda.avg_pool_dx(dy, window, divisor), wide("avg_pool_dx", dy, window, divisor)
    naive.assert_close(dx, expected.astype(dtype), prod(window.kernel))


def test_bfloat16_goes_through_ops():
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    x = np.arange(64.0).reshape(1, 2, 4, 8).astype(bfloat16)
    w = np.ones((3, 2, 3, 3), bfloat16)
    with xpcnn.use("cuda"):
        y, pull = xpcnn.vjp(ops.conv2d, x, w, padding=1)
        dx, dw, _ = pull(y)
    y32, pull32 = xpcnn.vjp(ops.conv2d, x.astype(np.float32), w.astype(np.float32), padding=1)
    dx32, dw32, _ = pull32(y.astype(np.float32))
    for rounded, exact in ((y, y32), (dx, dx32), (dw, dw32)):
        np.testing.assert_array_equal(rounded, exact.astype(bfloat16))


def test_results_lie_as_their_inputs_do(device):
    x = np.ones((2, 8, 6, 6), np.float32)
    window = pool_window("pool", 2, x.shape, 2, 2, 0, 1)
    for last in (False, True):
        x = view(x, "channels last") if last else x
        y, places = cuda.max_pool(x, window, True)
        for result in (y, places, cuda.max_pool_dx(y, places, window), cuda.avg_pool(x, window, 4)):
            assert (result.strides[1] == result.itemsize) == last
        packed = [", 4, " in name for name in device.launched[-3:]]
        assert packed == [last] * 3


# ---- convolution --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@given(data=st.data(), room=st.sampled_from([2**26, 4000, 500, 1]))
def test_convolutions_in_any_workspace(device, dtype, data, room):
    """However little there is: what it takes is bounded by it, and the sums are the same."""
    c = data.draw(convolutions(dtype=dtype))
    whole = conv_window("conv", c.window.ndim, c.x.shape, c.w.shape, None, *c.args)
    window = data.draw(parts(whole))
    dy = data.draw(arrays((*c.dy.shape[:2], *window.out_size), dtype))
    layout = data.draw(st.sampled_from(["plain", "channels last"]))
    x, dy = (view(np.ascontiguousarray(a), layout) for a in (c.x, dy))
    calls = ("conv", x, c.w, window, c.b), ("conv_dx", dy, c.w, window), ("conv_dw", x, dy, window)
    with xpcnn.use(workspace=room):
        for verb, *args in calls:
            expected = wide(verb, *args).astype(dtype)
            before, device.peak = device.taken, device.taken
            actual = getattr(cuda, verb)(*args)
            assert actual.shape == expected.shape and actual.dtype == dtype
            assert device.peak - before <= actual.nbytes + room
            naive.assert_close(actual, expected, c.terms)


@pytest.mark.parametrize("groups", [1, 2, 64])
@pytest.mark.parametrize("layout", ["plain", "channels last"])
@pytest.mark.parametrize("kernel, stride, padding", [(3, 1, 1), (1, 1, 0), (5, 2, 2)])
def test_convolutions_of_many_channels(device, layout, groups, kernel, stride, padding):
    rng = np.random.default_rng(0)
    x = view(rng.standard_normal((3, 128, 9, 8)), layout)
    w = rng.standard_normal((64, 128 // groups, kernel, kernel))
    b = rng.standard_normal(64)
    window = conv_window("conv", 2, x.shape, w.shape, b.shape, stride, padding, 1, groups)
    dy = view(rng.standard_normal((3, 64, *window.out_size)), layout)
    for room in (2**26, 2**17):
        with xpcnn.use(workspace=room):
            np.testing.assert_allclose(cuda.conv(x, w, window, b), generic.conv(x, w, window, b))
            dx, dw = cuda.conv_dx(dy, w, window), cuda.conv_dw(x, dy, window)
        np.testing.assert_allclose(dx, generic.conv_dx(dy, w, window), atol=1e-12)
        np.testing.assert_allclose(dw, generic.conv_dw(x, dy, window), atol=1e-12)


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("room", [2**26, 1])
def test_what_is_infinite_reaches_what_it_should(groups, stride, room):
    """Padding is 0, by which an infinite weight is NaN; to a gradient, nothing lies outside."""
    x, w = np.ones((1, 4, 6, 6), np.float32), np.ones((4, 4 // groups, 3, 3), np.float32)
    w[0, 0, 0, 0] = np.inf
    window = conv_window("conv", 2, x.shape, w.shape, None, stride, 1, 1, groups)
    dy = np.ones((1, 4, *window.out_size), np.float32)
    dy[0, 1, 0, 0] = np.inf
    with xpcnn.use(workspace=room), np.errstate(invalid="ignore"):
        for verb, *args in (("conv", x, w), ("conv_dx", dy, w), ("conv_dw", x, dy)):
            actual, right = (getattr(engine, verb)(*args, window) for engine in (cuda, generic))
            np.testing.assert_array_equal(actual, right)


def test_half_precision_is_rounded_once_however_it_lies():
    """Matrices that are none to cuBLAS, and keys that the engine does not take, too."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((8, 64)).astype(np.float16)[:, ::2], np.ones((16, 32), np.float16)
    b = rng.standard_normal(16).astype(np.float16)
    wide = [a.astype(np.float32) for a in (x, w, b)]
    with xpcnn.use("cuda"):
        y = ops.linear(x, w, b)
        dropped = ops.dropout(x, 0.3, key=(np.asarray(1), np.asarray(2)))
    np.testing.assert_array_equal(y, ops.linear(*wide).astype(np.float16))
    right = ops.dropout(wide[0], 0.3, key=(1, 2)).astype(np.float16)
    np.testing.assert_array_equal(dropped, right)


def test_a_divisor_beyond_what_an_int_counts():
    x = np.ones((1, 1, 4, 4))
    window = pool_window("pool", 2, x.shape, 2, 2, 0, 1)
    y = cuda.avg_pool(x, window, 2**31)
    np.testing.assert_array_equal(y, generic.avg_pool(x, window, 2**31))


def test_explain_tells_what_is_done():
    x, w = np.ones((1, 4, 6, 6), np.float32), np.ones((4, 4, 3, 3), np.float32)
    with xpcnn.use("cuda"):
        assert "columns" in str(xpcnn.explain(ops.conv2d, x, w))
    with xpcnn.use("cuda", workspace=1):
        assert "columns fit" in str(xpcnn.explain(ops.conv2d, x, w))


def test_a_1x1_kernel_needs_no_columns(device):
    for layout in ("plain", "channels last"):
        x = view(np.ones((2, 8, 5, 5), np.float32), layout)
        w = np.ones((16, 8, 1, 1), np.float32)
        window = conv_window("conv", 2, x.shape, w.shape, None, 1, 0, 1, 1)
        device.launched.clear()
        y = cuda.conv(x, w, window)
        cuda.conv_dx(y, w, window)
        assert not device.launched


def test_the_same_call_gives_the_same_bits():
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(s, np.float32) for s in ((4, 16, 9, 9), (16, 16, 3, 3)))
    window = conv_window("conv", 2, x.shape, w.shape, None, 1, 1, 1, 1)
    y = cuda.conv(x, w, window)
    for _ in range(3):  # threads run in another order each time
        np.testing.assert_array_equal(cuda.conv(x, w, window), y)
        np.testing.assert_array_equal(cuda.conv_dx(y, w, window), cuda.conv_dx(y, w, window))
        np.testing.assert_array_equal(cuda.conv_dw(x, y, window), cuda.conv_dw(x, y, window))


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_products_of_matrices(dtype, data):
    """Transposed ones, those of many rows, and what does not lie as rows or columns."""
    *rows, n, m = data.draw(st.lists(st.integers(1, 5), min_size=3, max_size=4))
    a, b = data.draw(arrays((*rows, n), dtype)), data.draw(arrays((m, n), dtype)).T
    add = data.draw(st.none() | arrays((m,), dtype))
    y = cuda.matmul(a, b, add)
    np.testing.assert_array_equal(y, a @ b + (0 if add is None else add))
    assert y.dtype == dtype
    turned, ones = a.reshape(-1, n).T, np.ones((prod(rows), m), dtype)
    np.testing.assert_array_equal(cuda.matmul(turned, ones), turned @ ones)


# ---- memory -------------------------------------------------------------------------------------


def test_where_memory_runs_out_the_workspace_shrinks():
    x, w = np.ones((4, 16, 16, 16), np.float32), np.ones((16, 16, 3, 3), np.float32)
    window = conv_window("conv", 2, x.shape, w.shape, None, 1, 1, 1, 1)
    expected = generic.conv(x, w, window)
    for workspace in (2**26, 2**20):
        with on_host(Device(size=expected.nbytes + 2**18)) as small:
            with xpcnn.use(workspace=workspace):
                np.testing.assert_array_equal(cuda.conv(x, w, window), expected)
            # an eighth of the smaller workspace fits, if nothing of the first attempt is left
            by_columns = small.launched[-1].startswith("im2col")
            assert by_columns == (workspace // 8 <= 2**18)


def test_where_nothing_is_left_the_error_says_how_much_was_needed():
    x, w = np.ones((4, 16, 16, 16), np.float32), np.ones((16, 16, 3, 3), np.float32)
    window = conv_window("conv", 2, x.shape, w.shape, None, 1, 1, 1, 1)
    with (
        on_host(Device(size=1000)),
        pytest.raises(MemoryError, match=r"conv: 65536 bytes.* 1000 bytes are free"),
    ):
        cuda.conv(x, w, window)


# ---- indices ------------------------------------------------------------------------------------


def far(shape: tuple[int, ...], apart: int, dtype=np.float16) -> np.ndarray:
    """An array whose images lie `apart` elements from each other, in memory that is not touched."""
    reserved = mmap.mmap(-1, shape[0] * apart * np.dtype(dtype).itemsize, flags=mmap.MAP_PRIVATE)
    each = np.frombuffer(reserved, dtype)
    steps = np.empty(shape[1:], dtype).strides
    return np.lib.stride_tricks.as_strided(each, shape, (apart * each.itemsize, *steps))


@pytest.mark.skipif(not hasattr(mmap, "MAP_PRIVATE"), reason="memory cannot be reserved untouched")
@pytest.mark.parametrize("apart", [2**30 - 2**17, 2**30 + 2**17], ids=["int", "long long"])
def test_arrays_beyond_what_an_int_counts(device, apart):
    x = far((3, 2, 4, 4), apart)
    x[...] = np.random.default_rng(0).integers(-9, 9, x.shape)
    window = pool_window("pool", 2, x.shape, 2, 2, 0, 1)
    y, places = cuda.max_pool(x, window, True)
    assert ("long long" in device.launched[-1]) == (2 * apart >= 2**31)
    expected = generic.max_pool(x.copy(), window, True)
    np.testing.assert_array_equal(y, expected[0])
    np.testing.assert_array_equal(places, expected[1])
    np.testing.assert_array_equal(cuda.im2col(x, window), generic.im2col(x.copy(), window))


@given(data=st.data())
def test_wide_indices_give_the_same(data):
    x, window = data.draw(images(data.draw(pools()), np.float32))
    dy = data.draw(arrays((*x.shape[:2], *window.out_size), np.float32))
    limit, _geometry.LIMIT = _geometry.LIMIT, 0
    _geometry.geometry.cache_clear()
    try:
        y, places = cuda.max_pool(x, window, True)
        dx, cols = cuda.max_pool_dx(dy, places, window), cuda.im2col(x, window)
        back = cuda.col2im(cols, window)
    finally:
        _geometry.LIMIT = limit
        _geometry.geometry.cache_clear()
    expected = generic.max_pool(x, window, True)
    np.testing.assert_array_equal(y, expected[0])
    np.testing.assert_array_equal(places, expected[1])
    np.testing.assert_array_equal(dx, generic.max_pool_dx(dy, places, window))
    np.testing.assert_array_equal(cols, generic.im2col(x, window))
    np.testing.assert_array_equal(back, generic.col2im(cols, window))


@given(
    number=st.integers(1, 2**31 - 1),
    times=st.integers(0, 2**31),
    off=st.integers(-1, 1),
    index=st.sampled_from(["int", "long long"]),
)
def test_magic_numbers_divide(number, times, off, index):
    bits = 31 if index == "int" else 63
    n = min(max(0, times * number + off), 2**bits - 1)
    _, magic, shift = _geometry.divider(number, index)
    product = (n * magic >> bits + 1) + n
    assert magic < 2 ** (bits + 1) and product < 2 ** (bits + 1)
    assert product >> shift == n // number


@pytest.mark.parametrize("count", [255, 256, 257, 512])
def test_blocks_end_anywhere(count):
    x = np.arange(2.0 * count).reshape(1, 1, 2 * count)
    window = pool_window("pool", 1, x.shape, 2, 2, 0, 1)
    np.testing.assert_array_equal(cuda.max_pool(x, window)[0], x[:, :, 1::2])


# ---- do the checks bite? ------------------------------------------------------------------------

WINS = "!(value <= best) & (best == best); }\n\n#endif"
FAULTS = {
    "the last maximum wins": ("max_pool.cu", WINS, "!(value < best); }\n\n#endif"),
    "NaN loses": ("max_pool.cu", WINS, "value > best; }\n\n#endif"),
    "places of the padded plane": ("max_pool.cu", "* w.in + at.w", "* (w.in + w.before) + at.w"),
    "an output too many": ("col2im.cu", "(U)o < (U)out", "(U)o <= (U)out"),
    "a remainder is no matter": ("col2im.cu", "k * dilation.divisor == apart ? k : -1", "k"),
    "padding is read": ("im2col.cu", "return (U)i < (U)in;", "return i < in;"),
    "a thread sleeps": ("im2col.cu", "() >= g.count", "() + 1 >= g.count"),
    "a division without its sum": ("im2col.cu", "magic) + (U)n) >>", "magic)) >>"),
    "padding always counts": ("avg_pool.cu", "(start > low ? start : low)", "start"),
}


def check_windows() -> None:
    """A few windows over a few images, with ties, NaN and padding."""
    x = np.random.default_rng(0).integers(-3, 4, (2, 4, 7, 6)).astype(np.float32)
    x[0, 0, 2:5, 3] = np.nan
    steps = (1, 1, 1), (2, 1, 1), (1, 1, 2)  # stride, padding, dilation
    windows = [pool_window("pool", 2, x.shape, 3, *three, ceil_mode=True) for three in steps]
    for window, layout in product(windows, ("plain", "channels last")):
        x = view(np.ascontiguousarray(x), layout)
        expected = generic.max_pool(x, window, True)
        for actual, right in zip(cuda.max_pool(x, window, True), expected, strict=True):
            np.testing.assert_array_equal(actual, right)
        divisor, finite = window.counts(False), view(np.nan_to_num(x), layout)
        if window.dilation == (1, 1):
            average = generic.avg_pool(finite, window, divisor)
            np.testing.assert_array_equal(cuda.avg_pool(finite, window, divisor), average)
        cols = generic.im2col(finite, window)
        np.testing.assert_array_equal(cuda.im2col(finite, window), cols)
        np.testing.assert_array_equal(cuda.col2im(cols, window), generic.col2im(cols, window))


def test_what_is_right_passes():
    check_windows()


@pytest.mark.parametrize("file, old, new", FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_caught(file, old, new):
    with (
        on_host(Device(Runner(sources={file: planted(file, old, new)}))),
        pytest.raises((AssertionError, RuntimeError)),
    ):
        check_windows()


def test_an_index_that_overflows_is_caught(monkeypatch):
    monkeypatch.setattr(_geometry, "LIMIT", 2**40)
    _geometry.geometry.cache_clear()
    x = far((3, 2, 4, 4), 2**30 + 2**17)
    window = pool_window("pool", 2, x.shape, 2, 2, 0, 1)
    with pytest.raises((OverflowError, RuntimeError)):
        cuda.max_pool(x, window)
    _geometry.geometry.cache_clear()


def test_an_argument_of_another_type_is_caught(device):
    x, y = np.ones((1, 1, 4, 4), np.float32), np.ones((1, 1, 2, 2))
    window = pool_window("pool", 2, x.shape, 2, 2, 0, 1)
    with pytest.raises(TypeError, match="argument 2 of 3 is an array of float64"):
        device.launch(_windows.max_pool(x, y, window))
