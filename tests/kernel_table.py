"""The table of docs/kernels.md: what each kernel takes of a device, as the compiler tells it.

    python tests/kernel_table.py     # compiles every kernel and writes the table anew

It belongs to one version of NVRTC, which stands above it.
"""

from __future__ import annotations

import re
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import product
from pathlib import Path

import nvrtc

from xpcnn.engines.cuda._table import KERNELS, OPTIONS, Kernel, code

ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
"""Turing, Ampere and its consumer's sort, Ada, Hopper, Blackwell and its consumer's sort."""

KERNELS_OF = {
    file: [kernel for kernel in KERNELS if kernel.file == file]
    for file in dict.fromkeys(kernel.file for kernel in KERNELS)
}
"""What each source holds."""

PAGE = Path(__file__).parents[1] / "docs" / "kernels.md"
TABLE = re.compile(r"(?<=<!-- NVRTC )(?P<version>\S+) -->\n\n(?P<rows>.*?)\n<!-- end -->", re.S)
"""Between two marks, the first of which tells the version."""


@cache
def compiled(file: str, arch: str) -> nvrtc.Compiled:
    """All instantiations of a source, in one program."""
    names = [name for kernel in KERNELS_OF[file] for name in kernel.names]
    return nvrtc.compile(code(file), names, arch, OPTIONS)


def measured(kernel: Kernel, arch: str) -> dict[str, str]:
    """At worst: registers of a thread, and bytes of static shared memory of a block."""
    usages = [compiled(kernel.file, arch).usage[name] for name in kernel.names]
    return {
        "shared": str(max(usage.shared for usage in usages)),
        arch: str(max(usage.registers for usage in usages)),
    }


def known(kernel: Kernel) -> dict[str, str]:
    """The cells that need no compiler."""
    return {
        "kernel": f"`{kernel.name}`",
        "instances": str(len(kernel.instances)),
        "limit": str(kernel.registers),
    }


def written() -> tuple[str, dict[str, dict[str, str]]]:
    """The committed table: NVRTC's version and, by the kernel's name, the cells of each column."""
    found = TABLE.search(PAGE.read_text(encoding="utf-8"))
    head, _, *rows = (
        [text.strip() for text in line.split("|")[1:-1]] for line in found["rows"].splitlines()
    )
    return found["version"], {row[0].strip("`"): dict(zip(head, row, strict=True)) for row in rows}


def write() -> None:
    """Compile everything, and put what came of it in the committed table's place."""
    rows = {kernel.name: known(kernel) for kernel in KERNELS}
    with ProcessPoolExecutor() as pool:  # NVRTC compiles one program at a time in a process
        sources = zip(*product(KERNELS_OF, ARCHITECTURES), strict=True)
        for cells in pool.map(_measured, *sources):
            for name, more in cells.items():
                rows[name] |= more
    head = ("kernel", "instances", "limit", "shared", *ARCHITECTURES)
    lines = [head, ("---", *("--:" for _ in head[1:]))]
    lines += [tuple(row[column] for column in head) for row in rows.values()]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    page = PAGE.read_text(encoding="utf-8")
    table = f"{nvrtc.version()} -->\n\n{table}\n<!-- end -->"
    PAGE.write_text(TABLE.sub(table, page, count=1), encoding="utf-8")


def _measured(file: str, arch: str) -> dict[str, dict[str, str]]:
    return {kernel.name: measured(kernel, arch) for kernel in KERNELS_OF[file]}


if __name__ == "__main__":
    write()
