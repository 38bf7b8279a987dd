"""Check and time one computation by several, each in a thread and with settings of its own."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import count
from typing import Any

import torch
from _clock import Effort
from _gpu_device import Calls, Recording
from _gpu_rows import DTYPES, Floors
from _rows import Case

import xpcnn

SAMPLE = 1e-3
"""Seconds a sample lasts at least; shorter launches are repeated to fill it."""

MOST_REPEATS = 20
"""A GPU takes about a thousand kernels ahead of time; beyond, the host waits for it."""

HEADSTART = 1.5
"""So much longer than the host needs for queueing does the GPU wait before a sample."""

HOST = Effort(5, 0.02)
"""How long to measure what a call costs the host."""

Launches = Mapping[str, Callable[[], Any]]


class Player:
    """Who computes: a function's calls run in its own thread, under its own settings.

    PyTorch keeps the algorithm that cuDNN took for a convolution by its sizes, whether it was found
    by trying or by rule, but for each thread apart. So cudnn.benchmark on and off can be had in one
    process, if each has a thread. In its thread a backward pass stays too.
    """

    def __init__(self, device: Any, settings: Callable[[], AbstractContextManager], whose: str):
        self.device, self.settings = device, settings
        self.capture = getattr(device, f"capture_{whose}")
        self.thread = ThreadPoolExecutor(1)

    def do(self, function: Callable, *arguments: Any) -> Any:
        """What the function gives, once it has run there."""
        return self.thread.submit(self._within, function, *arguments).result()

    def _within(self, function: Callable, *arguments: Any) -> Any:
        with self.device.scope(), self.settings():
            return function(*arguments)


def players(device: Any, precision: str) -> dict[str, Player]:
    """xpcnn; PyTorch, its algorithms chosen by rule or by trying; and PyTorch in float32."""
    ours = "tf32" if precision == "tf32" else "float32"
    return {
        "ours": Player(device, partial(xpcnn.use, precision=ours), "ours"),
        "theirs": Player(device, partial(torch_settings, precision, False), "theirs"),
        "tuned": Player(device, partial(torch_settings, precision, True), "theirs"),
        "reference": Player(device, partial(torch_settings, "float32", False), "theirs"),
    }


@contextmanager
def torch_settings(precision: str, benchmark: bool) -> Iterator[None]:
    """TF32 as the precision says, and cuDNN's algorithms by trying or not."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    tf32 = precision == "tf32"
    new = (cudnn, "benchmark", benchmark), (cudnn, "allow_tf32", tf32), (matmul, "allow_tf32", tf32)
    old = [(module, name, getattr(module, name)) for module, name, _ in new]
    for module, name, value in new:
        setattr(module, name, value)
    try:
        with torch.autograd.set_multithreading_enabled(False):
            yield
    finally:
        for module, name, value in old:
            setattr(module, name, value)


def floors(device: Any, precisions: Sequence[str], effort: Effort) -> Floors:
    """Copy what no cache holds, half of it read and half written, and multiply large matrices."""
    source = torch.randn(device.far // 8, device=device.name)
    target = torch.empty_like(source)
    launches = {"copy": lambda: target.copy_(source)}
    copied = timed(device, launches, effort)["copy"]["median"]
    rates = {}
    for precision in precisions:
        a, b = torch.randn(2, device.side, device.side, device=device.name).to(DTYPES[precision])
        with torch_settings(precision, False):
            product = {"product": partial(torch.matmul, a, b)}
            taken = timed(device, product, effort)["product"]["median"]
        rates[precision] = 2 * device.side**3 / taken
    return Floors(device.far / copied, rates)


def measured(
    team: Mapping[str, Player], cases: Sequence[Case], right: Case, tolerance: float, effort: Effort
) -> dict[str, Any]:
    """One task, on as many copies of its inputs as there are cases; `right` has the first's.

    First results are compared, then times taken: the device's, and the host's for queueing a call.
    """
    ours, device = team["ours"], team["ours"].device
    first = cases[0]
    compared = [case.compared or (case.ours, case.theirs) for case in (first, right)]
    expected = team["reference"].do(compared[1][1])
    off = difference(device, ours.do(compared[0][0]), expected)
    their_off = difference(device, team["theirs"].do(compared[0][1]), expected)
    calls = {
        name: [case.ours if name == "ours" else case.theirs for case in cases]
        for name in team
        if name != "reference"
    }
    host = {name: team[name].do(host_seconds, device, own) for name, own in calls.items()}
    recordings, why = recorded(team, calls)
    times = timed(device, {name: one.launch for name, one in recordings.items()}, effort)
    if recordings["ours"].results and not first.compared:
        off = max(off, replayed(device, recordings["ours"], expected))
    each = {
        name: {of: seconds / len(cases) for of, seconds in taken.items()} | {"host": host[name]}
        for name, taken in times.items()
    }
    checked = {"difference": off, "their_difference": their_off, "wrong": not off <= tolerance}
    return each | checked | {"copies": len(cases), "by": "events" if why else "graph", "why": why}


def recorded(
    team: Mapping[str, Player], calls: Mapping[str, Calls]
) -> tuple[dict[str, Recording], str]:
    """Everybody's calls, to launch at once; and why not as graphs, where one's cannot be captured.

    Then nobody's are, since graphs save the GPU some of the pauses between kernels.
    """
    found = {}
    for name, own in calls.items():
        try:
            found[name] = team[name].do(team[name].capture, own)
        except Exception as error:  # whatever the libraries raise: it is told in the results
            why = f"{name}: {type(error).__name__}: {error}".splitlines()[0]
            return {name: _called(team[name], own) for name, own in calls.items()}, why
    return found, ""


def _called(player: Player, calls: Calls) -> Recording:
    """The calls as they are, their results let go at once."""

    def launch() -> None:
        for call in calls:
            call()

    return Recording(partial(player.do, launch), [])


def replayed(device: Any, recording: Recording, expected: Any) -> float:
    """How far off a launch is, once what earlier ones left has been spoiled."""
    for part in _arrays(recording.results[0]):
        device.tensor(part).fill_(torch.nan)
    recording.launch()
    return difference(device, recording.results[0], expected)


def host_seconds(device: Any, calls: Calls) -> float:
    """What a call takes until it returns, with nothing queued before it; the median."""
    taken: list[float] = []
    end = time.perf_counter() + HOST.seconds
    while len(taken) < HOST.rounds or time.perf_counter() < end:
        call = calls[len(taken) % len(calls)]
        device.synchronize()
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def timed(device: Any, launches: Launches, effort: Effort) -> dict[str, dict[str, float]]:
    """The device's seconds for each launch, taken in turn, round by round."""
    plans = {name: _plan(device, launch) for name, launch in launches.items()}
    samples: dict[str, list[float]] = {name: [] for name in launches}
    end = time.perf_counter() + effort.seconds
    for done in count():
        if done >= effort.rounds and time.perf_counter() > end:
            break
        for name, launch in launches.items():
            samples[name].append(device.seconds(launch, *plans[name]))
    return {
        name: {"median": statistics.median(taken), "least": min(taken)}
        for name, taken in samples.items()
    }


def _plan(device: Any, launch: Callable[[], Any]) -> tuple[int, float]:
    """How often to launch in a sample, and the headstart that the host needs for that."""
    launch()
    device.synchronize()
    start = time.perf_counter()
    launch()
    queueing = HEADSTART * (time.perf_counter() - start)
    device.synchronize()
    one = device.seconds(launch, 1, queueing)
    repeat = min(MOST_REPEATS, max(1, round(SAMPLE / max(one, 1e-9))))
    return repeat, queueing * repeat


def difference(device: Any, results: Any, expected: Any) -> float:
    """The largest of |result - expected| over the largest of |expected|; the worst of several."""
    pairs = zip(_arrays(results), _arrays(expected), strict=True)
    return max(_difference(device.tensor(a), device.tensor(b)) for a, b in pairs)


def _difference(result: torch.Tensor, expected: torch.Tensor) -> float:
    if result.shape != expected.shape:
        return float("inf")
    off = float((result.float() - expected.float()).abs().max() / expected.abs().max())
    return off if off == off else float("inf")


def _arrays(result: Any) -> list[Any]:
    parts = result if isinstance(result, tuple) else (result,)
    return [part for part in parts if part is not None]
