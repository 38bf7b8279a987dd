"""The record of a training and the page about it: what they hold, and what breaks them."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import sys
from dataclasses import replace
from html.parser import HTMLParser
from importlib import util
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from command import invoke

import xpcnn
from xpcnn import cli
from xpcnn.data import Dataset, write_idx
from xpcnn.layers import Conv2d, Flatten, Linear, ReLU, Sequential
from xpcnn.report import PAGE_BEGINS, Record, beside, versions_with, write_page
from xpcnn.report.page import _classes
from xpcnn.report.shown import curves, kernels, matrix, mistakes
from xpcnn.training.history import Epoch, History

DIGITS = xpcnn.data.digits()
NAMES = (
    "<script>alert(1)</script>", "猫 and 狗", "$\\frac{1}$", 'a "quoted" & long name of a class',
    "5", "6", "7", "8", "9", "ten",
)  # fmt: skip
RECORD = Record(
    data="digits", model="classic", command="xpcnn train --model classic", settings={
        "--data": "digits", "--lr": 0.001, "--average": None, "--best": False, "--epochs": 2,
    },
    seed=7, versions=versions_with(xpcnn.device("cpu")), device="cpu", processes=1,
    finished="2026-01-31T12:00:00+00:00", seconds=4.25, test_accuracy=0.9, test_images=359,
    history=History((
        Epoch(1, 1.5, 0.5, math.inf, 0.25, 2.0, 700.0, 0.1, 0.001),
        Epoch(2, 0.5, 0.75, 0.75, 0.625, 2.25, 650.0, 0.1, 0.001),
    )),
)  # fmt: skip


@pytest.fixture(autouse=True)
def plain(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XPCNN_DEVICE", "cpu")


def train(*words):
    done = invoke("train", "--model", "classic", "--epochs", 1, *words)
    assert done.exit_code == 0, done.stderr
    return done


def trained(images, model=None, epochs=1):
    net = xpcnn.Classifier(
        model or xpcnn.models.classic, label_names=images.classes, device="cpu", seed=1
    )
    return net.fit(*images.train, epochs)


# The record


def test_a_record_comes_back_as_it_was(tmp_path):
    path = tmp_path / "a.json"
    RECORD.write(path)
    assert Record.read(path) == RECORD
    assert json.loads(path.read_text("utf-8"))["history"][0]["val_loss"] == "Infinity"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300, 0.1, None])
def test_any_figure_comes_back(value):
    epoch = Epoch(1, 0.5, 0.5, value, value, 1.0, 1.0)
    text = replace(RECORD, history=History((epoch,))).to_json()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    [back] = Record.from_json(text).history
    np.testing.assert_equal(tuple(back), tuple(epoch))


def damaged(*path, value):
    """A record's text with another value in it; None takes the entry away."""
    told = json.loads(RECORD.to_json())
    inner = told
    for name in path[:-1]:
        inner = inner[name]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return json.dumps(told)


BAD = {
    "empty": ("", "it is no JSON, or not whole: Expecting value: line 1 column 1 (char 0)"),
    "half": (RECORD.to_json()[:100], "it is no JSON, or not whole: "),
    "deep": ("[" * 100_000, "it is no JSON, or not whole: "),
    "list": ("[]", "it is no record of a run, for it lacks 'xpcnn record'"),
    "other": ("{}", "it is no record of a run, for it lacks 'xpcnn record'"),
    "format": (
        damaged("xpcnn record", value=2),
        "its format is 2, and this version of xpcnn reads 1",
    ),
    "missing": (damaged("seed", value=None), "it lacks 'seed'"),
    "text": (damaged("model", value=3), "model: it is 3; it should be a string"),
    "seed": (damaged("seed", value=True), "seed: it is True; it should be an integer of at least"),
    "count": (damaged("test_images", value=-1), "test_images: it is -1; it should be an integer"),
    "number": (damaged("seconds", value="4"), "seconds: it is '4'; it should be a number of"),
    "list for a number": (damaged("seconds", value=[]), "seconds: it is []; it should be a number"),
    "less than 0": (damaged("seconds", value=-1), "seconds: it is -1; it should be a number of at"),
    "NaN": (damaged("seconds", value="NaN"), "seconds: it is 'NaN'; it should be a number of at"),
    "beyond floats": (damaged("test_accuracy", value=10**400), "test_accuracy: it is 1000000"),
    "no versions": (damaged("versions", value={}), "versions: it lacks 'xpcnn'"),
    "time": (damaged("finished", value="today"), "finished: it is 'today'; it should be a time"),
    "settings": (damaged("settings", value=[]), "settings: it is []; it should be an object"),
    "setting": (
        damaged("settings", "--lr", value=[1]),
        "settings: --lr: it is [1]; it should be a plain value",
    ),
    "version": (
        damaged("versions", "NumPy", value=2),
        "versions: NumPy: it is 2; it should be a string",
    ),
    "history": (damaged("history", value={}), "history: it is {}; it should be a list of epochs"),
    "no epoch": (damaged("history", value=[]), "history: it is []; it should be a list of epochs"),
    "epoch": (
        damaged("history", 1, value=7),
        "history, epoch 2: it is 7; it should be an object",
    ),
    "figure": (
        damaged("history", 1, "loss", value="low"),
        "history, epoch 2: loss: it is 'low'; it should be a number",
    ),
    "no figure": (damaged("history", 0, "lr", value=None), "history, epoch 1: it lacks 'lr'"),
}


@pytest.mark.parametrize("text, message", BAD.values(), ids=BAD)
def test_a_damaged_record_is_told(text, message, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ValueError) as caught:
        Record.read(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_records_that_are_no_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no such record; `xpcnn train` writes"):
        Record.read(tmp_path / "absent.json")
    with pytest.raises(IsADirectoryError):
        Record.read(tmp_path)
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"bytes\.json: .*utf-8"):
        Record.read(tmp_path / "bytes.json")


def test_versions_are_those_in_use(xp):
    told = versions_with(xpcnn.device(xp.spec))
    assert told["xpcnn"] == xpcnn.__version__
    assert told["NumPy"] == np.__version__
    modules = {"numpy": "numba", "strict": "array_api_strict"}
    own = modules.get(xp.name, xp.name)
    assert told.keys() - {"xpcnn", "Python", "NumPy", "OpenCV"} == {own} & sys.modules.keys()
    assert ("OpenCV" in told) == ("cv2" in sys.modules)
    assert all(told.values())


# The page


class Page(HTMLParser):
    """Elements with their attributes, and the text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.words, self.inside = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def page_of(net, images, record=RECORD):
    write_page("page.html", net, images, record, "my model.safetensors")
    text = Path("page.html").read_text("utf-8")
    assert text.startswith(PAGE_BEGINS)
    return text


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A page of classes with awkward names."""
    folder = tmp_path_factory.mktemp("page")
    images = Dataset("digits", DIGITS.train, DIGITS.test, NAMES)
    before = os.getcwd()
    os.chdir(folder)
    try:
        return page_of(trained(images), images)
    finally:
        os.chdir(before)


def test_the_page_stands_alone(text):
    page = Page(text)
    assert not page.all("script")
    assert len(text.encode()) < 1_500_000
    links = [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "srcset", "action", "data")
    ]
    assert links
    assert all(link.startswith(("data:", "#")) for link in links)
    assert not re.search(r"url\((?!#)", text)
    assert "@import" not in text
    assert "default-src 'none'" in text


def test_a_reader_s_own_style_is_no_matter(tmp_path):
    """As it stands in a matplotlibrc."""
    net = trained(DIGITS)
    plain = page_of(net, DIGITS)
    own = {"text.usetex": True, "svg.image_inline": False, "font.size": 30, "axes.grid": True}
    with matplotlib.rc_context(own):
        assert page_of(net, DIGITS) == plain


def test_what_is_referred_to_is_there_once(text):
    page = Page(text)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids)) > 100
    meant = [a["href"][1:] for a in page.all("use")] + re.findall(r"url\(#([^)]*)\)", text)
    assert meant
    assert set(meant) <= set(ids)


def test_the_page_tells_all(text):
    page = Page(text)
    title = re.search(r"<title>(.*)</title>", text)[1]
    assert re.fullmatch(r"digits by classic: \d+\.\d\d\xa0% test accuracy", title)
    for told in (
        "Learning curves", "Confusion matrix", "Most confident mistakes", "Each class",
        "First-layer kernels", "The model", "Settings", "Versions", "--lr 0.001", "--average not",
        "--best no", "seed 7", "Time 4.2 s", "2026-01-31 12:00 UTC", "NumPy " + np.__version__,
        "xpcnn train --model classic", "xpcnn predict 'my model.safetensors' IMAGE",
        "xpcnn.load('my model.safetensors')", "uint8", "(N, 1, 8, 8)", "Device cpu",
        "After 2 epochs the loss is 0.5, and 0.75 in validation; the best, 0.75, was that of epoch "
        "2.",
        "Sees: the pixels of the image", "Memory for 1x1x8x8 in float32: at most",
        "Right after the training it was 90.00 % on 359 images",
    ):  # fmt: skip
        assert told in page.text, told


def test_the_page_is_accessible(text):
    page = Page(text)
    assert page.all("html") == [{"lang": "en"}]
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.all("svg"))
    assert len(page.all("svg")) > 5
    assert all("scope" in header for header in page.all("th"))
    assert len(page.all("h1")) == 1
    assert len(page.all("table")) == 3
    assert page.all("meta")[1]["content"] == "width=device-width, initial-scale=1"


def test_names_are_text_and_nothing_else(text):
    assert "<script" not in text
    page = Page(text)
    for name in NAMES:
        assert name in page.text
    assert "猫 and 狗" in text


def test_figures_take_the_colours_of_the_page(text):
    assert "currentColor" in text
    assert "#010203" not in text
    assert "#030201" not in text


def test_many_classes_are_told_in_words():
    counts = np.diag(np.full(120, 5))
    counts[3, 7] = 2
    shown = matrix(counts, [f"c{i}" for i in range(120)])
    assert shown.figures == ()
    assert shown.words == (
        "120 classes are too many for a matrix to be seen. Most often mistaken: c3 for c7 (2)."
    )


def test_many_classes_have_a_table_of_the_worst():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (240, 1, 8, 8)).astype(np.uint8)
    y = np.arange(240) % 120
    images = Dataset("many", (x, y), (x, y), tuple(f"class {i}" for i in range(120)))
    page = Page(page_of(trained(images), images))
    assert "Of 120 classes, the 100 with the lowest F1." in page.text
    assert page.text.count("class ") > 100


def test_one_epoch_makes_no_curve():
    shown = curves(History(RECORD.history[:1]))
    assert shown.figures == ()
    assert shown.words.startswith("After 1 epoch the loss is 1.5")
    assert len(curves(RECORD.history).figures) == 2


@pytest.mark.parametrize(
    "name, shown",
    [
        ("fourteen chars", "fourteen chars"),
        ("a class of birds that sing", "a clas…t sing"),
        ("a class of birds that swim", "a clas…t swim"),
        ("一二三四五六七", "一二三四五六七"),  # each as wide as two Latin letters
        ("一二三四五六七八", "一二三…六七八"),
    ],
)
def test_long_names_are_shortened_in_the_middle(name, shown):
    [drawn, _] = matrix(np.eye(2, dtype=int), [name, "b"]).figures
    assert f">{shown}</text>" in drawn


def test_no_mistake():
    shown = mistakes(DIGITS.test[0][:2], np.asarray([0, 1]), np.eye(2), ["a", "b"])
    assert shown.figures == ()
    assert shown.words == "None of 2 images was mistaken."
    assert matrix(np.eye(2, dtype=int), ["a", "b"]).words == "No image was mistaken."


def test_images_that_are_no_pictures():
    shown = mistakes(np.zeros((2, 5, 4, 4), np.uint8), np.asarray([1, 0]), np.eye(2), ["a", "b"])
    assert shown == type(shown)("Images of 5 channels cannot be shown.")


@pytest.mark.parametrize(
    "model, words, figures",
    [
        (Sequential(Flatten()), "No layer has weights.", 0),
        (
            Sequential(Flatten(), Linear(10)),
            "The first layer with weights, 1, is no convolution of more than 1x1.", 0,
        ),
        (
            Sequential(Conv2d(4, 1), ReLU(), Conv2d(4, 3)),
            "The first layer with weights, 0, is no convolution of more than 1x1.", 0,
        ),
        (Conv2d(4, 3), "The model has 4 kernels of 3x3.", 1),
        (Sequential(ReLU(), Conv2d(4, (3, 5))), "Layer 1 has 4 kernels of 3x5.", 1),
        (
            Sequential(Conv2d(70, 3)),
            "Layer 0 has 70 kernels of 3x3, of which these are the first 64.", 1,
        ),
    ],
)  # fmt: skip
def test_kernels_where_there_are_some(model, words, figures):
    params, _ = model.init(xpcnn.random.key(0), (1, 8, 8))
    shown = kernels(model.summary((1, 8, 8)).rows, params)
    assert (shown.words, len(shown.figures)) == (words, figures)


def test_kernels_of_any_library(xp):
    model = Sequential(Conv2d(4, 3), Flatten())
    params, _ = model.init(xpcnn.random.key(0), (1, 8, 8), device=xpcnn.device(xp.spec))
    assert len(kernels(model.summary((1, 8, 8)).rows, params).figures) == 1


def test_large_pictures_keep_the_page_small():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (24, 3, 224, 224)).astype(np.uint8)  # noise: nothing is larger
    y = np.arange(24) % 2
    images = Dataset("noise", (x[:4], y[:4]), (x, y), ("a", "b"))
    model = Sequential(Conv2d(8, 7, stride=8), ReLU(), Flatten(), Linear(2))
    assert len(page_of(trained(images, model), images).encode()) < 1_500_000


# The command


def test_train_leaves_a_record_and_a_page():
    done = train("--validation", 0.1, "--lr", 0.002, "--out", "my net.safetensors")
    assert done.stdout.splitlines()[-2:] == [
        "model written to my net.safetensors", "report written to my net.html",
    ]  # fmt: skip
    assert sorted(os.listdir()) == ["my net.html", "my net.json", "my net.safetensors"]
    record = Record.read("my net.json")
    assert shlex.split(record.command) == [
        "xpcnn", "train", "--model", "classic", "--epochs", "1", "--lr", "0.002", "--validation",
        "0.1", "--out", "my net.safetensors",
    ]  # fmt: skip
    assert record.settings["--lr"] == 0.002
    assert record.settings["--batch-size"] == 64
    assert (record.seed, record.processes, len(record.history)) == (0, 1, 1)
    assert record.history[0].val_loss is not None
    assert f"test accuracy {record.test_accuracy:.2%} on 359 images" in done.stdout
    assert f"{record.test_accuracy:.2%}"[:-1] in Path("my net.html").read_text("utf-8")


def test_a_records_command_gives_the_same_model():
    beside = ("--checkpoints", "run", "--every", 5, "--log", "a.csv", "--no-report")
    train("--seed", 3, "--augment", "shift=0.1", *beside, "--out", "a")
    before = Path("a").read_bytes()
    record = Record.read("a.json")
    assert record.command == (
        "xpcnn train --model classic --epochs 1 --augment shift=0.1 --seed 3 --out a"
    )
    Path("a").unlink()
    assert invoke(*shlex.split(record.command)[1:], "--no-report").exit_code == 0
    assert Path("a").read_bytes() == before


def test_a_resumed_run_has_the_record_of_one_without_a_break():
    train("--epochs", 2, "--out", "a", "--no-report")
    train("--checkpoints", "run", "--out", "b", "--no-report")
    train("--epochs", 2, "--checkpoints", "run", "--resume", "--out", "b", "--no-report")
    one, other = Record.read("a.json"), Record.read("b.json")
    assert replace(one, settings={**one.settings, "--out": "b"}).settings == other.settings
    assert one.command.replace("--out a", "--out b") == other.command
    assert one.history.column("loss") == other.history.column("loss")
    assert other.seconds == sum(other.history.column("seconds"))


def test_without_a_page():
    done = train("--out", "a", "--no-report")
    assert done.stdout.splitlines()[-1] == "model written to a"
    assert sorted(os.listdir()) == ["a", "a.json"]
    assert "--no-report" not in Record.read("a.json").command


@pytest.mark.parametrize("absent", ["matplotlib", "jinja2"])
def test_without_the_extra(absent, monkeypatch):
    monkeypatch.setattr(
        cli._records, "find_spec", lambda name: None if name == absent else util.find_spec(name)
    )
    done = train("--out", "a")
    assert done.stdout.splitlines()[-1] == 'for a report with figures: pip install "xpcnn[plots]"'
    assert sorted(os.listdir()) == ["a", "a.json"]


def test_only_what_xpcnn_wrote_is_replaced():
    for name in ("a.json", "a.html"):
        Path(name).write_text("mine")
        done = invoke("train", "--out", "a.safetensors")
        assert done.exit_code == 1
        assert f"{name}: it would be written over, and xpcnn did not write it" in done.stderr
        assert os.listdir() == [name]
        os.remove(name)
    for _ in range(2):
        train("--out", "a")
    Path("a.html").write_text("mine")
    assert "a.html: it would be written over" in invoke("report", "a").stderr
    assert Path("a.html").read_text() == "mine"


@pytest.mark.parametrize("log", ["a.safetensors", "a.json", "./a.html"])
def test_a_log_has_a_place_of_its_own(log):
    done = invoke("train", "--out", "a.safetensors", "--log", log)
    assert done.exit_code == 1 and f"--log {log[2:] if log[0] == '.' else log}: " in done.stderr
    assert os.listdir() == []


def test_names_that_are_no_utf8_are_kept(tmp_path):
    record = replace(RECORD, data="f\udce9")
    record.write(tmp_path / "a.json")
    assert Record.read(tmp_path / "a.json") == record


def test_models_of_other_endings_have_records_of_their_own():
    assert beside(Path("x/net.v2"), ".json") == Path("x/net.v2.json")
    assert beside(Path("a.json"), ".json") == Path("a.json.json")


def test_report_writes_the_same_page_again():
    train("--out", "a.safetensors")
    first = Path("a.html").read_bytes()
    os.remove("a.html")
    done = invoke("report", "a.safetensors")
    assert (done.exit_code, done.stdout) == (0, "report written to a.html\n")
    assert Path("a.html").read_bytes() == first


def test_report_on_other_images():
    train("--out", "a", "--no-report")
    write_idx("my-images-idx3", DIGITS.test[0][:100, 0])
    write_idx("my-labels-idx1", DIGITS.test[1][:100].astype(np.uint8))
    done = invoke("report", "a", "--data", "my-images-idx3", "--out", "b.html")
    assert (done.exit_code, done.stdout) == (0, "report written to b.html\n")
    assert "Right after the training it was" in Path("b.html").read_text("utf-8")


def test_images_that_are_elsewhere_now():
    write_idx("my-images-idx3", DIGITS.test[0][:100, 0])
    write_idx("my-labels-idx1", DIGITS.test[1][:100].astype(np.uint8))
    train("--data", "my-images-idx3", "--out", "a", "--no-report")
    os.mkdir("elsewhere")
    os.chdir("elsewhere")
    for command in ("report", "evaluate"):
        done = invoke(command, "../a")
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr == (
            "error: the images are no longer at my-images-idx3, where ../a.json has them; say "
            "where with --data\n"
        )
        assert invoke(command, "../a", "--data", "../my-images-idx3").exit_code == 0


def test_settings_are_those_that_the_data_has():
    cv2 = pytest.importorskip("cv2")
    train("--out", "a", "--no-report")
    of_pictures = {"--size", "--grey", "--resize", "--skip-unreadable"}
    assert not of_pictures & Record.read("a.json").settings.keys()
    for number in range(8):
        os.makedirs(f"pictures/{number % 2}", exist_ok=True)
        cv2.imwrite(f"pictures/{number % 2}/{number}.png", np.full((9, 9), number, np.uint8))
    for size, told in {(): "64x64", ("--size", 16): "16x16"}.items():
        train("--data", "pictures", *size, "--out", "b", "--no-report")
        record = Record.read("b.json")
        assert of_pictures <= record.settings.keys()
        assert record.settings["--size"] == told
        assert record.versions["OpenCV"] == cv2.__version__


def test_report_without_what_it_needs():
    train("--out", "a", "--no-report")
    os.rename("a.json", "b.json")
    for words, message in {
        ("a", "--out", "r.pdf"): "--out r.pdf: the page is HTML; let its name end in .html",
        ("absent",): "absent: there is no such file; train a model first",
        ("a",): "a.json: there is no such record; `xpcnn train` writes one",
        ("a", "--out", "no/a.html"): "writing no/a.html: there is no folder",
    }.items():
        done = invoke("report", *words)
        assert done.exit_code == 1
        assert done.stderr.startswith(f"error: {message}")
        assert not Path("a.html").exists()


def test_of_many_classes_the_worst_are_told():
    counts = np.diag(np.arange(1, 151))
    counts[np.arange(149), np.arange(1, 150)] = 5  # the more images, the better
    rows = _classes(counts, tuple(map(str, range(150))))
    assert len(rows) == 100
    assert rows[0].f1 < 0.3 and sum(row.f1 for row in rows[:9]) < sum(row.f1 for row in rows[-9:])
    assert "148" not in [row.name for row in rows]
