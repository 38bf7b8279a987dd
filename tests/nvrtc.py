"""NVIDIA's run-time compiler, NVRTC, from its PyPI wheel through ctypes: no GPU and no driver."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from typing import Any, NamedTuple

WHEELS = ("nvidia-cuda-nvrtc-cu12", "nvidia-cuda-nvrtc")
"""CUDA 12's and 13's, which keep the library in folders of different names."""


class Usage(NamedTuple):
    """What ptxas gave a kernel: registers of a thread, and bytes."""

    registers: int
    shared: int
    stack: int
    spilled: int


class Compiled(NamedTuple):
    """Each kernel's usage, and its PTX, by the name that C++ gives it."""

    usage: dict[str, Usage]
    ptx: dict[str, str]


class CompileError(Exception):
    """NVRTC refuses a source or warns of it; the message is its log."""


@cache
def library() -> ctypes.CDLL:
    """NVRTC. Raises ImportError where no wheel with it is installed."""
    for wheel in WHEELS:
        try:
            files = metadata.files(wheel) or ()
        except metadata.PackageNotFoundError:
            continue
        for file in files:
            if re.fullmatch(r"libnvrtc\.so\.\d+|nvrtc64_\d+_\d+\.dll", file.name):
                return ctypes.CDLL(str(file.locate()))
    raise ImportError(f"no NVRTC: neither {' nor '.join(WHEELS)} is installed")


def version() -> str:
    """Of CUDA, as "12.9"."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return f"{major.value}.{minor.value}"


def compile(source: str, names: Sequence[str], arch: str, options: Sequence[str]) -> Compiled:
    """Instantiate the named kernels for an architecture, as "sm_90", with CuPy's options.

    Raises CompileError where NVRTC finds anything to say against the source.
    """
    # in CuPy's order; its include paths are left out, since the sources include nothing of CUDA's
    options = (*options, "-ftz=true", f"-arch={arch}", "--device-as-default-execution-space")
    with _program(source) as program:
        for name in names:
            _call("AddNameExpression", program, name.encode())
        every = [option.encode() for option in (*options, "--ptxas-options=-v")]
        failed = library().nvrtcCompileProgram(
            program, len(every), (ctypes.c_char_p * len(every))(*every)
        )
        log = _text(program, "ProgramLog")
        if failed or "warning" in log:
            raise CompileError(log)
        lowered = {_lowered(program, name): name for name in names}
        usage = {lowered[entry]: usage for entry, usage in _usages(log)}
        ptx = {lowered[entry]: text for entry, text in _entries(_text(program, "PTX"))}
    return Compiled(usage, ptx)


def _usages(log: str) -> Iterator[tuple[str, Usage]]:
    """Each kernel's paragraph in ptxas' report."""
    for paragraph in log.split("Compiling entry function ")[1:]:

        def number(unit: str, text: str = paragraph) -> int:
            found = re.search(rf"(\d+) {unit}", text)
            return int(found[1]) if found else 0

        spilled = number("bytes spill stores") + number("bytes spill loads")
        usage = Usage(number("registers"), number("bytes smem"), number("bytes stack"), spilled)
        yield paragraph.split("'")[1], usage


def _entries(ptx: str) -> Iterator[tuple[str, str]]:
    for text in ptx.split(".entry ")[1:]:
        yield text[: text.index("(")], text


@contextmanager
def _program(source: str) -> Iterator[ctypes.c_void_p]:
    program = ctypes.c_void_p()
    _call("CreateProgram", ctypes.byref(program), source.encode(), b"", 0, None, None)
    try:
        yield program
    finally:
        _call("DestroyProgram", ctypes.byref(program))


def _call(name: str, *arguments: Any) -> None:
    if failed := getattr(library(), f"nvrtc{name}")(*arguments):
        library().nvrtcGetErrorString.restype = ctypes.c_char_p
        raise RuntimeError(f"nvrtc{name}: {library().nvrtcGetErrorString(failed).decode()}")


def _text(program: ctypes.c_void_p, what: str) -> str:
    size = ctypes.c_size_t()
    _call(f"Get{what}Size", program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    _call(f"Get{what}", program, text)
    return text.value.decode()


def _lowered(program: ctypes.c_void_p, name: str) -> str:
    lowered = ctypes.c_char_p()
    _call("GetLoweredName", program, name.encode(), ctypes.byref(lowered))
    return lowered.value.decode()


if __name__ == "__main__":
    print("NVRTC", version())
