"""Checkpoints: a run that goes on from one ends in the same bits as one without a break."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest

import xpcnn
from xpcnn import Classifier
from xpcnn.io.tensors import read_tensors
from xpcnn.layers import (
    BatchNorm,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    tree,
)
from xpcnn.optim import SGD, Adam, Averaged, Plateau
from xpcnn.training import Checkpoints, Interrupted, early_stopping

DIGITS = xpcnn.data.digits()
X, Y = DIGITS.train[0][:150], DIGITS.train[1][:150]
HELD = DIGITS.test[0][:50], DIGITS.test[1][:50]
MODEL = Sequential(
    Conv2d(4, 3, bias=False), BatchNorm(), ReLU(), MaxPool2d(2), Flatten(), Dropout(0.2), Linear(10)
)
BATCHES = 5
"""In an epoch."""


def net(**options):
    return Classifier(MODEL, **{"device": "cpu", "batch_size": 32, **options})


def arrays(fitted):
    flat = tree.flatten(fitted.params_)
    return {name: fitted.device_.to_numpy(array) for name, array in flat.items()}


def assert_same_run(one, other):
    """To the last bit, the times in the history apart."""
    assert arrays(one).keys() == arrays(other).keys()
    for name, array in arrays(one).items():
        np.testing.assert_array_equal(array, arrays(other)[name], strict=True)
    for figure in ("number", "loss", "accuracy", "val_loss", "val_accuracy", "lr"):
        assert one.history_.column(figure) == other.history_.column(figure)


class Killed(BaseException):
    """A process that dies at a certain step: nothing is written any more."""


def die_after(monkeypatch, batches):
    """Let training die when it has written what is due after so many batches in all."""
    seen, write = [], Checkpoints.write

    def counted(self, run, settings):
        path = write(self, run, settings)
        seen.append(path)
        if len(seen) == batches:
            raise Killed
        return path

    monkeypatch.setattr(Checkpoints, "write", counted)


# Going on


@pytest.mark.parametrize("after", [1, 3, 5, 6, 14])
def test_a_run_goes_on_to_the_same_bits(tmp_path, monkeypatch, after):
    """Each epoch writes after every batch and at its end: six times."""
    fit = partial(Classifier.fit, x=X, y=Y, epochs=3, validation=HELD)
    unbroken = fit(net())
    checkpoints = Checkpoints(tmp_path, every=1)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        die_after(patch, after)
        fit(net(), checkpoints=checkpoints)
    assert_same_run(fit(net(), checkpoints=checkpoints, resume=True), unbroken)


def test_so_it_does_on_every_library(xp, tmp_path, monkeypatch):
    """Killed in its second epoch."""
    x, y = X[:32], Y[:32]
    fit = partial(Classifier.fit, x=x, y=y, epochs=2)
    unbroken = fit(net(device=xp.spec, batch_size=16))
    checkpoints = Checkpoints(tmp_path, every=1)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        die_after(patch, 4)
        fit(net(device=xp.spec, batch_size=16), checkpoints=checkpoints)
    resumed = fit(net(device=xp.spec, batch_size=16), checkpoints=checkpoints, resume=True)
    assert_same_run(resumed, unbroken)
    assert type(tree.leaves(resumed.params_)[0]) is type(xp.asarray(X))


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": Averaged(SGD(Plateau(0.1, patience=0, factor=0.5), momentum=0.9))},
        {"dtype": "float16", "optimizer": Averaged(Adam(0.01))},
        {"dtype": "float64", "accumulate": 3, "max_norm": 1.0},
        {"mixing": xpcnn.data.CutMix(), "label_smoothing": 0.1},
    ],
    ids=["plateau, average", "half precision", "parts", "mixing"],
)
def test_whatever_is_kept_between_steps_is_kept(tmp_path, monkeypatch, options):
    fit = partial(Classifier.fit, x=X, y=Y, epochs=4, validation=HELD)
    unbroken = fit(net(**options))
    for at in (2, 3, 4):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            die_after(patch, at)
            fit(net(**options), checkpoints=Checkpoints(tmp_path, every=2), resume=True)
    resumed = fit(net(**options), checkpoints=Checkpoints(tmp_path), resume=True)
    assert_same_run(resumed, unbroken)


def test_parameters_lie_as_they_are_read():
    """A resumed run sees arrays of the same strides, or engines might sum in another order."""
    fitted = net(optimizer=Adam()).fit(X, Y, 2)
    assert all(array.flags.c_contiguous for array in arrays(fitted).values())


def test_from_one_library_to_another(xp, tmp_path):
    """What a run on any device has written goes on on the host, and the other way round."""
    x, y = X[:32], Y[:32]
    for devices in [(xp.spec, "cpu"), ("cpu", xp.spec)]:
        checkpoints = Checkpoints(tmp_path / devices[0])
        for epochs, device in enumerate(devices, 1):
            gone_on = net(device=device).fit(x, y, epochs, checkpoints=checkpoints, resume=True)
        for name, array in arrays(net().fit(x, y, 2)).items():
            np.testing.assert_allclose(arrays(gone_on)[name], array, atol=1e-4)
        assert gone_on.device_.library == xpcnn.device(devices[1]).library


def test_a_finished_run_can_be_carried_on(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    done = net().fit(X, Y, 2, checkpoints=checkpoints)
    assert_same_run(net().fit(X, Y, 2, checkpoints=checkpoints, resume=True), done)
    longer = net().fit(X, Y, 3, checkpoints=checkpoints, resume=True)
    assert_same_run(longer, net().fit(X, Y, 3))


def test_early_stopping_is_remembered(tmp_path):
    stop = early_stopping(patience=1, monitor="accuracy")
    fit = partial(Classifier.fit, x=X, y=Y, epochs=9, callbacks=[stop])
    checkpoints = Checkpoints(tmp_path)
    model = Sequential(Flatten(), Linear(10))
    stopped = fit(Classifier(model, device="cpu", optimizer=SGD(0.0)), checkpoints=checkpoints)
    assert len(stopped.history_) == 2
    again = fit(
        Classifier(model, device="cpu", optimizer=SGD(0.0)), checkpoints=checkpoints, resume=True
    )
    assert again.history_ == stopped.history_


def test_the_last_few_stay(tmp_path):
    net().fit(X, Y, 2, checkpoints=Checkpoints(tmp_path, keep=2, every=2))
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "epoch-00001-batch-0000004.safetensors",
        "epoch-00002-batch-0000000.safetensors",
    ]


def test_what_a_killed_run_left_half_written_is_cleared_away(tmp_path):
    left, other = tmp_path / ".0123456789abcdef.tmp", tmp_path / "notes.txt"
    left.write_bytes(b"half")
    other.write_bytes(b"mine")
    net().fit(X, Y, 1, checkpoints=Checkpoints(tmp_path))
    assert not left.exists()
    assert other.read_bytes() == b"mine"


def test_resuming_where_there_is_nothing_begins(tmp_path):
    begun = net().fit(X, Y, 1, checkpoints=Checkpoints(tmp_path / "new"), resume=True)
    assert_same_run(begun, net().fit(X, Y, 1))


# What is refused


def test_a_folder_of_another_run_is_not_written_to(tmp_path):
    net().fit(X, Y, 1, checkpoints=Checkpoints(tmp_path))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=r"holds those of an earlier run; go on with res"):
        net().fit(X, Y, 1, checkpoints=Checkpoints(tmp_path))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "options, data, message",
    [
        ({"batch_size": 16}, (X, Y), "its batch_size was 32 and is 16 now; go on as it began"),
        ({}, (X / 255, Y), "its dtype of x was uint8 and is float64 now"),
        ({}, (X, Y + 1), r"its classes was \(0, 1, .* and is \(1, 2, "),
        ({"seed": 7}, (X, Y), "its seed was 0 and is 7 now"),
        ({"optimizer": SGD(0.5)}, (X, Y), r"its optimizer was Adam\(lr=0.001, .* and is SGD\(lr=0"),
        ({}, (X[:99], Y[:99]), r"its shape of x was \(150, 1, 8, 8\) and is \(99, 1, 8, 8\) now"),
        ({}, (X, Y[::-1].copy()), "its labels was CRC-32 .* and is CRC-32"),
        ({"label_smoothing": 0.1, "max_norm": 2.0}, (X, Y), r"\(as do max_norm\)"),
    ],
)
def test_a_checkpoint_of_another_run(tmp_path, options, data, message):
    net().fit(X, Y, 1, checkpoints=Checkpoints(tmp_path))
    with pytest.raises(ValueError, match=message):
        net(**options).fit(*data, 2, checkpoints=Checkpoints(tmp_path), resume=True)


def test_a_checkpoint_of_another_model(tmp_path):
    net().fit(X, Y, 1, checkpoints=Checkpoints(tmp_path))
    other = Classifier(
        Sequential(Conv2d(5, 3, bias=False), *MODEL.layers[1:]), device="cpu", batch_size=32
    )
    message = r"its model was \(0\): Conv2d\(out_channels=4, .* is \(0\): Conv2d\(out_channels=5"
    with pytest.raises(ValueError, match=message):
        other.fit(X, Y, 2, checkpoints=Checkpoints(tmp_path), resume=True)


def changed(path, change):
    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(path, "numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = json.loads(file.metadata()["xpcnn"])
    change(about)
    save_file(tensors, path, metadata={"xpcnn": json.dumps(about)})


@pytest.mark.parametrize(
    "harm, message",
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "no safetensors file, or damaged"),
        (lambda path: path.write_bytes(b""), "no safetensors file, or damaged"),
        (
            lambda path: changed(path, dict.clear),
            "is no checkpoint, or damaged: it lacks 'checkpoint'",
        ),
        (lambda path: changed(path, lambda a: a.pop("history")), "is no checkpoint, or damaged"),
        (
            lambda path: changed(path, lambda a: a.update(checkpoint=2, xpcnn="9.9")),
            "its format is 2, and this version of xpcnn reads 1; go on with xpcnn 9.9",
        ),
    ],
    ids=["cut short", "empty", "no text", "no history", "of a later version"],
)
def test_a_damaged_checkpoint(tmp_path, harm, message):
    net().fit(X, Y, 1, checkpoints=Checkpoints(tmp_path))
    [path] = tmp_path.iterdir()
    harm(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        net().fit(X, Y, 2, checkpoints=Checkpoints(tmp_path), resume=True)
    assert path.read_bytes() == before


def test_a_model_file_is_no_checkpoint(tmp_path):
    net().fit(X, Y, 1).save(tmp_path / "epoch-00001-batch-0000000.safetensors")
    with pytest.raises(ValueError, match="is no checkpoint, or damaged"):
        net().fit(X, Y, 2, checkpoints=Checkpoints(tmp_path), resume=True)


def test_a_full_disk_leaves_the_checkpoints_before(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    net().fit(X, Y, 1, checkpoints=checkpoints)
    [path] = tmp_path.iterdir()
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(OSError, match=r"No space.*; those before"):
        patch.setattr(os, "fsync", full)
        net().fit(X, Y, 2, checkpoints=checkpoints, resume=True)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == {path: before}
    resumed = net().fit(X, Y, 2, checkpoints=checkpoints, resume=True)
    assert_same_run(resumed, net().fit(X, Y, 2))


@pytest.mark.parametrize("rate", [1e30, 1e39])
def test_parameters_that_are_no_numbers_are_not_written(tmp_path, rate):
    """They are infinite after the first step, or after the second."""
    with pytest.raises(FloatingPointError):
        net(optimizer=SGD(rate)).fit(X, Y, 5, checkpoints=Checkpoints(tmp_path, every=1))
    for path in tmp_path.iterdir():
        for name, array in read_tensors(path, "checkpoint")[0].items():
            assert np.isfinite(array).all(), (path, name)


def test_the_best_parameters_are_kept(tmp_path, monkeypatch):
    """In checkpoints too, and a run resumed within an epoch does not take its own for them."""
    model = Sequential(Flatten(), Linear(10))
    options = {"model": model, "device": "cpu", "batch_size": 32, "optimizer": Adam(0.3)}
    fit = partial(Classifier.fit, x=X, y=Y, epochs=12, validation=HELD, best="val_loss")
    unbroken = fit(Classifier(**options))
    number = unbroken.history_.best("val_loss")
    assert number < 12  # it overfits
    assert unbroken.score(*HELD) == unbroken.history_[number - 1].val_accuracy
    with monkeypatch.context() as patch, pytest.raises(Killed):
        die_after(patch, 6 * number + 3)
        fit(Classifier(**options), checkpoints=Checkpoints(tmp_path, every=1))
    resumed = fit(Classifier(**options), checkpoints=Checkpoints(tmp_path), resume=True)
    assert_same_run(resumed, unbroken)


def test_resuming_within_an_epoch_calls_nobody(tmp_path, monkeypatch):
    seen = []
    fit = partial(Classifier.fit, x=X, y=Y, epochs=2, callbacks=[lambda now: seen.append(now.step)])
    with monkeypatch.context() as patch, pytest.raises(Killed):
        die_after(patch, 8)
        fit(net(), checkpoints=Checkpoints(tmp_path, every=1))
    fit(net(), checkpoints=Checkpoints(tmp_path), resume=True)
    assert seen == [5, 10]


def test_a_schedule_may_be_a_function(tmp_path):
    def rate(step):
        return 0.1 / (1 + step)

    net(optimizer=SGD(rate)).fit(X, Y, 1, checkpoints=Checkpoints(tmp_path))
    [path] = tmp_path.iterdir()
    assert " at 0x" not in str(read_tensors(path, "checkpoint")[1])


@pytest.mark.parametrize("options", [{"keep": 0}, {"every": 0}, {"every": 1.5}, {"keep": None}])
def test_options_that_are_none(tmp_path, options):
    with pytest.raises((ValueError, TypeError), match=r"^Checkpoints: (keep|every)=.*at least 1$"):
        Checkpoints(tmp_path, **options)


def test_resuming_needs_a_folder(tmp_path):
    with pytest.raises(ValueError, match=r"^fit\(resume=True\): give checkpoints="):
        net().fit(X, Y, 1, resume=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        net().fit(X, Y, 1, checkpoints=Checkpoints(tmp_path / "file"))


# Signals


class Signalling:
    """Stands in for a function: sends this process a signal in one of its calls."""

    def __init__(self, number, batch):
        self.number, self.batch, self.count = number, batch, 0

    def __call__(self, *args, **kwargs):
        self.count += 1
        if self.count == self.batch:
            os.kill(os.getpid(), self.number)
        return self.original(*args, **kwargs)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("batch", [1, 5, 8])
def test_a_signal_ends_the_batch_and_writes(tmp_path, monkeypatch, number, batch):
    import xpcnn.training.trainer as module

    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    sending = Signalling(number, batch)
    sending.original = module.train_step
    checkpoints = Checkpoints(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(Interrupted) as caught:
        patch.setattr(module, "train_step", sending)
        net().fit(X, Y, 3, checkpoints=checkpoints)
    assert caught.value.signal == number
    epoch, done = (batch - 1) // BATCHES, (batch - 1) % BATCHES + 1
    batches = "1 batch" if done == 1 else f"{done} batches"
    assert str(caught.value) == (
        f"interrupted in epoch {epoch + 1}, after {batches} of it; go on with resume=True from the "
        f"checkpoints in {tmp_path}"
    )
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers
    resumed = net().fit(X, Y, 3, checkpoints=checkpoints, resume=True)
    assert_same_run(resumed, net().fit(X, Y, 3))


def test_without_checkpoints_ctrl_c_is_what_it_was(monkeypatch):
    import xpcnn.training.trainer as module

    sending = Signalling(signal.SIGINT, 2)
    sending.original = module.train_step
    monkeypatch.setattr(module, "train_step", sending)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored
    try:
        with pytest.raises(KeyboardInterrupt) as caught:
            net().fit(X, Y, 3)
    finally:
        signal.signal(signal.SIGINT, before)
    assert type(caught.value) is KeyboardInterrupt
    assert sending.count == 2


def test_a_signal_while_validating_ends_the_epoch(tmp_path, monkeypatch):
    import xpcnn.training.trainer as module

    sending = Signalling(signal.SIGTERM, 2)
    sending.original = module.evaluate
    fit = partial(Classifier.fit, x=X, y=Y, epochs=3, validation=HELD)
    checkpoints = Checkpoints(tmp_path)
    with (
        monkeypatch.context() as patch,
        pytest.raises(Interrupted, match=r"^interrupted after epoch 2"),
    ):
        patch.setattr(module, "evaluate", sending)
        fit(net(), checkpoints=checkpoints)
    assert_same_run(fit(net(), checkpoints=checkpoints, resume=True), fit(net()))


# A process that is killed

KILLS = int(os.environ.get("XPCNN_TEST_KILLS", "3"))
"""`nox -s kills` has 200."""


def test_killed_at_any_instant(tmp_path):
    """At random moments, over and over: what is left is always gone on with, to the same file."""
    threads = {"OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    environment = {**os.environ, **threads, "XPCNN_DEVICE": "cpu"}

    def command(name):
        options = ["--model", "classic", "--epochs", "3", "--validation", "0.2", "--best"]
        options += ["--no-report"]
        files = "--checkpoints", tmp_path / "run", "--every", "1", "--resume", "--out"
        return [sys.executable, "-m", "xpcnn.cli", "train", *options, *files, tmp_path / name]

    def start(name):
        return subprocess.Popen(command(name), env=environment, stdout=subprocess.DEVNULL)

    def clear():
        for path in (tmp_path / "run").iterdir():
            path.unlink()

    began = time.monotonic()
    assert start("unbroken").wait() == 0
    seconds, kills, whole = time.monotonic() - began, 0, 0
    clear()
    rng = np.random.default_rng(KILLS)
    while kills < KILLS or not whole:
        began = time.monotonic()
        with start("killed") as process:
            try:
                last = kills == KILLS
                assert process.wait(None if last else rng.uniform(0.0, seconds)) == 0
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
                continue
        whole, seconds = whole + 1, time.monotonic() - began  # of a run that went on
        assert (tmp_path / "unbroken").read_bytes() == (tmp_path / "killed").read_bytes()
        clear()
    print(f"{kills} kills, {whole} runs that came to their end")
