"""CUDA kernels on the CPU: the same sources, compiled by g++, launched as on a device.

    runner = Runner()
    runner.launch(Launch("max_pool<int, float, 1, 0>", grid, block, 0, (x, y, geometry)))

Every launch is checked as no device checks it: each argument against the kernel's own parameter,
the sizes against CUDA's limits. A fault in a kernel (a barrier that not all threads reach, a signed
overflow, a misaligned pack) raises RuntimeError with the line, the block and the thread.

In a process of its own, started by `sanitized(...)`, whatever is read or written outside of an
array is found too, and ends that process: sanitized("-m", "pytest", "tests/test_pooling.py").

A test shows what it would catch by a fault that it plants:

    Runner(sources={"max_pool.cu": planted("max_pool.cu", "x > y", "x >= y")})
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from xpcnn.engines.cuda._launch import Launch
from xpcnn.engines.cuda._table import FILES, code

from ._build import build, compiler

__all__ = ["Launch", "Runner", "changed", "compiler", "planted", "sanitized", "under_sanitizer"]

SHARED_UNASKED = 48 * 1024
SHARED_MOST = 227 * 1024
LIMITS = {"grid": (2**31 - 1, 65535, 65535), "block": (1024, 1024, 64)}
THREADS = 1024


class Runner:
    """Launches kernels; `sources` are texts by file, in place of the project's own or beside them.

    A kernel that the project's table lacks is sought in the file of its name. `sanitize` unset:
    where the process has the address sanitizer. More than 48 KB of shared memory must be asked for
    by `shared_limit`; `options` are more of the compiler's.
    """

    def __init__(
        self,
        sanitize: bool | None = None,
        sources: Mapping[str, str] | None = None,
        *,
        shared_limit: int = SHARED_UNASKED,
        options: Sequence[str] = (),
    ) -> None:
        compiler()
        if sanitize and not under_sanitizer():
            raise RuntimeError("Runner(sanitize=True) runs in a process by sanitized(...)")
        self._sources = dict(sources or {})
        self._sanitize = under_sanitizer() if sanitize is None else sanitize
        self._options = tuple(options)
        self._shared_limit = min(shared_limit, SHARED_MOST)
        self._kernels: dict[str, _Kernel] = {}
        self._seeds = itertools.count()

    def launch(self, launch: Launch, blocks: range | None = None) -> None:
        """Run a launch, or of its blocks (counted x first) those in a range."""
        _check_size(launch, self._shared_limit)
        kernel = self._kernel(launch.name)
        kernel.check(launch.arguments)
        kernel.launch(launch, blocks, next(self._seeds))

    def signature(self, name: str) -> str:
        """A kernel's parameters as its compiler sees them."""
        return ", ".join(parameter.type for parameter in self._kernel(name).parameters)

    def _kernel(self, name: str) -> _Kernel:
        if name not in self._kernels:
            file = FILES.get(name, f"{name.partition('<')[0]}.cu")
            if file not in self._sources and name not in FILES:
                raise KeyError(f"{name}: neither the table nor sources={[*self._sources]} has it")
            text = self._sources.get(file) or code(file)
            alone = file in self._sources or self._sanitize
            names = (name,) if alone else _siblings(name)
            library = _library(file, text, names, self._sanitize, self._options)
            self._kernels[name] = _Kernel(name, library, names.index(name), text)
        return self._kernels[name]


def planted(file: str, old: str, new: str) -> str:
    """A kernel file's code with one fault in it."""
    return changed(code(file), old, new)


def changed(text: str, old: str, new: str) -> str:
    """A text with the one place where it says `old` saying `new`."""
    assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times"
    return text.replace(old, new)


def sanitized(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run python with these arguments under the address sanitizer.

    What it finds makes the return code other than 0 and is told in stderr.
    """
    compiler()
    libraries = [_path_of(name) for name in ("libasan.so", "libstdc++.so")]
    paths = (*map(str, Path(__file__).parents[1:3]), os.environ.get("PYTHONPATH", ""))
    settings = {
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python leaves memory behind as it ends
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    return subprocess.run(
        [sys.executable, *arguments], env=os.environ | settings, capture_output=True, text=True
    )


def under_sanitizer() -> bool:
    """Whether this process was started with the address sanitizer."""
    return hasattr(ctypes.CDLL(None), "__asan_init")


def _path_of(library: str) -> str:
    command = ["g++", f"-print-file-name={library}"]
    path = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    if not os.path.isabs(path):
        pytest.skip(f"no {library}: nothing is run under the address sanitizer")
    return os.path.realpath(path)


def _siblings(name: str) -> tuple[str, ...]:
    """The instantiations of a kernel's template: compiled together in a second or two."""
    start = name.partition("<")[0] + "<"
    return tuple(other for other in FILES if other.startswith(start))


class _Parameter(ctypes.Structure):
    _fields_ = (("type", ctypes.c_char_p), ("bytes", ctypes.c_uint))


class _Size(ctypes.Structure):
    _fields_ = (("numbers", ctypes.c_uint64 * 9),)


class _Fault(ctypes.Structure):
    _fields_ = (
        ("line", ctypes.c_int),
        ("block", ctypes.c_uint * 3),
        ("thread", ctypes.c_uint * 3),
        ("what", ctypes.c_char * 160),
    )


@functools.cache
def _library(
    file: str, source: str, names: tuple[str, ...], sanitize: bool, options: tuple[str, ...]
) -> ctypes.PyDLL:
    """Python's lock stays held in a launch: a library has one set of fibres."""
    library = ctypes.PyDLL(str(build(file, source, names, sanitize, *options)))
    library.launch.argtypes = (
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p,
    )  # fmt: skip
    return library


class Parameter(NamedTuple):
    """What a kernel takes: its type as the compiler writes it, and its bytes."""

    type: str
    bytes: int


class _Kernel:
    """A compiled kernel: its parameters, and how to launch it."""

    def __init__(self, name: str, library: ctypes.PyDLL, number: int, source: str) -> None:
        self.name, self.number, self.source = name, number, source
        self._launch = library.launch
        self.parameters = _parameters(library, number)

    def check(self, arguments: Sequence[Any]) -> None:
        """Raise TypeError unless every argument is what the kernel takes in its place."""
        if len(arguments) != len(self.parameters):
            raise TypeError(
                f"{self.name} takes {len(self.parameters)} arguments; given {len(arguments)}"
            )
        pairs = zip(self.parameters, arguments, strict=True)
        for place, (parameter, argument) in enumerate(pairs, 1):
            if not _takes(parameter, *_traits(argument)):
                raise TypeError(
                    f"{self.name}: argument {place} of {len(arguments)} is {_told(argument)}; "
                    f"the kernel takes {_told_parameter(parameter)}"
                )

    def launch(self, launch: Launch, blocks: range | None, seed: int) -> None:
        """Run it, and raise what went wrong within."""
        total = launch.grid[0] * launch.grid[1] * launch.grid[2]
        blocks = range(total) if blocks is None else blocks
        if not (blocks and blocks.step == 1 and blocks.start >= 0 and blocks.stop <= total):
            raise ValueError(f"{self.name}: no {blocks} among {total} blocks")
        numbers = (*launch.grid, *launch.block, launch.shared_bytes, blocks.start, len(blocks))
        size, fault = (ctypes.c_uint64 * 9)(*numbers), _Fault()
        values = [_value(argument) for argument in launch.arguments]
        addresses = (ctypes.c_void_p * len(values))(*map(_address, values))
        if self._launch(self.number, addresses, size, seed, ctypes.byref(fault)):
            raise RuntimeError(f"{self.name}: {self._told(fault)}")

    def _told(self, fault: _Fault) -> str:
        """With the thread and its line, as far as they are known."""
        told = f"{fault.what.decode()}, in block {(*fault.block,)}"
        if fault.line < 0:
            return told
        told += f", thread {(*fault.thread,)}"
        if fault.line == 0:
            return told
        return f"{told}, line {fault.line}: {self.source.splitlines()[fault.line - 1].strip()}"


def _parameters(library: ctypes.PyDLL, number: int) -> list[Parameter]:
    first = ctypes.POINTER(_Parameter)()
    length = library.parameters(number, ctypes.byref(first))
    return [
        Parameter(re.search(r"T = (.+)\]$", first[i].type.decode())[1], first[i].bytes)
        for i in range(length)
    ]


# ---------------------------------------------------------------- arguments


def _traits(argument: Any) -> tuple[str, np.dtype | type, bool]:
    """What decides where an argument fits: its form, its dtype, whether it is read-only."""
    if isinstance(argument, np.ndarray):
        if argument.dtype.names is not None and argument.size == 1:
            return "value", argument.dtype, False
        return "pointer", argument.dtype, not argument.flags.writeable
    if isinstance(argument, np.generic):
        return "value", argument.dtype, False
    return "other", type(argument), False


NUMBERS = {
    "float": np.dtype("f4"), "double": np.dtype("f8"), "half": np.dtype("f2"),
    "bool": np.dtype("?"), "char": np.dtype("i1"), "signed char": np.dtype("i1"),
    "short int": np.dtype("i2"), "int": np.dtype("i4"), "long int": np.dtype("i8"),
    "long long int": np.dtype("i8"),
}  # fmt: skip
WORDS = {
    "unsigned char": 1, "short unsigned int": 2, "unsigned int": 4, "long unsigned int": 8,
    "long long unsigned int": 8,
}  # fmt: skip


@functools.cache
def _takes(parameter: Parameter, form: str, dtype: np.dtype | type, read_only: bool) -> bool:
    pointer = re.fullmatch(r"(const )?(.+?)\s*\*(?: __restrict__)?", parameter.type)
    if form == "other" or (form == "pointer") != bool(pointer):
        return False
    if not pointer:
        return _takes_value(parameter, dtype)
    constant, element = pointer.groups()
    pack = re.fullmatch(r"\w+<(.+), \d+>", element)
    return (constant or not read_only) and _points_to(pack[1] if pack else element, dtype)


def _takes_value(parameter: Parameter, dtype: np.dtype) -> bool:
    """A structure by its size; a number by its kind."""
    if dtype.names is not None:
        return not _is_number(parameter) and dtype.itemsize == parameter.bytes
    if parameter.type in WORDS:
        return dtype == np.dtype(f"u{WORDS[parameter.type]}")
    return parameter.type in NUMBERS and dtype == NUMBERS[parameter.type]


def _points_to(element: str, dtype: np.dtype) -> bool:
    """Unsigned integers stand for whatever has their size; bfloat16 is not one of NumPy's."""
    if element in WORDS:
        return dtype.itemsize == WORDS[element]
    if element == "bfloat16":
        return dtype.name in ("bfloat16", "uint16")
    return element == "void" or (element in NUMBERS and dtype == NUMBERS[element])


def _is_number(parameter: Parameter) -> bool:
    return parameter.type in NUMBERS or parameter.type in WORDS


def _told(argument: Any) -> str:
    form, dtype, read_only = _traits(argument)
    if form == "other":
        hint = " (as a kernel's argument it has no size of its own)"
        return f"Python's {dtype.__name__}" + hint * isinstance(argument, int | float)
    if form == "value":
        bytes = f" of {dtype.itemsize} bytes" * (dtype.names is not None)
        return f"a {'structure' if bytes else dtype.name}{bytes}"
    return f"{'a read-only' if read_only else 'an'} array of {dtype.name}"


def _told_parameter(parameter: Parameter) -> str:
    plain = "*" in parameter.type or _is_number(parameter)
    return parameter.type if plain else f"{parameter.type} of {parameter.bytes} bytes"


def _value(argument: np.ndarray | np.generic) -> np.ndarray:
    """What the kernel's parameter is to hold, as an array: for an array, its address."""
    if _traits(argument)[0] == "value":
        return np.asarray(argument)
    return np.array(_address(argument), np.uintp)


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


# ---------------------------------------------------------------- sizes


def _check_size(launch: Launch, shared_limit: int) -> None:
    """Raise ValueError where CUDA would refuse a launch for its size."""
    for what, most in LIMITS.items():
        given = getattr(launch, what)
        if len(given) != 3 or not all(1 <= n <= m for n, m in zip(given, most, strict=True)):
            raise ValueError(f"{launch.name}: {what} {given} must be from (1, 1, 1) to {most}")
    x, y, z = launch.block
    if x * y * z > THREADS:
        raise ValueError(f"{launch.name}: block {launch.block} has more than {THREADS} threads")
    if not 0 <= launch.shared_bytes <= shared_limit:
        raise ValueError(
            f"{launch.name}: {launch.shared_bytes} bytes of shared memory, of {shared_limit} "
            f"asked for; there may be {SHARED_MOST}"
        )
