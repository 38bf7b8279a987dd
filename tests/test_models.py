"""The networks: as many parameters and products as published, torchvision's names and values."""

from __future__ import annotations

import json
from math import prod

import naive
import numpy as np
import pytest

from xpcnn import layers as L
from xpcnn import models, ops, random
from xpcnn.layers import tree
from xpcnn.models import MODELS, inception, resnet

KEY = random.key(0)
IMAGENET = (3, 224, 224)

PUBLISHED = {
    "alexnet": (61_100_840, 0.71), "vgg11": (132_863_336, 7.61), "vgg11_bn": (132_868_840, 7.61),
    "vgg16": (138_357_544, 15.47), "vgg16_bn": (138_365_992, 15.47),
    "googlenet": (6_624_904, 1.50), "resnet18": (11_689_512, 1.81),
    "resnet34": (21_797_672, 3.66), "resnet50": (25_557_032, 4.09),
    "squeezenet": (1_235_496, 0.35), "mobilenet": (4_231_976, 0.57),
}  # fmt: skip
"""Parameters, and billions of multiply-adds, for 1000 classes: `num_params` and `_ops` of
torchvision's weights; of mobilenet, Keras' trainable parameters, and the paper's 569 million."""

SMALL = {"classic": 4, "lenet5": 12, "vgg11": 32, "vgg11_bn": 32, "vgg16": 32, "vgg16_bn": 32,
         "alexnet": 63, "googlenet": 31, "squeezenet": 25}  # fmt: skip
"""The least size of images, where it is not 1."""


def weights(model, in_shape):
    planned, _ = tree.partition(model.plan(in_shape)[0])
    return {name: one.shape for name, one in tree.flatten(planned).items()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_products_are_as_published(name):
    model = MODELS[name](1000)
    parameters, billions = PUBLISHED[name]
    assert sum(map(prod, weights(model, IMAGENET).values())) == parameters
    summary = model.summary(IMAGENET)
    assert summary.parameters == parameters
    assert round(summary.multiply_adds / 1e9, 2) == billions


def test_the_table_holds_every_network():
    functions = {name for name in models.__all__ if name not in ("MODELS", "inception")}
    assert set(MODELS) == functions == PUBLISHED.keys() | {"convnet", "lenet5", "classic"}
    assert all(MODELS[name] is getattr(models, name) for name in functions)


@pytest.mark.parametrize("name", MODELS)
def test_any_number_of_classes_and_channels_from_the_least_size_on(name):
    least, model = SMALL.get(name, 1), MODELS[name](7)
    for size in (least, 64, 97):
        assert model.plan((1, size, size))[1] == (7,)
    assert MODELS[name]().plan((2, 64, 64))[1] == (10,)
    if least > 1:
        with pytest.raises(ValueError, match=r"^layer \w+"):
            model.plan((1, least - 1, least - 1))


@pytest.mark.parametrize("name", MODELS)
def test_a_network_is_data(name):
    model = MODELS[name](7)
    assert L.build(json.loads(json.dumps(L.describe(model)))) == model == MODELS[name](7)


# ---- torchvision's ------------------------------------------------------------------------------

NAMES = {
    "alexnet": ("features.0.weight", "features.10.bias", "classifier.1.bias", "classifier.6.bias"),
    "vgg11": ("features.0.bias", "features.18.weight", "classifier.0.weight", "classifier.6.bias"),
    "vgg16_bn": ("features.0.weight", "features.1.running_mean", "features.41.bias",
                 "classifier.3.weight"),
    "googlenet": ("conv1.conv.weight", "conv3.bn.running_var", "inception3a.branch1.conv.weight",
                  "inception4e.branch2.0.bn.weight", "inception4e.branch3.1.conv.weight",
                  "inception5b.branch4.1.bn.bias", "fc.weight"),
    "resnet18": ("conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "layer1.1.bn2.bias",
                 "layer2.0.downsample.0.weight", "layer4.0.downsample.1.running_var", "fc.bias"),
    "resnet50": ("layer1.0.downsample.1.weight", "layer3.5.conv3.weight", "layer4.2.bn3.bias"),
    "squeezenet": ("features.0.weight", "features.3.squeeze.weight", "features.12.expand1x1.bias",
                   "features.9.expand3x3.weight", "classifier.1.weight"),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_are_torchvisions(name):
    planned, _ = MODELS[name](1000).plan(IMAGENET)
    assert set(NAMES[name]) <= tree.flatten(planned).keys()


def test_resnets_have_the_parameters_of_torchvision_and_no_others():
    for name, blocks in (("resnet18", (2, 2, 2, 2)), ("resnet50", (3, 4, 6, 3))):
        convs = 3 if name == "resnet50" else 2
        norm = ("weight", "bias", "running_mean", "running_var")
        expected = {"conv1.weight", "fc.weight", "fc.bias", *(f"bn1.{one}" for one in norm)}
        for stage, count in enumerate(blocks, 1):
            for block in range(count):
                at = f"layer{stage}.{block}."
                for conv in range(1, convs + 1):
                    expected |= {f"{at}conv{conv}.weight", *(f"{at}bn{conv}.{n}" for n in norm)}
                if block == 0 and (stage > 1 or convs == 3):
                    expected |= {f"{at}downsample.0.weight"}
                    expected |= {f"{at}downsample.1.{n}" for n in norm}
        assert tree.flatten(MODELS[name]().plan(IMAGENET)[0]).keys() == expected


def resnet_of_torch(torch, w, x, blocks):
    """A residual network in PyTorch's functions, by torchvision's names, in training."""
    f = torch.nn.functional

    def norm(name, x):
        return f.batch_norm(x, None, None, w[f"{name}.weight"], w[f"{name}.bias"], training=True)

    def block(at, x, stride):
        kernels = [w[f"{at}.conv{n}.weight"] for n in (1, 2, 3) if f"{at}.conv{n}.weight" in w]
        y = x
        for n, kernel in enumerate(kernels, 1):
            step = stride if n == len(kernels) - 1 else 1  # the first of two, the second of three
            y = norm(f"{at}.bn{n}", f.conv2d(y, kernel, stride=step, padding=kernel.shape[2] // 2))
            y = y.relu() if n < len(kernels) else y
        if f"{at}.downsample.0.weight" in w:
            x = f.conv2d(x, w[f"{at}.downsample.0.weight"], stride=stride)
            x = norm(f"{at}.downsample.1", x)
        return (x + y).relu()

    x = norm("bn1", f.conv2d(x, w["conv1.weight"], stride=2, padding=3)).relu()
    x = f.max_pool2d(x, 3, 2, 1)
    for stage, count in enumerate(blocks, 1):
        for number in range(count):
            x = block(f"layer{stage}.{number}", x, 2 if number == 0 < stage - 1 else 1)
    return f.linear(x.mean((2, 3)), w["fc.weight"], w["fc.bias"])


@pytest.mark.parametrize("block", ["_basic", "_bottleneck"])
def test_a_resnet_is_the_one_of_its_names(torch, block):
    blocks = (2, 1, 1, 1)
    model = resnet._resnet(getattr(resnet, block), blocks, 5, "large")
    params, _ = model.init(KEY, (3, 40, 48), dtype="float64")
    x, dy = (np.random.default_rng(0).standard_normal(s) for s in ((3, 3, 40, 48), (3, 5)))
    w = {n: torch.tensor(a, requires_grad=True) for n, a in tree.flatten(params).items()}
    expected = resnet_of_torch(torch, w, torch.tensor(x), blocks)
    expected.backward(torch.tensor(dy))
    y, pull = model.vjp(params, x, key=KEY, wrt=("params",))
    grads, _ = pull(dy)
    naive.assert_close(y, expected.detach().numpy(), 10**6)
    for name, grad in tree.flatten(tree.partition(grads)[0]).items():
        naive.assert_close(grad, w[name].grad.numpy(), 10**8)


# ---- what is built of them ----------------------------------------------------------------------


def products(model, in_shape, branch):
    rows = model.summary(in_shape).rows
    return sum(row.multiply_adds for row in rows if row.name.startswith(branch))


def test_a_bottleneck_saves_nine_tenths_of_the_products():
    in_shape = (192, 28, 28)
    wide, narrow = inception(64, 128, 32), inception(64, (96, 128), (16, 32), 32)
    assert products(wide, in_shape, "branch3") == 28 * 28 * 32 * 25 * 192 == 120_422_400
    assert products(narrow, in_shape, "branch3") == 12_443_648
    assert wide.plan(in_shape)[1] == (64 + 128 + 32 + 192, 28, 28)
    assert narrow.plan(in_shape)[1] == (64 + 128 + 32 + 32, 28, 28)


def test_an_inception_module_with_norms_and_other_kernels():
    module = inception(2, (3, 4), 5, 6, kernels=(1, 7), norm=True)
    shapes = weights(module, (8, 9, 9))
    assert shapes["branch2.1.conv.weight"] == (4, 3, 1, 1)
    assert shapes["branch3.0.conv.weight"] == (5, 8, 7, 7)
    assert shapes["branch4.1.bn.weight"] == (6,)
    assert not any("conv.bias" in name for name in shapes)


def test_a_small_stem_keeps_small_images():
    model = models.resnet18(stem="small")
    assert weights(model, (3, 32, 32))["conv1.weight"] == (64, 3, 3, 3)
    rows = {row.name: row for row in model.summary((3, 32, 32)).rows}
    assert rows["layer1.0.conv1"].out_shape == (64, 32, 32)
    assert rows["layer4.1.relu"].out_shape == (512, 4, 4)
    with pytest.raises(ValueError) as caught:
        models.resnet50(stem="tiny")
    assert str(caught.value) == "resnet: stem='tiny'; give one of large, small"


@pytest.mark.parametrize(
    "model",
    [
        models.resnet18(3, stem="small"),
        models.googlenet(3),
        models.mobilenet(3),
        models.squeezenet(3),
    ],
    ids=["resnet18", "googlenet", "mobilenet", "squeezenet"],
)
def test_a_step_of_training_reaches_every_weight(model):
    params, _ = model.init(KEY, (1, 33, 32))
    x = np.random.default_rng(0).standard_normal((4, 1, 33, 32)).astype("f")
    y, pull = model.vjp(params, x, key=KEY, wrt=("params",))
    _, loss_pull = ops.cross_entropy.vjp(y, np.asarray([0, 1, 2, 0]))
    grads, _ = pull(loss_pull(1.0)[0])
    grads = tree.flatten(grads)
    assert grads.keys() == tree.flatten(params).keys()
    for name, grad in grads.items():
        assert np.isfinite(grad).all() and np.any(grad), name
