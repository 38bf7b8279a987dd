"""Lines for the eye, and means over classes of rows, of what was measured on a GPU."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import groupby
from typing import Any

from _report import geometric_mean

HEAD = (
    "layer", "batch", "task", "precision", "layout", "ours ms", "host ms", "theirs ms", "tuned ms",
    "ratio", "floor",
)  # fmt: skip
LINE = "{:<40} {:>5} {:<9} {:<9} {:<13} {:>9} {:>8} {:>9} {:>8} {:>6} {:>6}"

Result = dict[str, Any]


def cells(result: Result) -> tuple[str, ...]:
    """A result as a line of the table whose columns are `HEAD`."""
    names = (str(result[name]) for name in ("row", "batch", "task", "precision", "layout"))
    ours = (f"{1e3 * result['ours'][of]:.3f}" for of in ("median", "host"))
    theirs = (
        f"{1e3 * result[who]['median']:.3f}" if who in result else "" for who in ("theirs", "tuned")
    )
    return (*names, *ours, *theirs, *(f"{result[name]:.2f}" for name in ("ratio", "floor_ratio")))


def print_head() -> None:
    """Print the names of the columns."""
    print(LINE.format(*HEAD))


def print_line(result: Result) -> None:
    """Print a result at once, with what is wrong with it."""
    wrong = f"WRONG by {result['difference']:.1e}" if result["wrong"] else ""
    print(LINE.format(*cells(result)), wrong, flush=True)


def print_floors(bandwidth: float, rates: dict[str, float]) -> None:
    """Print what the device does at most."""
    products = ", ".join(f"{rate / 1e12:.3g} in {name}" for name, rate in rates.items())
    print(f"copies {bandwidth / 1e9:.4g} GB/s, read and written; multiplies TFLOP/s: {products}\n")


def print_rest(run: dict[str, Any]) -> None:
    """Print what was not measured, or not as a graph, and why."""
    for why in sorted({result["why"] for result in run["results"]} - {""}):
        print(f"\ntimed between events, not as graphs, where there was {why}")
    for job in run["failed"]:
        print(f"\nFAILED: {_row(job)}: {_way(job)}: {job['why']}")
    if left := run["not_run"]:
        print(f"\nnot run, for the time was over: {len(left)}")
        for row, ways in groupby(left, _row):
            print(f"  {row}: {', '.join(map(_way, ways))}")


def _row(job: Result) -> str:
    return f"{job['row']}, {job['batch']} images"


def _way(job: Result) -> str:
    return f"{job['precision']} {job['layout']}"


def summary(results: Iterable[Result]) -> list[tuple[str, ...]]:
    """Geometric means by class and task, one column for each precision and layout; a head first.

    Our time in PyTorch's faster one and, in brackets, in the floor's; wrong results are left out.
    """
    groups: dict[str, dict[str, list[Result]]] = defaultdict(lambda: defaultdict(list))
    columns: dict[str, None] = {}
    for result in results:
        column = _way(result)
        columns[column] = None
        if not result["wrong"]:
            groups[f"{result['class']}: {result['task']}"][column].append(result)
    lines = [
        (name, *(_means(group[column]) for column in columns)) for name, group in groups.items()
    ]
    return [("", *columns), *sorted(lines)]


def _means(results: list[Result]) -> str:
    if not results:
        return ""
    ratio, floor = (geometric_mean([one[of] for one in results]) for of in ("ratio", "floor_ratio"))
    return f"{ratio:.2f} ({floor:.2f})"


def print_summary(results: list[Result]) -> None:
    """Print the means, and how many rows are slower than PyTorch's."""
    print("\ngeometric means: our time in PyTorch's, and (in the least there can be)")
    head, *lines = summary(results)
    widths = [26, *(max(15, len(column)) for column in head[1:])]
    for line in (head, *lines):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))
    slower = sum(result["ratio"] > 1 for result in results)
    print(f"\nslower than PyTorch: {slower} of {len(results)}")


def print_markdown(head: Iterable[str], lines: Iterable[Iterable[str]]) -> None:
    """Print a table for a page of Markdown."""
    head = list(head)
    print(f"\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for line in lines:
        print(f"| {' | '.join(line)} |")
