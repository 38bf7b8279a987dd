"""One step, the loop around it, its figures, and the bar that shows them."""

from __future__ import annotations

import io
import operator
import os
import re
import sys
import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

import xpcnn
from xpcnn import ops, random
from xpcnn.layers import (
    BatchNorm,
    Conv2d,
    Dropout,
    Flatten,
    Frozen,
    Linear,
    ReLU,
    Sequential,
    tree,
)
from xpcnn.optim import SGD, Adam, Cosine
from xpcnn.training import (
    Batch,
    Epoch,
    Figures,
    History,
    Run,
    init_state,
    loop,
    run_epoch,
    train_step,
)
from xpcnn.training.bar import Silent, progress_bar
from xpcnn.training.ranks import Ranks
from xpcnn.training.step import count_correct

MODEL = Sequential(
    Frozen(Sequential(Conv2d(3, 3, padding=1), BatchNorm())),
    Conv2d(4, 3, bias=False),
    BatchNorm(),
    ReLU(),
    Flatten(),
    Dropout(0.25),
    Linear(3),
)
KEY = random.key(1)


def batch(dtype=np.float64):
    rng = np.random.default_rng(0)
    return rng.normal(size=(6, 2, 4, 4)).astype(dtype), rng.integers(0, 3, 6)


def begin(xp, model, optimizer, dtype="float64", in_shape=(2, 4, 4)):
    params, _ = model.init(random.key(0), in_shape, dtype=dtype, device=xp.spec)
    return params, init_state(model, optimizer, params)


def on_host(xp, params):
    return {name: xp.to_numpy(array) for name, array in tree.flatten(params).items()}


# A step


def test_a_step_is_the_gradient_and_the_update(xp):
    """SGD without momentum: w - lr dw for what is trained, the next value for buffers."""
    optimizer = SGD(0.1)
    params, state = begin(xp, MODEL, optimizer)
    x, y = map(xp.asarray, batch())
    before = on_host(xp, params)

    done = train_step(MODEL, optimizer, params, state, x, y, key=KEY)

    logits, pull = MODEL.vjp(params, x, key=KEY)
    loss, loss_pull = xpcnn.vjp(ops.cross_entropy, logits, y)
    grads = on_host(xp, pull(loss_pull(1.0)[0])[0])
    expected = {
        name: grads[name] if tree.is_buffer(name) else before[name] - 0.1 * grads[name]
        for name in grads
    }
    assert {name.partition(".")[0] for name in expected} == {"1", "2", "6"}  # 0 is frozen
    for name, array in on_host(xp, done.params).items():
        np.testing.assert_allclose(array, expected.get(name, before[name]), rtol=1e-14)
    assert float(done.loss) == float(loss)
    assert int(done.correct) == int(np.sum(np.argmax(xp.to_numpy(logits), 1) == batch()[1]))
    assert done.state["step"] == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_step_changes_nothing_it_is_given_and_keeps_the_dtype(xp, dtype):
    params, state = begin(xp, MODEL, Adam(), dtype)
    x, y = map(xp.asarray, batch(dtype))
    kept = on_host(xp, params) | {"x": xp.to_numpy(x)}
    kept = {name: array.copy() for name, array in kept.items()}
    first, again = (train_step(MODEL, Adam(), params, state, x, y, key=KEY) for _ in range(2))
    for name, array in (on_host(xp, params) | {"x": xp.to_numpy(x)}).items():
        np.testing.assert_array_equal(array, kept[name])
    assert state["step"] == 0
    for name, array in on_host(xp, first.params).items():
        assert array.dtype == dtype
        np.testing.assert_array_equal(array, on_host(xp, again.params)[name])
    assert xp.to_numpy(first.loss).dtype == dtype


def test_frozen_parts_stay_and_running_statistics_move(xp):
    params, state = begin(xp, MODEL, Adam())
    x, y = map(xp.asarray, batch())
    done = train_step(MODEL, Adam(), params, state, x, y, key=KEY)
    before, after = on_host(xp, params), on_host(xp, done.params)
    assert before.keys() == after.keys()
    same = {name for name in before if np.array_equal(before[name], after[name])}
    assert same == {name for name in before if name.startswith("0.")}


def test_training_learns(xp):
    params, state = begin(xp, MODEL, Adam(0.01))
    x, y = map(xp.asarray, batch())
    losses = []
    for number in range(40):
        done = train_step(MODEL, Adam(0.01), params, state, x, y, key=random.fold_in(KEY, number))
        params, state = done.params, done.state
        losses.append(float(done.loss))
    assert losses[-1] < 0.5 * losses[0]


def test_clipping_shortens_the_step_to_max_norm(xp):
    params, state = begin(xp, Linear(3), SGD(1.0), in_shape=(5,))
    rng = np.random.default_rng(0)
    x, y = xp.asarray(100 * rng.normal(size=(6, 5))), xp.asarray(rng.integers(0, 3, 6))

    def length(max_norm):
        done = train_step(Linear(3), SGD(1.0), params, state, x, y, max_norm=max_norm)
        before, after = on_host(xp, params), on_host(xp, done.params)
        return np.sqrt(sum(np.sum((before[n] - after[n]) ** 2) for n in before))

    assert length(None) > 10
    np.testing.assert_allclose(length(0.5), 0.5, rtol=1e-12)
    assert length(1e6) == length(None)


def test_the_rate_and_the_loss_can_be_given(xp):
    def half_square(logits, y, wrt=None):
        raise AssertionError("the loss is asked for its vjp alone")

    half_square.vjp = lambda logits, y, wrt: (logits[0, 0], lambda dy: (logits,))
    params, state = begin(xp, Linear(2), SGD(Cosine(0.1, steps=9)), in_shape=(2,))
    x, y = xp.asarray(np.eye(2)), xp.asarray(np.asarray([0, 1]))
    done = train_step(
        Linear(2), SGD(Cosine(0.1, steps=9)), params, state, x, y, loss=half_square, lr=1.0
    )
    # logits = W^T on the unit matrix, so their gradient is W and a rate of 1 leaves nothing
    np.testing.assert_allclose(xp.to_numpy(done.params["weight"]), np.zeros((2, 2)), atol=1e-15)


def test_under_jit(jax):
    """The step compiles once, with the optimizer's step and the keys traced, and gives the same."""
    xp = SimpleNamespace(spec="jax", to_numpy=np.asarray)
    optimizer = Adam(0.01)
    params, state = begin(xp, MODEL, optimizer)
    x, y = map(jax.numpy.asarray, batch())
    traced = []

    @jax.jit
    def step(params, state, x, y):
        traced.append(True)
        key = random.fold_in(KEY, state["step"])
        return train_step(MODEL, optimizer, params, state, x, y, key=key, max_norm=1.0)

    eager = jitted = (params, state)
    for number in range(3):
        key = random.fold_in(KEY, number)
        done = train_step(MODEL, optimizer, *eager, x, y, key=key, max_norm=1.0)
        eager = done.params, done.state
        ours = step(*jitted, x, y)
        jitted = ours.params, ours.state
        np.testing.assert_allclose(float(ours.loss), float(done.loss), rtol=1e-12)
    assert len(traced) == 1
    for name, array in on_host(xp, jitted[0]).items():
        np.testing.assert_allclose(array, on_host(xp, eager[0])[name], rtol=1e-9, atol=1e-12)


def test_count_correct(xp):
    logits = xp.asarray(np.asarray([[1.0, 2.0], [3.0, 2.0], [0.0, 0.0], [-1.0, -2.0]]))
    assert int(count_correct(logits, xp.asarray(np.asarray([1, 1, 0, 0])))) == 3


def test_parts_of_a_batch_add_up_to_the_whole(xp):
    """Accumulated gradients are those of the batch at once, for parts of any sizes."""
    model = Sequential(Conv2d(4, 3), ReLU(), Flatten(), Linear(3))
    params, state = begin(xp, model, SGD(0.1))
    x, y = map(xp.asarray, batch())
    whole = train_step(model, SGD(0.1), params, state, x, y)
    for parts in (4, 100):
        done = train_step(model, SGD(0.1), params, state, x, y, accumulate=parts)
        np.testing.assert_allclose(float(done.loss), float(whole.loss), rtol=1e-12)
        assert int(done.correct) == int(whole.correct)
        for name, array in on_host(xp, done.params).items():
            np.testing.assert_allclose(array, on_host(xp, whole.params)[name], atol=1e-13)


def test_parts_of_a_batch_have_masks_of_their_own_and_average_their_statistics(xp):
    params, state = begin(xp, MODEL, SGD(0.0))
    x, y = map(xp.asarray, batch())
    done = train_step(MODEL, SGD(0.0), params, state, x, y, key=KEY, accumulate=2)
    halves = [
        train_step(MODEL, SGD(0.0), params, state, x[at, ...], y[at], key=random.fold_in(KEY, i))
        for i, at in enumerate((slice(0, 3), slice(3, 6)))
    ]
    one, two = (on_host(xp, half.params)["2.running_mean"] for half in halves)
    mean = on_host(xp, done.params)["2.running_mean"]
    np.testing.assert_allclose(mean, (one + two) / 2, rtol=1e-12)
    np.testing.assert_allclose(float(done.loss), sum(float(h.loss) for h in halves) / 2, rtol=1e-12)


class Pair(Ranks):
    """The first of two ranks, of whom the other is asked what it found."""

    size = 2

    def __init__(self, other=None):
        self.other, self.found = other, None

    def sum(self, arrays):
        self.found = arrays
        return tree.map(operator.add, arrays, self.other) if self.other else arrays


@pytest.mark.parametrize("cut", [2, 0])
def test_ranks_add_up_to_one_process(xp, cut):
    """Also where one of them has no image."""
    model = Sequential(Conv2d(4, 3), ReLU(), Flatten(), Linear(3))
    params, state = begin(xp, model, SGD(0.1))
    x, y = map(xp.asarray, batch())
    whole = train_step(model, SGD(0.1), params, state, x, y)
    first = Pair()
    step = partial(train_step, model, SGD(0.1), params, state)
    step(x[:cut, ...], y[:cut], ranks=first, share=cut / 6)
    done = step(x[cut:, ...], y[cut:], ranks=Pair(first.found), share=1 - cut / 6)
    np.testing.assert_allclose(float(done.loss), float(whole.loss), rtol=1e-12)
    assert int(done.correct) == int(whole.correct)
    for name, array in on_host(xp, done.params).items():
        np.testing.assert_allclose(array, on_host(xp, whole.params)[name], atol=1e-13)


def test_labels_may_be_probabilities(xp):
    params, state = begin(xp, MODEL, SGD(0.1))
    x, y = batch()
    soft = xp.asarray(np.eye(3)[y])
    done = train_step(MODEL, SGD(0.1), params, state, xp.asarray(x), soft, key=KEY)
    hard = train_step(MODEL, SGD(0.1), params, state, xp.asarray(x), xp.asarray(y), key=KEY)
    assert float(done.loss) == pytest.approx(float(hard.loss), rel=1e-12)
    assert int(done.correct) == int(hard.correct)


# An epoch


def result(xp, loss, correct=0):
    loss = xp.asarray(np.asarray(loss, np.float32))
    return SimpleNamespace(loss=loss, correct=xp.asarray(np.asarray(correct, np.int32)))


def test_figures_weigh_batches_by_their_images(xp):
    figures = Figures().plus(result(xp, 1.0, 3), 4)
    assert figures.read() == (1.0, 0.75)
    figures = figures.plus(result(xp, 4.0, 2), 2)
    assert (figures.images, figures.batches) == (6, 2)
    loss, accuracy = figures.read()
    assert loss == pytest.approx(2.0, rel=1e-6)
    assert accuracy == pytest.approx(5 / 6)


def test_figures_hold_where_a_sum_would_overflow():
    figures = Figures()
    for _ in range(40):
        figures = figures.plus(SimpleNamespace(loss=np.float16(100.0), correct=np.int32(0)), 64)
    assert figures.read() == (100.0, 0.0)


@pytest.mark.parametrize("bad, told", [(np.nan, "nan"), (np.inf, "(inf|nan)")])
def test_a_loss_that_is_no_number_is_told_when_it_is_read(xp, bad, told):
    figures = Figures()
    with np.errstate(invalid="ignore"):
        for loss in (1.0, bad, 1.0):  # nobody looks: nothing is raised
            figures = figures.plus(result(xp, loss), 4)
    message = (
        f"^the loss became {told} within the first 3 batches of this epoch; lower the learning "
        r"rate, clip gradients \(max_norm=1.0\) or look at the images$"
    )
    with pytest.raises(FloatingPointError, match=message):
        figures.read()


class Unread:
    """Stands in for a number on a device: counting it in works, looking at it fails the test."""

    def _same(self, other):
        return self

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _same

    def __float__(self):
        raise AssertionError("read")

    __bool__ = __int__ = __index__ = __float__


def test_steps_never_wait_for_the_device():
    figures = Figures()
    for _ in range(3):
        figures = figures.plus(SimpleNamespace(loss=Unread(), correct=Unread()), 4)
    with pytest.raises(AssertionError, match="read"):
        figures.read()


def test_an_epoch_is_a_run_after_each_batch(xp):
    x, y = map(xp.asarray, batch())

    def step(params, state, batch):
        return train_step(MODEL, SGD(0.1), params, state, batch.x, batch.y, key=KEY)

    start = Run(*begin(xp, MODEL, SGD(0.1)))
    batches = [Batch(x, y, 6), Batch(x[:4, ...], y[:4], 4)]
    runs = list(run_epoch(step, start, batches))
    one = step(start.params, start.state, batches[0])
    two = step(one.params, one.state, batches[1])
    for name, array in on_host(xp, runs[-1].params).items():
        np.testing.assert_array_equal(array, on_host(xp, two.params)[name])
    assert [run.state["step"] for run in runs] == [1, 2]
    assert [run.figures.images for run in runs] == [6, 10]
    mean = (6 * float(one.loss) + 4 * float(two.loss)) / 10
    assert runs[-1].figures.read()[0] == pytest.approx(mean)
    assert runs[-1].figures.read()[1] == (int(one.correct) + int(two.correct)) / 10
    # from the first run on, the second batch gives the very same
    [again] = run_epoch(step, runs[0], batches[1:])
    for name, array in on_host(xp, again.params).items():
        np.testing.assert_array_equal(array, on_host(xp, two.params)[name])
    assert again.figures.read() == runs[-1].figures.read()


def test_an_epoch_tells_waiting_from_computing(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(loop.time, "perf_counter", lambda: clock[0])

    def slow_batches():
        for _ in range(3):
            clock[0] += 1.0
            yield Batch(np.zeros((2, 1)), None, 2)

    def step(params, state, batch):
        clock[0] += 10.0
        return SimpleNamespace(params=params, state=state, loss=np.float32(1), correct=np.int32(1))

    seen = []
    for run in run_epoch(step, Run({}, {}, figures=Figures(seconds=50.0)), slow_batches()):
        seen.append((run.figures.seconds, run.figures.waiting))
        clock[0] += 0.5  # what is done in between is neither
    assert seen == [(61.0, 1.0), (72.5, 2.0), (84.0, 3.0)]


def test_history():
    one = Epoch(1, 2.0, 0.25, None, None, 4.0, 25.0)
    two = Epoch(2, 1.0, 0.5, 1.5, 0.375, 4.0, 25.0)
    history = History((one, two))
    assert (len(history), list(history), history[-1]) == (2, [one, two], two)
    assert history.column("loss") == [2.0, 1.0]
    assert history.column("val_accuracy") == [None, 0.375]
    assert history == History((one, two))
    assert list(History()) == []


# The bar


class Screen(io.StringIO):
    """A terminal of 100 columns that remembers what is written to it."""

    def isatty(self):
        return True


@pytest.fixture
def screen(monkeypatch):
    """To be put in the place of sys.stderr by the test itself: pytest puts its own there late."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    return Screen()


def shown(text):
    """What was written, without escape sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


def test_the_bar_tells_loss_accuracy_speed_and_time_left(screen, monkeypatch):
    monkeypatch.setattr(sys, "stderr", screen)
    found = None
    with progress_bar(epochs=12) as bar:
        bar.say("uint8 images are scaled to [0, 1]")
        bar.begin(1, 10_000)
        bar.watch(2000, 1.23456, 0.4567)
        deadline = time.monotonic() + 10
        while not found and time.monotonic() < deadline:  # it is drawn ten times a second
            time.sleep(0.05)
            bar.watch(4000, 0.98765, 0.6543)
            found = re.search(
                r"loss 0.9877  accuracy 65.43% [1-9][\d,]* images/s \d:\d\d:\d\d",
                shown(screen.getvalue()),
            )
        bar.end(Epoch(1, 0.875, 0.75, 0.9, 0.7125, 4.0, 12345.6))
    text = shown(screen.getvalue())
    assert "uint8 images are scaled to [0, 1]" in text
    assert found
    line = "epoch  1/12  loss 0.8750  accuracy 75.00%  validation 71.25%  12,346 images/s"
    assert line in re.split(r"[\r\n]", text)


def test_the_bar_leaves_lines_without_validation(screen, monkeypatch):
    monkeypatch.setattr(sys, "stderr", screen)
    with progress_bar(epochs=2) as bar:
        bar.begin(1, 10)
        bar.end(Epoch(1, 0.5, 0.75, None, None, 1.0, 10.0))
    assert "epoch 1/2  loss 0.5000  accuracy 75.00%  10 images/s" in shown(screen.getvalue())


def test_the_bar_is_cleared_when_training_fails(screen, monkeypatch):
    monkeypatch.setattr(sys, "stderr", screen)
    with pytest.raises(FloatingPointError), progress_bar(epochs=2) as bar:
        bar.begin(1, 10)
        bar.watch(5, 1.0, 0.5)
        raise FloatingPointError
    assert screen.getvalue().rstrip().endswith("\x1b[2K")  # the bar's line is erased
    assert "\x1b[?25h" in screen.getvalue()  # and the cursor is back


@pytest.mark.parametrize("colour", [None, "1"])
def test_where_there_is_no_terminal_nothing_is_shown(monkeypatch, colour):
    if colour:
        monkeypatch.setenv("FORCE_COLOR", colour)
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    with progress_bar(epochs=1) as bar:
        assert type(bar) is Silent
        bar.say("x")
        bar.begin(1, 10)
        bar.watch(5, 1.0, 0.5)
        bar.end(Epoch(1, 0.5, 0.75, None, None, 1.0, 10.0))
    assert file.getvalue() == ""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_in_a_real_terminal():
    """`fit` in a process on a pseudo-terminal shows its bar there, and leaves stdout alone."""
    import pty
    import subprocess

    code = (
        "import xpcnn, numpy as np; x, y = xpcnn.data.digits().train;"
        "xpcnn.Classifier(xpcnn.models.classic(), device='cpu').fit(x, y, 2, validation=(x, y))"
    )
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm"}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        written = bytearray()
        try:
            while chunk := os.read(ours, 4096):
                written += chunk
        except OSError:  # Linux's way to tell the end
            pass
        output = process.stdout.read()
    os.close(ours)
    text = shown(written.decode())
    assert process.returncode == 0, text
    assert output == b""
    assert "uint8 images are scaled to [0, 1]" in text
    for number in (1, 2):
        line = rf"epoch {number}/2  loss \d\.\d{{4}}  accuracy \d+\.\d\d%  validation \d+\.\d\d%  "
        assert re.search(line + r"[\d,]+ images/s", text), text
