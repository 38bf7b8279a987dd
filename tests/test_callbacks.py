"""Callbacks: what they do after each epoch, and that a resumed run does it no twice."""

from __future__ import annotations

import csv
import sys
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

import xpcnn
from xpcnn import Classifier
from xpcnn.layers import Flatten, Linear, Sequential, tree
from xpcnn.optim import SGD, Adam, Averaged
from xpcnn.training import (
    Checkpoints,
    Epoch,
    History,
    Snapshot,
    best_model,
    csv_log,
    early_stopping,
    tensorboard,
)

DIGITS = xpcnn.data.digits()
X, Y = DIGITS.train[0][:64], DIGITS.train[1][:64]
HELD = DIGITS.test[0][:50], DIGITS.test[1][:50]


def net(**options):
    return Classifier(Sequential(Flatten(), Linear(10)), **{"device": "cpu", **options})


def after(*losses, saved=None):
    """A snapshot after epochs of such validation losses, of accuracies just the other way."""
    epochs = [
        Epoch(i, 1.0, 0.5, loss, 1.0 - loss, 1.0, 64.0) for i, loss in enumerate(losses, start=1)
    ]
    return Snapshot(History(tuple(epochs)), 99, len(losses), {}, saved)


@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy"])
def test_early_stopping_waits_so_many_epochs(monitor):
    stop = early_stopping(patience=2, monitor=monitor)
    assert not stop(after(0.5))
    assert not stop(after(0.5, 0.6))
    assert stop(after(0.5, 0.6, 0.5))  # as good is no better
    assert not stop(after(0.5, 0.6, 0.4))
    assert stop(after(0.5, 0.6, 0.4, 0.4, 0.7))


def test_early_stopping_ends_a_training():
    stop = early_stopping(patience=3, monitor="loss")
    assert len(net(optimizer=SGD(0.0)).fit(X, Y, 20, callbacks=[stop]).history_) == 4


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda: early_stopping(0), r"^early_stopping\(patience=0\): give a number of epochs"),
        (
            lambda: early_stopping(1, "f1")(after(0.5)),
            r"^monitor='f1': there is no such figure; ch",
        ),
        (
            lambda: net().fit(X, Y, 1, callbacks=[early_stopping(1)]),
            "^monitor='val_loss': no epoch has it; give validation data$",
        ),
    ],
)
def test_what_cannot_be_watched(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


def test_the_best_model_is_written(tmp_path):
    saved = []
    write = best_model(tmp_path / "best")
    for losses in [(0.5,), (0.5, 0.6), (0.5, 0.6, 0.4), (0.5, 0.6, 0.4, 0.4)]:
        write(after(*losses, saved=lambda path, losses=losses: saved.append((path, losses))))
    assert saved == [(tmp_path / "best", (0.5,)), (tmp_path / "best", (0.5, 0.6, 0.4))]


def test_the_best_model_predicts_as_it_did(tmp_path):
    path = tmp_path / "best.safetensors"
    fitted = net(optimizer=Averaged(Adam(0.3), 0.5)).fit(
        X, Y, 20, validation=HELD, callbacks=[best_model(path, "val_loss")]
    )
    best = xpcnn.load(path, device="cpu")
    number = fitted.history_.best("val_loss")
    assert number < 20  # it overfits
    assert best.score(*HELD) == fitted.history_[number - 1].val_accuracy


def test_the_log_has_a_row_an_epoch(tmp_path):
    path = tmp_path / "log.csv"
    fitted = net().fit(X, Y, 3, validation=HELD, callbacks=[csv_log(path)])
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(Epoch._fields)
    assert [float(row["val_loss"]) for row in rows] == fitted.history_.column("val_loss")
    net().fit(X, Y, 1, callbacks=[csv_log(path)])
    assert len(path.read_text().splitlines()) == 2  # a header, and one row: no validation in it
    assert ",," in path.read_text()


def test_a_resumed_run_logs_nothing_twice(tmp_path):
    path, checkpoints = tmp_path / "log.csv", Checkpoints(tmp_path / "run")
    for epochs in (2, 2, 3):
        net().fit(X, Y, epochs, callbacks=[csv_log(path)], checkpoints=checkpoints, resume=True)
    with open(path, newline="") as file:
        assert [row["number"] for row in csv.DictReader(file)] == ["1", "2", "3"]


def test_callbacks_see_what_there_is_and_change_nothing():
    seen = []
    fitted = net().fit(X, Y, 2, callbacks=[seen.append, lambda now: False])
    assert [(len(now.history), now.epochs, now.step) for now in seen] == [(1, 2, 1), (2, 2, 2)]
    assert seen[-1].history == fitted.history_
    np.testing.assert_array_equal(tree.leaves(seen[-1].params)[0], tree.leaves(fitted.params_)[0])
    with pytest.raises(FrozenInstanceError):
        seen[-1].step = 3


def test_each_is_called_also_where_one_stops():
    seen = []
    net().fit(X, Y, 5, callbacks=[lambda now: True, seen.append])
    assert len(seen) == 1


def test_an_error_in_one_is_the_callers(tmp_path):
    def fail(now):
        raise KeyError("mine")

    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(KeyError, match="mine"):
        net().fit(X, Y, 2, callbacks=[fail], checkpoints=checkpoints)
    assert len(checkpoints.paths()) == 1  # what was done is kept


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    net().fit(X, Y, 2, validation=HELD, callbacks=[tensorboard(tmp_path)])
    found = {}
    for path in sorted(tmp_path.iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):
            size = int.from_bytes(data[at : at + 8], "little")
            event = Event.FromString(data[at + 12 : at + 12 + size])
            at += 16 + size
            for value in event.summary.value:
                found[value.tag, event.step] = value.simple_value
    assert {step for _, step in found} == {1, 2}
    assert {"loss", "accuracy", "val_loss", "val_accuracy", "lr"} <= {tag for tag, _ in found}
    assert found["lr", 2] == pytest.approx(0.001)


def test_tensorboard_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r'pip install "xpcnn\[tensorboard\]"$'):
        tensorboard(tmp_path)
