"""A device made of NumPy: what the cuda engine asks of CuPy, on the host.

Kernels run from their sources (cuda_on_cpu) and products as cuBLAS defines them: from addresses,
leading dimensions and columns. New memory holds NaN, and is counted.
"""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
from cuda_on_cpu import Runner

from xpcnn import engines
from xpcnn.engines.cuda import _runner
from xpcnn.engines.cuda._launch import Launch
from xpcnn.engines.cuda._product import Matrices, Product

ALIGNED = 512
"""Bytes to a multiple of which CuPy aligns new memory."""


class Full(Exception):
    """No memory is left."""


class Device:
    """The engine's runner of NumPy's arrays, with `size` bytes of memory for new ones."""

    out_of_memory = Full

    def __init__(self, kernels: Runner | None = None, size: float = np.inf) -> None:
        self.kernels = kernels or Runner()
        self.size, self.taken, self.peak = size, 0, 0
        self.launched: list[str] = []

    def on(self, x: np.ndarray) -> AbstractContextManager:
        return nullcontext()

    def empty(self, shape: tuple[int, ...], dtype: object) -> np.ndarray:
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        if self.taken + nbytes > self.size:
            raise Full(f"{nbytes} bytes asked for")
        self._count(nbytes)
        memory = _aligned(nbytes)
        weakref.finalize(memory, self._count, -nbytes)
        x = memory.view(dtype).reshape(shape)
        x.fill(np.nan if x.dtype.kind == "f" else -(2**30))
        return x

    def _count(self, nbytes: int) -> None:
        self.taken += nbytes
        self.peak = max(self.peak, self.taken)

    def launch(self, launch: Launch) -> None:
        self.launched.append(launch.name)
        self.kernels.launch(launch)

    def multiply(self, product: Product) -> None:
        a, b, c = _columns(product.a), _columns(product.b), _columns(product.c)
        a, b = (x.swapaxes(1, 2) if t else x for x, t in zip((a, b), product.turned, strict=True))
        assert a.shape[1:] == (product.m, product.k) and b.shape[1:] == (product.k, product.n)
        assert c.shape[1:] == (product.m, product.n) and not {len(a), len(b)} - {1, len(c)}
        wide = np.float64 if c.dtype == np.float64 else np.float32
        found = np.matmul(a.astype(wide), b.astype(wide))
        c[...] = found + c if product.add else found

    def free(self) -> int:
        return int(min(self.size, 2**62)) - self.taken


def _aligned(nbytes: int) -> np.ndarray:
    """So many bytes and none behind them, which the address sanitizer would not watch."""
    libc, start = ctypes.CDLL(None), ctypes.c_void_p()
    assert not libc.posix_memalign(ctypes.byref(start), ALIGNED, max(1, nbytes))
    memory = np.frombuffer((ctypes.c_uint8 * nbytes).from_address(start.value), np.uint8)
    weakref.finalize(memory.base, libc.free, start)
    return memory


def _columns(x: Matrices) -> np.ndarray:
    """What cuBLAS sees of it: rows in memory are columns, `leading` apart."""
    batch, rows, columns = x.shape
    steps = np.multiply((x.strides[0], 1, x.leading), x.array.itemsize)
    return np.lib.stride_tricks.as_strided(x.array, (batch, columns, rows), steps)


@contextmanager
def on_host(device: Device) -> Iterator[Device]:
    """The cuda engine takes NumPy's arrays, last before the definition, and works on `device`."""
    before = engines.ENGINES["numpy"], _runner.RUNNERS.get("numpy")
    engines.ENGINES["numpy"] = ("numba", "numpy", "cuda", "generic")
    _runner.RUNNERS["numpy"] = device
    try:
        yield device
    finally:
        engines.ENGINES["numpy"], old = before
        del _runner.RUNNERS["numpy"]
        if old is not None:
            _runner.RUNNERS["numpy"] = old
