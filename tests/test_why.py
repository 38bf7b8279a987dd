"""`xpcnn features` and `xpcnn why`: what a network makes of an image, good or bad."""

from __future__ import annotations

import builtins
import os
from importlib import util
from pathlib import Path

import numpy as np
import pytest
from command import invoke
from matplotlib import pyplot

import xpcnn
from xpcnn import cli, inspection
from xpcnn.layers import Flatten, Linear, Sequential

cv2 = pytest.importorskip("cv2")
DIGITS = xpcnn.data.digits()
NAMES = ("$no$", "one [1]", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PNG, PDF = b"\x89PNG", b"%PDF"
UPRIGHT = b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
"""EXIF that tells to turn the image by a quarter. Source: Exif 2.32, tag Orientation."""


@pytest.fixture(autouse=True)
def plain(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XPCNN_DEVICE", "cpu")
    monkeypatch.setenv("OPENCV_LOG_LEVEL", "SILENT")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "digits.safetensors"
    net = xpcnn.Classifier(xpcnn.models.classic(), label_names=NAMES, device="cpu")
    net.fit(*DIGITS.train, 2).save(path)
    return path


@pytest.fixture
def image():
    cv2.imwrite("six.png", DIGITS.test[0][DIGITS.test[1] == 6][0, 0])
    return "six.png"


@pytest.mark.parametrize("command", ["features", "why"])
def test_a_figure_is_written(command, model, image):
    done = invoke(command, model, image)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == f"figure written to six-{command}.png"
    assert Path(f"six-{command}.png").read_bytes().startswith(PNG)
    height, width, _ = cv2.imread(f"six-{command}.png").shape
    assert height > 100
    assert width > 100


def test_why_tells_what_predict_tells(model, image):
    told = invoke("predict", model, image).stdout
    assert invoke("why", model, image).stdout.startswith(told)


def test_why_for_another_class(model, image):
    done = invoke("why", model, image, "--class", "one [1]", "--out", "a.pdf")
    first, second, third = done.stdout.splitlines()
    chances = xpcnn.load(model, "cpu").predict_proba(DIGITS.test[0][DIGITS.test[1] == 6][:1])
    assert first == f"six.png: {NAMES[chances.argmax()]} ({chances.max():.1%})"
    assert second == f"shown is what speaks for one [1] ({chances[0, 1]:.1%})"
    assert third == "figure written to a.pdf"
    assert Path("a.pdf").read_bytes().startswith(PDF)


def test_names_with_dollars_are_no_formulas(model, image):
    done = invoke("why", model, image, "--class", "$no$", "--out", "a.svg")
    assert done.exit_code == 0
    assert "<!-- saliency: $no$ -->" in Path("a.svg").read_text("utf-8")


def test_layers_by_name(model, image):
    net = xpcnn.load(model, "cpu")
    x = np.zeros((1, 1, 8, 8), np.float32)
    spatial = [
        name
        for name, y in inspection.features(net.model_, net.params_, x).items()
        if y.ndim == 4 and y.shape[2] * y.shape[3] > 1
    ]
    for name in spatial:
        assert invoke("why", model, image, "--layer", name).exit_code == 0
    done = invoke("why", model, image, "--layer", "absent")
    assert done.exit_code == 1
    assert done.stderr.startswith("error: grad_cam: layer='absent' is not there; the layers that")
    assert done.stderr.rstrip().endswith(", ".join(spatial))


@pytest.mark.parametrize("device", ["cpu", "strict"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_any_device_and_precision(device, dtype, image):
    net = xpcnn.Classifier(xpcnn.models.classic(), device="cpu", dtype=dtype)
    net.fit(*DIGITS.train, 1).save("a")
    for command in ("features", "why"):
        assert invoke(command, "a", image, "--device", device).exit_code == 0


def test_channels_last(image):
    x = DIGITS.train[0].transpose(0, 2, 3, 1)
    net = xpcnn.Classifier(xpcnn.models.classic(), device="cpu", layout="NHWC")
    net.fit(x, DIGITS.train[1], 1).save("a")
    for command in ("features", "why"):
        assert invoke(command, "a", image).exit_code == 0


def bytes_of(pixels, ending=".png"):
    return cv2.imencode(ending, pixels)[1].tobytes()


def turned():
    jpeg, body = bytes_of(np.zeros((20, 10, 3), np.uint8), ".jpg"), b"Exif\0\0" + UPRIGHT
    return jpeg[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + jpeg[2:]


ODD = {
    "grey": bytes_of(np.zeros((9, 9), np.uint8)),
    "alpha": bytes_of(np.full((9, 9, 4), 7, np.uint8)),
    "16 bits": bytes_of(np.full((9, 9), 40_000, np.uint16)),
    "one pixel": bytes_of(np.zeros((1, 1, 3), np.uint8)),
    "20,000 wide": bytes_of(np.zeros((3, 20_000, 3), np.uint8)),
    "turned": turned(),
}


@pytest.mark.parametrize("command", ["features", "why"])
@pytest.mark.parametrize("data", ODD.values(), ids=ODD)
def test_odd_images_are_taken(command, data, model):
    Path("odd.png").write_bytes(data)
    done = invoke(command, model, "odd.png")
    assert (done.exit_code, done.stderr) == (0, "")
    assert Path(f"odd-{command}.png").read_bytes().startswith(PNG)


def linear():
    net = xpcnn.Classifier(Sequential(Flatten(), Linear(10)), device="cpu")
    net.fit(*DIGITS.train, 1).save("linear")
    return "linear"


def signals():
    x, y = DIGITS.train[0].reshape(-1, 1, 64), DIGITS.train[1]
    net = xpcnn.Classifier(Sequential(Flatten(), Linear(10)), layout="NCW", device="cpu")
    net.fit(x, y, 1).save("signals")
    return "signals"


BAD = {
    "absent": (lambda model: [model, "absent.png"], "absent.png: No such file or directory"),
    "folder": (lambda model: [model, "."], ".: is a folder"),
    "truncated": (lambda model: [model, "half.png"], "half.png: cannot be read: it is"),
    "text": (lambda model: [model, "text.png"], "text.png: cannot be read: it is no"),
    "no model": (lambda model: ["absent", "six.png"], "absent: there is no such file; train a"),
    "no format": (
        lambda model: [model, "six.png", "--out", "a.gif"],
        "--out a.gif: no figure is written so; let its name end in .png, .svg, .pdf",
    ),
    "no ending": (lambda model: [model, "six.png", "--out", "a"], "--out a: no figure is written"),
    "no place": (
        lambda model: [model, "six.png", "--out", "no/a.png"],
        "writing no/a.png: there is no folder",
    ),
    "signals": (lambda model: [signals(), "six.png"], "read_image: in_shape must be (C, H, W)"),
}


@pytest.mark.parametrize("command", ["features", "why"])
@pytest.mark.parametrize("words, message", BAD.values(), ids=BAD)
def test_what_cannot_be_shown_is_told(command, words, message, model, image):
    Path("half.png").write_bytes(Path(image).read_bytes()[:60])
    Path("text.png").write_text("no picture")
    words = words(model)
    before = sorted(os.listdir())
    done = invoke(command, *words)
    assert done.exit_code == 1
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error: {message}")
    assert done.stdout == ""
    assert sorted(os.listdir()) == before


def test_a_class_that_is_none(model, image):
    done = invoke("why", model, image, "--class", "cat")
    assert done.exit_code == 1
    assert done.stderr == (
        f"error: --class cat: the model tells apart {', '.join(NAMES)}; choose one\n"
    )


def test_without_matplotlib(model, image, monkeypatch):
    def without(name):
        return None if name == "matplotlib" else util.find_spec(name)

    monkeypatch.setattr(cli._figures, "find_spec", without)
    done = invoke("why", model, image)
    assert done.stderr == 'error: why needs Matplotlib: pip install "xpcnn[plots]"\n'


def test_without_opencv(model, image, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "cv2":
            raise ModuleNotFoundError("No module named 'cv2'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    done = invoke("features", model, image)
    assert done.stderr == 'error: read_image needs OpenCV: pip install "xpcnn[images]"\n'


def test_letters_that_no_font_has_are_told(model, image):
    net = xpcnn.load(model, "cpu")
    net.label_names = ("\U0001fbff", *NAMES[1:])
    net.save("a")
    done = invoke("why", "a", image, "--class", "\U0001fbff")
    assert done.exit_code == 0
    assert "no font that Matplotlib knows has all letters of the figure" in done.stderr


def test_a_network_without_maps_has_a_saliency_alone(image):
    done = invoke("why", linear(), image, "--out", "why.svg")
    assert done.exit_code == 0
    drawn = Path("why.svg").read_text("utf-8")
    assert "saliency" in drawn and "Grad-CAM" not in drawn
    for failed in (
        invoke("features", linear(), image),
        invoke("why", linear(), image, "--layer", "0"),
    ):
        assert failed.exit_code == 1


def test_the_image_itself_is_not_written_over(model, image):
    before = Path(image).read_bytes()
    for command in ("filters", "stages"):
        done = invoke(command, image, "--out", image)
        assert done.exit_code == 1 and "the image itself lies there" in done.stderr
    assert Path(image).read_bytes() == before
