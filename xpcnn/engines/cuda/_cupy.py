"""CuPy as the runner: kernels through its RawModule, products through cuBLAS.

Everything goes to the current stream of the current device. Kernels are compiled when they are
first launched, each by itself, and CuPy keeps them on disk.
"""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from typing import Any

import cupy
import numpy as np
from cupy.cuda import cublas, runtime
from cupy.cuda.device import get_cublas_handle

from ..._xp import Array
from ...window import Ints
from ..settings import current
from ._arrays import address
from ._launch import Launch
from ._product import Product
from ._table import FILES, OPTIONS, code

STATIC = 48 * 2**10
"""Bytes of shared memory that a block has without asking."""

KINDS = {"float16": 2, "float32": 0, "float64": 1, "bfloat16": 14}
"""cudaDataType_t of dtypes."""


class CuPy:
    """The runner of CuPy's arrays."""

    out_of_memory = cupy.cuda.memory.OutOfMemoryError

    def on(self, x: Array) -> AbstractContextManager:
        return x.device

    def empty(self, shape: Ints, dtype: Any) -> Array:
        return cupy.empty(shape, dtype)

    def launch(self, launch: Launch) -> None:
        kernel = _kernel(launch.name)
        if launch.shared_bytes > STATIC:
            kernel.max_dynamic_shared_size_bytes = launch.shared_bytes
        kernel(launch.grid, launch.block, launch.arguments, shared_mem=launch.shared_bytes)

    def multiply(self, product: Product) -> None:
        a, b, c = product.a, product.b, product.c
        first, second = (_TURNED if turned else _PLAIN for turned in product.turned)
        kind, (one, old) = _computed(str(a.array.dtype)), _factors(str(a.array.dtype), product.add)
        cublas.gemmStridedBatchedEx(
            get_cublas_handle(), first, second, product.m, product.n, product.k, one,
            address(a.array), KINDS[str(a.array.dtype)], a.leading, a.strides[0],
            address(b.array), KINDS[str(b.array.dtype)], b.leading, b.strides[0], old,
            address(c.array), KINDS[str(c.array.dtype)], c.leading, c.strides[0],
            c.shape[0], kind, cublas.CUBLAS_GEMM_DEFAULT,
        )  # fmt: skip

    def free(self) -> int:
        return runtime.memGetInfo()[0] + cupy.get_default_memory_pool().free_bytes()


_PLAIN, _TURNED = cublas.CUBLAS_OP_N, cublas.CUBLAS_OP_T


@functools.cache
def _kernel(name: str) -> Any:
    """A kernel, compiled for each device when it is first launched there."""
    file = code(FILES[name])
    return cupy.RawModule(code=file, options=OPTIONS, name_expressions=(name,)).get_function(name)


def _computed(dtype: str) -> int:
    """In which numbers a product of this dtype is summed."""
    if dtype == "float64":
        return cublas.CUBLAS_COMPUTE_64F
    tf32 = dtype == "float32" and current().precision == "tf32"
    return cublas.CUBLAS_COMPUTE_32F_FAST_TF32 if tf32 else cublas.CUBLAS_COMPUTE_32F


_NUMBERS = {kind: np.asarray([0.0, 1.0], kind) for kind in ("float32", "float64")}


def _factors(dtype: str, add: bool) -> tuple[int, int]:
    """Where the factors of the product and of what was there lie, on the host."""
    numbers = _NUMBERS["float64" if dtype == "float64" else "float32"]
    zero, one = numbers.ctypes.data, numbers.ctypes.data + numbers.itemsize
    return one, one if add else zero
