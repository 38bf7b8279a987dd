"""What CuPy is told: its runner, with a CuPy that has its memory on the host.

Kernels are launched by RawModule and products made by cuBLAS's own call here, both from addresses.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from importlib import import_module
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from cuda_device import on_host
from cuda_on_cpu import Launch, Runner

import xpcnn
from xpcnn.engines import cuda, generic
from xpcnn.engines.cuda._table import OPTIONS, code
from xpcnn.window import conv_window, pool_window

RUNNER = "xpcnn.engines.cuda._cupy"

KINDS = {0: np.float32, 1: np.float64, 2: np.float16}
"""cudaDataType_t."""

COMPUTE = {"32F": 68, "64F": 70, "32F_FAST_TF32": 77}
"""cublasComputeType_t."""


class CuPy:
    """The modules of a CuPy, and what they were asked for."""

    def __init__(self) -> None:
        self.kernels, self.computed, self.mode = Runner(), [], 0
        cublas = SimpleNamespace(
            CUBLAS_OP_N=0, CUBLAS_OP_T=1, CUBLAS_GEMM_DEFAULT=-1, gemmStridedBatchedEx=self.gemm,
            getMathMode=lambda handle: self.mode, setMathMode=self.set_mode,
            **{f"CUBLAS_COMPUTE_{name}": number for name, number in COMPUTE.items()},
        )  # fmt: skip
        runtime = SimpleNamespace(memGetInfo=lambda: (1000, 2000))
        memory = SimpleNamespace(OutOfMemoryError=MemoryError)
        handle = SimpleNamespace(get_cublas_handle=lambda: 7)
        self.modules = {
            "cupy": module(
                "cupy", empty=np.empty, RawModule=self.compile,
                cuda=SimpleNamespace(memory=memory),
                get_default_memory_pool=lambda: SimpleNamespace(free_bytes=lambda: 24),
            ),
            "cupy.cuda": module("cupy.cuda", cublas=cublas, runtime=runtime),
            "cupy.cuda.device": module("cupy.cuda.device", **vars(handle)),
        }  # fmt: skip

    def set_mode(self, handle: int, mode: int) -> None:
        assert handle == 7
        self.mode = mode

    def compile(self, *, code: str, options: tuple, name_expressions: tuple) -> SimpleNamespace:
        assert options == OPTIONS and code in SOURCES
        return SimpleNamespace(get_function=lambda name: Kernel(self, name, name_expressions))

    def gemm(
        self, handle, turn_a, turn_b, m, n, k, alpha, a, type_a, lda, step_a, b, type_b, ldb,
        step_b, beta, c, type_c, ldc, step_c, batch, compute, algo,
    ):  # fmt: skip
        """As cuBLAS documents it: c = alpha op(a) op(b) + beta c, column by column."""
        assert handle == 7 and algo == -1 and self.mode == 16
        self.computed.append(compute)
        scale = np.float64 if compute == COMPUTE["64F"] else np.float32
        alpha, beta = (scale(memory(x, scale, (1,), (0,))[0]) for x in (alpha, beta))
        a = columns(a, type_a, (k, m) if turn_a else (m, k), lda, step_a, batch)
        b = columns(b, type_b, (n, k) if turn_b else (k, n), ldb, step_b, batch)
        c = columns(c, type_c, (m, n), ldc, step_c, batch)
        a, b = (a.swapaxes(1, 2) if turn_a else a), (b.swapaxes(1, 2) if turn_b else b)
        product = alpha * (a.astype(scale) @ b.astype(scale))
        c[...] = product + beta * c if beta else product


class Kernel:
    """A RawKernel; a block has 48 KB of shared memory."""

    def __init__(self, cupy: CuPy, name: str, names: tuple[str, ...]) -> None:
        assert names == (name,)
        self.cupy, self.name = cupy, name

    def __call__(self, grid, block, arguments, *, shared_mem: int) -> None:
        assert shared_mem <= 48 * 1024
        self.cupy.kernels.launch(Launch(self.name, grid, block, shared_mem, arguments))


SOURCES = {code(file) for file in ("im2col.cu", "col2im.cu", "max_pool.cu")}


def module(name: str, **members: object) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(members)
    return made


def memory(address: int, dtype: type, shape: tuple[int, ...], steps: tuple[int, ...]) -> np.ndarray:
    """What lies at an address, by strides in elements."""
    size = np.dtype(dtype).itemsize
    count = 1 + sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
    flat = np.frombuffer((ctypes.c_char * (count * size)).from_address(address), dtype)
    return np.lib.stride_tricks.as_strided(flat, shape, [step * size for step in steps])


def columns(
    address: int, kind: int, shape: tuple[int, int], leading: int, step: int, batch: int
) -> np.ndarray:
    assert leading >= shape[0]
    return memory(address, KINDS[kind], (batch, *shape), (step, 1, leading))


@pytest.fixture
def cupy(monkeypatch) -> Iterator[CuPy]:
    """The engine's own runner of CuPy, on a CuPy of the host."""
    stub = CuPy()
    for name, made in stub.modules.items():
        monkeypatch.setitem(sys.modules, name, made)
    # a real CuPy's may have been imported, and is there again afterwards
    monkeypatch.setattr(cuda, "_cupy", None, raising=False)
    monkeypatch.delitem(sys.modules, "xpcnn.engines.cuda._cupy", raising=False)
    monkeypatch.setitem(sys.modules, "xpcnn.engines.cuda._cupy", import_module(RUNNER))
    runner = sys.modules[RUNNER].CuPy()
    runner.on = lambda x: nullcontext()
    with on_host(runner):
        yield stub


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("last", [False, True])
def test_convolutions(cupy, dtype, last):
    rng = np.random.default_rng(0)
    x, w = rng.integers(-3, 4, (3, 4, 6, 5)), rng.integers(-3, 4, (6, 4, 3, 3))
    x, w, b = x.astype(dtype), w.astype(dtype), np.arange(6, dtype=dtype)
    x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1) if last else x
    window = conv_window("conv", 2, x.shape, w.shape, b.shape, 1, 1, 1, 1)
    y = cuda.conv(x, w, window, b)
    np.testing.assert_array_equal(y, generic.conv(x, w, window, b))
    np.testing.assert_array_equal(cuda.conv_dx(y, w, window), generic.conv_dx(y, w, window))
    with xpcnn.use(workspace=600 * x.itemsize):  # in pieces, whose products are added
        dw = cuda.conv_dw(x, y, window)
    np.testing.assert_array_equal(dw, generic.conv_dw(x, y, window))
    assert cupy.mode == 0
    assert set(cupy.computed) == {COMPUTE["64F" if dtype == np.float64 else "32F"]}


def test_tf32_where_it_is_allowed(cupy):
    a = np.ones((2, 3), np.float32)
    for precision in ("float32", "tf32"):
        with xpcnn.use(precision=precision):
            cuda.matmul(a, a.T)
    assert cupy.computed == [COMPUTE["32F"], COMPUTE["32F_FAST_TF32"]]


def test_kernels(cupy):
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 6))
    window = pool_window("pool", 2, x.shape, 2, 2, 0, 1)
    np.testing.assert_array_equal(cuda.max_pool(x, window)[0], generic.max_pool(x, window)[0])


def test_bytes_that_are_free(cupy):
    assert sys.modules[RUNNER].CuPy().free() == 1024
