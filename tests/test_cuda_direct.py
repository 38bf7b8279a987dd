"""Convolution without columns on the cuda engine: depthwise, in small groups, as the last resort.

Its three functions are called as they are, on NumPy's arrays; kernels run as g++ compiles them.
Numbers are whole and small, so that every order of a sum gives the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import product
from types import ModuleType

import numpy as np
import pytest
from cuda_device import Device
from cuda_on_cpu import Runner, planted
from hypothesis import given
from hypothesis import strategies as st
from strategies import Geometry, arrays, geometries, view

from xpcnn.engines import generic
from xpcnn.engines.cuda import _direct, _geometry
from xpcnn.window import Window, conv_window

DTYPES = ["float16", "bfloat16", "float32", "float64"]
LAYOUTS = ["plain", "channels last"]
ROOM = 2**20


@pytest.fixture(scope="module")
def device() -> Device:
    return Device()


@dataclass(frozen=True)
class Layer:
    """The arguments of a convolution, and a gradient for its result."""

    x: np.ndarray
    w: np.ndarray
    b: np.ndarray | None
    dy: np.ndarray
    window: Window

    def run(self, device: Device, room: int = ROOM) -> list[np.ndarray]:
        """y, dx and dw."""
        y, dx = _like(self.x, self.dy.shape), _like(self.dy, self.x.shape)
        dw = np.full(self.w.shape, np.nan, self.w.dtype)
        _direct.convolve(device, self.x, self.w, self.window, self.b, y, room)
        _direct.input_gradient(device, self.dy, self.w, self.window, dx, room)
        _direct.weight_gradient(device, self.x, self.dy, self.window, dw, room)
        return [y, dx, dw]

    def defined(self) -> list[np.ndarray]:
        """What `generic` says, summed in float32 at least and rounded once."""
        x, w, b, dy = (
            a.astype(np.float32) if a is not None and a.itemsize == 2 else a
            for a in (self.x, self.w, self.b, self.dy)
        )
        y, dx = generic.conv(x, w, self.window, b), generic.conv_dx(dy, w, self.window)
        return [a.astype(self.x.dtype) for a in (y, dx, generic.conv_dw(x, dy, self.window))]


def _like(a: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A new array, channels last where those of `a` are."""
    last = a.shape[1] > 1 and a.strides[1] == a.itemsize
    return view(np.full(shape, np.nan, a.dtype), LAYOUTS[last])


def _dtype(name: str) -> np.dtype:
    return np.dtype(pytest.importorskip("ml_dtypes").bfloat16 if name == "bfloat16" else name)


def layer_of(shape, kernel, outs, groups=1, layout="plain", stride=1, padding=0) -> Layer:
    """One layer of float32, with a bias."""
    rng = np.random.default_rng(0)

    def whole(*shape: int) -> np.ndarray:
        return view(rng.integers(-4, 5, shape).astype(np.float32), layout)

    x, w, b = whole(*shape), whole(outs, shape[1] // groups, *kernel), whole(outs)
    window = conv_window("conv", len(kernel), shape, w.shape, b.shape, stride, padding, 1, groups)
    return Layer(x, w, b, whole(shape[0], outs, *window.out_size), window)


@st.composite
def squares(draw) -> Geometry:
    """Windows that kernels are unrolled for, often of outputs that lie in strips."""
    kernel = draw(st.sampled_from([3, 5]))
    stride, dilation = (draw(st.sampled_from([(1, 1), (2, 2), (1, 2), (2, 1)])) for _ in range(2))
    padding = draw(st.tuples(*[st.tuples(st.integers(0, 5), st.integers(0, 3))] * 2))
    reach = [d * (kernel - 1) + 1 - sum(p) for d, p in zip(dilation, padding, strict=True)]
    size = tuple(max(1, least) + draw(st.integers(0, 6)) for least in reach)
    if draw(st.booleans()):
        return Geometry(size, (kernel, kernel), stride, padding, dilation)
    deep = (1, *stride), ((1, 0), *padding), (1, *dilation)
    return Geometry((2, *size), (1, kernel, kernel), *deep)


@st.composite
def layers(draw, dtype="float32") -> Layer:
    """Any window; half of the groups are single channels, which may lie in packs."""
    g = draw(geometries() | squares())
    alone = st.tuples(st.sampled_from([4, 7, 8, 16]), st.just(1), st.just(1))
    groups, ins, outs = draw(alone | st.tuples(*[st.integers(1, 3)] * 3))
    images = draw(st.integers(1, 2))
    x = draw(laid((images, groups * ins, *g.size), dtype))
    w = draw(laid((groups * outs, ins, *g.kernel), dtype))
    b = draw(st.none() | laid((groups * outs,), dtype))
    options = g.stride, g.padding, g.dilation, groups
    window = conv_window("conv", g.ndim, x.shape, w.shape, None, *options)
    if draw(st.booleans()):  # its padding may be negative
        window = window.part([slice(draw(st.integers(0, n - 1)), n) for n in window.out_size])
    dy = draw(laid((images, groups * outs, *window.out_size), dtype))
    return Layer(x, w, b, dy, window)


def laid(shape: tuple[int, ...], dtype: str) -> st.SearchStrategy[np.ndarray]:
    """Arrays of any layout, every other one with channels last."""
    plain = arrays(shape, _dtype(dtype))
    return plain | plain.map(lambda a: view(np.ascontiguousarray(a), "channels last"))


@contextmanager
def changed(module: ModuleType, **constants: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in constants.items():
            patch.setattr(module, name, value)
        forget()
        yield
    forget()


def forget() -> None:
    """Plan every launch anew."""
    for plan in (_geometry.geometry, _direct._planned_sums, _direct._planned_parts):
        plan.cache_clear()


def in_parts() -> AbstractContextManager[None]:
    """Outputs are parted though they are few, in blocks that do not divide the channels."""
    return changed(_direct, THREADS=12, NEIGHBOURS=3, LEAST=1, JOINING=3)


def check(actual: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for one, other in zip(actual, expected, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


# ---- against the definition ---------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data(), room=st.sampled_from([ROOM, 0]), parted=st.booleans())
def test_every_convolution_is_rounded_once(device, dtype, data, room, parted):
    layer = data.draw(layers(dtype))
    with in_parts() if parted else nullcontext():
        check(layer.run(device, room), layer.defined())


@given(layer=layers(), room=st.sampled_from([ROOM, 0]))
def test_wide_indices_give_the_same(device, layer, room):
    device.launched.clear()
    with changed(_geometry, LIMIT=0), in_parts():
        check(layer.run(device, room), layer.defined())
    assert all("long long" in name or "weight_sums" in name for name in device.launched)


def test_the_weights_alone_can_make_an_index_wide(device):
    layer = layer_of((1, 5, 3, 3), (3, 3), 7, padding=1)
    device.launched.clear()
    with changed(_geometry, LIMIT=layer.w.size - 1):
        check(layer.run(device), layer.defined())
    assert all("long long" in name for name in device.launched)


@given(layer=layers("float64"))
def test_the_three_are_adjoint(device, layer):
    y, dx, dw = replace(layer, b=None).run(device)
    assert (y * layer.dy).sum() == (layer.x * dx).sum() == (layer.w * dw).sum()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_call_gives_the_same_bits(device, layout):
    rng = np.random.default_rng(0)
    layer = layer_of((2, 8, 9, 9), (3, 3), 8, 8, layout, padding=1)
    x, w, dy = (a * rng.standard_normal(a.shape, np.float32) for a in (layer.x, layer.w, layer.dy))
    layer = replace(layer, x=x, w=w, dy=dy)
    with in_parts():
        first = layer.run(device)
        for _ in range(3):  # threads run in another order each time
            check(layer.run(device), first)


# ---- which kernel, and how much room ------------------------------------------------------------

KERNELS = {
    "packs in strips": ("channels last", 8, {}, ["depthwise<int, float, true, 4, 3>"] * 2),
    "strips": ("plain", 8, {}, ["depthwise<int, float, true, 1, 3>"] * 2),
    "5x5": ("channels last", 8, {"kernel": (5, 5)}, ["depthwise<int, float, true, 1, 5>"] * 2),
    "packs, strided": (
        "channels last", 8, {"stride": 2},
        ["depthwise<int, float, false, 4, 3>", "convolve_gradient<int, float, 4, 2>"],
    ),
    "strided": (
        "plain", 8, {"stride": 2},
        ["depthwise<int, float, false, 1, 3>", "convolve_gradient<int, float, 1, 2>"],
    ),
    "stride 3": (
        "plain", 8, {"stride": 3},
        ["depthwise<int, float, false, 1, 3>", "convolve_gradient<int, float, 1, 0>"],
    ),
    "groups of two": ("channels last", 4, {}, ["convolve<int, float, 1, 3>"] * 2),
    "7x7": ("channels last", 8, {"kernel": (7, 7)}, ["convolve<int, float, 4, 0>"] * 2),
}  # fmt: skip


@pytest.mark.parametrize("layout, groups, options, names", KERNELS.values(), ids=KERNELS)
def test_the_fastest_kernels_run(device, layout, groups, options, names):
    options = {"kernel": (3, 3), "padding": 3, "layout": layout} | options
    layer = layer_of((2, 8, 9, 9), outs=8, groups=groups, **options)
    device.launched.clear()
    check(layer.run(device), layer.defined())
    assert device.launched[:2] == names


@pytest.mark.parametrize("count", [255, 256, 257])
def test_blocks_end_anywhere(device, count):
    layer = layer_of((1, count, 1, 1), (1, 1), count, count)
    check(layer.run(device), layer.defined())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_strips_end_anywhere(device, layout):
    for height, stride in product(range(1, 19), (1, 2)):
        layer = layer_of((2, 4, height, 3), (3, 3), 4, 4, layout, stride, padding=1)
        check(layer.run(device), layer.defined())


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_parts_keep_within_the_room(device, parts):
    layer = layer_of((2, 4, 16, 16), (3, 3), 4, 4, padding=1)
    device.launched.clear()
    before = device.peak = device.taken
    with in_parts():
        dw = layer.run(device, parts * layer.w.nbytes)[2]
    np.testing.assert_array_equal(dw, layer.defined()[2])
    assert device.peak - before == (parts * layer.w.nbytes if parts > 1 else 0)
    assert ("weight_sums<float>" in device.launched) == (parts > 1)


# ---- do the checks bite? ------------------------------------------------------------------------

FAULTS = {
    "no barrier": ("weight_gradient.cu", "__syncthreads();", ""),
    "a part left out": ("weight_gradient.cu", "part < count;", "part + 1 < count;"),
    "outputs of other parts": ("weight_gradient.cu", "number = part *", "number = 0 *"),
    "terms of another group": ("direct.cu", "quotient(c) * terms", "quotient(c)"),
    "weights of another group": ("direct.cu", "own * group +", "own +"),
    "a bias for all": ("direct.cu", "b[channel * v.bias]", "b[0]"),
    "kernel places exchanged": ("direct.cu", "weights[(row - j) * EXTENT +", "weights[(row - j) +"),
    "padding is not 0": ("direct.cu", "x[from] : Pack<T, LANES>{}", "x[from] : x[0]"),
}


def check_groups(device: Device) -> None:
    for layout, groups, stride in product(LAYOUTS, (2, 4), (1, 2)):
        layer = layer_of((2, 4, 9, 7), (3, 3), 4, groups, layout, stride, padding=1)
        with in_parts():
            check(layer.run(device), layer.defined())


def test_what_is_right_passes(device):
    check_groups(device)


@pytest.mark.parametrize("file, old, new", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_caught(file, old, new):
    device = Device(Runner(sources={file: planted(file, old, new)}))
    with pytest.raises(AssertionError):
        check_groups(device)
