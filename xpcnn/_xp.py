"""Namespace, library and device of an array: the only place that knows array_api_compat.

NumPy's own namespace is complete since 2.1, so NumPy arrays never import array_api_compat, which
costs more than everything else `import xpcnn` does.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import math
import os
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Array = Any
"""An array of any supported library."""

LIBRARIES = ("numpy", "cupy", "torch", "jax", "strict")


def library(x: Array) -> str:
    """Name of the library that `x` belongs to: one of `LIBRARIES`.

    Raises TypeError for anything else (a list, a scalar, another library's array).

    >>> library(np.zeros(3))
    'numpy'
    """
    kind = type(x)
    if kind not in _known:
        _known[kind] = _find_library(x)
    return _known[kind]


_known: dict[type, str] = {}  # asking the libraries takes as long as a small operation


def _find_library(x: Array) -> str:
    if isinstance(x, np.ndarray | np.generic):
        return "numpy"
    if hasattr(x, "__array_namespace__") and type(x).__module__.startswith("array_api_strict"):
        return "strict"
    compat = importlib.import_module("array_api_compat")
    for name in ("torch", "jax", "cupy"):
        if getattr(compat, f"is_{name}_array")(x):
            return name
    raise TypeError(
        f"{type(x).__name__} is no array; pass one of NumPy, CuPy, PyTorch, JAX or array-api-strict"
    )


def namespace(x: Array) -> Any:
    """The Array API namespace of `x`: `numpy` itself for NumPy arrays.

    >>> namespace(np.zeros(3)).__name__
    'numpy'
    """
    return _namespace_of(library(x))


@functools.cache
def _namespace_of(library: str) -> Any:
    if library == "numpy":
        return np
    if library == "strict":
        return importlib.import_module("array_api_strict")
    if library == "jax":
        return importlib.import_module("jax.numpy")
    return importlib.import_module(f"array_api_compat.{library}")


def device_of(x: Array) -> Any:
    """The library's own device object of `x`, for `device=`; None for a JAX tracer, which has none.

    >>> device_of(np.zeros(3))
    'cpu'
    """
    kind = library(x)
    if kind == "numpy":
        return "cpu"
    if kind == "jax":
        return None if isinstance(x, _jax_tracer()) else x.device
    return x.device


@functools.cache
def _jax_tracer() -> type:
    return importlib.import_module("jax").core.Tracer


def index_dtype(xp: Any) -> Any:
    """The integer dtype in which `xp` counts places: int64, or int32 on JAX without x64."""
    return xp.__array_namespace_info__().default_dtypes()["indexing"]


def to_numpy(x: Array) -> np.ndarray:
    """An array of any library and device on the host; one that is there already shares its memory.

    >>> to_numpy(np.arange(3))
    array([0, 1, 2])
    """
    kind = library(x)
    if kind == "torch":
        return x.detach().cpu().numpy()
    if kind == "cupy":
        return x.get()
    if kind == "strict":
        return np.asarray(x._array)
    return np.asarray(x)


class Memory(NamedTuple):
    """Bytes of a device's memory."""

    free: int
    total: int


@dataclass(frozen=True)
class Device:
    """Where arrays live: a library and, within it, one of its devices.

    >>> device("cpu").asarray([1.5, 2.0], "float32")
    array([1.5, 2. ], dtype=float32)
    """

    name: str
    library: str
    handle: Any

    @property
    def xp(self) -> Any:
        """The Array API namespace of this device's arrays."""
        return _namespace_of(self.library)

    def asarray(self, a: Any, dtype: str | None = None) -> Array:
        """Move `a` (an array of any library, or nested sequences) to this device.

        `dtype` is a name such as "float32"; None keeps what `a` has. The values are copied, save
        that NumPy's device takes what lies on the host as it is.

        Raises TypeError or ValueError where that makes no array of numbers, or where JAX would
        halve the `dtype` asked for.
        """
        host = _on_host(a, dtype)
        if self.library == "numpy":
            return host
        if self.library == "cupy":
            with self.handle:
                return self.xp.asarray(host)
        # copied first, for these may share its memory, and PyTorch refuses negative strides
        moved = self.xp.asarray(host.copy(), device=self.handle)
        if self.library == "jax" and dtype is not None and moved.dtype != host.dtype:
            raise TypeError(
                f"asarray: JAX makes {host.dtype} {moved.dtype}; set jax_enable_x64 or ask for "
                f"{moved.dtype}"
            )
        return moved

    def to_numpy(self, x: Array) -> np.ndarray:
        """An array on the host; one that is there already shares its memory."""
        return to_numpy(x)

    def synchronize(self) -> None:
        """Wait until all work queued on this device is done."""
        if self.library == "cupy":
            self.handle.synchronize()
        elif self.library == "torch" and self.handle.type == "cuda":
            importlib.import_module("torch").cuda.synchronize(self.handle)
        elif self.library == "jax":
            # JAX runs a device's work in order, so a fresh result is the last one
            self.asarray(np.zeros(1, np.float32)).block_until_ready()

    def memory(self) -> Memory | None:
        """Free and total bytes of the device's memory; None where the system does not tell."""
        if self.library == "cupy":
            with self.handle:
                return Memory(*importlib.import_module("cupy").cuda.runtime.memGetInfo())
        if self.library == "torch" and self.handle.type == "cuda":
            return Memory(*importlib.import_module("torch").cuda.mem_get_info(self.handle))
        try:
            page = os.sysconf("SC_PAGE_SIZE")
            return Memory(page * os.sysconf("SC_AVPHYS_PAGES"), page * os.sysconf("SC_PHYS_PAGES"))
        except (AttributeError, OSError, ValueError):
            return None


def _on_host(a: Any, dtype: str | None) -> np.ndarray:
    try:
        host = to_numpy(a) if hasattr(a, "shape") else np.asarray(a)
        host = host if dtype is None else host.astype(dtype, copy=False)
    except (TypeError, ValueError) as error:  # NumPy's own words on ragged lists and dtypes
        raise type(error)(
            f"asarray: {error}; give numbers in rows of one length, and a dtype such as 'float32'"
        ) from error
    if host.dtype.kind in "OSU":
        raise TypeError(f"asarray: this {type(a).__name__} does not hold numbers; give numbers")
    return host


def device(spec: str | Device = "auto") -> Device:
    """Find a device by name.

    "cpu" is NumPy, "cuda" and "cuda:1" CuPy, "torch", "torch:cuda:0" PyTorch, "jax", "jax:gpu:0"
    JAX, "strict" array-api-strict. "auto" takes the environment variable XPCNN_DEVICE if set, else
    "cuda" where CuPy finds a GPU, else "cpu".

    Raises TypeError for what is no name, ValueError for a name that is none of these, RuntimeError
    for a device that this machine does not have, saying why. Nothing falls back silently.

    >>> device("cpu").name
    'cpu'
    """
    if isinstance(spec, Device):
        return spec
    call = f"device({spec!r})"
    if not isinstance(spec, str):
        raise TypeError(f"{call}: give a name, such as 'cpu' or 'cuda:1', or a Device")
    if spec == "auto":
        spec = os.environ.get("XPCNN_DEVICE") or ("cuda" if _why_no_cuda() is None else "cpu")
        call = f"device('auto'), found to be {spec!r}"
    kind, _, rest = spec.partition(":")
    if kind not in _FINDERS:
        raise ValueError(
            f"{call}: no such device; choose auto, cpu, cuda, cuda:1, torch, torch:cuda:0, jax or "
            "strict"
        )
    try:
        return _FINDERS[kind](rest)
    except ImportError as error:
        raise RuntimeError(f"{call}: {error}; {_INSTALL[kind]}") from error
    except ValueError as error:
        raise ValueError(f"{call}: {error}") from error
    except (RuntimeError, AssertionError) as error:  # PyTorch's and JAX's, some lines long
        raise RuntimeError(f"{call}: {str(error).splitlines()[0]}") from error


def _cpu(rest: str) -> Device:
    if rest:
        raise ValueError(f"the host has no device {rest!r}; use 'cpu'")
    return Device("cpu", "numpy", "cpu")


def _strict(rest: str) -> Device:
    strict = importlib.import_module("array_api_strict")
    if rest:
        raise ValueError(f"array-api-strict has no device {rest!r} here; use 'strict'")
    return Device("strict", "strict", strict.Device("CPU_DEVICE"))


def _cuda(rest: str) -> Device:
    reason = _why_no_cuda()
    if reason:
        raise RuntimeError(reason)
    cupy = importlib.import_module("cupy")
    index = _index(rest, cupy.cuda.runtime.getDeviceCount())
    return Device(f"cuda:{index}", "cupy", cupy.cuda.Device(index))


def _index(text: str, count: int) -> int:
    """The number of a device, of which there are `count`; the first where none is given."""
    if not (text or "0").isdecimal() or int(text or "0") >= count:
        raise ValueError(f"there is no number {text!r}; give one from 0 to {count - 1}")
    return int(text or "0")


def _why_no_cuda() -> str | None:
    if importlib.util.find_spec("cupy") is None:
        return f"CuPy is not installed; {_INSTALL['cuda']}"
    try:
        runtime = importlib.import_module("cupy").cuda.runtime
    except Exception as error:  # for another Python or NumPy, say: it raises what it likes
        return f"CuPy cannot be imported ({error}); install one anew"
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        driver, needed = runtime.driverGetVersion() // 1000, runtime.runtimeGetVersion() // 1000
        if not driver:
            return (
                "no NVIDIA driver is installed; install one, and restart: nvidia-smi then shows it"
            )
        if driver < needed:
            return (
                f"the NVIDIA driver serves CUDA {driver}, and this CuPy needs {needed}; update the "
                f"driver or install cupy-cuda{driver}x instead"
            )
        if "cudaErrorNoDevice" not in str(error):
            return f"the NVIDIA driver does not answer ({error}); see what nvidia-smi says"
        count = 0
    return None if count else "CuPy sees no GPU; check nvidia-smi and CUDA_VISIBLE_DEVICES"


def _torch(rest: str) -> Device:
    torch = importlib.import_module("torch")
    handle = torch.device(rest or "cpu")
    torch.empty(0, device=handle)  # fails where this machine lacks it
    return Device(f"torch:{handle}", "torch", handle)


def _jax(rest: str) -> Device:
    jax = importlib.import_module("jax")
    platform, _, index = rest.partition(":")
    handles = jax.devices(platform or None)
    handle = handles[_index(index, len(handles))]
    return Device(f"jax:{handle.platform}:{handle.id}", "jax", handle)


_FINDERS = {"cpu": _cpu, "cuda": _cuda, "torch": _torch, "jax": _jax, "strict": _strict}
_INSTALL = {
    "cuda": "install the GPU extra: pip install 'xpcnn[cuda12]' or 'xpcnn[cuda13]'",
    "torch": "install PyTorch: pip install torch",
    "jax": "install JAX: pip install jax",
    "strict": "install it: pip install array-api-strict",
}


class Found(NamedTuple):
    """One line of `devices()`: `device` is None where `detail` says why there is none."""

    name: str
    device: Device | None
    detail: str


def devices() -> list[Found]:
    """What this machine has, and why not the rest.

    >>> devices()[0].name
    'cpu'
    """
    found = []
    for name in _FINDERS:
        try:
            one = device(name)
            memory = one.memory()
            size = f", {memory.total / 2**30:.1f} GiB of memory" if memory else ""
            found.append(Found(name, one, f"{one.library} arrays on {one.name}{size}"))
        except (RuntimeError, ValueError) as error:
            found.append(Found(name, None, str(error).partition(": ")[2]))
    return found


def require_same(call: str, arrays: dict[str, Array]) -> None:
    """Raise TypeError unless all arrays are of one library and, where told, on one device.

    >>> require_same("conv2d", {"x": np.zeros(1), "w": np.zeros(1)})
    """
    if all(type(x) is np.ndarray for x in arrays.values()):
        return  # by far the most frequent, and the cheapest to see
    first = None
    for name, x in arrays.items():
        here = name, place_of(call, name, x)
        first = first or here
        if here[1] != first[1]:
            require_same_place(call, first, here)


def require_same_place(
    call: str, first: tuple[str, tuple[str, Any]], other: tuple[str, tuple[str, Any]]
) -> None:
    """The same for two names with their places, where the arrays themselves are not at hand."""
    (name, here), (other_name, there) = first, other
    if there[0] != here[0] or (there[1] != here[1] and None not in (there[1], here[1])):
        raise TypeError(
            f"{call}: {name} is a {here[0]} array on {here[1]} and {other_name} a {there[0]} array "
            f"on {there[1]}; move one explicitly, for example by xpcnn.device(...).asarray"
        )


def place_of(call: str, name: str, x: Array) -> tuple[str, Any]:
    """(library, device) of x. Raises TypeError, naming it, where it is no array."""
    try:
        return library(x), device_of(x)
    except TypeError as error:
        raise TypeError(f"{call}: {name}: {error}") from None


def product(numbers: Any) -> int:
    """Product of integers as a Python int."""
    return math.prod(int(n) for n in numbers)
