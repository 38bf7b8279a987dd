"""Time layers of well-known networks, and whole training steps, against PyTorch on the CPU.

    python benchmarks/cpu.py --threads 1 all --json times.json
    python benchmarks/cpu.py --quick --only "3x3"

Both compute in turn in one process, so that a ratio stands where times on a busy machine do not;
each number of threads has a process of its own. Our images have channels last in memory, as they
have within our networks; PyTorch's are contiguous, its default (`--their-layout`). What we compute
is compared with what PyTorch computes before it is timed: the exit status is 1 if any differs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import _studies
import numpy as np
import torch
from _clock import Effort, difference, measure
from _conv import CONVS
from _elsewhere import LIBRARIES
from _layers import LAYERS
from _memory import peak_memory
from _report import Others, machine, print_head, print_line, print_markdown, print_summary
from _rows import LAYOUTS, Case, Draw, Row
from _training import TRAININGS, Training

import xpcnn

ROWS: list[Row] = [*CONVS, *LAYERS, *TRAININGS]
TASKS = ("forward", "inference", "gradients", "training")
BATCHES, QUICK_BATCHES = (1, 8, 64), (8,)
FULL, QUICK = Effort(7, 0.5), Effort(5, 0.2)

KEPT_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
"""Has glibc keep what is freed, and `WARM` bytes are used once before anything is measured.

Else chance decides whose results lie in fresh memory, which may cost a virtual machine, where NumPy
asks for huge pages, many times what is computed.
"""
WARM = 2**31

STUDIES = {
    "errors": "the errors of convolutions against float64, instead of times",
    "scaling": "times from 1 to 512 images and from 16 to 512 pixels, instead of the table",
    "profile": "where our training steps spend their time, instead of the table",
    "limits": "how fast this machine multiplies and copies at most, instead of the table",
}
"""What a run may do beside the table, by the option that asks for it."""


def main() -> bool:
    """Run each number of threads in a process of its own; whether any result was wrong."""
    options = _options()
    if options.into:
        work(options)
        return False
    counts = [os.cpu_count() or 1 if n == "all" else int(n) for n in options.threads]
    results = [result for n in dict.fromkeys(counts) for result in _in_own_process(n)]
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "results": results}, indent=1))
    if options.table and not options.study:
        print_markdown(results)
    if options.plot and options.study == "scaling":
        _studies.plot(results, options.plot)
    return any(result.get("wrong") for result in results)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--threads", nargs="+", default=["all"], help="how many: numbers, or all")
    add("--quick", action="store_true", help="a few rows at batch 8, measured briefly")
    add("--only", default="", help="rows whose name holds this regular expression")
    add("--batch", nargs="+", type=int, help="images at a time, by default 1 8 64")
    add("--tasks", nargs="+", choices=(*TASKS, "dx", "dw"), default=TASKS, help="what to time")
    add("--engine", default="", help="the engine to force; by default xpcnn chooses")
    add("--their-layout", choices=LAYOUTS, default="contiguous", help="PyTorch's memory format")
    add("--also", nargs="+", choices=LIBRARIES, default=(), help="convolve by these too")
    add("--json", type=Path, help="where to write all results")
    add("--table", action="store_true", help="print all results in Markdown, too")
    for name, text in STUDIES.items():
        add(f"--{name}", dest="study", action="store_const", const=name, help=text)
    add("--plot", type=Path, help="where to draw the picture of --scaling")
    add("--into", type=Path, help=argparse.SUPPRESS)  # where a process of our own leaves results
    return parser.parse_args()


def _in_own_process(threads: int) -> list[dict[str, Any]]:
    """Run this script anew with so many threads for everybody, who read it when they start."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    environment = os.environ | dict.fromkeys((*names, "NPROC"), str(threads))  # NPROC is JAX's
    environment |= KEPT_MEMORY
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder) / "results.json"
        more = ["--threads", str(threads), "--into", str(into)]
        call = [sys.executable, __file__, *sys.argv[1:], *more]
        if subprocess.run(call, env=environment).returncode:
            raise SystemExit(f"the run with --threads {threads} broke off")
        return json.loads(into.read_text())


def work(options: argparse.Namespace) -> None:
    """Do all that was asked for with the threads of this process."""
    [threads] = map(int, options.threads)
    torch.set_num_threads(threads)
    np.empty(WARM, np.uint8).fill(1)
    with torch.no_grad(), xpcnn.use(options.engine) if options.engine else nullcontext():
        if options.study:
            found = getattr(_studies, options.study)(chosen(options))
        else:
            found = table(options)
    common = {"threads": threads, "engine": options.engine, "their_layout": options.their_layout}
    options.into.write_text(json.dumps([result | common for result in found]))


def table(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure all rows asked for, printing each at once."""
    print_head()
    results = []
    for result in measured(options):
        results.append(result | {"threads": torch.get_num_threads()})
        print_line(results[-1])
    print_summary(results)
    return results


def measured(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Results row by row."""
    effort = QUICK if options.quick else FULL
    for row in chosen(options):
        for batch in row.batches(options.batch or (QUICK_BATCHES if options.quick else BATCHES)):
            for case in row.cases(batch, options.tasks, Draw(options.their_layout)):
                if case.task not in options.tasks:
                    continue
                result = {
                    "row": row.name,
                    "families": row.families,
                    "batch": batch,
                    "task": case.task,
                    **_measured(case, options.also, effort),
                }
                if isinstance(row, Training):
                    result["memory"] = {
                        "ours": peak_memory("ours", row.network.name, options.engine),
                        "theirs": peak_memory("theirs", row.network.name, options.their_layout),
                    }
                yield result


def _measured(case: Case, also: list[str], effort: Effort) -> dict[str, Any]:
    """A case, first compared and then timed."""
    ours, theirs = case.compared or (case.ours, case.theirs)
    off = difference(ours(), theirs())
    more = {library: case.elsewhere(library) for library in also if case.elsewhere}
    computers = {"ours": case.ours, "theirs": case.theirs, **more}
    others = Others()
    times = measure(list(computers.values()), effort)
    named = {who: taken._asdict() for who, taken in zip(computers, times, strict=True)}
    checked = {"difference": off, "wrong": off > case.tolerance}
    return named | checked | {"others_share": others.share()}


def chosen(options: argparse.Namespace) -> list[Row]:
    """The rows asked for."""
    quick = (row for row in ROWS if row.quick or not options.quick)
    return [row for row in quick if re.search(options.only, row.name)]


if __name__ == "__main__":
    raise SystemExit(main())
