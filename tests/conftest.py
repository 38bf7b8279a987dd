"""What every test shares: the array libraries (`xp`), the engines, and how hard Hypothesis looks.

    XPCNN_TEST_BACKENDS=torch,jax pytest     # which libraries `xp` runs over; unset: numpy,strict
    HYPOTHESIS_PROFILE=thorough pytest       # 20 times the examples

JAX runs with 64-bit types on, since the oracles are float64; what must hold with them off runs in
a process of its own (test_jax.py).
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from types import ModuleType
from typing import Any

os.environ.setdefault("JAX_ENABLE_X64", "1")  # read by JAX when it is imported, so before that

import numpy as np
import pytest
from cuda_device import Device, on_host
from hypothesis import HealthCheck, settings

_SLOW_IS_FINE = [HealthCheck.too_slow, HealthCheck.filter_too_much]
_COMMON: dict[str, Any] = {"deadline": None, "suppress_health_check": _SLOW_IS_FINE}
settings.register_profile("dev", max_examples=25, **_COMMON)
settings.register_profile("ci", max_examples=25, derandomize=True, database=None, **_COMMON)
settings.register_profile("thorough", max_examples=500, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "dev"))


@dataclass(frozen=True)
class Backend:
    """One array library, spoken to without xpcnn, so that the tests do not lean on what they test.

    `spec` is the library's name to `xpcnn.device`.
    """

    name: str
    spec: str
    namespace: Any
    asarray: Callable[[np.ndarray], Any]
    to_numpy: Callable[[Any], np.ndarray]


def _numpy() -> Backend:
    return Backend("numpy", "cpu", np, np.asarray, np.asarray)


def _strict() -> Backend:
    strict = _import("array_api_strict")
    strict.set_array_api_strict_flags(
        api_version="2023.12",
        boolean_indexing=False,
        data_dependent_shapes=False,
        enabled_extensions=(),
    )
    return Backend("strict", "strict", strict, strict.asarray, np.asarray)


def _torch() -> Backend:
    torch = _import("torch")
    torch.set_num_threads(1)  # the arrays are tiny: threads only wait for each other

    def asarray(a: np.ndarray) -> Any:
        return torch.from_numpy(np.array(a, order="C"))  # torch takes no negative strides

    return Backend("torch", "torch", torch, asarray, lambda x: x.detach().cpu().numpy())


def _jax() -> Backend:
    jax = _import("jax")
    return Backend("jax", "jax", jax.numpy, jax.numpy.asarray, np.asarray)


def _cupy() -> Backend:
    cupy = _import("cupy")
    try:
        cupy.cuda.runtime.getDevice()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        pytest.skip(f"cupy: {error}")
    return Backend("cupy", "cuda", cupy, cupy.asarray, cupy.asnumpy)


def _import(name: str) -> ModuleType:
    """Import a module, or skip the test with the reason why it does not come."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other people's import-time deprecations
        try:
            return importlib.import_module(name)
        except ImportError as error:
            pytest.skip(f"{name}: {error}")


_BACKENDS = {"numpy": _numpy, "strict": _strict, "torch": _torch, "jax": _jax, "cupy": _cupy}
_CHOSEN = os.environ.get("XPCNN_TEST_BACKENDS", "numpy,strict").replace(" ", "").split(",")
if unknown := set(_CHOSEN) - set(_BACKENDS):
    raise pytest.UsageError(
        f"XPCNN_TEST_BACKENDS: no such library: {sorted(unknown)}; there are {list(_BACKENDS)}"
    )


@functools.cache
def _backend(name: str) -> Backend:
    return _BACKENDS[name]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without NumPy, only what speaks of a library is left: the rest would be the same again."""
    if "numpy" in _CHOSEN:
        return
    of_libraries = {"xp", "torch", "jax"}
    left_out = [i for i in items if of_libraries.isdisjoint(getattr(i, "fixturenames", ()))]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="module", autouse=True)
def _forget_compiled_programs() -> Iterator[None]:
    """JAX keeps a program for every operation and shape: gigabytes over a session."""
    yield
    if jax := sys.modules.get("jax"):
        jax.clear_caches()


def pytest_report_header() -> str:
    return f"xpcnn: array libraries {', '.join(_CHOSEN)} (XPCNN_TEST_BACKENDS chooses)"


@pytest.fixture(params=_CHOSEN, scope="session")
def xp(request: pytest.FixtureRequest) -> Backend:
    """Each chosen array library in turn."""
    return _backend(request.param)


@pytest.fixture(params=["generic", "numpy", "numba", "cuda"], scope="session")
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine that takes NumPy arrays, for `with xpcnn.use(engine):`."""
    if request.param == "numba":
        _import("numba")
    if request.param == "cuda":
        _host_device()  # or why there is none
    return request.param


@functools.cache
def _host_device() -> Device:
    return Device()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """The cuda engine takes NumPy's arrays in its own tests, and in no other."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    with on_host(_host_device()) if parameters.get("engine") == "cuda" else nullcontext():
        return (yield)


@pytest.fixture(scope="session")
def torch() -> ModuleType:
    """PyTorch as an oracle, whatever the chosen libraries."""
    return _backend("torch").namespace


@pytest.fixture(scope="session")
def jax() -> ModuleType:
    """JAX itself, for its transformations; only where it is a chosen library, since it compiles."""
    if "jax" not in _CHOSEN:
        pytest.skip("jax is not among XPCNN_TEST_BACKENDS")
    _backend("jax")
    return importlib.import_module("jax")
