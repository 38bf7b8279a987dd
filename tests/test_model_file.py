"""Model files: written whole or not at all, read as they were written, and refused when damaged."""

from __future__ import annotations

import json
import os
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save as serialize

import xpcnn
from xpcnn import Classifier, layers
from xpcnn.io.model_file import load_model
from xpcnn.layers import (
    AvgPool2d,
    BatchNorm,
    Branches,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Flatten,
    Frozen,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    Linear,
    LocallyConnected2d,
    MaxPool2d,
    PReLU,
    ReLU,
    Residual,
    Sequential,
)

DIGITS = xpcnn.data.digits()
X, Y = DIGITS.train[0][:64], DIGITS.train[1][:64]
XT, YT = DIGITS.test

PLAIN = Sequential(
    Conv2d(4, 3, padding=1), BatchNorm(), ReLU(), MaxPool2d(2), Flatten(), Linear(10)
)
EVERYTHING = Sequential(
    Frozen(Conv2d(4, 3, padding=1)),
    PReLU(4),
    Branches(
        Conv2d(4, 1),
        Sequential(Conv2d(4, 3, padding="same", bias=False), BatchNorm(affine=False)),
        names=("one", "three"),
    ),
    Residual(ConvTranspose2d(8, 3, padding=1, groups=2)),
    LocallyConnected2d(3, 2, stride=2),
    LayerNorm((3, 4, 4)),
    GroupNorm(3),
    InstanceNorm(affine=True),
    Dropout(0.1),
    AvgPool2d(2),
    Flatten(),
    Linear(10),
)


@pytest.fixture(scope="module")
def net():
    return Classifier(PLAIN, device="cpu").fit(X, Y, 1)


@pytest.fixture(scope="module")
def path(net, tmp_path_factory):
    """A file that a test may read but not change."""
    path = tmp_path_factory.mktemp("model") / "net.safetensors"
    net.save(path)
    return path


def contents(path):
    """The tensors and the metadata of a file."""
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


def rewrite(path, arrays, about):
    """A file of these tensors and this description."""
    path.write_bytes(serialize(arrays, metadata={"xpcnn": json.dumps(about)}))
    return path


# Round trips


@pytest.mark.parametrize("model", [PLAIN, EVERYTHING], ids=["plain", "everything"])
def test_what_is_read_predicts_as_what_was_written(xp, model, tmp_path):
    net = Classifier(model, device=xp.spec).fit(X, Y, 1)
    net.save(tmp_path / "net")
    read = xpcnn.load(tmp_path / "net", device=xp.spec)
    np.testing.assert_array_equal(read.predict_proba(XT), net.predict_proba(XT))
    assert read.model == net.model
    assert read.score(XT, YT) == net.score(XT, YT)
    ours, theirs = (layers.tree.flatten(one.params_) for one in (net, read))
    assert list(ours) == list(theirs)
    for name, array in ours.items():
        assert type(theirs[name]) is type(array)
        assert theirs[name].dtype == array.dtype


def test_it_crosses_from_library_to_library(net, path):
    read = xpcnn.load(path, device="strict")
    np.testing.assert_allclose(read.predict_proba(XT), net.predict_proba(XT), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "options, labels",
    [
        ({"label_names": DIGITS.classes}, Y),
        ({"label_names": ["zero", "one", *"23456789"], "dtype": "float64"}, Y),
        ({}, np.asarray([f"digit {i} ä" for i in Y])),
        ({}, Y * 10 - 5),
        ({"model": Sequential(Flatten(), Linear(2))}, Y > 4),
    ],
    ids=["names", "float64", "strings", "integers", "truth"],
)
def test_labels_and_dtype_come_back(options, labels, tmp_path):
    net = Classifier(options.pop("model", PLAIN), device="cpu", **options).fit(X, labels, 1)
    net.save(tmp_path / "net")
    read = xpcnn.load(tmp_path / "net", device="cpu")
    np.testing.assert_array_equal(read.classes_, net.classes_, strict=True)
    assert (read.label_names_, read.dtype) == (net.label_names_, net.dtype)
    np.testing.assert_array_equal(read.predict(XT), net.predict(XT), strict=True)
    again = read.fit(X, labels, 1)  # and it trains like one that was never saved
    np.testing.assert_array_equal(again.predict_proba(XT), net.predict_proba(XT))


def test_layout_and_scale_come_back(tmp_path, net, path):
    last = Classifier(PLAIN, device="cpu", layout="NHWC").fit(X.transpose(0, 2, 3, 1), Y, 1)
    last.save(tmp_path / "net")
    read = xpcnn.load(tmp_path / "net", device="cpu")
    np.testing.assert_array_equal(
        read.predict(XT.transpose(0, 2, 3, 1)), last.predict(XT.transpose(0, 2, 3, 1))
    )
    arrays, metadata = contents(path)
    about = json.loads(metadata["xpcnn"]) | {"scale": 0.5}
    scaled = xpcnn.load(rewrite(tmp_path / "scaled", arrays, about), device="cpu")
    np.testing.assert_array_equal(scaled.predict_proba(XT), net.predict_proba(XT * np.float32(0.5)))


def test_layers_without_parameters(tmp_path):
    from xpcnn.io.model_file import Card, save_model

    model = Sequential(AvgPool2d(4, 4), Flatten())
    save_model(tmp_path / "net", model, {}, Card((1, 8, 8), 1.0, (0, 1, 2, 3), None))
    read = xpcnn.load(tmp_path / "net", device="cpu")
    assert read.predict(XT[:2] / np.float32(1)).shape == (2,)


def pytorch_twin(torch):
    """The network of `net` as PyTorch's own modules, with weights of its own."""
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64, 10),
    ).eval()  # fmt: skip


def pytorch_chances(torch, twin):
    """What it gives for the test images."""
    with torch.no_grad():
        return torch.softmax(twin(torch.from_numpy(XT / np.float32(255))), 1).numpy()


def test_names_and_layouts_are_those_of_pytorch(net, path, torch):
    from safetensors.torch import load_file

    twin = pytorch_twin(torch)
    twin.load_state_dict(load_file(path))
    chances = pytorch_chances(torch, twin)
    np.testing.assert_allclose(net.predict_proba(XT), chances, rtol=1e-4, atol=1e-6)


def test_a_state_dict_of_pytorch_loads(path, torch, tmp_path):
    """With its count of batches, which is ignored."""
    from safetensors.torch import save_file

    twin = pytorch_twin(torch)
    assert "1.num_batches_tracked" in twin.state_dict()
    save_file(twin.state_dict(), tmp_path / "theirs", metadata=contents(path)[1])
    read = xpcnn.load(tmp_path / "theirs", device="cpu")
    chances = pytorch_chances(torch, twin)
    np.testing.assert_allclose(read.predict_proba(XT), chances, rtol=1e-4, atol=1e-6)


# Writing


def test_a_failed_write_leaves_the_old_file_and_nothing_else(net, path, tmp_path, monkeypatch):
    target = tmp_path / "net"
    target.write_bytes(b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        net.save(target)
    assert os.listdir(tmp_path) == ["net"]
    assert target.read_bytes() == b"old"
    monkeypatch.undo()
    net.save(target)
    assert os.listdir(tmp_path) == ["net"]
    assert target.read_bytes() == path.read_bytes()  # and two writes give the same bytes


def test_places_that_take_no_file(net, tmp_path):
    with pytest.raises(ValueError, match="it is a folder or a device; give the name of a file"):
        net.save(tmp_path)
    with pytest.raises(FileNotFoundError, match="absent"):
        net.save(tmp_path / "absent" / "net")
    assert os.listdir(tmp_path) == []


class Own(layers.ReLU):
    """A layer that xpcnn does not know."""


def test_a_model_that_could_not_be_read_again_is_not_written(tmp_path):
    net = Classifier(Sequential(Own(), Flatten(), Linear(10)), device="cpu").fit(X, Y, 1)
    with pytest.raises(ValueError, match=r"no layer is called 'Own' in xpcnn\.layers"):
        net.save(tmp_path / "net")
    assert os.listdir(tmp_path) == []


# Damage


def test_missing_folder_empty_and_pipe(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent: there is no such file; train a model"):
        xpcnn.load(tmp_path / "absent")
    with pytest.raises(IsADirectoryError, match=f"{tmp_path}: is a folder; give a model file"):
        xpcnn.load(tmp_path)
    (tmp_path / "empty").touch()
    with pytest.raises(ValueError, match=f"{tmp_path}/empty: is no safetensors file, or damaged: "):
        xpcnn.load(tmp_path / "empty")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ValueError, match="pipe: is a device or a pipe; give a model file"):
            xpcnn.load(tmp_path / "pipe")


@pytest.mark.parametrize("content", [b"PK\3\4", b"\x80\x04.", b"\xff" * 64, b"{}" * 64, bytes(64)])
def test_other_files(tmp_path, content):
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(ValueError, match=f"^{tmp_path}/other: is no safetensors file, or damaged"):
        xpcnn.load(tmp_path / "other")


def test_another_programs_tensors(tmp_path):
    for metadata in (None, {"format": "pt"}):
        (tmp_path / "theirs").write_bytes(serialize({"w": np.ones(3)}, metadata=metadata))
        with pytest.raises(ValueError, match="theirs: is no xpcnn model, for its metadata lacks"):
            xpcnn.load(tmp_path / "theirs")


def refused_or_read(path):
    """Load a damaged file: it must be refused by name, or read, in little memory."""
    tracemalloc.start()
    try:
        model, _, card = load_model(path)
    except ValueError as error:
        assert str(path) in str(error)
        return False
    else:
        assert model.plan(card.in_shape)[1] == (len(card.classes),)
        return True
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 4 << 20


@given(data=st.data())
def test_truncated_anywhere(path, tmp_path_factory, data):
    raw = path.read_bytes()
    short = tmp_path_factory.getbasetemp() / "short"
    short.write_bytes(raw[: data.draw(st.integers(0, len(raw) - 1))])
    assert not refused_or_read(short)


@given(data=st.data())
def test_any_changed_byte(path, tmp_path_factory, data):
    """A change among the numbers cannot be seen; one before them is refused or does no harm."""
    raw = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(raw[:8], "little")
    place = data.draw(st.integers(0, header + 64))
    raw[place] ^= data.draw(st.integers(1, 255))
    changed = tmp_path_factory.getbasetemp() / "changed"
    changed.write_bytes(raw)
    assert refused_or_read(changed) or place < header


def changed(**changes):
    return lambda about: about | changes


def without(name):
    return lambda about: {key: value for key, value in about.items() if key != name}


def with_layer(number, **options):
    def change(about):
        layers = list(about["model"]["layers"])
        layers[number] = layers[number] | options
        return about | {"model": about["model"] | {"layers": layers}}

    return change


HUGE = 2**40
DESCRIPTIONS = {
    "of another version": (changed(format=2), "it is not of format 1, which this version of"),
    "of no version": (without("format"), "it is not of format 1, which this version of xpcnn"),
    "without a model": (without("model"), "build: None describes no layer"),
    "without a shape": (without("in_shape"), "missing 1 required positional argument: 'in_shape'"),
    "with more": (changed(code="import os"), "unexpected keyword argument 'code'"),
    "a model that is text": (changed(model="Sequential()"), "describes no layer"),
    "a model that is a list": (changed(model=[1]), "describes no layer"),
    "unknown layer": (changed(model={"layer": "Exec"}), "no layer is called 'Exec' in xpcnn.lay"),
    "a name that is no layer": (changed(model={"layer": "build"}), "no layer is called 'build'"),
    "a base class": (changed(model={"layer": "Layer"}), "no layer is called 'Layer'"),
    "unknown option": (with_layer(2, inplace=True), "ReLU"),
    "layer that is a number": (changed(model={"layer": 5}), "describes no layer"),
    "in_shape, text": (changed(in_shape="188"), "no images are 188, laid out as 'NCHW'"),
    "in_shape, empty": (changed(in_shape=[]), "no images are (), laid out as 'NCHW'"),
    "in_shape, negative": (changed(in_shape=[1, -8, 8]), "no images are (1, -8, 8), laid out"),
    "in_shape, fractional": (changed(in_shape=[1, 8.0, 8]), "no images are (1, 8.0, 8)"),
    "in_shape, huge": (changed(in_shape=[1, HUGE, 8]), "no images are (1, 1099511627776, 8)"),
    "in_shape, nested": (changed(in_shape=[[1], 8, 8]), "no images are ([1], 8, 8)"),
    "layout": (changed(layout="NCW"), "no images are (1, 8, 8), laid out as 'NCW'"),
    "layout, a list": (changed(layout=["NCHW"]), "no images are (1, 8, 8), laid out as ('NCHW',)"),
    "scale, text": (changed(scale="1"), "no scale of images is '1'"),
    "scale, NaN": (changed(scale=float("nan")), "no scale of images is nan"),
    "labels, mixed": (changed(classes=[*range(9), "9"]), "its labels are not all integers or all"),
    "labels, twice": (changed(classes=[0] * 10), "it has a label twice"),
    "labels, none": (changed(classes=[]), "its labels are not all integers or all strings"),
    "channels, negative": (with_layer(0, out_channels=-4), "out_channels"),
    "channels, text": (with_layer(0, out_channels="4"), "out_channels"),
    "channels, a number with a point": (with_layer(0, out_channels=4.0), "out_channels"),
    "kernel, nothing": (with_layer(0, kernel_size=None), "kernel_size"),
    "kernel, nested": (with_layer(0, kernel_size=[[3], [3]]), "kernel_size"),
    "groups": (with_layer(0, groups=0), "groups"),
    "stride": (with_layer(0, stride=-1), "stride"),
    "layers that are none": (
        lambda about: about | {"model": about["model"] | {"layers": [5]}},
        "5 is no layer",
    ),
    "names that are none": (
        lambda about: about | {"model": about["model"] | {"names": [1, 2, 3, 4, 5, 6]}},
        "names",
    ),
    "labels, nested": (changed(classes=[[i] for i in range(10)]), ""),
    "labels, huge": (changed(classes=[*range(9), 2**70]), "its labels are not all integers"),
    "names, too few": (changed(label_names=["a"]), "its label names are not one string for each"),
    "names, numbers": (changed(label_names=list(range(10))), "its label names are not one string"),
}
MISFITS = {
    "one label less": (changed(classes=list(range(9))), "it gives (10,) for 9 labels"),
    "other images": (changed(in_shape=[3, 8, 8]), "'0.weight' is (4, 1, 3, 3) and should be (4, 3"),
    "larger images": (changed(in_shape=[1, 9, 28]), "'5.weight' is (10, 64) and should"),
    "tiny images": (changed(in_shape=[1, 1, 1]), "layer 3: max_pool2d"),
    "enormous images": (changed(in_shape=[1, 2**14, 2**14]), "'5.weight' is (10, 64) and should"),
    "channels": (with_layer(0, out_channels=5), "and should be (5, "),
    "channels, huge": (with_layer(0, out_channels=2**16), "and should be (65536, "),
    "kernel": (with_layer(0, kernel_size=[3, 5]), "'0.weight' is (4, 1, 3, 3) and should be (4, 1"),
    "kernel, huge": (with_layer(0, kernel_size=HUGE), "layer 0: "),
    "padding, huge": (with_layer(0, padding=2**62), "layer 0: "),
    "features, huge": (with_layer(5, out_features=2**26), "'5.weight' is (10, 64) and should"),
    "no bias": (with_layer(0, bias=False), "they hold '0.bias'"),
    "no scaling": (with_layer(1, affine=False), "they hold '1.bias'"),
    "another layer": (with_layer(2, layer="PReLU"), "they lack '2.weight'"),
    "norm, huge": (
        with_layer(2, layer="LayerNorm", normalized_shape=[2**14, 2**14]), "layer 2: layer_norm",
    ),
}  # fmt: skip


def table(*tables):
    return [pytest.param(*row, id=name) for table in tables for name, row in table.items()]


@pytest.mark.parametrize("change, message", table(DESCRIPTIONS, MISFITS))
def test_descriptions_that_are_damaged_or_forged(path, tmp_path, change, message):
    arrays, metadata = contents(path)
    about = change(json.loads(metadata["xpcnn"]))
    forged = rewrite(tmp_path / "forged", arrays, about)
    start = "its description of the model is damaged: "
    if (change, message) in MISFITS.values():
        start = "its tensors do not fit its model: "
    tracemalloc.start()
    with pytest.raises(ValueError) as raised:
        load_model(forged)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(raised.value).startswith(f"{forged}: {start}")
    assert message in str(raised.value)
    assert peak < 16 << 20


DEEP = '{"layer": "Sequential", "layers": ['  # and so on, to the depths


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "5", "null", '"x"', "[" * 100_000, "9" * 10_000, DEEP * 10_000]
)
def test_metadata_that_is_no_description(tmp_path, text):
    (tmp_path / "net").write_bytes(serialize({"w": np.ones(3)}, metadata={"xpcnn": text}))
    with pytest.raises(ValueError, match=f"^{tmp_path}/net: its description of the model is dama"):
        xpcnn.load(tmp_path / "net")


@pytest.mark.parametrize("depth", [100, 300, 900, 100_000])
def test_nesting(tmp_path, depth):
    """What can be read is; deeper, it is refused before Python's stack ends."""
    start, end = '{"layer": "Sequential", "names": [], "layers": [', "]}"
    text = (
        f'{{"format": 1, "model": {start * depth}{{"layer": "Flatten"}}{end * depth},'
        '"in_shape": [1, 2, 1], "scale": 1.0, "classes": [0, 1], "label_names": null}'
    )
    (tmp_path / "net").write_bytes(serialize({}, metadata={"xpcnn": text}))
    try:
        net = xpcnn.load(tmp_path / "net", device="cpu")
    except ValueError as error:
        assert depth > 100
        assert "maximum recursion depth exceeded" in str(error)
    else:
        assert net.in_shape_ == (1, 2, 1)


def tensor(name, change):
    return lambda arrays: arrays | {name: change(arrays[name])}


TENSORS = {
    "missing": (
        lambda arrays: {n: a for n, a in arrays.items() if n != "0.bias"}, "they lack '0.bias'",
    ),
    "none": (lambda arrays: {}, "they lack '0.bias'"),
    "extra": (
        lambda arrays: arrays | {"7.weight": np.ones(3, np.float32)}, "they hold '7.weight'",
    ),
    "extra in a layer": (
        lambda arrays: arrays | {"2.weight": np.ones(3, np.float32)}, "they hold '2.weight'",
    ),
    "below a tensor": (
        lambda arrays: arrays | {"0.weight.x": np.ones(3, np.float32)}, "they hold '0.weight.x'",
    ),
    "without a name": (lambda arrays: arrays | {"": np.ones(3, np.float32)}, "they hold ''"),
    "wrong shape": (
        tensor("0.weight", lambda a: a.reshape(4, 3, 1, 3)),
        "'0.weight' is (4, 3, 1, 3) and should be (4, 1, 3, 3)",
    ),
    "wrong shape of a vector": (
        tensor("1.running_mean", lambda a: a[:3]), "'1.running_mean' is (3,) and should be (4,)",
    ),
    "integers": (
        lambda arrays: {n: a.astype(np.int32) for n, a in arrays.items()},
        "tensors must share a floating dtype, not ['int32']",
    ),
    "one of another dtype": (
        tensor("0.weight", lambda a: a.astype(np.float64)),
        "tensors must share a floating dtype, not ['float32', 'float64']",
    ),
    "complex": (
        lambda arrays: {n: a.astype(np.complex64) for n, a in arrays.items()},
        "tensors must share a floating dtype, not ['complex64']",
    ),
}  # fmt: skip


@pytest.mark.parametrize("change, message", TENSORS.values(), ids=TENSORS)
def test_tensors_that_do_not_fit(path, tmp_path, change, message):
    arrays, metadata = contents(path)
    other = rewrite(tmp_path / "other", change(arrays), json.loads(metadata["xpcnn"]))
    with pytest.raises(ValueError) as raised:
        xpcnn.load(other)
    assert str(raised.value).startswith(f"{other}: its tensors do not fit its model: ")
    assert message in str(raised.value)


def test_a_dtype_that_numpy_lacks(tmp_path):
    header = b'{"w":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}'
    (tmp_path / "net").write_bytes(len(header).to_bytes(8, "little") + header + b"\0")
    with pytest.raises(ValueError, match="net: is no safetensors file, or damaged: "):
        xpcnn.load(tmp_path / "net")


def test_loading_draws_no_weights(path, monkeypatch):
    """To know the shapes is enough: drawing would take longer than reading."""

    def drawn(*given):
        raise AssertionError("drawn")

    monkeypatch.setattr(xpcnn.random, "normal", drawn)
    monkeypatch.setattr(xpcnn.random, "uniform", drawn)
    xpcnn.load(path, device="cpu")


def test_nothing_that_could_run_code_is_at_hand():
    source = Path(load_model.__code__.co_filename).read_text(encoding="utf-8")
    assert not re.search(r"\b(pickle|eval|exec|marshal|compile|__import__)\b", source)
