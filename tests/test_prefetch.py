"""Fetching ahead: in order, bounded, in the caller's context; whatever happens, no thread stays."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import threading
import time
import traceback

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xpcnn
from xpcnn.data.prefetch import prefetch

PATIENCE = 20  # seconds after which a test that waits has failed


@pytest.fixture(autouse=True)
def no_thread_stays():
    yield
    assert threads() == []


def threads():
    return [t for t in threading.enumerate() if t.name.startswith("xpcnn-prefetch")]


@given(count=st.integers(0, 20), ahead=st.integers(1, 25))
def test_in_order(count, ahead):
    images = np.arange(20)
    orders = [np.asarray([number, 0]) for number in range(count)]
    found = list(prefetch(images.__getitem__, orders, ahead))
    assert [part.tolist() for part in found] == [order.tolist() for order in orders]


@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_no_more_than_ahead(ahead):
    """While the caller computes, so many are fetched, and no order beyond them is drawn."""
    fetched, drawn = [], []

    def orders():
        for number in range(30):
            drawn.append(number)
            yield number

    for number, _ in enumerate(prefetch(fetched.append, orders(), ahead)):
        until(lambda: len(fetched) == min(30, number + 1 + ahead))  # noqa: B023
        time.sleep(0.002)
        assert len(fetched) == len(drawn) == min(30, number + 1 + ahead)


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_it_is_fetched_while_the_caller_computes():
    both = threading.Barrier(2, timeout=PATIENCE)
    batches = prefetch(lambda number: number and both.wait(), [0, 1])
    next(batches)
    both.wait()  # had the fetch not begun by now, neither would go on
    next(batches)
    batches.close()


def test_one_thread_fetches_and_the_caller_draws():
    fetchers, drawers = set(), set()

    def orders():
        for number in range(10):
            drawers.add(threading.get_ident())
            yield number

    for _ in prefetch(lambda _: fetchers.add(threading.get_ident()), orders()):
        pass
    assert drawers == {threading.get_ident()}
    assert len(fetchers) == 1
    assert fetchers != drawers


def test_the_callers_context():
    def workspace(_):
        return xpcnn.engines.settings.current().workspace

    with xpcnn.use(workspace=12345):
        assert list(prefetch(workspace, range(3))) == [12345] * 3
    assert set(prefetch(workspace, range(3))) != {12345}


def fails(number):
    if number == 3:
        raise KeyError("three")
    return number


def test_an_error_is_raised_where_its_result_is_due():
    found = []
    with pytest.raises(KeyError, match="three") as caught:
        for number in prefetch(fails, range(10), ahead=5):
            found.append(number)
    assert found == [0, 1, 2]
    assert "fails" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]


def test_an_error_of_the_orders():
    def orders():
        yield 1
        yield 2
        raise RuntimeError("no more orders")

    with pytest.raises(RuntimeError, match="no more orders"):
        list(prefetch(fails, orders()))


def test_an_error_of_the_caller():
    batches = prefetch(fails, range(3))
    with pytest.raises(ZeroDivisionError):
        for number in batches:
            1 / number
    batches.close()


def test_closing_drops_what_has_not_begun():
    fetched, gate = [], threading.Event()

    def fetch(number):
        fetched.append(number)
        if number:
            gate.wait(PATIENCE)

    batches = prefetch(fetch, range(10), ahead=5)
    next(batches)
    until(lambda: fetched == [0, 1])
    threading.Timer(0.05, gate.set).start()
    batches.close()
    assert threads() == []
    assert fetched == [0, 1]
    assert list(batches) == []


def test_unused():
    prefetch(fails, range(3)).close()
    assert threads() == []


def test_begun_and_let_go():
    batches = prefetch(fails, range(3))
    next(batches)
    del batches
    gc.collect()
    assert threads() == []


@pytest.mark.parametrize("ahead", [0, -1])
def test_nothing_ahead(ahead):
    with pytest.raises(ValueError, match=f"prefetch: ahead must be at least 1; it is {ahead}"):
        prefetch(fails, [], ahead)


PROGRAM = """
import itertools, time
from xpcnn.data.prefetch import prefetch
batches = prefetch(lambda number: time.sleep(0.01), itertools.count())
next(batches)
print("started", flush=True)
"""


def test_the_interpreter_ends_though_nobody_closed():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("started\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for another process")
def test_an_interrupt_ends_it():
    # a process that is started in the background may have been told to ignore it
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    program = heed + PROGRAM + "for _ in batches: pass"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()  # or leaving the block would wait for it
    assert errors.strip().endswith("KeyboardInterrupt")
    assert process.returncode in (-signal.SIGINT, 1)
