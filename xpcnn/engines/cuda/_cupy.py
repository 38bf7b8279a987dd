"""CuPy as the runner: kernels through its RawModule, products through cuBLAS.

Everything goes to the current stream of the current device. Kernels are compiled when they are
first launched, each by itself, and CuPy keeps them on disk.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import cupy
import numpy as np
from cupy.cuda import cublas, runtime
from cupy.cuda.device import get_cublas_handle

from ..._xp import Array
from ...window import Ints
from ..settings import current
from ._arrays import address, wider
from ._launch import Launch
from ._product import Product
from ._table import FILES, OPTIONS, code

CUDA_TYPES = {"float16": 2, "float32": 0, "float64": 1, "bfloat16": 14}
"""cudaDataType_t of dtypes."""

DISALLOW_REDUCED_PRECISION_REDUCTION = 16
"""Of cublasMath_t."""


class CuPy:
    """The runner of CuPy's arrays."""

    out_of_memory = cupy.cuda.memory.OutOfMemoryError

    def on(self, x: Array) -> AbstractContextManager:
        return x.device

    def empty(self, shape: Ints, dtype: Any) -> Array:
        return cupy.empty(shape, dtype)

    def launch(self, launch: Launch) -> None:
        arguments, shared = launch.arguments, launch.shared_bytes
        _kernel(launch.name)(launch.grid, launch.block, arguments, shared_mem=shared)

    def multiply(self, product: Product) -> None:
        a, b, c = product.a, product.b, product.c
        first, second = (_TURNED if turned else _PLAIN for turned in product.turned)
        one, old = _factors(wider(a.array.dtype), product.add)
        with _whole_sums() as handle:
            cublas.gemmStridedBatchedEx(
                handle, first, second, product.m, product.n, product.k, one,
                address(a.array), _type(a.array.dtype), a.leading, a.strides[0],
                address(b.array), _type(b.array.dtype), b.leading, b.strides[0], old,
                address(c.array), _type(c.array.dtype), c.leading, c.strides[0],
                c.shape[0], _computed(a.array.dtype), cublas.CUBLAS_GEMM_DEFAULT,
            )  # fmt: skip

    def free(self) -> int:
        return runtime.memGetInfo()[0] + cupy.get_default_memory_pool().free_bytes()


_PLAIN, _TURNED = cublas.CUBLAS_OP_N, cublas.CUBLAS_OP_T


@functools.cache
def _kernel(name: str) -> Any:
    """A kernel, compiled for each device when it is first launched there."""
    file = code(FILES[name])
    return cupy.RawModule(code=file, options=OPTIONS, name_expressions=(name,)).get_function(name)


@contextmanager
def _whole_sums() -> Iterator[int]:
    """cuBLAS's handle, where parts of a sum are not rounded to half precision to be added."""
    handle = get_cublas_handle()
    before = cublas.getMathMode(handle)
    cublas.setMathMode(handle, DISALLOW_REDUCED_PRECISION_REDUCTION)
    try:
        yield handle
    finally:
        cublas.setMathMode(handle, before)  # the handle is the user's too


@functools.cache
def _type(dtype: Any) -> int:
    return CUDA_TYPES[str(dtype)]


def _computed(dtype: Any) -> int:
    """In which numbers a product of this dtype is summed."""
    if dtype == np.float64:
        return cublas.CUBLAS_COMPUTE_64F
    tf32 = dtype == np.float32 and current().precision == "tf32"
    return cublas.CUBLAS_COMPUTE_32F_FAST_TF32 if tf32 else cublas.CUBLAS_COMPUTE_32F


@functools.cache
def _numbers(dtype: np.dtype) -> np.ndarray:
    return np.asarray([0.0, 1.0], dtype)


def _factors(dtype: np.dtype, add: bool) -> tuple[int, int]:
    """Where the factors of the product and of what was there lie, on the host."""
    numbers = _numbers(dtype)
    zero, one = numbers.ctypes.data, numbers.ctypes.data + numbers.itemsize
    return one, one if add else zero
