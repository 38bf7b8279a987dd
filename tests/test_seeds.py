"""What five texts that build a CNN by hand work out, row by row, with their numbers.

Where a text errs, the right number stands here and the error is named. Rows 2 and 3 are figures:
what they compute is tested here, and that they show it, in test_teaching_plots.py. Row 10 is
augmentation, and is tested in test_augmentation.py.
"""

from __future__ import annotations

import itertools
from math import prod

import naive
import numpy as np
import pytest
from checks import vjp_of

import xpcnn
from xpcnn import data, layers, models, ops, optim, random
from xpcnn.layers import tree
from xpcnn.training.step import init_state, train_step

PLANE = np.array(
    [[10.0, 8.0, 9.0, 7.0], [2.0, 2.0, 12.0, 3.0], [20.0, 15.0, 8.0, 9.0], [13.0, 21.0, 23.0, 12.0]]
)
"""The 4x4 image of row 19."""


def image(plane) -> np.ndarray:
    """A plane as a batch of one image of one channel."""
    return np.asarray(plane, np.float64)[None, None]


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape)


def on(xp, op, *arrays, **options) -> np.ndarray:
    """op(*arrays, **options) on xp's arrays, as a NumPy array."""
    given = [xp.asarray(np.asarray(a)) for a in arrays]
    return xp.to_numpy(op(*given, **options))


def equal(actual, expected) -> None:
    np.testing.assert_array_equal(actual, expected)


# ---- 000: the convolutional network from the ground up ------------------------------------------


def test_row_01_convolution_by_columns_and_direct(xp):
    x, w = image(np.arange(9).reshape(3, 3)), image([[3, 2], [1, 0]])
    columns = [[0, 1, 3, 4], [1, 2, 4, 5], [3, 4, 6, 7], [4, 5, 7, 8]]
    equal(on(xp, ops.conv2d, x, w)[0, 0], [[5, 11], [23, 29]])
    equal(on(xp, ops.unfold, x, kernel_size=2)[0].T, columns)
    equal(columns @ w.reshape(-1), [5, 11, 23, 29])

    x = np.arange(54.0).reshape(2, 3, 3, 3)
    w = np.arange(24.0).reshape(2, 3, 2, 2)
    y = on(xp, ops.conv2d, x, w)
    equal(y[:, :, 0, 0], [[1035, 2619], [2817, 8289]])
    by_columns = w.reshape(2, -1) @ on(xp, ops.unfold, x, kernel_size=2)
    equal(y.reshape(2, 2, 4), by_columns)
    equal(y, naive.conv(x, w))


def test_row_01_the_race_of_64_images_ends_equal(engine):
    x, w, b = normal(64, 3, 28, 28), normal(4, 3, 3, 3), normal(4)
    by_columns = w.reshape(4, -1) @ ops.unfold(x, 3, padding=1) + b[:, None]
    with xpcnn.use(engine):
        y = ops.conv2d(x, w, b, padding=1)
    np.testing.assert_allclose(y, by_columns.reshape(64, 4, 28, 28), rtol=0, atol=1e-7)


NINE_FILTERS = {
    "sharpen": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
    "vertical edge": [[0, 0, 0], [-1, 2, -1], [0, 0, 0]],
    "surround": [[1, 1, 1], [1, -9, 1], [1, 1, 1]],
    "Sobel y": [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
    "identity": [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
    "horizontal edge": [[0, -1, 0], [0, 2, 0], [0, -1, 0]],
    "blur": [[0.11, 0.11, 0.11], [0.11, 0.11, 0.11], [0.11, 0.11, 0.11]],
    "Sobel x": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
    "emboss": [[2, 0, 0], [0, -1, 0], [0, 0, -1]],
}
"""Those of row 2, in the text's numbers."""


def photo(*shape: int) -> np.ndarray:
    """Planes (C, H, W) in [0, 1] of smooth shapes, an edge and fine grain, as photos have them."""
    c, i, j = np.indices(shape)
    smooth = 0.5 + 0.3 * np.sin(i / 5 + c) * np.cos(j / 7) + np.where(j > shape[2] // 2, 0.15, 0.0)
    return np.clip(smooth + 0.02 * normal(*shape), 0, 1)


def test_row_02_the_nine_filters_of_a_photo(xp):
    """The text's blur darkens by a hundredth: nine times 0.11 is 0.99."""
    pytest.importorskip("matplotlib")
    from xpcnn.plots import FILTERS

    assert list(FILTERS) == list(NINE_FILTERS)
    for name, rows in NINE_FILTERS.items():
        np.testing.assert_allclose(FILTERS[name], rows, rtol=0, atol=0.002 if name == "blur" else 0)
    np.testing.assert_allclose(FILTERS["blur"].sum(), 1.0, rtol=1e-6)

    grey, kernels = photo(1, 21, 30), np.stack(list(FILTERS.values())).astype(np.float64)
    maps = on(xp, ops.conv2d, grey[None], kernels[:, None], padding=1)[0]
    assert maps.shape == (9, 21, 30)
    for found, kernel in zip(maps, kernels, strict=True):
        naive.assert_close(found, naive.correlate(grey[0], kernel, "same"), 9)


def test_row_02_opencv_finds_the_same_in_a_colour_photo(xp):
    """Each channel by itself: OpenCV's are in the order blue, green, red, and stay so."""
    cv2 = pytest.importorskip("cv2")
    rgb = photo(3, 21, 30)
    bgr = np.ascontiguousarray(rgb[::-1].transpose(1, 2, 0))
    for rows in NINE_FILTERS.values():
        kernel = np.asarray(rows, np.float64)
        theirs = cv2.filter2D(bgr, cv2.CV_64F, kernel, borderType=cv2.BORDER_CONSTANT)
        depthwise = np.broadcast_to(kernel, (3, 1, 3, 3)).copy()
        ours = on(xp, ops.conv2d, rgb[None], depthwise, padding=1, groups=3)[0]
        naive.assert_close(ours, theirs.transpose(2, 0, 1)[::-1], 9)


def test_row_03_a_colour_photo_through_convolution_relu_and_pool(xp):
    rgb = photo(3, 21, 30)[None]
    kernel = np.broadcast_to(np.asarray(NINE_FILTERS["Sobel x"], np.float64), (1, 3, 3, 3)).copy()
    convolved = on(xp, ops.conv2d, rgb, kernel)
    rectified = on(xp, ops.relu, convolved)
    pooled = on(xp, ops.max_pool2d, rectified, kernel_size=2)
    shapes = [a.shape for a in (convolved, rectified, pooled)]
    assert shapes == [(1, 1, 19, 28), (1, 1, 19, 28), (1, 1, 9, 14)]  # the odd row is left out
    by_channel = [naive.correlate(plane, kernel[0, 0], "valid") for plane in rgb[0]]
    naive.assert_close(convolved[0, 0], sum(by_channel), 27)
    assert convolved.min() < 0 < convolved.max()
    equal(rectified, np.maximum(convolved, 0))
    equal(pooled, naive.max_pool(rectified, 2, 2)[0])
    edge = convolved[0, 0, :, 14:16]  # where the photo turns brighter, from column 15 to 16
    assert edge.mean() > 4 * np.abs(convolved).mean()


def test_row_04_a_kernel_is_learned_from_an_image_and_its_target(xp):
    kernel = image([[0, -1, 0], [0, 2, 0], [0, -1, 0]])
    digits = data.digits().train[0][:16, 0] / 255.0
    picture = image(np.block([list(digits[i : i + 4]) for i in range(0, 16, 4)]))
    x, target = xp.asarray(picture), xp.asarray(naive.conv(picture, kernel))
    w = xp.asarray(0.1 * normal(1, 1, 3, 3))
    for _ in range(10_000):
        y, pull = xpcnn.vjp(ops.conv2d, x, w, wrt=("w",))
        error = y - target
        m = prod(y.shape)
        if np.sum(xp.to_numpy(error) ** 2) / 2 / m < 1e-7:
            break
        w = w - 0.5 * pull(error / m)[1]
    else:
        pytest.fail("the loss stayed above 1e-7")
    np.testing.assert_allclose(xp.to_numpy(w), kernel, rtol=0, atol=1e-2)


def test_row_05_two_dice_and_the_flipped_kernel(xp):
    die = np.full(6, 1 / 6)
    total = on(xp, ops.convolve, die, die)  # of 2 to 12 points
    np.testing.assert_allclose(total[4 - 2], 3 / 36)
    np.testing.assert_allclose(total.sum(), 1.0)
    x, k = normal(5, 6), normal(3, 2)
    for mode in ("full", "same", "valid"):
        convolved = on(xp, ops.convolve, x, k, mode=mode)
        equal(convolved, on(xp, ops.correlate, x, k[::-1, ::-1], mode=mode))
        naive.assert_close(convolved, naive.convolve(x, k, mode), k.size)


def test_row_06_one_and_many_channels(xp):
    x, w = normal(1, 1, 4, 4), normal(2, 1, 3, 3)
    one_to_many = on(xp, ops.conv2d, x, w)
    assert one_to_many.shape == (1, 2, 2, 2)
    for o in range(2):
        naive.assert_close(one_to_many[0, o], naive.correlate(x[0, 0], w[o, 0], "valid"), 9)

    x, w, b = normal(1, 3, 3, 3), normal(2, 3, 2, 2), np.array([10.0, -5.0])
    features = np.array(
        [[naive.correlate(x[0, c], w[o, c], "valid") for c in range(3)] for o in range(2)]
    )
    many_to_one = on(xp, ops.conv2d, x, w[:1])
    assert many_to_one.shape == (1, 1, 2, 2)
    naive.assert_close(many_to_one[0, 0], features[0].sum(0), 12)
    many_to_many = on(xp, ops.conv2d, x, w, b)
    assert many_to_many.shape == (1, 2, 2, 2)
    naive.assert_close(many_to_many[0], features.sum(1) + b[:, None, None], 12)


def test_row_07_the_gradient_is_a_convolution_with_the_turned_kernel(xp):
    x, w = normal(1, 1, 10, 8), normal(1, 1, 5, 5)
    y, pull = xpcnn.vjp(ops.conv2d, xp.asarray(x), xp.asarray(w))
    assert tuple(y.shape) == (1, 1, 6, 4)
    delta = normal(1, 1, 6, 4)
    padded = on(xp, ops.pad, delta, pad=(4, 4, 4, 4))
    assert padded.shape == (1, 1, 14, 12)
    turned = on(xp, ops.conv2d, padded, w[:, :, ::-1, ::-1])
    assert turned.shape == x.shape
    naive.assert_close(xp.to_numpy(pull(xp.asarray(delta))[0]), turned, 25)


@pytest.mark.parametrize(
    ("size", "f", "s"), [(4, 2, 2), (4, 2, 1), (7, 3, 2), (6, 2, 3), (5, 5, 1)]
)
def test_row_08_pooling_of_any_size_and_stride(xp, size, f, s):
    x = normal(1, 2, size, size)
    out = (size - f) // s + 1
    for op, reduce in ((ops.max_pool2d, np.max), (ops.avg_pool2d, np.mean)):
        y = on(xp, op, x, kernel_size=f, stride=s)
        assert y.shape == (1, 2, out, out)  # as many channels as before
        for i, j in np.ndindex(out, out):
            window = x[:, :, i * s : i * s + f, j * s : j * s + f]
            np.testing.assert_allclose(y[:, :, i, j], reduce(window, axis=(2, 3)))


def test_row_08_the_gradients_of_pooling(xp):
    plane = [[1, 2, 3, 4], [5, 6, 7, 8], [9, 8, 7, 6], [1, 2, 3, 4]]
    residual = image([[1, 2], [3, 4]])
    _, (to_maxima,) = vjp_of(ops.max_pool2d, [image(plane)], residual, 2, xp=xp)
    equal(to_maxima[0, 0], [[0, 0, 0, 0], [0, 1, 0, 2], [3, 0, 4, 0], [0, 0, 0, 0]])
    _, (spread,) = vjp_of(ops.avg_pool2d, [image(plane)], residual, 2, xp=xp)
    equal(spread[0, 0], np.kron([[0.25, 0.5], [0.75, 1.0]], np.ones((2, 2))))


def classic_net(initialiser: str) -> layers.Sequential:
    """conv 4, pool, conv 4x6, pool, two linear layers: softmax is in the loss."""
    return layers.Sequential(
        layers.Conv2d(4, 3, padding=1, weight_init=initialiser), layers.ReLU(), layers.MaxPool2d(2),
        layers.Conv2d(6, 3, padding=1, weight_init=initialiser), layers.ReLU(), layers.MaxPool2d(2),
        layers.Flatten(),
        layers.Linear(32, weight_init=initialiser), layers.ReLU(),
        layers.Linear(10, weight_init=initialiser),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("initialiser", "optimizer"),
    [
        ("xavier_normal", optim.SGD(0.2)),
        ("he_normal", optim.SGD(0.02, momentum=0.9)),  # MSRA's
    ],
    ids=["Xavier, SGD", "MSRA, momentum"],
)
def test_row_09_the_classic_net_trains_on_digits(xp, tmp_path, initialiser, optimizer):
    model, device = classic_net(initialiser), xpcnn.device(xp.spec)
    (images, labels), (test_images, test_labels) = data.digits().train, data.digits().test
    params, out_shape = model.init(random.key(0), (1, 8, 8), device=device)
    assert out_shape == (10,)
    state = init_state(model, optimizer, params)
    for start in [*range(0, 1424, 16)] * 2:
        x = device.asarray(images[start : start + 16] / 255.0, "float32")
        y = device.asarray(labels[start : start + 16])
        params, state, *_ = train_step(model, optimizer, params, state, x, y)
    logits = model(params, device.asarray(test_images / 255.0, "float32"))
    accuracy = np.mean(xp.to_numpy(logits).argmax(1) == test_labels)
    assert accuracy > 0.6  # of guessing's 0.1, after two epochs

    # one-hot labels say the same
    one_hot = device.asarray(np.eye(10)[test_labels], "float32")
    by_class = ops.cross_entropy(logits, device.asarray(test_labels))
    naive.assert_close(
        xp.to_numpy(ops.cross_entropy(logits, one_hot)), xp.to_numpy(by_class), len(test_labels)
    )
    # and saved weights come back as they were
    flat = {name: xp.to_numpy(array) for name, array in tree.flatten(params).items()}
    np.savez(tmp_path / "weights.npz", **flat)
    with np.load(tmp_path / "weights.npz", allow_pickle=False) as file:
        loaded = tree.unflatten({name: device.asarray(file[name]) for name in file.files})
    for name, array in tree.flatten(loaded).items():
        equal(xp.to_numpy(array), flat[name])


# ---- 001: backward through a strided, padded NHWC convolution -----------------------------------


def insert_zeros(dz: np.ndarray, strides) -> np.ndarray:
    n, h, w, c = dz.shape
    wide = np.zeros((n, (h - 1) * strides[0] + 1, (w - 1) * strides[1] + 1, c))
    wide[:, :: strides[0], :: strides[1]] = dz
    return wide


@pytest.mark.parametrize(
    ("pads", "strides"), [((0, 0), (1, 1)), ((1, 1), (2, 2)), ((1, 2), (2, 3))]
)
def test_row_11_backward_by_inserted_zeros_and_by_loops(xp, pads, strides):
    size = [6 * s + 3 - 2 * p for s, p in zip(strides, pads, strict=True)]  # leaves nothing over
    x, w = normal(2, *size, 3), normal(4, 3, 3, 3)
    y = on(xp, ops.conv2d, x, w, stride=strides, padding=pads, exact=True, layout="NHWC")
    assert y.shape == (2, 7, 7, 4)
    dz = normal(*y.shape)
    _, (dx, dw, _) = vjp_of(
        ops.conv2d, [x, w, None], dz, strides, pads, exact=True, layout="NHWC", xp=xp
    )

    turned = np.swapaxes(w[:, :, ::-1, ::-1], 0, 1)
    full = on(xp, ops.conv2d, insert_zeros(dz, strides), turned, padding=2, layout="NHWC")
    (ph, pw), (_, h, width, _) = pads, full.shape
    naive.assert_close(dx, full[:, ph : h - ph, pw : width - pw], 36)

    first, dz_first = np.moveaxis(x, -1, 1), np.moveaxis(dz, -1, 1)
    loops = naive.conv_dx(dz_first, w, first.shape[2:], strides, pads)
    naive.assert_close(dx, np.moveaxis(loops, 1, -1), 36)
    naive.assert_close(dw, naive.conv_dw(first, dz_first, (3, 3), strides, pads), y.size)


def test_row_11_a_size_that_does_not_divide_is_an_error(xp):
    x, w = xp.asarray(normal(1, 8, 7, 3)), xp.asarray(normal(4, 3, 3, 3))
    with pytest.raises(ValueError, match=r"exact=True, but along H 8 .* 7 or 9 would fit"):
        ops.conv2d(x, w, stride=2, exact=True, layout="NHWC")
    assert tuple(ops.conv2d(x, w, stride=2, layout="NHWC").shape) == (1, 3, 3, 4)


# ---- 002: what a convolutional network is made of -----------------------------------------------


@pytest.mark.parametrize(("pad", "stride"), [(0, 1), (1, 1), (1, 2), (2, 3)])
def test_row_12_the_naive_convolution_with_pad_and_stride(xp, pad, stride):
    x, w, b = normal(2, 3, 5, 6), normal(4, 3, 3, 4), normal(4)
    y = naive.conv(x, w, b, stride, pad)
    assert y.shape[2:] == (1 + (5 + 2 * pad - 3) // stride, 1 + (6 + 2 * pad - 4) // stride)
    dy = normal(*y.shape)
    actual, (dx, dw, db) = vjp_of(ops.conv2d, [x, w, b], dy, stride, pad, xp=xp)
    naive.assert_close(actual, y, 36)
    naive.assert_close(dx, naive.conv_dx(dy, w, (5, 6), stride, pad), 48)
    naive.assert_close(dw, naive.conv_dw(x, dy, (3, 4), stride, pad), y.size)
    naive.assert_close(db, dy.sum((0, 2, 3)), y.size)


def test_row_12_max_pooling_takes_its_size_from_the_stride_and_has_a_gradient(xp):
    """The text's output size forgets the stride, and its gradient is not finished."""
    x = normal(2, 3, 7, 6)
    y, indices = naive.max_pool(x, (3, 2), 2)
    assert y.shape == (2, 3, 3, 3)  # the text's 7 // 3 and 6 // 2 rows and columns would be 2 and 3
    dy = normal(*y.shape)
    actual, (dx,) = vjp_of(ops.max_pool2d, [x], dy, (3, 2), 2, xp=xp)
    equal(actual, y)
    naive.assert_close(dx, naive.max_pool_dx(dy, indices, (7, 6)), 4)


def test_row_13_same_and_valid_on_channels_last(xp):
    """TensorFlow's filters are (height, width, in, out): permuted, they are ours."""
    x, hwio = normal(2, 32, 32, 3), normal(8, 8, 3, 20)
    w = hwio.transpose(3, 2, 0, 1)
    same = on(xp, ops.conv2d, x, w, stride=(2, 2), padding="same", layout="NHWC")
    assert same.shape == (2, 16, 16, 20)  # ceil(32 / 2)
    written_out = np.pad(x, ((0, 0), (3, 3), (3, 3), (0, 0)))
    naive.assert_close(same, on(xp, ops.conv2d, written_out, w, stride=2, layout="NHWC"), 192)
    valid = on(xp, ops.conv2d, x, w, stride=(2, 3), padding="valid", layout="NHWC")
    assert valid.shape == (2, 13, 9, 20)  # ceil((32 - 8 + 1) / 2), ceil((32 - 8 + 1) / 3)

    x = np.arange(80.0).reshape(1, 4, 4, 5)
    averages = on(xp, ops.avg_pool2d, x, kernel_size=2, padding="valid", layout="NHWC")
    assert averages.shape == (1, 2, 2, 5)
    equal(averages, x.reshape(1, 2, 2, 2, 2, 5).mean((2, 4)))
    x = np.arange(25.0).reshape(1, 5, 5, 1)
    maxima = on(xp, ops.max_pool2d, x, kernel_size=2, padding="same", layout="NHWC")
    equal(maxima[0, :, :, 0], [[6, 8, 9], [16, 18, 19], [21, 23, 24]])


def count(layer: layers.Layer, in_shape) -> tuple[int, tuple[int, ...]]:
    """How many parameters a layer has, and its output's shape."""
    params, out_shape = layer.init(random.key(0), in_shape)
    return sum(a.size for a in tree.leaves(params)), out_shape


def test_row_14_parameters_with_sharing_and_without():
    in_shape, out_shape = (3, 32, 32), (20, 14, 14)
    without = layers.LocallyConnected2d(20, 8, stride=2, padding=1)
    assert count(without, in_shape) == (756_560, out_shape)
    assert count(layers.Conv2d(20, 8, stride=2, padding=1), in_shape) == (3_860, out_shape)


def multiplications(model: layers.Layer, in_shape) -> int:
    """For each place of each convolution's output, as many as one of its filters has weights."""
    total = 0
    for layer in model.layers:
        params, in_shape = layer.init(random.key(0), in_shape)
        if "weight" in params:
            total += prod(in_shape[1:]) * params["weight"].size
    return total


def test_row_15_a_bottleneck_saves_nine_tenths_of_the_multiplications():
    """The text counts in ten thousands and drops a factor of 100: 120 million against 12.4."""
    in_shape = (192, 28, 28)
    wide = layers.Sequential(layers.Conv2d(32, 5, padding="same"))
    narrow = layers.Sequential(layers.Conv2d(16, 1), layers.ReLU(), *wide.layers)
    assert multiplications(wide, in_shape) == 28 * 28 * 32 * 5 * 5 * 192 == 120_422_400
    by_hand = 28 * 28 * 16 * 192 + 28 * 28 * 32 * 5 * 5 * 16
    assert multiplications(narrow, in_shape) == by_hand == 12_443_648
    assert count(wide, in_shape)[1] == count(narrow, in_shape)[1] == (32, 28, 28)


def test_row_15_an_inception_module_is_its_branches_side_by_side(xp):
    same = {"padding": "same"}
    module = layers.Branches(
        layers.Conv2d(4, 1),
        layers.Sequential(layers.Conv2d(3, 1), layers.ReLU(), layers.Conv2d(6, 3, **same)),
        layers.Sequential(layers.Conv2d(2, 1), layers.ReLU(), layers.Conv2d(3, 5, **same)),
        layers.Sequential(layers.MaxPool2d(3, stride=1, **same), layers.Conv2d(2, 1)),
    )
    device = xpcnn.device(xp.spec)
    params, out_shape = module.init(random.key(1), (5, 7, 7), dtype="float64", device=device)
    assert out_shape == (4 + 6 + 3 + 2, 7, 7)
    x = xp.asarray(normal(2, 5, 7, 7))
    y, pull = module.vjp(params, x)
    parts = [layer(params[name], x) for name, layer in module.children]
    equal(xp.to_numpy(y), np.concatenate([xp.to_numpy(part) for part in parts], axis=1))

    dy = normal(*y.shape)
    grads, dx = pull(xp.asarray(dy))
    total, start = 0.0, 0
    for (name, layer), part in zip(module.children, parts, strict=True):
        stop = start + part.shape[1]
        own, part_dx = layer.vjp(params[name], x)[1](xp.asarray(dy[:, start:stop].copy()))
        total, start = total + xp.to_numpy(part_dx), stop
        for key, grad in tree.flatten(own).items():
            equal(xp.to_numpy(tree.flatten(grads[name])[key]), xp.to_numpy(grad))
    naive.assert_close(xp.to_numpy(dx), total, 4)


def test_row_15_dropout_zeroes_half_and_doubles_the_rest(xp):
    """Backward too, where the text forgets the factor of two; at inference nothing happens."""
    x, dy = np.full((100, 100), 2.0), normal(100, 100)
    y, pull = xpcnn.vjp(ops.dropout, xp.asarray(x), 0.5, key=random.key(3))
    y, (dx,) = xp.to_numpy(y), pull(xp.asarray(dy))
    assert set(np.unique(y)) == {0.0, 4.0}
    assert abs(np.mean(y == 0) - 0.5) < 4 * 0.5 / 100  # four standard deviations
    equal(xp.to_numpy(dx), np.where(y == 0, 0.0, 2.0 * dy))
    equal(xp.to_numpy(layers.Dropout(0.5)({}, xp.asarray(x))), x)


# ---- 003: convolution and pooling layers --------------------------------------------------------


def test_row_16_correlation_and_the_edge_detector(xp):
    x = np.arange(9.0).reshape(3, 3)
    k = np.array([[0.0, 1.0], [2.0, 3.0]])
    equal(on(xp, ops.correlate, x, k, mode="valid"), [[19, 25], [37, 43]])

    stripes = np.ones((6, 8))
    stripes[:, 2:6] = 0.0
    edges = on(xp, ops.correlate, stripes, np.array([[1.0, -1.0]]), mode="valid")
    equal(edges, np.tile([0.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0], (6, 1)))


def test_row_16_the_edge_detector_is_learned_in_ten_steps(xp):
    stripes = np.ones((6, 8))
    stripes[:, 2:6] = 0.0
    x = xp.asarray(image(stripes))
    target = ops.conv2d(x, xp.asarray(image([[1, -1]])))
    w = xp.asarray(layers.initializers.initialize("xavier_uniform", random.key(0), (1, 1, 1, 2)))
    losses = []
    for _ in range(10):
        y, pull = xpcnn.vjp(ops.conv2d, x, w, wrt=("w",))
        losses.append(float(np.sum(xp.to_numpy(y - target) ** 2)))
        w = w - 3e-2 * pull(2.0 * (y - target))[1]
    assert all(later < earlier for earlier, later in itertools.pairwise(losses))
    assert losses[-1] < 1.0  # the text's own run ends at 0.4, of 16 at the second step
    np.testing.assert_allclose(xp.to_numpy(w)[0, 0, 0], [1.0, -1.0], atol=0.15)


def test_row_16_the_receptive_field_grows_with_depth(xp):
    """One output of two stacked 2x2 kernels sees all nine inputs."""
    ones = xp.asarray(np.ones((1, 1, 2, 2)))
    middle, pull_first = xpcnn.vjp(ops.conv2d, xp.asarray(np.ones((1, 1, 3, 3))), ones)
    top, pull_second = xpcnn.vjp(ops.conv2d, middle, ones)
    assert (tuple(middle.shape), tuple(top.shape)) == ((1, 1, 2, 2), (1, 1, 1, 1))
    seen = pull_first(pull_second(xp.asarray(np.ones((1, 1, 1, 1))))[0])[0]
    equal(xp.to_numpy(seen)[0, 0], [[1, 2, 1], [2, 4, 2], [1, 2, 1]])


@pytest.mark.parametrize("pads", [((1, 1), (1, 1)), ((0, 1), (2, 0)), ((2, 1), (0, 3))])
@pytest.mark.parametrize("stride", [(1, 1), (3, 2), (2, 3)])
def test_row_16_output_size_with_pads_and_strides(xp, pads, stride):
    n, k = (5, 7), (2, 3)
    y = on(xp, ops.conv2d, normal(1, 1, *n), normal(1, 1, *k), stride=stride, padding=pads)
    assert y.shape[2:] == tuple(
        (n[i] + sum(pads[i]) - k[i] + stride[i]) // stride[i] for i in range(2)
    )


def test_row_16_stride_three_by_two_over_a_padded_plane(xp):
    x, w = image(np.arange(9).reshape(3, 3)), image([[0, 1], [2, 3]])
    equal(on(xp, ops.conv2d, x, w, stride=(3, 2), padding=1)[0, 0], [[0, 8], [6, 8]])


def test_row_17_the_layers_of_keras(xp):
    x, w, b = normal(4, 2, 3, 2), normal(5, 2, 2, 3), normal(5)
    y = on(xp, ops.conv2d, x, w, b, padding="same", layout="NHWC")
    assert y.shape == (4, 2, 3, 5)
    first = naive.conv(np.moveaxis(x, -1, 1), w, b, padding="same")
    naive.assert_close(y, np.moveaxis(first, 1, -1), 12)
    valid = on(xp, ops.conv2d, x, w, padding="valid", layout="NHWC")
    assert valid.shape == (4, 1, 1, 5)

    options = {"kernel_size": 3, "stride": (2, 1), "padding": "same", "layout": "NHWC"}
    x = np.arange(32).reshape(1, 4, 4, 2)
    equal(
        on(xp, ops.max_pool2d, x, **options)[0],
        [[[18, 19], [20, 21], [22, 23], [22, 23]], [[26, 27], [28, 29], [30, 31], [30, 31]]],
    )
    averages = on(xp, ops.avg_pool2d, x.astype(np.float64), **options, count_include_pad=False)
    equal(averages[0, :, :, 0], [[9, 10, 12, 13], [21, 22, 24, 25]])
    small = on(xp, ops.avg_pool2d, x.astype(np.float64), kernel_size=2, layout="NHWC")
    equal(small[0, :, :, 1], [[6, 10], [22, 26]])


# ---- 004: a network for MNIST, from hand-made blocks --------------------------------------------


def test_row_18_the_mnist_network_trains_on_28x28_images(xp):
    """Two of conv 5x5, ReLU and pool (32, 64), then 512, dropout and 10: on enlarged digits."""
    model, device = models.convnet(), xpcnn.device(xp.spec)
    assert count(model, (1, 28, 28)) == (1_663_370, (10,))
    images, labels = data.digits().train
    large = np.pad(images[:16].repeat(3, 2).repeat(3, 3), ((0, 0), (0, 0), (2, 2), (2, 2)))
    x = device.asarray(large / 255.0, "float32")
    y = device.asarray(labels[:16])
    assert tuple(x.shape) == (16, 1, 28, 28)
    optimizer = optim.SGD(0.02, momentum=0.9)
    params, _ = model.init(random.key(0), (1, 28, 28), device=device)
    state = init_state(model, optimizer, params)
    losses = []
    for step in range(10):
        key = random.fold_in(random.key(1), step)
        params, state, loss, _ = train_step(model, optimizer, params, state, x, y, key=key)
        losses.append(float(loss))
    assert np.mean(losses[-2:]) < 0.5 * losses[0]  # each step drops other units: one may be unlucky


def test_row_19_the_four_by_four_image(xp):
    x = image(PLANE)
    equal(on(xp, ops.conv2d, x, np.ones((1, 1, 3, 3)))[0, 0], [[86, 73], [116, 105]])

    equal(on(xp, ops.max_pool2d, x, kernel_size=2)[0, 0], [[10, 12], [21, 23]])
    # the text finds the same for the image shifted by one, but 21 has left its window
    shifted = image(np.pad(PLANE, ((0, 0), (1, 0)))[:, :4])
    equal(on(xp, ops.max_pool2d, shifted, kernel_size=2)[0, 0], [[10, 12], [20, 23]])

    columns = on(xp, ops.unfold, x, kernel_size=3, padding=1)[0].T
    assert columns.shape == (16, 9)
    equal(columns[0], [0, 0, 0, 0, 10, 8, 0, 2, 2])
    equal(columns[1], [0, 0, 0, 10, 8, 9, 2, 2, 12])
    equal(columns[-1], [8, 9, 0, 23, 12, 0, 0, 0, 0])
    kernel = np.arange(1.0, 10.0)
    y = on(xp, ops.conv2d, x, kernel.reshape(1, 1, 3, 3), padding=1)
    equal(y.reshape(-1), columns @ kernel)


def test_row_19_gradients_by_columns_and_where_the_maximum_was(xp):
    x, w, dy = image(PLANE), np.arange(1.0, 10.0).reshape(1, 1, 3, 3), normal(1, 1, 4, 4)
    _, (dx, dw, db) = vjp_of(ops.conv2d, [x, w, np.zeros(1)], dy, padding=1, xp=xp)
    columns = naive.unfold(x, 3, padding=1)[0].T
    naive.assert_close(dw.reshape(-1), columns.T @ dy.reshape(-1), 16)
    naive.assert_close(dx, naive.conv(dy, w[:, :, ::-1, ::-1], padding=1), 9)
    naive.assert_close(db, dy.sum((0, 2, 3)), 16)

    # the text puts a window's maximum on its diagonal; 12, 21 and 20 show where it belongs
    _, (dx,) = vjp_of(ops.max_pool2d, [x], image([[1, 2], [3, 4]]), 2, xp=xp)
    equal(dx[0, 0], [[1, 0, 0, 0], [0, 0, 2, 0], [0, 0, 0, 0], [0, 3, 4, 0]])
    assert on(xp, ops.max_pool2d, x, kernel_size=3, stride=1).shape[2:] == (2, 2)  # (4 - 3)/1 + 1


def test_row_19_softmax_with_its_loss_and_the_update(xp):
    logits, labels = normal(5, 4), np.array([0, 3, 1, 1, 2])
    loss, pull = xpcnn.vjp(ops.cross_entropy, xp.asarray(logits), xp.asarray(labels), wrt=("x",))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    naive.assert_close(xp.to_numpy(loss), -np.mean(np.log(p[np.arange(5), labels])), 5)
    naive.assert_close(xp.to_numpy(pull(1.0)[0]), (p - np.eye(4)[labels]) / 5, 5)

    # learning rate, decay and momentum, by hand for two steps
    lr, decay, momentum = 0.1, 0.01, 0.9
    w, g = normal(3, 4), normal(4, 3).T
    optimizer = optim.SGD(lr, momentum=momentum, weight_decay=decay)
    weights, grads = {"0": {"weight": xp.asarray(w)}}, {"0": {"weight": xp.asarray(g)}}
    state, velocity = optimizer.init(weights), np.zeros_like(w)
    for _ in range(2):
        weights, state = optimizer.update(weights, grads, state)
        velocity = momentum * velocity + g + decay * w
        w = w - lr * velocity
    naive.assert_close(xp.to_numpy(weights["0"]["weight"]), w, 4)
