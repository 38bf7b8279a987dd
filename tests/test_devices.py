"""What the machine has no GPU for: each reason told with what to do, and never a silent CPU run."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType, SimpleNamespace

import pytest

import xpcnn
from xpcnn import _xp


class CUDARuntimeError(RuntimeError):
    pass


def cupy(count: int | str, driver: int = 13010, needed: int = 12090) -> ModuleType:
    """A CuPy on a machine with so many GPUs, or this error."""

    def devices() -> int:
        if isinstance(count, str):
            raise CUDARuntimeError(count)
        return count

    runtime = SimpleNamespace(
        getDeviceCount=devices, driverGetVersion=lambda: driver,
        runtimeGetVersion=lambda: needed, CUDARuntimeError=CUDARuntimeError,
    )  # fmt: skip
    module = ModuleType("cupy")
    module.cuda = SimpleNamespace(runtime=runtime)
    return module


OLD = "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version"
REASONS = {
    "no driver": (cupy(OLD, driver=0), "no NVIDIA driver is installed; install one"),
    "old driver": (
        cupy(OLD, driver=12040, needed=13000),
        "the NVIDIA driver serves CUDA 12, and this CuPy needs 13; update the driver or install "
        "cupy-cuda12x instead",
    ),
    "no device": (
        cupy("cudaErrorNoDevice: no CUDA-capable device is detected"),
        "CuPy sees no GPU; check nvidia-smi and CUDA_VISIBLE_DEVICES",
    ),
    "hidden": (cupy(0), "CuPy sees no GPU; check nvidia-smi and CUDA_VISIBLE_DEVICES"),
    "broken": (
        cupy("cudaErrorUnknown: unknown error"),
        "the NVIDIA driver does not answer (cudaErrorUnknown: unknown error); see what",
    ),
}


@pytest.mark.parametrize("module, reason", REASONS.values(), ids=REASONS.keys())
def test_why_there_is_no_gpu(monkeypatch, module, reason):
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setattr(_xp.importlib.util, "find_spec", lambda name: name == "cupy" or None)
    with pytest.raises(RuntimeError, match=r"^device\('cuda'\): ") as error:
        xpcnn.device("cuda")
    assert reason in str(error.value)
    [found] = [found for found in xpcnn.devices() if found.name == "cuda"]
    assert found.device is None and reason in found.detail
    assert xpcnn.device("auto").name == "cpu"


def test_a_missing_cupy(monkeypatch):
    monkeypatch.setattr(_xp.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match="CuPy is not installed; install the GPU extra"):
        xpcnn.device("cuda")


def test_a_cupy_that_cannot_be_imported(monkeypatch):
    def fails(name: str) -> ModuleType:
        raise ImportError("numpy 1 is needed") if name == "cupy" else AssertionError(name)

    monkeypatch.setattr(_xp.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(importlib, "import_module", fails)
    with pytest.raises(RuntimeError, match=r"CuPy cannot be imported \(numpy 1 is needed\)"):
        xpcnn.device("cuda")
