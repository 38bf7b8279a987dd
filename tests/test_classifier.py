"""The classifier on every library: it learns, says the same for a seed, and refuses bad data."""

from __future__ import annotations

import os
import re

import numpy as np
import pytest

import xpcnn
from xpcnn import Classifier, layers, models
from xpcnn.layers import (
    BatchNorm,
    Conv2d,
    Flatten,
    Frozen,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    tree,
)
from xpcnn.optim import SGD

DIGITS = xpcnn.data.digits()
X, Y = DIGITS.train[0][:96], DIGITS.train[1][:96]
XT, YT = DIGITS.test

SMALL = Sequential(
    Conv2d(4, 3, bias=False), BatchNorm(), ReLU(), MaxPool2d(2), Flatten(), Linear(10)
)


def small(**options):
    """A classifier that trains in no time; on the host unless told otherwise."""
    model = options.pop("model", SMALL)
    return Classifier(model, **{"device": "cpu", "batch_size": 32, **options})


def weights(net):
    return {
        name: np.asarray(xpcnn.device(net.device).to_numpy(array))
        for name, array in layers.tree.flatten(net.params_).items()
    }


def assert_same(net, other):
    assert weights(net).keys() == weights(other).keys()
    for name, array in weights(net).items():
        np.testing.assert_array_equal(array, weights(other)[name], strict=True)


# What it learns


def test_every_library_trains_and_a_seed_says_all(xp):
    net = small(device=xp.spec, seed=3)
    again = small(device=xp.spec, seed=3).fit(X, Y, 2)
    other = small(device=xp.spec, seed=4).fit(X, Y, 2)
    assert net.fit(X, Y, 2) is net
    assert net.history_[1].loss < net.history_[0].loss
    assert all(type(array) is type(xp.asarray(X)) for array in leaves(net))
    assert_same(net, again)
    assert not np.array_equal(weights(net)["0.weight"], weights(other)["0.weight"])
    on_numpy = small(seed=3).fit(X, Y, 2)
    for name, array in weights(on_numpy).items():
        np.testing.assert_allclose(weights(net)[name], array, atol=1e-4)
    assert net.history_[0].loss == pytest.approx(on_numpy.history_[0].loss, rel=1e-4)


def leaves(net):
    return layers.tree.leaves(net.params_)


def test_history_and_validation():
    net = small().fit(X, Y, 3, validation=(XT, YT))
    assert [epoch.number for epoch in net.history_] == [1, 2, 3]
    last = net.history_[-1]
    assert last.val_accuracy == net.score(XT, YT)
    chances = net.predict_proba(XT)[np.arange(len(YT)), YT]
    assert last.val_loss == pytest.approx(-np.log(chances).mean(), rel=1e-5)
    assert last.images_per_second == pytest.approx(len(X) / last.seconds)
    assert_same(net, small().fit(X, Y, 3))  # validation changes nothing
    assert small().fit(X, Y, 1).history_[0].val_loss is None


def test_each_epoch_has_an_order_of_its_own(monkeypatch):
    import xpcnn.training.feed as module

    orders = []

    def watched(n, size, key=None, **options):
        found = list(xpcnn.data.batches(n, size, key, **options))
        if key is not None:
            orders.append(np.concatenate(found).tolist())
        return iter(found)

    monkeypatch.setattr(module, "batches", watched)
    small().fit(X, Y, 2)
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(len(X)))


def test_frozen_parts_stay_where_they_were_drawn():
    model = Sequential(Frozen(Sequential(Conv2d(4, 3), BatchNorm())), Flatten(), Linear(10))
    one, two = small(model=model).fit(X, Y, 1), small(model=model).fit(X, Y, 3)
    for name, array in weights(one).items():
        assert np.array_equal(array, weights(two)[name]) == name.startswith("0.")


def test_max_norm_and_optimizer_are_used():
    still = small(optimizer=SGD(1.0), max_norm=1e-12).fit(X, Y, 1)
    moved = small(optimizer=SGD(1.0)).fit(X, Y, 1)
    drawn, _ = SMALL.init(xpcnn.random.fold_in(xpcnn.random.key(0), 0), (1, 8, 8))
    np.testing.assert_allclose(weights(still)["0.weight"], drawn["0"]["weight"], atol=1e-9)
    assert np.abs(weights(moved)["0.weight"] - drawn["0"]["weight"]).max() > 1e-3


# Images


def test_uint8_is_scaled_to_one_and_floats_are_taken_as_they_are():
    floats = X * np.float32(1 / 255)
    net = small().fit(X, Y, 1)
    assert_same(net, small().fit(floats, Y, 1))
    np.testing.assert_array_equal(net.predict_proba(X), net.predict_proba(floats))
    assert net.predict_proba(X).max() > net.predict_proba(floats / 255).max()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype(xp, dtype):
    net = small(device=xp.spec, dtype=dtype).fit(X / 255, Y, 1)
    assert {array.dtype.name for array in weights(net).values()} == {dtype}
    assert net.predict_proba(X / 255).dtype == dtype


def test_channels_last():
    net = small().fit(X, Y, 1)
    last = small(layout="NHWC").fit(X.transpose(0, 2, 3, 1), Y, 1)
    assert last.in_shape_ == net.in_shape_ == (1, 8, 8)
    np.testing.assert_array_equal(last.predict(XT.transpose(0, 2, 3, 1)), net.predict(XT))


def test_channels_last_of_several_channels():
    rng = np.random.default_rng(0)
    x, y = rng.random((12, 5, 6, 3), np.float32), np.arange(12) % 2
    model = Sequential(Conv2d(4, 3), Flatten(), Linear(2))
    net = small(model=model, layout="NHWC").fit(x, y, 2)
    first = small(model=model).fit(x.transpose(0, 3, 1, 2), y, 2)
    assert net.in_shape_ == (3, 5, 6)
    np.testing.assert_allclose(
        net.predict_proba(x), first.predict_proba(x.transpose(0, 3, 1, 2)), rtol=1e-5
    )


def test_signals_and_volumes():
    rng = np.random.default_rng(0)
    y = np.arange(8) % 2
    for layout, shape, conv in [("NCW", (8, 2, 9), "Conv1d"), ("NCDHW", (8, 2, 3, 4, 5), "Conv3d")]:
        model = Sequential(getattr(layers, conv)(3, 2), Flatten(), Linear(2))
        net = small(model=model, layout=layout).fit(rng.random(shape), y, 1)
        assert net.in_shape_ == shape[1:]


def test_images_may_lie_on_the_device_already(xp):
    net = small(device=xp.spec).fit(xp.asarray(X), xp.asarray(Y), 1)
    assert_same(net, small(device=xp.spec).fit(X, Y, 1))
    np.testing.assert_array_equal(net.predict(xp.asarray(XT)), net.predict(XT))
    assert net.score(xp.asarray(XT), xp.asarray(YT)) == net.score(XT, YT)


def test_images_elsewhere_are_refused(torch):
    with pytest.raises(TypeError, match=r"^fit: x is a torch array on cpu and the network a numpy"):
        small().fit(torch.from_numpy(X), Y)
    net = small(device="torch").fit(X, Y, 1)
    with pytest.raises(TypeError, match=r"^predict: x is a strict array on .* the network a torch"):
        net.predict(xpcnn.device("strict").asarray(XT))


# Labels


@pytest.mark.parametrize(
    "name",
    [lambda y: y, lambda y: y - 4, lambda y: y * 1000, lambda y: y.astype(np.uint8),
     lambda y: y.astype(np.float32), lambda y: np.asarray([f"digit {i}" for i in y]),
     lambda y: np.asarray([f"digit {i}" for i in y], object), lambda y: y.tolist()],
    ids=["places", "negative", "gaps", "uint8", "floats", "strings", "objects", "a list"],
)  # fmt: skip
def test_labels(name):
    net, plain = small().fit(X, name(Y), 1), small().fit(X, Y, 1)
    assert_same(net, plain)
    np.testing.assert_array_equal(net.classes_, np.unique(name(Y)))
    assert net.label_names_ == tuple(map(str, net.classes_))
    np.testing.assert_array_equal(net.predict(XT), net.classes_[plain.predict(XT)])
    assert net.score(XT, name(YT)) == plain.score(XT, YT)


def test_two_classes_of_truth():
    model = Sequential(Flatten(), Linear(2))
    net = small(model=model).fit(X, Y > 4, 1)
    assert net.classes_.tolist() == [False, True]
    assert net.predict(XT).dtype == bool


def test_label_names_fix_the_classes():
    few = Y < 3
    net = small(label_names=DIGITS.classes).fit(X[few], Y[few], 1)  # of ten, three are seen
    assert net.classes_.tolist() == list(range(10))
    assert net.label_names_ == DIGITS.classes
    assert net.predict_proba(XT).shape == (len(XT), 10)


def test_predict_and_score_agree():
    net = small().fit(X, Y, 2)
    chances = net.predict_proba(XT)
    assert type(chances) is np.ndarray
    np.testing.assert_allclose(chances.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(net.predict(XT), net.classes_[chances.argmax(axis=1)])
    assert net.score(XT, YT) == np.mean(net.predict(XT) == YT)
    np.testing.assert_array_equal(net.predict(XT[:1]), net.predict(XT)[:1])


def test_fitting_again_starts_anew():
    net = small().fit(X, Y, 1)
    net.fit(XT, YT + 5, 1)
    assert_same(net, small().fit(XT, YT + 5, 1))
    assert net.classes_.tolist() == list(range(5, 15))
    net.fit(X[:, :, :6, :6], Y, 1, validation=(XT[:, :, :6, :6], YT))  # another shape, too
    assert net.in_shape_ == (1, 6, 6)


# Bad data

NAN = np.where(np.arange(8) == 3, np.nan, X / 255)
BAD = {
    "no images": (
        {}, (X[:0], Y[:0]), ValueError,
        "fit: x (0, 1, 8, 8) holds no pixels; give at least one image",
    ),
    "no pixels": (
        {}, (X[:, :, :0], Y), ValueError,
        "fit: x (96, 1, 0, 8) holds no pixels; give at least one image",
    ),
    "validation without labels": (
        {}, (X, Y, 1, (XT,)), TypeError, "fit: validation must be a pair, (images, labels)",
    ),
    "an optimizer that is none": (
        {"optimizer": "adam"}, (X, Y), TypeError,
        "fit: optimizer must be one of xpcnn.optim, such as Adam(0.001), not 'adam'",
    ),
    "one class": (
        {}, (X, np.full(96, 7)), ValueError,
        "fit: y holds the one class 7; give at least two",
    ),
    "one class of several names": (
        {"label_names": DIGITS.classes}, (X, np.full(96, 7)), ValueError,
        "fit: y holds the one class 7; give at least two",
    ),
    "labels of another length": (
        {}, (X, Y[:-1]), ValueError,
        "fit: y must be (96,), a label for each image; it is (95,)",
    ),
    "one-hot labels": (
        {}, (X, np.eye(10)[Y]), ValueError,
        "fit: y must be (96,), a label for each image; it is (96, 10)",
    ),
    "label out of range": (
        {"label_names": DIGITS.classes}, (X, Y + 1), ValueError,
        "fit: y holds the label 10; the 10 classes are 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
    ),
    "negative label": (
        {"label_names": DIGITS.classes}, (X, Y - 1), ValueError,
        "fit: y holds the label -1; the 10 classes are 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
    ),
    "names where places are due": (
        {"label_names": ("cat", "dog")}, (X, np.where(Y > 4, "cat", "dog")), ValueError,
        "fit: y holds the label 'dog'; the 2 classes are 0, 1",
    ),
    "labels that are not whole": (
        {}, (X, Y + 0.5), ValueError,
        f"fit: y holds {Y[0] + 0.5}, as a continuous target does; labels are integers or strings",
    ),
    "a label that is missing": (
        {}, (X, np.where(Y == 0, np.nan, Y)), ValueError,
        "fit: y holds nan, as a continuous target does; labels are integers or strings",
    ),
    "a string that is missing": (
        {}, (X, np.where(Y == 0, None, "cat")), TypeError,
        "fit: y must hold integers or strings, not object",
    ),
    "no labels": (
        {}, (X, None), ValueError,
        "fit: a classifier requires y to be passed, but the target y is None",
    ),
    "NaN pixels": (
        {}, (NAN, Y), ValueError,
        "fit: x holds NaN or infinite values; replace them",
    ),
    "infinite pixels": (
        {}, (np.full(X.shape, np.inf), Y), ValueError,
        "fit: x holds NaN or infinite values; replace them",
    ),
    "int64 images": (
        {}, (X.astype(np.int64), Y), TypeError,
        "fit: x must be uint8 or floating, not int64; convert it, for example to float32, and "
        "scale it",
    ),
    "grey images": (
        {}, (X[:, 0], Y), ValueError,
        "fit: x must be images (N, C, H, W); it is (96, 8, 8): grey images need a channel axis, "
        "x[:, None]",
    ),
    "grey images, channels last": (
        {"layout": "NHWC"}, (X[:, 0], Y), ValueError,
        "fit: x must be images (N, H, W, C); it is (96, 8, 8): grey images need a channel axis, "
        "x[..., None]",
    ),
    "rows": (
        {}, (X.reshape(96, -1), Y), ValueError,
        "fit: x must be images (N, C, H, W); it is (96, 64)",
    ),
    "a list of images": (
        {}, (list(X), Y), TypeError,
        "fit: x: list is no array; pass one of NumPy, CuPy, PyTorch, JAX or array-api-strict",
    ),
    "no layout": (
        {"layout": "HWC"}, (X, Y), ValueError,
        "fit: layout='HWC'; give one of NC, NCW, NWC, NCHW, NHWC, NCDHW, NDHWC",
    ),
    "no epochs": (
        {}, (X, Y, 0), ValueError,
        "fit: epochs=0; it must be an integer of at least 1",
    ),
    "half an epoch": (
        {}, (X, Y, 0.5), ValueError,
        "fit: epochs=0.5; it must be an integer of at least 1",
    ),
    "no batches": (
        {"batch_size": 0}, (X, Y), ValueError,
        "fit: batch_size=0; it must be an integer of at least 1",
    ),
    "a norm of nothing": (
        {"max_norm": -1.0}, (X, Y), ValueError,
        "fit: max_norm=-1.0; it must be above 0, or None",
    ),
    "an unknown dtype": (
        {"dtype": "int8"}, (X, Y), ValueError,
        "fit: dtype='int8'; give one of float16, float32, float64",
    ),
    "a model that is none": (
        {"model": "convnet"}, (X, Y), TypeError,
        "fit: model must be a layer, such as xpcnn.models.convnet(), or a function of the number "
        "of classes that makes one; it is or makes 'convnet'",
    ),
    "a function that makes no model": (
        {"model": float}, (X, Y), TypeError,
        "fit: model must be a layer, such as xpcnn.models.convnet(), or a function of the number "
        "of classes that makes one; it is or makes 10.0",
    ),
    "fewer outputs than classes": (
        {"model": Sequential(Flatten(), Linear(9))}, (X, Y), ValueError,
        "fit: the model gives (9,) for each image, and there are 10 classes; let its last layer "
        "give 10 numbers",
    ),
    "outputs that are images": (
        {"model": Conv2d(10, 3)}, (X, Y), ValueError,
        "fit: the model gives (10, 6, 6) for each image, and there are 10 classes; let its last "
        "layer give 10 numbers",
    ),
    "seed": (
        {"seed": -1}, (X, Y), ValueError,
        "key: seed must lie in [0, 2**64); it is -1",
    ),
    "validation of another shape": (
        {}, (X, Y, 1, (XT[:, :, :6], YT)), ValueError,
        "fit: validation: the network takes images (1, 8, 8) (C, ...); x holds (1, 6, 8)",
    ),
    "validation with new labels": (
        {}, (X, Y, 1, (XT, YT + 1)), ValueError,
        "fit: validation: y holds the label 10; the 10 classes are 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
    ),
    "validation of another length": (
        {}, (X, Y, 1, (XT, YT[1:])), ValueError,
        "fit: validation: y must be (359,), a label for each image; it is (358,)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("options, given, kind, message", BAD.values(), ids=BAD)
def test_bad_data(options, given, kind, message):
    net = small().fit(X, Y, 1)
    for name, value in options.items():
        setattr(net, name, value)
    before = dict(vars(net))
    validation = {"validation": given[3]} if len(given) > 3 else {}
    with pytest.raises(kind) as raised:
        net.fit(*given[:3], **validation)
    assert str(raised.value) == message
    assert vars(net).keys() == before.keys()
    assert all(vars(net)[name] is value for name, value in before.items())


@pytest.mark.parametrize("call", ["predict", "predict_proba", "score"])
def test_bad_data_later(call):
    net, labels = small().fit(X, Y, 1), (YT,) if call == "score" else ()
    for x, message in [
        (XT[:, :, :6], "the network takes images (1, 8, 8) (C, ...); x holds (1, 6, 8)"),
        (XT[:0], "x (0, 1, 8, 8) holds no pixels; give at least one image"),
        (XT * np.nan, "x holds NaN or infinite values; replace them"),
        (XT[0], "x must be images (N, C, H, W); it is (1, 8, 8): grey images need a channel axis, "
         "x[:, None]"),
    ]:  # fmt: skip
        with pytest.raises(ValueError) as raised:
            getattr(net, call)(x, *labels)
        assert str(raised.value) == f"{call}: {message}"


def test_labels_that_are_not_known_at_score():
    net = small().fit(X, Y * 2, 1)
    with pytest.raises(
        ValueError, match=r"^score: y holds the label 9; the 10 classes are 0, 2, 4"
    ):
        net.score(XT[:2], [9, 9])
    with pytest.raises(ValueError, match=r"^score: y holds the label '0'; the 10 classes are 0, 2"):
        net.score(XT[:2], ["0", "2"])


def test_not_fitted(tmp_path):
    for call, given in [
        ("predict", (XT,)), ("predict_proba", (XT,)), ("score", (XT, YT)),
        ("save", (tmp_path / "x",)),
    ]:  # fmt: skip
        with pytest.raises(
            ValueError, match=f"^{call}: this classifier is not trained yet; call fit first$"
        ):
            getattr(small(), call)(*given)
    assert os.listdir(tmp_path) == []


def test_a_loss_that_becomes_nan_leaves_the_classifier_as_it_was():
    net = small().fit(X, Y, 1)
    net.optimizer = SGD(1e30)
    before = dict(vars(net))
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        net.fit(X, Y, 5)
    assert all(vars(net)[name] is value for name, value in before.items())


def test_a_device_that_is_not_there():
    with pytest.raises(ValueError, match=r"^device.'gpu'.: no such device; choose auto, cpu"):
        small(device="gpu").fit(X, Y)


def test_training_begins_with_given_parameters(xp):
    """All, or some: with a rate of 0 they are what comes out."""
    x, y = xpcnn.data.digits().test
    still = {"optimizer": SGD(0.0), "device": xp.spec}
    first = Classifier(models.classic(), seed=1, **still).fit(x[:64], y[:64], 1)
    second = Classifier(models.classic(), seed=2, **still)
    given = tree.flatten(first.params_)
    drawn = tree.flatten(second.fit(x[:64], y[:64], 1).params_)
    head = max(given)
    second.fit(x[:64], y[:64], 1, params=tree.unflatten({head: given[head]}))
    for name, array in tree.flatten(second.params_).items():
        expected = given if name == head else drawn
        np.testing.assert_array_equal(xp.to_numpy(array), xp.to_numpy(expected[name]))
    second.fit(x[:64], y[:64], 1, params=first.params_)
    assert (second.predict(x) == first.predict(x)).all()


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"0": {"scale": np.ones(1)}}, "fit: params hold '0.scale', which the model has not"),
        (
            {"0": {"bias": np.ones(7)}},
            "fit: params hold '0.bias' of shape (7,); the model's is (4,)",
        ),
        (
            {"0": {"bias": np.ones(4, np.int64)}},
            "fit: params hold '0.bias' of int64; it must be floating",
        ),
        (
            {"0": {"bias": np.full(4, np.nan)}},
            "fit: params hold NaN or infinite values in '0.bias'",
        ),
        (
            {"0.bias": np.ones(4)},
            "fit: params hold '0.bias'; make a tree of dotted names: "
            "xpcnn.layers.tree.unflatten(params)",
        ),
        (
            [1, 2],
            "fit: params must be a tree of arrays, such as a classifier's params_; it is a list",
        ),
    ],
)
def test_parameters_that_do_not_fit_are_refused(params, told):
    x, y = xpcnn.data.digits().test
    with pytest.raises((TypeError, ValueError), match=re.escape(told)):
        Classifier(models.classic(), device="cpu").fit(x, y, 1, params=params)
