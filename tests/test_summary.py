"""Summaries: counts worked by hand, receptive fields seen in gradients, and peaks as measured."""

from __future__ import annotations

import math
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from layer_cases import CASES

import xpcnn
from xpcnn import layers as L
from xpcnn import models, optim, random, training
from xpcnn.layers.summary import in_bytes

KEY = random.key(3)


def summed(layer, in_shape):
    summary = layer.summary(in_shape)
    return summary.parameters, summary.multiply_adds


# ---- counts -------------------------------------------------------------------------------------


def test_the_counts_of_the_classic_convnet():
    """Of a 5x5 convolution to 32 and one to 64 maps, and linear layers of 512 and 10."""
    summary = models.convnet().summary((1, 28, 28))
    products = {row.name: row.multiply_adds for row in summary.rows if row.multiply_adds}
    assert products == {
        "0": 28 * 28 * 32 * 25,
        "3": 14 * 14 * 64 * 25 * 32,
        "7": 3136 * 512,
        "10": 512 * 10,
    }
    assert summary.parameters == 832 + 51_264 + 1_606_144 + 5_130 == 1_663_370
    assert summary.multiply_adds == 12_273_152
    assert summary.parameter_bytes == 4 * summary.parameters
    assert [row.out_shape for row in summary.rows[:3]] == [(32, 28, 28)] * 2 + [(32, 14, 14)]


def test_shared_weights_save_parameters_and_no_products():
    """20 filters of 8x8x3 on 32x32x3 with stride 2 and padding 1 make 14x14x20."""
    options = {"stride": 2, "padding": 1}
    products = 14 * 14 * 20 * 8 * 8 * 3
    apart = L.LocallyConnected2d(20, 8, **options)
    assert summed(apart, (3, 32, 32)) == (756_560, products)
    assert summed(L.Conv2d(20, 8, **options), (3, 32, 32)) == (3_860, products)


def test_a_bottleneck_saves_nine_tenths_of_the_products():
    """From 28x28x192 to 28x28x32 by 5x5 kernels, straight and through 16 channels."""
    straight = L.Conv2d(32, 5, padding="same")
    through = L.Sequential(L.Conv2d(16, 1), straight)
    assert summed(straight, (192, 28, 28))[1] == 28 * 28 * 32 * 25 * 192 == 120_422_400
    assert summed(through, (192, 28, 28))[1] == 2_408_448 + 10_035_200 == 12_443_648


def test_an_inception_module_with_bottlenecks_and_without():
    """GoogLeNet's first, on 28x28x192: 64, 128 and 32 channels, reduced to 96 and 16 before."""

    def conv(channels, size=1):
        return L.Conv2d(channels, size, padding="same")

    pool = L.MaxPool2d(3, 1, 1)
    without = L.Branches(conv(64), conv(128, 3), conv(32, 5), pool)
    reduced = L.Branches(
        conv(64),
        L.Sequential(conv(96), conv(128, 3)),
        L.Sequential(conv(16), conv(32, 5)),
        L.Sequential(pool, conv(32)),
    )
    places = 28 * 28
    ones, threes, fives = 64 * 192, 128 * 9 * 192, 32 * 25 * 192
    assert places * (ones + threes + fives) == 303_464_448
    assert summed(without, (192, 28, 28))[1] == 303_464_448
    less = 96 * 192 + 128 * 9 * 96 + 16 * 192 + 32 * 25 * 16 + 32 * 192
    assert places * (ones + less) == 128_049_152
    assert summed(reduced, (192, 28, 28))[1] == 128_049_152


@pytest.mark.parametrize(
    "layer, in_shape",
    [
        (L.Conv1d(3, 4, stride=2), (2, 11)),
        (L.Conv2d(6, (3, 2), stride=(1, 2), dilation=2, groups=2), (4, 9, 8)),
        (L.Conv3d(2, 2), (3, 4, 3, 5)),
        (L.ConvTranspose2d(6, 3, stride=2, groups=2), (4, 5, 3)),
        (L.Linear(5), (2, 3, 7)),
        (L.LocallyConnected2d(2, 3, stride=2), (3, 7, 9)),
    ],
    ids=lambda given: type(given).__name__ if isinstance(given, L.Layer) else "",
)
def test_multiply_adds_are_the_products_there_are(layer, in_shape):
    """A one for each product: what is added up from ones by weights of one, without padding."""
    planned, _ = layer.plan(in_shape)
    params = {name: np.full(one.shape, float(name == "weight")) for name, one in planned.items()}
    products = layer(params, np.ones((1, *in_shape))).sum()
    assert layer.summary(in_shape).multiply_adds == products


def test_blocks_are_summed_up_layer_by_layer():
    """On 4x6x5: two 3x3 filters of each channel, and 6 channels of these 8, at 6x5 places."""
    block = L.SeparableConv2d(6, 3, padding=1, depth_multiplier=2)
    rows = L.Sequential(block, L.SqueezeExcitation(2)).summary((4, 6, 5)).rows
    counts = {row.name: row.multiply_adds for row in rows if row.multiply_adds}
    assert counts == {
        "0.depthwise": 30 * 8 * 9,
        "0.pointwise": 30 * 6 * 8,
        "1.fc1": 3 * 6,
        "1.fc2": 6 * 3,
    }


def test_counts_of_well_known_networks():
    """As torchvision and fvcore have them, for 1000 classes."""
    expected = {
        "alexnet": (61_100_840, 714_188_480),
        "vgg16": (138_357_544, 15_470_264_320),
        "resnet18": (11_689_512, 1_814_073_344),
        "resnet50": (25_557_032, 4_089_184_256),
    }
    for name, counts in expected.items():
        assert summed(models.MODELS[name](1000), (3, 224, 224)) == counts


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.repr.split("\n")[0])
def test_every_layer_can_be_summed_up(case):
    summary = case.layer.summary(list(case.in_shape), batch_size=3, dtype="float64")
    assert summary.parameters == sum(
        math.prod(shape) for name, shape in case.shapes.items() if not L.tree.is_buffer(name)
    )
    floats = sum(math.prod(shape) for shape in case.shapes.values())
    assert summary.parameter_bytes == 8 * floats
    assert summary.inference_bytes >= 8 * (floats + 3 * math.prod(case.in_shape))
    assert summary.training_bytes >= summary.parameter_bytes + summary.kept_bytes
    assert str(summary).count("\n") == len(summary.rows) + 2


# ---- receptive fields ---------------------------------------------------------------------------


def sees(layer, in_shape):
    """Size of the box of inputs that one output or another sees, and how far apart two boxes lie.

    Of outputs in the middle, by the gradient: all weights are random, so that none is zero.
    """
    params, out_shape = layer.init(KEY, in_shape, dtype="float64")
    x = np.random.default_rng(0).standard_normal((1, *in_shape))
    y, pull = layer.vjp(params, x, key=KEY)
    boxes = {}
    for place in range(out_shape[1] // 2 - 4, out_shape[1] // 2 + 5):
        dy = np.zeros_like(y)
        dy[:, :, place, out_shape[2] // 2] = 1.0
        rows = np.flatnonzero(pull(dy)[1].any(axis=(0, 1, 3)))
        boxes[place] = rows[0], rows[-1] + 1
    size = max(end - start for start, end in boxes.values())
    starts = [start for start, _ in boxes.values()]
    return size, Fraction(int(starts[-1] - starts[0]), len(starts) - 1)


def conv(size, **options):
    return L.Conv2d(2, size, padding=size // 2 * options.get("dilation", 1), **options)


SEEING = {
    "convolutions": L.Sequential(conv(5), L.Tanh(), conv(3)),
    "strides": L.Sequential(conv(3, stride=2), conv(3), conv(5, stride=2), conv(3)),
    "dilation": L.Sequential(conv(3, dilation=2), conv(3, dilation=4)),
    "pooling": L.Sequential(conv(3), L.AvgPool2d(3, 2, 1), conv(3), L.AvgPool2d(2)),
    "padding": L.Sequential(L.Pad((4, 4, 4, 4), "reflect"), L.Conv2d(2, 5)),
    "adaptive": L.Sequential(conv(3), L.AdaptiveAvgPool2d(16), conv(3)),
    "locally": L.Sequential(L.LocallyConnected2d(2, 3), L.LocallyConnected2d(1, 3, stride=2)),
    "separable": L.SeparableConv2d(3, 5, padding=2),
    "up": L.Sequential(conv(3, stride=2), L.Upsample(scale_factor=2, mode="bilinear"), conv(3)),
    "nearest": L.Sequential(conv(5, stride=2), L.Upsample(scale_factor=2)),
    "transposed": L.Sequential(conv(3, stride=2), L.ConvTranspose2d(2, 4, stride=2, padding=1)),
    "residual": L.Sequential(conv(3), L.Residual(L.Sequential(conv(5), conv(3))), conv(3)),
    "branches": L.Sequential(
        L.Branches(conv(1), L.Sequential(conv(1), conv(7)), conv(3)), conv(3, stride=2)
    ),
    "graph": L.Graph(
        ("deep", conv(5), "input"),
        ("short", conv(3), "input"),
        ("next", conv(3), ("concat", "short", "input")),
        ("end", conv(1), ("sum", "deep", "next")),
    ),
}


@pytest.mark.parametrize("layer", SEEING.values(), ids=SEEING)
def test_an_output_sees_what_the_summary_says(layer):
    last = layer.summary((2, 64, 64)).rows[-1]
    assert last.receptive_field == (last.receptive_field[0],) * 2
    size, stride = sees(layer, (2, 64, 64))
    assert (last.receptive_field[0], last.stride[0]) == (size, stride)


def test_a_branch_beside_does_not_count():
    """The second node sees 3 places, though the first, which sees 9, is still alive."""
    graph = L.Graph(
        ("wide", L.Conv2d(2, 9, padding=4), "input"),
        ("narrow", L.Conv2d(2, 3, padding=1), ("sum", "input", "input")),
        ("end", L.ReLU(), ("sum", "wide", "narrow")),
    )
    fields = {row.name: row.receptive_field for row in graph.summary((2, 32, 32)).rows}
    assert fields == {"wide": (9, 9), "narrow": (3, 3), "end": (9, 9)}


def test_axes_are_told_apart_and_whole_images_too():
    layers = L.Conv2d(2, (3, 1), stride=(1, 2)), L.GlobalAvgPool(), L.Linear(2)
    summary = L.Sequential(*layers).summary((3, 9, 9))
    seen = [(row.receptive_field, row.stride) for row in summary.rows]
    assert seen == [((3, 1), (1, 2)), (None, None), (None, None)]
    assert [row.cells()[6:8] for row in summary.rows] == [("3x1", "1x2"), *[("all", "-")] * 2]
    [row] = L.Linear(2).summary((4,)).rows
    assert (row.receptive_field, row.stride, row.cells()[6:8]) == ((), (), ("-", "-"))


def test_fields_of_well_known_networks():
    """As Araujo, Norris & Sim tell of the last layer that is not of the whole image."""
    for name, last, field in (
        ("alexnet", "features.12", 195),
        ("vgg16", "features.30", 212),
        ("mobilenet", "13.pointwise.relu", 315),
    ):
        rows = {row.name: row for row in models.MODELS[name]().summary((3, 224, 224)).rows}
        assert rows[last].receptive_field == (field, field)
        assert rows[last].stride == (32, 32)


# ---- memory -------------------------------------------------------------------------------------


def test_what_neighbours_share_is_counted_once():
    """ReLU's output is what it keeps, and what the next convolution keeps."""
    model = L.Sequential(L.Conv2d(8, 3, padding=1), L.ReLU(), L.Conv2d(2, 1), L.MaxPool2d(2))
    with xpcnn.use("numpy"):
        summary = model.summary((4, 6, 6), batch_size=5)
    image = 5 * 36 * 4
    assert [row.kept_bytes for row in summary.rows] == [4 * image, 8 * image, 0, 2 * 5 * 9 * 8]
    assert [row.activation_bytes for row in summary.rows] == [8 * image, 8 * image, 2 * image, 360]
    assert summary.kept_bytes == sum(row.kept_bytes for row in summary.rows)
    # the batch is the caller's; ReLU's input and output live at once
    assert summary.inference_bytes == summary.parameter_bytes + (4 + 8 + 8) * image


def test_memory_grows_with_the_batch_and_the_dtype():
    model = models.lenet5()
    one, ten = (model.summary((1, 28, 28), n) for n in (1, 10))
    assert ten.kept_bytes == 10 * one.kept_bytes
    assert ten.inference_bytes - one.inference_bytes == 9 * (
        one.inference_bytes - one.parameter_bytes
    )
    assert model.summary((1, 28, 28), 10, "float64").kept_bytes == 2 * ten.kept_bytes


def test_an_update_takes_old_and_new_averages_and_weights():
    model = L.Linear(1000)
    weights = 4 * 1000 * 2000
    for averages in (0, 1, 2):
        with xpcnn.use("numpy"):
            summary = model.summary((1999,), averages=averages)
        arrays = 3 + 2 * averages + max(1, averages) * 1999 / 2000
        assert summary.training_bytes == pytest.approx(arrays * weights, rel=1e-3)


def test_what_is_frozen_has_no_gradients():
    body = L.Sequential(L.Conv2d(64, 3), L.Conv2d(64, 3))
    free, frozen = (
        L.Sequential(part, L.Flatten(), L.Linear(2)).summary((64, 8, 8))
        for part in (body, L.Frozen(body))
    )
    assert free.parameters == frozen.parameters
    weights = 4 * 2 * 64 * (64 * 9 + 1)
    assert free.training_bytes > 7 * weights
    assert weights < frozen.training_bytes < 1.5 * weights


def test_a_summary_computes_nothing_and_takes_no_memory():
    model = models.vgg16(1000)
    model.summary((3, 32, 32))
    tracemalloc.start()
    summary = model.summary((3, 224, 224), batch_size=64)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert summary.training_bytes > 5e9
    assert peak < 5e6


def block(channels):
    body = L.Conv2d(channels, 3, padding=1), L.BatchNorm(), L.ReLU(), L.Conv2d(channels, 3, 1, 1)
    return L.Sequential(L.Residual(L.Sequential(*body, L.BatchNorm())), L.ReLU())


def unit(channels, size):
    return L.Sequential(L.Conv2d(channels, size, padding=size // 2), L.ReLU())


HEAD = (L.GlobalAvgPool(), L.Linear(10))
MEASURED = {
    "convnet": (models.convnet(), (1, 28, 28), 96),
    "lenet5": (models.lenet5(), (1, 28, 28), 192),
    "VGG": (
        L.Sequential(unit(16, 3), unit(16, 3), L.MaxPool2d(2), unit(32, 3), L.MaxPool2d(2), *HEAD),
        (3, 48, 48),
        16,
    ),
    "ResNet": (
        L.Sequential(L.Conv2d(16, 3, 2, 1), L.BatchNorm(), L.ReLU(), block(16), block(16), *HEAD),
        (3, 64, 64),
        16,
    ),
    "Inception": (
        L.Sequential(
            unit(24, 5),
            L.MaxPool2d(3, 2, 1),
            L.Branches(unit(8, 1), L.Sequential(unit(8, 1), unit(16, 3)), unit(8, 5)),
            L.Dropout(0.4),
            *HEAD,
        ),
        (3, 48, 48),
        16,
    ),
}


def peaks(model, in_shape, images):
    """Of inference and of a training step, in bytes, as NumPy tells of its arrays."""
    adam = optim.Adam()
    tracemalloc.start()
    numbers = np.random.default_rng(0)
    x = numbers.standard_normal((images, *in_shape), np.float32)
    y = numbers.integers(0, 10, images)
    params, _ = model.init(KEY, in_shape)
    tracemalloc.reset_peak()
    model(params, x)
    _, inference = tracemalloc.get_traced_memory()
    state = training.init_state(model, adam, params)
    tracemalloc.reset_peak()
    training.train_step(model, adam, params, state, x, y, key=KEY)
    _, step = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return inference, step


@pytest.mark.parametrize("model, in_shape, images", MEASURED.values(), ids=MEASURED)
def test_predicted_peaks_are_the_measured_ones(model, in_shape, images):
    with xpcnn.use("numpy", workspace=2**20, winograd=False):
        summary = model.summary(in_shape, images)
        model(model.init(KEY, in_shape)[0], np.zeros((2, *in_shape), np.float32))  # imports, caches
        inference, step = peaks(model, in_shape, images)
    assert summary.inference_bytes == pytest.approx(inference, rel=0.2)
    assert summary.training_bytes == pytest.approx(step, rel=0.2)


# ---- tables and errors --------------------------------------------------------------------------


def test_the_table():
    model = L.Sequential(L.Conv2d(8, 3, padding=1), L.ReLU(), L.GlobalAvgPool())
    assert str(model.summary((3, 32, 32), batch_size=64)).splitlines()[:4] == [
        "name  output   parameters  multiply-adds  activations      kept  field  stride  layer",
        "0     8x32x32         224        221,184     2.00 MiB   768 KiB      3       1  "
        "Conv2d(out_channels=8, kernel_size=(3, 3), padding=(1, 1))",
        "1     8x32x32           0              0     2.00 MiB  2.00 MiB      3       1  ReLU()",
        "2     8                 0              0     2.00 KiB         0    all       -  "
        "GlobalAvgPool()",
    ]
    assert "64x3x32x32 in float32" in str(model.summary((3, 32, 32), batch_size=64))


def test_bytes_are_told_in_three_digits():
    told = [in_bytes(n) for n in (0, 1023, 1024, 10**4, 10**6, 5 * 2**40)]
    assert told == ["0", "1023 B", "1.00 KiB", "9.77 KiB", "977 KiB", "5.00 TiB"]


@pytest.mark.parametrize(
    "given, error, message",
    [
        ({"in_shape": (3, 0, 5)}, ValueError, "summary: in_shape=(3, 0, 5); give the shape of one"),
        ({"in_shape": "3x5x5"}, TypeError, "summary: in_shape='3x5x5'; give the shape of one"),
        ({"in_shape": (3, 2, 2)}, ValueError, "layer 0: conv2d: along H a kernel of 3"),
        ({"batch_size": 0}, ValueError, "summary: batch_size=0; give an int of at least 1"),
        ({"dtype": "int8"}, ValueError, "summary: dtype='int8'; choose one of float16"),
        ({"averages": -1}, ValueError, "summary: averages=-1; give an int of at least 0"),
        ({"averages": 0.5}, TypeError, "summary: averages=0.5; give an int of at least 0"),
    ],
)
def test_bad_calls(given, error, message):
    with pytest.raises(error) as caught:
        L.Sequential(L.Conv2d(2, 3)).summary(**{"in_shape": (3, 5, 5), **given})
    assert str(caught.value).startswith(message)
