"""From a CUDA C++ source to a shared library of the CPU, by g++, once for each content."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

HEADERS = Path(__file__).parent
LEAST = 12 if platform.machine() == "x86_64" else 13
"""The first g++ whose C++ has _Float16."""

UNDEFINED = "signed-integer-overflow,integer-divide-by-zero,shift,alignment,bounds"
OPTIONS = (
    "-std=c++17",
    "-O1",
    "-w",  # CUDA's pragmas; what is wrong with a source is NVRTC's to say
    "-fPIC",
    "-fvisibility=hidden",
    "-fno-exceptions",
    "-ffp-contract=off",
    f"-fsanitize={UNDEFINED}",
    "-fno-sanitize-recover=all",
)
ADDRESS = ("-fsanitize=address", "-fno-omit-frame-pointer", "-g1")


@functools.cache
def compiler() -> str:
    """The version of g++, or the reason why the test is skipped."""
    if shutil.which("g++") is None:
        pytest.skip("no g++: CUDA kernels are not run on the CPU")
    version = _run(["g++", "-dumpfullversion"]).strip()
    if sys.platform != "linux" or int(version.partition(".")[0]) < LEAST:
        pytest.skip(f"g++ {version}, {sys.platform}: CUDA kernels need g++ {LEAST} on Linux")
    return version


def build(file: str, source: str, names: Sequence[str], sanitize: bool, *more: str) -> Path:
    """The shared library of some kernels of a source, made unless it is there."""
    unit = _unit(file, source, names)
    options = (*OPTIONS, *(ADDRESS * sanitize), *more)
    parts = (compiler(), *options, (HEADERS / "cuda.hpp").read_text(), unit)
    library = _folder() / f"{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:24]}.so"
    with _locked(library.with_suffix(".lock")):
        if not library.exists():
            _compile(unit, options, ADDRESS * sanitize, library)
    return library


def _unit(file: str, source: str, names: Sequence[str]) -> str:
    entries = ",\n".join(f"entry<{name}>" for name in names)
    return (
        f'#include "cuda.hpp"\n#line 1 "{file}"\n{_with_dynamic_memory(source)}\n'
        f'#line 1 "entries"\nconst cuda_on_cpu::Entry cuda_on_cpu::entries[] = {{\n{entries}\n}};\n'
    )


def _with_dynamic_memory(source: str) -> str:
    """Declarations of dynamic shared memory as pointers to it, which is aligned to 16 bytes."""
    words = r"extern\s+__shared__\s+(?:(?:__align__|alignas)\(\d+\)\s+)?"
    declaration = words + r"([^;=()]+?)\s*(\w+)\s*\[\s*\];"
    return re.sub(declaration, r"\1* const \2 = (\1*)cuda_on_cpu::dynamic;", source)


def _compile(unit: str, options: Sequence[str], linked: Sequence[str], library: Path) -> None:
    """Written elsewhere and renamed, so that a library is there whole or not at all."""
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        code, compiled, linked_to = (Path(folder, f"unit.{end}") for end in ("cpp", "o", "so"))
        code.write_text(unit)
        _run(["g++", *options, f"-I{HEADERS}", "-c", str(code), "-o", str(compiled)])
        # Without -fsanitize=undefined, whose library answers by abort(); cuda.hpp has its own.
        _run(["g++", "-shared", "-Wl,-z,defs", *linked, str(compiled), "-o", str(linked_to)])
        linked_to.rename(library)


def _run(command: Sequence[str]) -> str:
    """What a command prints. It does without the sanitizer, where this process has it."""
    env = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stderr[:4000]}")
    return done.stdout


def _folder() -> Path:
    """Where libraries are kept from run to run, ours alone: what lies there is executed."""
    folder = Path(tempfile.gettempdir(), f"xpcnn-cuda-on-cpu-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o022:
        raise RuntimeError(f"{folder}: others may write there; remove it")
    return folder


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time; the others wait instead of doing the same work."""
    import fcntl  # which Windows lacks: there, tests are to skip

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
