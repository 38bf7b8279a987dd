"""The Numba engine where its kernels have seams: lanes, tiles, edges, threads, processes.

What every engine must do on small windows is in test_conv.py, test_pooling.py and test_passes.py.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from checks import ops_of_rank, vjp_of
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import LAYOUTS, arrays, view
from test_passes import CALLS as PASSES

import xpcnn
from xpcnn import engines
from xpcnn.engines import generic
from xpcnn.window import Window, conv_window, pool_window

pytest.importorskip("numba")

import numba

from xpcnn.engines.numba import _correlation, _direct, _plan, _threads, _winograd

CHANNELS = [1, 3, 15, 16, 17, 31, 32, 33, 40]
"""Around one vector of lanes and two, with the widest registers and the narrowest."""

EXAMPLES = settings.default.max_examples


def normal(*shapes: tuple[int, ...], dtype=np.float32) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


# ---- convolution by tiles of sums ---------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """A convolution, and the gradient of its result."""

    rank: int
    x: np.ndarray
    w: np.ndarray
    b: np.ndarray | None
    dy: np.ndarray
    options: dict[str, Any]


@st.composite
def layers(draw, dtype) -> Layer:
    """Channels in and out around the lanes, rows of many tiles; whole numbers, so exact sums."""
    rank, one = draw(st.sampled_from([2, 2, 1, 3])), st.integers(1, 2)
    groups, c, o = draw(st.sampled_from(["dense", "dense", "grouped", "apart", "doubled"])), 1, 1
    if groups in ("dense", "grouped"):
        c, o = draw(st.sampled_from(CHANNELS)), draw(st.sampled_from(CHANNELS))
    number = {"dense": 1, "grouped": 2}.get(groups) or draw(st.sampled_from(CHANNELS))
    o += groups == "doubled"
    kernel = draw(st.tuples(*[st.integers(1, 5 - rank)] * rank))
    options = {
        "stride": draw(st.tuples(*[one] * rank)),
        "padding": draw(st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * rank)),
        "dilation": draw(st.tuples(*[one] * rank)),
        "groups": number,
    }
    most = {1: [60], 2: [8, 30], 3: [2, 5, 12]}[rank]
    least = [d * (k - 1) + 1 for d, k in zip(options["dilation"], kernel, strict=True)]
    size = [n + draw(st.integers(0, more)) for n, more in zip(least, most, strict=True)]
    x_shape, w_shape = (draw(st.integers(0, 3)), c * number, *size), (o * number, c, *kernel)
    window = conv_window("", rank, x_shape, w_shape, None, *options.values())
    x = inside(draw(arrays(x_shape, dtype, special=draw(specials))), draw(st.booleans()))
    dy = draw(arrays((x_shape[0], o * number, *window.out_size), dtype))
    b = draw(st.one_of(st.none(), arrays((o * number,), dtype)))
    return Layer(rank, x, draw(arrays(w_shape, dtype)), b, dy, options)


specials = st.sampled_from([(), (), (np.nan, np.inf, -np.inf)])


def inside(a: np.ndarray, wanted: bool) -> np.ndarray:
    """`a` between entries that must not be read; channels last stay so."""
    if not wanted:
        return a
    order = sorted(range(a.ndim), key=lambda axis: -a.strides[axis])
    buffer = np.full([a.shape[axis] + 2 for axis in order], np.nan, a.dtype)
    part = buffer[(slice(1, -1),) * a.ndim].transpose(np.argsort(order))
    part[...] = a
    return part


@pytest.fixture(scope="module", params=["units as they are", "units of a few outputs"])
def units(request):
    with pytest.MonkeyPatch.context() as patch:
        if request.param != "units as they are":
            for module, name, limit in (
                (_plan, "BAND", 256), (_direct, "BAND", 256), (_direct, "RESULTS", 64),
                (_correlation, "PIXELS", 5), (_correlation, "CHUNK", 3),
            ):  # fmt: skip
                patch.setattr(module, name, limit)
            for module in (_correlation, _direct, _winograd):
                patch.setattr(module, "empty", lambda shape, dtype: np.full(shape, np.nan, dtype))
        _plan._plan.cache_clear()
        yield
    _plan._plan.cache_clear()


@pytest.mark.usefixtures("units")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_convolutions_are_the_definition(dtype, data):
    layer = data.draw(layers(dtype))
    op, given_arrays = ops_of_rank("conv", layer.rank), [layer.x, layer.w, layer.b]
    with np.errstate(all="ignore"):
        with xpcnn.use("numba", winograd=False), engines.noted() as choices:
            y, grads = vjp_of(op, given_arrays, layer.dy, **layer.options)
        with xpcnn.use("generic"):
            expected, pull = xpcnn.vjp(op, *given_arrays, **layer.options)
            expected_grads = pull(layer.dy)
    assert {c.engine for c in choices if c.verb.startswith("conv")} == {"numba"}
    np.testing.assert_array_equal(y, expected)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        np.testing.assert_array_equal(grad, expected_grad)


# ---- Winograd's algorithm -----------------------------------------------------------------------

BOUND, PLAIN = 4e-6, 5e-7
"""Errors of the largest entry on normal data: as docs/semantics.md has it, and of a plain sum."""


def verbs_of(x, w, dy, window: Window, b=None) -> dict[str, tuple]:
    """The calls of a convolution and its gradients."""
    return {"conv": (x, w, window, b), "conv_dx": (dy, w, window), "conv_dw": (x, dy, window)}


def algorithms(calls: dict[str, tuple]) -> set[str]:
    with engines.noted() as choices:
        results_of(calls)
    return {choice.algorithm for choice in choices}


def results_of(calls: dict[str, tuple]) -> list[np.ndarray]:
    return [getattr(engines, verb)(*args) for verb, args in calls.items()]


def errors(calls: dict[str, tuple]) -> list[float]:
    """The largest error of each result against float64, as a part of its largest entry."""

    def double(a):
        return a.astype(np.float64) if isinstance(a, np.ndarray) else a

    exact = [getattr(generic, verb)(*map(double, args)) for verb, args in calls.items()]
    pairs = zip(results_of(calls), exact, strict=True)
    return [float(np.abs(ours - true).max() / np.abs(true).max()) for ours, true in pairs]


def square(x_shape, o, kernel, padding=1, dtype=np.float32) -> dict[str, tuple]:
    """Calls on normal data, of a square kernel at stride 1."""
    w_shape = (o, x_shape[1], kernel, kernel)
    window = conv_window("", 2, x_shape, w_shape, None, 1, padding, 1, 1)
    x, w, dy, b = normal(x_shape, w_shape, (x_shape[0], o, *window.out_size), (o,), dtype=dtype)
    return verbs_of(x, w, dy, window, b)


ORDERS = {
    "by tiles": ((2, 19, 18, 25), 33, 3),
    "by blocks, forward": ((1, 16, 16, 17), 72, 3),
    "by blocks, data gradient": ((1, 72, 16, 17), 16, 3),
    "sums in several parts": ((1, 144, 13, 14), 17, 3),
    "5x5, by tiles": ((3, 17, 11, 9), 40, 5),
    "5x5, by blocks": ((1, 33, 10, 11), 40, 5),
}


@pytest.mark.parametrize("name", ORDERS)
def test_winograd_is_as_near_as_it_says_and_can_be_switched_off(name):
    calls = square(*ORDERS[name])
    assert algorithms(calls) == {"winograd"}
    assert max(errors(calls)) < BOUND
    with xpcnn.use(winograd=False):
        assert algorithms(calls) == {"direct"}
        assert max(errors(calls)) < PLAIN


@given(data=st.data())
def test_winograd_on_any_edges_and_in_any_memory(data):
    channels, layouts = st.integers(16, 40), st.sampled_from(LAYOUTS)
    c, o, kernel = data.draw(channels), data.draw(channels), data.draw(st.sampled_from([3, 5]))
    side = 7 - kernel
    size = tuple(side * data.draw(st.integers(3, 5)) + data.draw(st.integers(1, 4)) for _ in "HW")
    pads = st.tuples(*[st.integers(kernel // 2, kernel - 1)] * 2)
    calls = square((2, c, *size), o, kernel, data.draw(st.tuples(pads, pads)))
    (x, w, window, b), (dy, _, _) = calls["conv"], calls["conv_dx"]
    x, w, dy = (view(a, data.draw(layouts)) for a in (x, w, dy))
    before = [a.copy() for a in (x, w, dy)]
    calls = verbs_of(x, w, dy, window, b)
    assert algorithms(calls) == {"winograd"}
    assert max(errors(calls)) < BOUND
    for a, copy in zip((x, w, dy), before, strict=True):
        np.testing.assert_array_equal(a, copy)


def test_float64_never_takes_winograd():
    calls = square((2, 32, 16, 16), 32, 3, dtype=np.float64)
    assert algorithms(calls) == {"direct"}
    with xpcnn.use(winograd=False):
        without = results_of(calls)
    for ours, other in zip(results_of(calls), without, strict=True):
        assert ours.tobytes() == other.tobytes()


# ---- threads ------------------------------------------------------------------------------------


@pytest.fixture
def eager(monkeypatch):
    """Threads are woken however little there is to do."""
    monkeypatch.setattr(_threads, "LEAST", 0)


def pooling() -> dict[str, tuple]:
    x = view(normal((2, 24, 13, 12))[0], "channels last")
    window = pool_window("", 2, x.shape, (3, 3), 2, 1, 1)
    y, indices = generic.max_pool(x, window, True)
    y, indices = (view(a, "channels last") for a in (y, indices))
    return {
        "max_pool": (x, window, True),
        "max_pool_dx": (y, indices, window),
        "avg_pool": (x, window, 9),
        "avg_pool_dx": (y, window, 9),
    }


def grouped(groups: int) -> dict[str, tuple]:
    x, w = normal((3, 48, 14, 15), (48, 48 // groups, 3, 3))
    window = conv_window("", 2, x.shape, w.shape, None, (2, 1), 1, 1, groups)
    return verbs_of(x, w, normal((3, 48, *window.out_size))[0], window)


CALLS = {
    "direct": lambda: square((2, 17, 16, 18), 33, 4, 2),
    "grouped": lambda: grouped(3),
    "depthwise": lambda: grouped(48),
    "Winograd's, by tiles": lambda: square((4, 32, 20, 22), 40, 3),
    "Winograd's, by blocks": lambda: square((1, 32, 16, 17), 100, 3),
    "pooling": pooling,
    "passes": lambda: PASSES,
}


def bits_of(calls: dict[str, tuple]) -> list[bytes]:
    answers = [engines.offered(verb, *args) for verb, args in calls.items()]
    parts = [a if isinstance(a, tuple) else (a,) for a in answers]
    return [part.tobytes() for part in itertools.chain(*parts)]


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("name", CALLS)
def test_bits_do_not_depend_on_the_number_of_threads(name):
    calls, bits = CALLS[name](), []
    for threads in (1, 2, 3):
        with xpcnn.use("numba", threads=threads), engines.noted() as choices:
            bits.append(bits_of(calls))
        assert {choice.engine for choice in choices} == {"numba"}
    assert bits[0] == bits[1] == bits[2]


@pytest.mark.usefixtures("eager")
def test_many_callers_at_once_get_what_each_gets_alone():
    callers = [make() for make in CALLS.values()] * 2
    start = threading.Barrier(len(callers), timeout=60)

    def call(calls: dict[str, tuple]) -> list[list[bytes]]:
        start.wait()
        with xpcnn.use(threads=3):
            return [bits_of(calls) for _ in range(3)]

    with ThreadPoolExecutor(len(callers)) as pool:
        together = list(pool.map(call, callers))
    assert together == [[bits_of(calls)] * 3 for calls in callers]


@numba.njit(nogil=True)
def count_done(tasks, done):
    for task in _threads.taken(tasks):
        done[task] += 1


@numba.njit(nogil=True)
def fail(tasks, done):
    for _ in _threads.taken(tasks):
        raise MemoryError("no room")


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("tasks", [0, 1, 2, 5, 1000])
def test_every_task_is_done_once(tasks):
    done = np.zeros(tasks, np.intp)
    with xpcnn.use(threads=3):
        _threads.spread(count_done, tasks, done)
    assert (done == 1).all()


@numba.njit(nogil=True)
def hold(tasks, done, released):
    for task in _threads.taken(tasks):
        while not _threads._look(released.ctypes.data):
            _threads._give_way()
        done[task] += 1


def shared(help: Callable, alone: Callable) -> None:
    """Share tasks, `help` being done in another thread before this one goes on with `alone`."""
    here, helped = threading.get_ident(), threading.Event()

    def work(tasks: _threads.Tasks) -> None:
        if threading.get_ident() == here:
            assert helped.wait(60.0)
            alone(tasks)
        else:
            helped.set()
            help(_threads.Tasks(tasks.tally))

    with xpcnn.use(threads=3):
        _threads.spread(work, 1000)


@pytest.mark.usefixtures("eager")
def test_what_another_thread_raises_is_raised():
    done, failed = np.zeros(1000, np.intp), threading.Event()

    def help(tasks):
        try:
            fail(tasks, done)
        finally:
            failed.set()

    with pytest.raises(MemoryError, match="no room"):
        shared(help, lambda tasks: failed.wait(60.0) and count_done(tasks, done))


@pytest.mark.usefixtures("eager")
def test_a_slow_helper_is_waited_for(monkeypatch):
    monkeypatch.setattr(_threads, "CALLERS", 3)
    done, released = np.zeros(1000, np.intp), np.zeros(1, np.intp)

    def alone(tasks):
        while tasks.tally[_threads.NEXT] == 0:  # until the other holds a share
            time.sleep(0.001)
        threading.Timer(0.05, released.fill, [1]).start()
        count_done(tasks, done)

    shared(lambda tasks: hold(tasks, done, released), alone)
    assert (done == 1).all()


@pytest.mark.usefixtures("eager")
def test_nobody_goes_on_after_an_error():
    done, released, ended = np.zeros(1000, np.intp), np.zeros(1, np.intp), threading.Event()

    def help(tasks):
        hold(tasks, done, released)
        ended.set()

    def alone(tasks):
        while tasks.tally[_threads.NEXT] == 0:
            time.sleep(0.001)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shared(help, alone)
    released[0] = 1
    assert ended.wait(60.0)
    assert 0 < done.sum() < 100  # a share


@pytest.mark.usefixtures("eager")
def test_a_shared_call_rings_the_bell_once():
    bell = _threads._pool().bell
    before = bell[0]
    with xpcnn.use(threads=2):
        _threads.spread(count_done, 1000, np.zeros(1000, np.intp))
    assert bell[0] == before + 1


# ---- what is left to others, and processes ------------------------------------------------------


@pytest.mark.parametrize("kind", ["a byte out of place", "bytes swapped", "a subclass"])
def test_arrays_that_kernels_cannot_read_are_left_to_others(kind):
    def strange(a: np.ndarray) -> np.ndarray:
        if kind == "bytes swapped":
            return a.astype(a.dtype.newbyteorder())
        if kind == "a subclass":
            return a.view(type("Subclass", (np.ndarray,), {}))
        buffer = np.zeros(a.nbytes + 1, np.uint8)
        moved = buffer[1:].view(a.dtype).reshape(a.shape)
        moved[...] = a
        return moved

    for verb, args in square((1, 16, 16, 16), 16, 3).items():
        odd = [strange(a) if isinstance(a, np.ndarray) else a for a in args]
        with engines.noted() as choices:
            ours = getattr(engines, verb)(*odd)
        assert choices[0].engine != "numba"
        np.testing.assert_allclose(ours, getattr(generic, verb)(*args), rtol=0, atol=1e-3)


def run(code: str, **environment: str) -> str:
    """What a process of its own writes to stderr."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


CLIP = """
import logging, numpy as np
from xpcnn import ops
logging.basicConfig(level="INFO", format="%(name)s %(levelname)s %(message)s")
ops.relu(np.ones((4, 4, 32, 32), np.float32))
"""


def test_compiling_is_announced_and_kept_on_disk(tmp_path):
    told = "xpcnn INFO compiling the kernel _clip(float32); it is kept on disk where that can be"
    assert run(CLIP, NUMBA_CACHE_DIR=str(tmp_path)).splitlines() == [told]
    assert run(CLIP, NUMBA_CACHE_DIR=str(tmp_path)) == ""


FORK = """
import os, sys, warnings, numpy as np, xpcnn
from xpcnn import ops
from xpcnn.engines.numba import _threads
_threads.LEAST = 0
x = np.random.default_rng(0).standard_normal((8, 8, 64, 64), np.float32)
with xpcnn.use(threads=3):
    before = ops.relu(x)
    warnings.simplefilter("ignore", DeprecationWarning)  # of forking where there are threads
    child = os.fork()
    same = np.array_equal(ops.relu(x), before)
    if child == 0:
        os._exit(0 if same else 1)
    _, status = os.waitpid(child, 0)
    sys.exit(0 if same and status == 0 else "a process differs after fork")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks on Linux alone")
def test_threads_come_anew_after_a_fork():
    run(FORK)
