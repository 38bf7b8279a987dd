"""Lines for the eye, means over families, and what machine it was."""

from __future__ import annotations

import datetime
import importlib.metadata
import math
import os
import platform
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _elsewhere import LIBRARIES

HEAD = ("layer", "batch", "threads", "task", "ours ms", "theirs ms", "medians", "minima")
LINE = "{:<40} {:>5} {:>7} {:<9} {:>10} {:>10} {:>8} {:>8}"
PACKAGES = ("xpcnn", "numpy", "numba", "torch", "jax", "onnxruntime")

SPARE = 0.1
"""The share of all cores that other processes may take without spoiling a result."""

Result = dict[str, Any]


def ratio(result: Result, of: str = "median") -> float:
    """Our time in theirs; below 1 we are faster."""
    return result["ours"][of] / result["theirs"][of]


def spoiled(result: Result) -> bool:
    """Whether other processes left too few cores for the threads."""
    cores, share = os.cpu_count() or 1, result["others_share"] or 0.0
    return (share - SPARE) * cores > cores - result["threads"]


def cells(result: Result) -> tuple[str, ...]:
    """A result as a line of the table whose columns are `HEAD`."""
    milliseconds = (f"{1e3 * result[who]['median']:.3f}" for who in ("ours", "theirs"))
    ratios = (f"{ratio(result, of):.2f}" for of in ("median", "least"))
    names = (str(result[name]) for name in ("row", "batch", "threads", "task"))
    return (*names, *milliseconds, *ratios)


def print_head() -> None:
    """Print the names of the columns."""
    print(LINE.format(*HEAD))


def print_line(result: Result) -> None:
    """Print a result at once, with what does not stand in a column."""
    print(LINE.format(*cells(result)), *_notes(result), flush=True)


def _notes(result: Result) -> Iterator[str]:
    if result["wrong"]:
        yield f"WRONG by {result['difference']:.1e}"
    for library in sorted(result.keys() & LIBRARIES):
        yield f"{library} {1e3 * result[library]['median']:.3f} ms"
    memory = result.get("memory", {})
    if all(memory.values()) and memory:
        ours, theirs = (f"{memory[who]['step'] / 1e6:.0f}" for who in ("ours", "theirs"))
        yield f"memory {ours} and {theirs} MB"
    if spoiled(result):
        yield f"(spoiled: other processes took {result['others_share']:.0%} of the machine)"


def print_markdown(results: list[Result]) -> None:
    """Print all results as a table for a page of Markdown."""
    print(f"\n| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    for result in results:
        print(f"| {' | '.join(cells(result))} |")


def print_summary(results: list[Result]) -> None:
    """Print geometric means of the ratios by family and task, and the rows where we are slower."""
    groups = defaultdict(list)
    kept = [result for result in results if not spoiled(result)]
    for result in kept:
        for family in result["families"]:
            groups[f"{family}: {result['task']}"].append(result)
    print("\ngeometric means of the ratios of medians, and of minima")
    for name, group in sorted(groups.items()):
        means = [geometric_mean([ratio(one, of) for one in group]) for of in ("median", "least")]
        print(f"  {name:<56} {means[0]:5.2f} {means[1]:5.2f}  ({len(group)} rows)")
    if len(kept) < len(results):
        print(f"left out as spoiled by other processes: {len(results) - len(kept)} rows")
    slower = sorted((one for one in kept if ratio(one) > 1), key=ratio, reverse=True)
    print(f"\nslower than PyTorch: {len(slower)} of {len(kept)}")
    for result in slower:
        print_line(result)


def geometric_mean(values: list[float]) -> float:
    """The mean of ratios."""
    return math.exp(sum(map(math.log, values)) / len(values))


def machine() -> dict[str, Any]:
    """What the times depend on beside the code."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": dict(filter(None, map(_version, PACKAGES))),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    told = Path("/proc/cpuinfo")
    if told.exists():
        for line in told.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


class Others:
    """What other processes take of the machine from now on: times are to be doubted if it is much.

    Source: proc(5), /proc/stat.
    """

    def __init__(self) -> None:
        self.start = self._now()

    def share(self) -> float | None:
        """Of all cores, since the start; None where the system does not tell."""
        if self.start is None:
            return None
        total, busy, ours = (now - then for now, then in zip(self._now(), self.start, strict=True))
        return max(0.0, (busy - ours) / total)

    def _now(self) -> tuple[float, float, float] | None:
        """Seconds of all cores, of them the busy ones, and of those ours."""
        if not (told := Path("/proc/stat")).exists():
            return None
        ticks = [int(word) for word in told.read_text().split("\n")[0].split()[1:9]]
        seconds = [tick / os.sysconf("SC_CLK_TCK") for tick in ticks]
        idle = seconds[3] + seconds[4]
        return sum(seconds), sum(seconds) - idle, sum(os.times()[:4])


def _version(package: str) -> tuple[str, str] | None:
    try:
        return package, importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
