"""The command: what it prints, what it writes, and one clear line for whatever goes wrong."""

from __future__ import annotations

import builtins
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from command import run
from typer.testing import CliRunner

import xpcnn
from xpcnn import cli
from xpcnn.data import SETS, write_idx
from xpcnn.models import MODELS

DIGITS = xpcnn.data.digits()
NO_CUDA = "cuda" in {found.name for found in xpcnn.devices() if found.device is None}


@pytest.fixture(autouse=True)
def plain(monkeypatch, tmp_path):
    """In an empty folder, on the host unless a test says otherwise."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XPCNN_DEVICE", "cpu")
    monkeypatch.setenv("OPENCV_LOG_LEVEL", "SILENT")
    monkeypatch.delenv("FORCE_COLOR", raising=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model file, and the classifier it was written by."""
    path = tmp_path_factory.mktemp("model") / "digits.safetensors"
    net = xpcnn.Classifier(MODELS["classic"](), label_names=DIGITS.classes, device="cpu")
    net.fit(*DIGITS.train, 5).save(path)
    return SimpleNamespace(path=path, net=net)


@pytest.fixture
def cv2():
    return pytest.importorskip("cv2")


# What works


def test_the_default_run_reads_digits():
    """A process of its own: 97 % on the held-back stratified fifth in under a minute."""
    command = [sys.executable, "-m", "xpcnn.cli", "train"]
    # on a busy machine OpenBLAS' threads wait for each other: a minute for what takes five seconds
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=environment, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")  # no terminal, no bar
    first, second, third, fourth, fifth = done.stdout.splitlines()
    assert first == "digits: 1,438 training and 359 test images 1x8x8, 10 classes"
    told = (
        r"convnet: 188,810 parameters, trained on cpu in \d+\.\d s, \d\.\d% of it waiting for data"
    )
    assert re.fullmatch(told, second)
    accuracy = re.fullmatch(r"test accuracy (\d+\.\d\d)% on 359 images", third)
    assert float(accuracy[1]) >= 97
    assert fourth == "model written to xpcnn-digits.safetensors"
    assert fifth == "report written to xpcnn-digits.html"
    left = [f"xpcnn-digits.{ending}" for ending in ("html", "json", "safetensors")]
    assert sorted(os.listdir()) == left


def test_train_then_evaluate_tell_the_same_accuracy():
    trained = run("train", "--model", "classic", "--epochs", 1, "--out", "a.safetensors")
    assert (trained.status, trained.err) == (0, "")
    evaluated = run("evaluate", "a.safetensors")
    assert (evaluated.status, evaluated.err) == (0, "")
    first, _, accuracy, _, _ = trained.out.splitlines()
    assert evaluated.out.splitlines() == [first, accuracy]
    net = xpcnn.load("a.safetensors", device="cpu")
    assert accuracy == f"test accuracy {net.score(*DIGITS.test):.2%} on 359 images"
    assert net.model == MODELS["classic"](10)


def test_a_seed_says_which_file():
    for name, seed in [("a", 1), ("b", 1), ("c", 2)]:
        run(
            "train",
            "--model",
            "classic",
            "--epochs",
            1,
            "--seed",
            seed,
            "--no-report",
            "--out",
            name,
        )
    a, b, c = (Path(name).read_bytes() for name in "abc")
    assert a == b != c


def test_options_reach_the_training():
    few = ("train", "--model", "classic", "--epochs", 1, "--no-report", "--out")
    run(*few, "a")
    run(*few, "b", "--lr", 0)
    run(*few, "c", "--batch-size", 1438)
    a, b, c = (xpcnn.load(name, device="cpu").params_["0"]["weight"] for name in "abc")
    drawn, _ = MODELS["classic"]().init(xpcnn.random.fold_in(xpcnn.random.key(0), 0), (1, 8, 8))
    np.testing.assert_array_equal(b, drawn["0"]["weight"])  # a rate of 0 leaves it there
    assert 0 < np.abs(c - b).max() <= 0.00101  # one step of Adam moves by its rate
    assert np.abs(a - b).max() > 0.002


def test_on_another_library():
    done = run("train", "--model", "classic", "--epochs", 1, "--device", "strict", "--out", "a")
    assert "trained on strict in" in done.out
    assert run("evaluate", "a", "--device", "strict").out == run("evaluate", "a").out


def test_own_data_in_one_file():
    write_idx("my-images-idx3.gz", DIGITS.test[0][:, 0])
    write_idx("my-labels-idx1.gz", DIGITS.test[1].astype(np.uint8))
    done = run("train", "--data", "my-images-idx3.gz", "--model", "classic", "--epochs", 1)
    assert done.status == 0
    assert done.out.startswith("my-images-idx3.gz: 287 training and 72 test images 1x8x8, 10 cla")
    assert os.path.exists("xpcnn-my-images-idx3.safetensors")
    done = run("evaluate", "xpcnn-my-images-idx3.safetensors", "--data", ".")
    assert done.status == 1
    assert "there is no train-images-idx3-ubyte" in done.err


def test_predict_on_pictures(cv2, model):
    images = DIGITS.test[0]
    for number in range(3):
        cv2.imwrite(f"{number} [red].png", images[number, 0])
    done = run("predict", model.path, *(f"{number} [red].png" for number in range(3)))
    assert (done.status, done.err) == (0, "")
    chances = model.net.predict_proba(images[:3])
    assert done.out.splitlines() == [
        f"{number} [red].png: {row.argmax()} ({row.max():.1%})"
        for number, row in enumerate(chances)
    ]


def test_predict_by_channels_last(cv2):
    x, y = DIGITS.train[0].transpose(0, 2, 3, 1), DIGITS.train[1]
    net = xpcnn.Classifier(MODELS["classic"](), layout="NHWC", device="cpu").fit(x, y, 1)
    net.save("a")
    cv2.imwrite("a.png", x[0])
    label = net.predict(x[:1])[0]
    assert run("predict", "a", "a.png").out.startswith(f"a.png: {label} (")


def test_one_picture_that_cannot_be_read_does_not_stop_the_others(cv2, model):
    cv2.imwrite("a.png", DIGITS.test[0][0, 0])
    file("bad.png", Path("a.png").read_bytes()[:60])
    done = run("predict", model.path, "a.png", "bad.png", "absent.png", ".", "a.png")
    assert done.status == 1
    assert [line.partition(":")[0] for line in done.out.splitlines()] == ["a.png", "a.png"]
    first, second, third = done.err.splitlines()
    assert first.startswith("error: bad.png: cannot be read: it is no image, or damaged")
    assert second == "error: absent.png: No such file or directory"
    assert third == "error: .: is a folder; give the path of one image file"


def test_predict_without_opencv(model, monkeypatch):
    file("a.png")
    real = builtins.__import__

    def without(name, *rest):
        if name == "cv2":
            raise ModuleNotFoundError("No module named 'cv2'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    done = run("predict", model.path, "a.png")
    assert (done.status, done.out) == (1, "")
    assert done.err == 'error: read_image needs OpenCV: pip install "xpcnn[images]"\n'


def test_devices():
    done = run("devices")
    assert (done.status, done.err) == (0, "")
    for found in xpcnn.devices():
        line = next(line for line in done.out.splitlines() if f" {found.name} " in line)
        assert (" yes " if found.device else " no ") in line


def test_version():
    assert run("--version").out == f"{xpcnn.__version__}\n"


def test_help_tells_every_choice():
    listed = run("--help").out
    commands = (
        "train", "report", "evaluate", "predict", "why", "features", "filters", "stages", "summary",
        "devices", "data",
    )  # fmt: skip
    assert all(f"  {name} " in listed for name in commands)
    assert "..." not in listed.replace("[ARGS]...", "")  # no line is too long for it
    told = re.sub(r"\s+", " ", run("train", "--help").out)
    for text in [
        "Train a network on images, test it, and write a model file.",
        "digits, a set of `xpcnn data list`, a folder of images or of arrays, or a file.",
        f"The network: {', '.join(MODELS)}. [default: convnet]",
        "--epochs N", "[default: 10", "--batch-size N", "[default: 64", "--lr RATE",
        "--checkpoints FOLDER", "--resume", "--parallel",
        "auto, cpu, cuda, cuda:1, torch, torch:cuda:0, jax, strict.",
        "--augment STEPS", "--no-report", "--seed N",
        "--out FILE Model file. [default: xpcnn-DATA.safetensors]",
    ]:  # fmt: skip
        assert text in told


# What does not


def folder(name):
    os.mkdir(name)
    return name


def file(name, content=b"x" * 100):
    Path(name).write_bytes(content)
    return name


def checkpoint():
    options = ("--model", "classic", "--epochs", 1, "--checkpoints", "run", "--no-report")
    run("train", *options, "--out", "a")
    return "run/epoch-00001-batch-0000000.safetensors"


def half(path):
    return path.read_bytes()[: path.stat().st_size // 2]


def loose_pictures():
    file(f"{folder('loose')}/a.png")
    return "loose"


def one_class():
    write_idx("one-images-idx3", DIGITS.test[0][:9, 0])
    write_idx("one-labels-idx1", np.zeros(9, np.uint8))
    return "one-images-idx3"


def other_size():
    write_idx("big-images-idx3", np.zeros((20, 9, 9), np.uint8))
    write_idx("big-labels-idx1", (np.arange(20) % 10).astype(np.uint8))
    return "big-images-idx3"


BAD = {
    "device": (
        lambda model: ["train", "--device", "gpu"],
        "device('gpu'): no such device; choose auto, cpu, cuda, cuda:1, torch, torch:cuda:0, jax "
        "or strict",
    ),
    "network": (
        lambda model: ["train", "--model", "resnet"],
        f"--model resnet: no such model; choose {', '.join(MODELS)}",
    ),
    "data": (
        lambda model: ["train", "--data", "absent"],
        f'load: there is no data set and no file "absent"; choose digits, {", ".join(SETS)}, or '
        "give the path of a folder with one subfolder of pictures a class, of an IDX images file "
        "or of a folder with MNIST's four files",
    ),
    "empty folder": (
        lambda model: ["train", "--data", folder("empty")],
        "empty: there is no train-images-idx3-ubyte, plain or with .gz; put it there",
    ),
    "damaged data": (
        lambda model: ["train", "--data", file("my-images-idx3"), file("my-labels-idx1")][:3],
        "read_idx: my-images-idx3, byte 0: ",
    ),
    "loose pictures": (
        lambda model: ["train", "--size", 32, "--data", loose_pictures()],
        "image_folder: loose holds no folders; put the pictures of each class into a folder of its "
        "own",
    ),
    "one class": (
        lambda model: ["train", "--data", one_class()],
        "fit: y holds the one class 0; give at least two",
    ),
    "another ending": (
        lambda model: ["train", "--out", "a.pth"],
        "--out a.pth: the model file is of safetensors; let its name end in .safetensors",
    ),
    "a folder to write to": (
        lambda model: ["train", "--out", folder("there")],
        "--out there: it is a folder or a device; give the name of a file",
    ),
    "no folder to write to": (
        lambda model: ["train", "--out", "absent/a"],
        "--out absent/a: absent is no folder one can write to",
    ),
    "a file where a folder is due": (
        lambda model: ["train", "--out", f"{file('plain')}/a"],
        "--out plain/a: plain is no folder one can write to",
    ),
    "no rate": (
        lambda model: ["train", "--lr", "nan"],
        "Adam(lr=nan): lr must lie in [0, inf)",
    ),
    "a rate that goes nowhere": (
        lambda model: ["train", "--lr", "1e30", "--epochs", "2"],
        "the loss became ",
    ),
    "augmentation": (
        lambda model: ["train", "--augment", "shift=0.1,blur"],
        'augment "shift=0.1,blur": there is no step \'blur\'; choose shift, rotate, scale, flip, '
        "crop, colour, cutout",
    ),
    "no augmentation": (
        lambda model: ["train", "--augment", ""],
        "augment \"\": there is no step ''; choose shift, rotate, scale, flip, crop, colour, "
        "cutout",
    ),
    "seed": (
        lambda model: ["train", "--seed", 2**64],
        "key: seed must lie in [0, 2**64); it is 18446744073709551616",
    ),
    "images too small": (
        lambda model: ["train", "--model", "lenet5"],
        "layer 3: conv2d: along H a kernel of 5 (dilation 1, so spanning 5) does not fit 4 "
        "elements padded by (0, 0); it needs at least 5; images of 1x8x8 are too small for lenet5: "
        "give a larger --size, or another --model",
    ),
    "no model": (
        lambda model: ["evaluate", "absent"],
        "absent: there is no such file; train a model first",
    ),
    "a folder for a model": (
        lambda model: ["evaluate", folder("there")],
        "there: is a folder; give a model file",
    ),
    "no model file": (
        lambda model: ["evaluate", file("other")],
        "other: is no safetensors file, or damaged: ",
    ),
    "a checkpoint": (
        lambda model: ["evaluate", checkpoint()],
        "run/epoch-00001-batch-0000000.safetensors: is a checkpoint, not a model; the end of its "
        "training writes one",
    ),
    "no record": (
        lambda model: ["evaluate", model.path],
        "{model}.json: there is no such record, which names the images; name them with --data",
    ),
    "half a model file": (
        lambda model: ["predict", file("half", half(model.path)), "a.png"],
        "half: is no safetensors file, or damaged: ",
    ),
    "data of another size": (
        lambda model: ["evaluate", model.path, "--data", other_size()],
        "score: the network takes images (1, 8, 8) (C, ...); x holds (1, 9, 9)",
    ),
}  # fmt: skip
if NO_CUDA:
    BAD["no GPU"] = (
        lambda model: ["train", "--device", "cuda", "--data", "fashion-mnist"], "device('cuda'): ",
    )  # fmt: skip


@pytest.mark.parametrize("words, message", BAD.values(), ids=BAD)
def test_bad_input(words, message, model):
    words, message = words(model), message.replace("{model}", str(model.path.with_suffix("")))
    before = sorted(os.listdir())
    done = run(*words)
    assert done.status == 1
    [line] = done.err.splitlines()
    assert line.startswith(f"error: {message}")
    if not message.endswith(" "):
        assert line == f"error: {message}"
    assert "accuracy" not in done.out
    assert sorted(os.listdir()) == before  # nothing is left, whole or in half


@pytest.mark.parametrize(
    "words, message",
    [
        (["train", "--epochs", 0], "'--epochs'"),
        (["train", "--epochs", "ten"], "'--epochs'"),
        (["train", "--batch-size", 0], "'--batch-size'"),
        (["train", "--seed", -1], "'--seed'"),
        (["train", "--momentum", "0.9"], "--momentum"),
        (["evaluate"], "MODEL"),
        (["predict", "a.safetensors"], "IMAGE"),
        (["draw"], "'draw'"),
    ],
)
def test_words_that_the_command_does_not_know(words, message):
    done = run(*words)
    assert (done.status, done.out) == (2, "")
    usage, *_, last = done.err.splitlines()
    assert usage.startswith("Usage: ")
    assert last.startswith("Error: ")
    assert message in last
    assert os.listdir() == []


def test_a_write_that_fails_leaves_nothing(monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    done = run("train", "--model", "classic", "--epochs", 1)
    assert done.status == 1
    assert done.err == "error: No space left on device\n"
    assert os.listdir() == []


def test_an_interrupt_leaves_nothing(monkeypatch):
    def interrupted(*given, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(xpcnn.Classifier, "fit", interrupted)
    done = CliRunner().invoke(cli.app, ["train"])
    assert done.exit_code != 0
    assert "Traceback" not in done.stderr
    assert os.listdir() == []


def test_after_an_interrupt_the_command_to_go_on_is_told(monkeypatch):
    def interrupted(*given, **options):
        raise xpcnn.training.Interrupted("interrupted after epoch 3; go on with resume=True", 2)

    monkeypatch.setattr(xpcnn.Classifier, "fit", interrupted)
    done = run("train", "--checkpoints", "my run")
    assert done.status == 130
    assert done.err == (
        "interrupted after epoch 3; go on with\n  xpcnn train --checkpoints 'my run' --resume\n"
    )


def test_errors_in_a_process_of_their_own(model):
    """As users see them: one line, and no traceback."""
    program = [sys.executable, "-m", "xpcnn.cli"]
    done = subprocess.run(
        [*program, "predict", str(model.path), "absent.png"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: ")


# Models and data sets


def test_summary_of_a_network_by_name():
    done = run("summary", "lenet5", "--in-shape", "1x28x28", "--classes", 10, "--batch-size", 64)
    assert (done.status, done.err) == (0, "")
    first, *_, parameters, memory = done.out.splitlines()
    assert first.split()[:4] == ["name", "output", "parameters", "multiply-adds"]
    assert parameters.startswith("61,706 parameters, ")
    assert memory.startswith("memory for 64x1x28x28 in float32: at most ")


def test_summary_of_a_file(model):
    done = run("summary", model.path)
    assert done.out.rstrip("\n") == str(model.net.model_.summary((1, 8, 8)))
    larger = run("summary", model.path, "--in-shape", "1x16x16")
    assert larger.out.rstrip("\n") == str(model.net.model_.summary((1, 16, 16)))


def test_data_list_tells_every_set():
    first, *lines = run("data", "list").out.splitlines()
    assert first.split()[-1] == "where"
    assert [line.split()[0] for line in lines] == ["digits", *SETS]


def test_data_list_tells_a_long_path_in_one_line(tmp_path, monkeypatch):
    home = tmp_path / ("long " * 30) / "[red]"
    monkeypatch.setenv("XPCNN_DATA", str(home))
    (home / "mnist").mkdir(parents=True)
    for file in SETS["mnist"].files:
        (home / "mnist" / file.name).touch()
    [line] = [one for one in run("data", "list").out.splitlines() if one.startswith("mnist ")]
    assert line.endswith(f"  {home / 'mnist'}")


def test_data_get_tells_what_is_here(tmp_path, monkeypatch):
    monkeypatch.setenv("XPCNN_DATA", str(tmp_path))
    folder = tmp_path / "mnist"
    folder.mkdir()
    for file in SETS["mnist"].files:
        (folder / file.name).touch()
    done = run("data", "get", "mnist")
    assert (done.status, done.out) == (0, f"mnist is in {folder}\n")


# Folders of pictures


@pytest.fixture
def pictures(cv2, tmp_path):
    """Dark and bright ones, and one that is damaged."""
    rng = np.random.default_rng(0)
    for number in range(24):
        name = ("dark", "bright")[number % 2]
        (tmp_path / "pictures" / name).mkdir(parents=True, exist_ok=True)
        image = rng.integers(0, 80, (20, 30, 3)) + 150 * (number % 2)
        path = tmp_path / "pictures" / name / f"{number}.png"
        path.write_bytes(cv2.imencode(".png", image.astype(np.uint8))[1].tobytes())
    (tmp_path / "pictures" / "dark" / "damaged.png").write_bytes(path.read_bytes()[:100])
    return tmp_path / "pictures"


FEW = ("--model", "classic", "--epochs", 6, "--lr", 0.01, "--batch-size", 4, "--size", "12x16")


def test_a_folder_of_pictures_trains_and_predicts(pictures):
    refused = run("train", "--data", pictures, *FEW)
    assert (refused.status, refused.out) == (1, "")
    assert f"{pictures / 'dark' / 'damaged.png'}: it is no image" in refused.err
    done = run("train", "--data", pictures, *FEW, "--skip-unreadable", "--out", "a")
    assert done.status == 0
    assert done.err.startswith(f"left out: {pictures / 'dark' / 'damaged.png'}: ")
    first, second, third, *_ = done.out.splitlines()
    assert first == "pictures: 19 training and 5 test images 3x12x16, 2 classes"
    assert re.search(r"\d% of it waiting for data$", second)
    assert third == "test accuracy 100.00% on 5 images"
    assert run("evaluate", "a", "--data", pictures).out.splitlines() == [first, third]
    assert run("evaluate", "a").out == run("evaluate", "a", "--data", pictures).out
    told = run("predict", "a", pictures / "bright" / "1.png").out
    assert "bright (" in told


def test_the_best_model_remembers_how_pictures_are_read(pictures):
    options = ("--skip-unreadable", "--validation", 0.3, "--best", "--grey", "--out", "a")
    done = run("train", "--data", pictures, *FEW, *options, "--resize", "crop")
    assert done.status == 0
    net = xpcnn.load("a", device="cpu")
    assert (net.in_shape_, net.resize_) == ((1, 12, 16), "crop")


def test_options_of_a_longer_training():
    options = [
        "--optimizer", "sgd", "--schedule", "one-cycle", "--average", 0.9, "--label-smoothing", 0.1,
        "--mixing", "mixup", "--accumulate", 2, "--half", "--validation", 0.2, "--patience", 5,
        "--log", "log.csv", "--tensorboard", "events", "--checkpoints", "run", "--keep", 2,
    ]  # fmt: skip
    done = run("train", "--model", "classic", "--epochs", 3, *options, "--out", "a")
    assert (done.status, done.err) == (0, "")
    assert len(Path("log.csv").read_text().splitlines()) == 4
    assert len(os.listdir("events")) == 3
    assert len(os.listdir("run")) == 2
    assert "beginning anew" not in done.out
    again = run("train", "--model", "classic", "--epochs", 3, *options, "--resume", "--out", "b")
    assert "beginning anew" not in again.out
    assert again.out.splitlines()[2] == done.out.splitlines()[2]
    assert Path("a").read_bytes() == Path("b").read_bytes()


def test_a_first_start_with_resume_is_told():
    done = run(
        "train", "--model", "classic", "--epochs", 1, "--checkpoints", "nowhere", "--resume",
        "--no-report",
    )  # fmt: skip
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines()[1] == "no checkpoint in nowhere: beginning anew"
    assert len(os.listdir("nowhere")) == 1


@pytest.mark.parametrize(
    "options, message",
    [
        (["--patience", 3], "hold some back with --validation 0.1"),
        (["--schedule", "plateau"], "hold some back with --validation 0.1"),
        (["--resume"], "--every and --resume need --checkpoints FOLDER"),
        (["--optimizer", "adamant"], "--optimizer adamant: no such optimizer; choose adam, adamw"),
        (["--mixing", "blend"], "--mixing blend: no such mixing; choose none, mixup, cutmix"),
        (["--size", "64"], "are for folders of pictures; --data digits is none"),
        (["--average", 1.5], "decay must lie in [0, 1)"),
    ],
)
def test_options_that_do_not_go_together(options, message):
    done = run("train", *options)
    assert (done.status, done.out) == (1, "")
    assert message in re.sub(r"\s+", " ", done.err)
