"""The CUDA sources without a GPU: NVRTC compiles every kernel, with CuPy's options, and tells what
it takes of the device."""

from __future__ import annotations

import re
from collections.abc import Iterator

import nvrtc
import pytest
from kernel_table import ARCHITECTURES, KERNELS_OF, compiled, known, measured, written

from xpcnn.engines.cuda._table import KERNELS, PACK, Kernel, code

SLACK = 16
"""Registers by which a limit may exceed the need: a looser one would limit nothing."""

RENEW = 'nox -s "kernels(cuda12)" -- --table'
"""What writes the committed table anew."""

ACCESS = re.compile(r"\b(?:ld|st)\.global[\w.]*?(?:\.v(\d))?\.[bfsu](\d+)\b")
FLUSHED = re.compile(r"(?:setp\.(?!nan|num)\w+|min|max)\.[\w.]*ftz\.f32")  # NaN is no subnormal


@pytest.fixture
def version() -> str:
    """NVRTC's; a test that has it can compile."""
    try:
        return nvrtc.version()
    except ImportError as error:
        pytest.skip(str(error))


def faults(kernel: Kernel, source: str, made: nvrtc.Compiled) -> Iterator[str]:
    """What is wrong with the machine code and the PTX of a kernel's instantiations."""
    found = re.search(rf"template <(.+)>\s+__global__ void {kernel.name}\(([^)]+)\)", source)
    template = [parameter.split()[-1] for parameter in found[1].split(", ")]
    pointers = re.findall(r"(\w+)(?:<[\w, ]+>)?\*", found[2])
    for name, instance in zip(kernel.names, kernel.instances, strict=True):
        usage, ptx = made.usage[name], made.ptx[name]
        if usage.stack or usage.spilled or usage.registers > kernel.registers:
            yield f"{name} takes {usage} with a limit of {kernel.registers} registers"
        sizes = {int(count or 1) * int(bits) // 8 for count, bits in ACCESS.findall(ptx)}
        least = min(sizes) if set(pointers) == {"Pack"} else max(sizes)
        if dict(zip(template, instance, strict=True)).get("LANES", "1") != "1" and least < PACK:
            yield f"{name} reads or writes {sizes} bytes at once"
        if kernel.name.startswith(("max_pool", "clip")) and (flushed := FLUSHED.findall(ptx)):
            yield f"{name} compares by {set(flushed)}, which take subnormals for 0"


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("file", KERNELS_OF)
def test_every_kernel_compiles_and_is_without_fault(file, arch, version):
    made = compiled(file, arch)
    found = [fault for kernel in KERNELS_OF[file] for fault in faults(kernel, code(file), made)]
    assert not found
    of_version, rows = written()
    if version == of_version:
        for kernel in KERNELS_OF[file]:
            assert rows[kernel.name].items() >= measured(kernel, arch).items(), RENEW


def test_the_table_is_of_these_kernels():
    _, rows = written()
    assert list(rows) == [kernel.name for kernel in KERNELS], RENEW
    for kernel in KERNELS:
        assert rows[kernel.name].items() >= known(kernel).items(), RENEW


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_a_limit_is_near_the_need(kernel):
    _, rows = written()
    need = max(int(rows[kernel.name][arch]) for arch in ARCHITECTURES)
    assert need <= kernel.registers <= need + SLACK


SPILLING = """
template <typename T>
__global__ void reverse(const T* x, T* y) {
    T held[40];
    for (int i = 0; i < 40; ++i) held[i] = x[i * 256 + threadIdx.x];
    __syncthreads();
    for (int i = 0; i < 40; ++i) y[i * 256 + threadIdx.x] = held[39 - i];
}
"""
UNPACKED = """
template <typename T, int LANES> struct Pack { T lanes[LANES]; };
template <typename T, int LANES>
__global__ void copy(const Pack<T, LANES>* x, Pack<T, LANES>* y) { *y = *x; }
"""
FLUSHING = """
template <typename T>
__global__ void max_pool(const T* x, T* y) { if (*x > *y) *y = *x; }
"""
SHARED = "__global__ void swap(int* x) { __shared__ int y[64]; y[*x] = 1; *x = y[threadIdx.x]; }"


@pytest.mark.parametrize(
    ("source", "kernel", "fault"),
    [
        (SPILLING, Kernel("reverse", "", (("double",),), 64), "spilled=[1-9]"),
        (SPILLING, Kernel("reverse", "", (("float",),), 32), "limit of 32 registers"),
        (UNPACKED, Kernel("copy", "", (("float", "4"),), 64), "[{]4[}] bytes at once"),
        (FLUSHING, Kernel("max_pool", "", (("float",),), 64), "setp.leu.ftz.f32"),
    ],
    ids=["spills", "registers", "packs", "subnormals"],
)
def test_a_planted_fault_is_found(source, kernel, fault, version):
    made = nvrtc.compile(source, kernel.names, "sm_80", ["--maxrregcount=64"])
    [found] = faults(kernel, source, made)
    assert re.search(fault, found)


def test_shared_memory_is_seen(version):
    assert nvrtc.compile(SHARED, ["swap"], "sm_80", []).usage["swap"].shared == 256


@pytest.mark.parametrize(
    ("source", "log"),
    [
        ("__global__ void f(int* x) { *x = y; }", '"y" is undefined'),
        ("__global__ void f(int* x) { int y; *x = 0; }", "never referenced"),
        ("__global__ void f(int* x) { *x = 1 << 40; }", "shift count is too large"),
    ],
    ids=["error", "warning", "another warning"],
)
def test_errors_and_warnings_show_the_log(source, log, version):
    with pytest.raises(nvrtc.CompileError, match=log):
        nvrtc.compile(source, ["f"], "sm_80", [])
