"""Where both libraries compute: a GPU that they share, or the host, to rehearse on.

`Cuda` and `Host` have the same methods; only `Cuda` touches a GPU, and nothing else here does.
"""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from _report import machine

import xpcnn

Calls = Sequence[Callable[[], Any]]

CYCLES = 2.5e9
"""Of a GPU's clock in a second, at most: a wait counted in them is never too short."""

LONGEST_WAIT = 0.25
"""Seconds that the GPU waits at most, so that calls can queue up."""


class Recording(NamedTuple):
    """Calls made ready to be launched together: `results` holds what each launch computes anew.

    `kept` is what must live as long.
    """

    launch: Callable[[], Any]
    results: list[Any]
    kept: tuple = ()


class Cuda:
    """The first GPU, with both libraries on one stream, so that they take turns."""

    name = "cuda"
    far = 2**30
    """Bytes that no cache holds, to measure the bandwidth with."""
    side = 8192
    """Rows and columns of the matrices that the rate of products is measured with."""

    def __init__(self) -> None:
        os.environ["CUPY_TF32"] = "0"  # CuPy reads it on import: float32 is to mean float32
        xpcnn.device("cuda")  # raises, and says why, where there is none
        self.cupy = importlib.import_module("cupy")
        self.stream = self.cupy.cuda.Stream(non_blocking=True)
        self.their_stream = torch.cuda.ExternalStream(self.stream.ptr)
        self.properties = self.cupy.cuda.runtime.getDeviceProperties(0)
        self.cache = self.properties["l2CacheSize"]

    @contextmanager
    def scope(self) -> Iterator[None]:
        """What each thread enters that computes here: the current stream is a thread's own."""
        with self.stream, torch.cuda.stream(self.their_stream), torch.no_grad():
            yield

    def ours(self, tensor: torch.Tensor) -> Any:
        """The tensor as an array of ours, in the same memory."""
        return self.cupy.from_dlpack(tensor)

    def tensor(self, array: Any) -> torch.Tensor:
        """An array of ours, or a tensor, as a tensor in the same memory."""
        return array if isinstance(array, torch.Tensor) else torch.from_dlpack(array)

    def synchronize(self) -> None:
        """Wait until all that was queued is done."""
        self.stream.synchronize()

    def seconds(self, launch: Callable[[], Any], repeat: int, headstart: float) -> float:
        """The GPU's time for one launch, the mean of `repeat`.

        The GPU first waits for the `headstart` that queueing them takes, so that it then runs
        through without waiting for the host.
        """
        torch.cuda._sleep(int(CYCLES * min(headstart, LONGEST_WAIT)))
        start, end = self.cupy.cuda.Event(), self.cupy.cuda.Event()
        start.record(self.stream)
        for _ in range(repeat):
            launch()
        end.record(self.stream)
        end.synchronize()
        return 1e-3 * self.cupy.cuda.get_elapsed_time(start, end) / repeat

    def capture_ours(self, calls: Calls) -> Recording:
        """CuPy's calls as one graph. Raises what they raise that cannot be captured."""
        pool = self.cupy.cuda.MemoryPool()  # the graph's own: nobody else writes where it writes
        with self.cupy.cuda.using_allocator(pool.malloc):
            self._warm(calls)  # so that the pool has all that they need, and kernels are compiled
            self.stream.begin_capture()
            results = _captured(calls, self.stream.end_capture)
            graph = self.stream.end_capture()
        return Recording(lambda: graph.launch(self.stream), results, (graph, pool))

    def capture_theirs(self, calls: Calls) -> Recording:
        """PyTorch's calls as one graph. Raises what they raise that cannot be captured."""
        self._warm(calls)
        graph = torch.cuda.CUDAGraph()  # has a memory pool of its own
        graph.capture_begin(capture_error_mode="relaxed")  # as CuPy has it: the host may allocate
        results = _captured(calls, graph.capture_end)
        graph.capture_end()
        return Recording(graph.replay, results, (graph,))

    def _warm(self, calls: Calls) -> None:
        together = [call() for call in calls]  # all results at a time, as in the capture
        self.synchronize()
        together.clear()

    def free(self) -> None:
        """Give back the memory that nobody uses."""
        self.synchronize()
        self.cupy.get_default_memory_pool().free_all_blocks()
        torch.cuda.empty_cache()

    def describe(self) -> dict[str, Any]:
        """The GPU and what it is driven by."""
        runtime = self.cupy.cuda.runtime
        return {
            "name": self.properties["name"].decode(),
            "memory": self.properties["totalGlobalMem"],
            "L2 cache": self.cache,
            "driver": _driver(),
            "CUDA of the driver": runtime.driverGetVersion(),
            "CUDA of CuPy": runtime.runtimeGetVersion(),
            "CUDA of PyTorch": torch.version.cuda,
            "cuDNN": torch.backends.cudnn.version(),
            "CuPy": self.cupy.__version__,
        } | _software()


class Host:
    """NumPy and PyTorch on the CPU: what is measured means nothing, but all else is as on a GPU."""

    name = "cpu"
    far = 2**22
    side = 64
    cache = 2**16

    @contextmanager
    def scope(self) -> Iterator[None]:
        """What each thread enters that computes here."""
        with torch.no_grad():
            yield

    def ours(self, tensor: torch.Tensor) -> np.ndarray:
        """The tensor as an array of ours, in the same memory."""
        return tensor.numpy()

    def tensor(self, array: Any) -> torch.Tensor:
        """An array of ours, copied, or a tensor, as a tensor."""
        return array if isinstance(array, torch.Tensor) else torch.tensor(array)

    def synchronize(self) -> None:
        """Nothing is ever queued."""

    def seconds(self, launch: Callable[[], Any], repeat: int, headstart: float) -> float:
        """One launch, the mean of `repeat`."""
        start = time.perf_counter()
        for _ in range(repeat):
            launch()
        return (time.perf_counter() - start) / repeat

    def capture_ours(self, calls: Calls) -> Recording:
        """The calls, one after another."""
        results: list[Any] = []

        def launch() -> None:
            results[:] = [call() for call in calls]

        launch()
        return Recording(launch, results)

    capture_theirs = capture_ours

    def free(self) -> None:
        """Memory is freed by itself."""

    def describe(self) -> dict[str, Any]:
        """What is installed."""
        return {"name": "the CPU, in rehearsal: these times mean nothing"} | _software()


def _captured(calls: Calls, end: Callable[[], Any]) -> list[Any]:
    """The results of calls while a stream captures them; it stops capturing if one fails."""
    try:
        return [call() for call in calls]
    except BaseException:
        with suppress(Exception):  # the first error tells more than that the capture broke off
            end()
        raise


def _driver() -> str | None:
    """The driver's own version; None where nvidia-smi does not tell."""
    if not (program := shutil.which("nvidia-smi")):
        return None
    asked = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    told = subprocess.run(asked, capture_output=True, text=True).stdout.split()
    return told[0] if told else None


def _software() -> dict[str, Any]:
    """What runs on any device; xpcnn need not be installed to have a version."""
    return {"PyTorch": torch.__version__, "xpcnn": xpcnn.__version__, "machine": machine()}
