"""Time layers and training steps of well-known networks against PyTorch with cuDNN, on one GPU.

    python benchmarks/gpu.py --json gpu.json
    python benchmarks/gpu.py --quick --only "3x3" --precisions float32

Both compute in one process, on one stream and the same numbers. Results are compared with PyTorch's
in float32 before they are timed: the exit status is 1 if any differs, or could not be had. What
does not fit into --minutes is left out and listed. README.md tells how it measures.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import time
from collections.abc import Collection, Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from _clock import Effort
from _gpu_device import Cuda, Host
from _gpu_measure import Player, floors, measured, players
from _gpu_report import (
    HEAD,
    cells,
    print_floors,
    print_head,
    print_line,
    print_markdown,
    print_rest,
    print_summary,
    summary,
)
from _gpu_rows import (
    DTYPES,
    MULTIPLIES,
    ROWS,
    TASKS,
    TOLERANCES,
    DeviceDraw,
    Floors,
    copies,
    kind,
    tasks,
    work,
)
from _rows import LAYOUTS, Row
from _training import Training

FULL, QUICK = Effort(9, 0.03), Effort(5, 0.01)
ROOT = Path(__file__).parents[1]

Run = dict[str, Any]
"""What is written as JSON."""


class Job(NamedTuple):
    """A row, and how it is computed."""

    row: Row
    batch: int
    precision: str
    layout: str

    def named(self) -> dict[str, Any]:
        """As it is written as JSON."""
        return self._asdict() | {"row": self.row.name}


def main(arguments: list[str] | None = None) -> bool:
    """Run what the time allows; whether anything was wrong."""
    options = _options(arguments)
    try:
        device = {"cuda": Cuda, "cpu": Host}[options.device]()
    except RuntimeError as error:  # no GPU, or no CuPy
        raise SystemExit(f"gpu.py: {error}") from None
    run: Run = {"results": [], "failed": [], "not_run": []}
    try:
        with device.scope():
            work_through(options, device, run)
    finally:  # somebody may interrupt it: what was measured by then is kept
        write(options.json, run)
    print_summary(run["results"])
    print_rest(run)
    if options.table:
        head, *means = summary(run["results"])
        print_markdown(head, means)
        print_markdown(HEAD, map(cells, run["results"]))
    return bool(run["failed"]) or any(result["wrong"] for result in run["results"])


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--quick", action="store_true", help="a few rows, measured briefly")
    add("--only", default="", help="rows whose name holds this regular expression")
    add("--batch", nargs="+", type=int, default=[64], help="images at a time, by default 64")
    add("--tasks", nargs="+", choices=TASKS, default=TASKS, help="what to time")
    add("--precisions", nargs="+", choices=DTYPES, default=list(DTYPES), help="of both")
    add("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS), help="of both, in memory")
    add("--minutes", type=float, default=8.0, help="when to begin no further row, by default 8")
    add("--device", choices=("cuda", "cpu"), default="cuda", help="cpu only rehearses, on NumPy")
    add("--json", type=Path, help="where to write all results")
    add("--table", action="store_true", help="print means and results in Markdown, too")
    return parser.parse_args(arguments)


def work_through(options: argparse.Namespace, device: Any, run: Run) -> None:
    """Fill in `run`, printing each result at once, until the time is over."""
    end = time.monotonic() + 60 * options.minutes
    effort = QUICK if options.quick else FULL
    run["device"] = device.describe() | {"source": source()}
    limits = floors(device, options.precisions, effort)
    run["floors"] = limits._asdict()
    teams = {precision: players(device, precision) for precision in options.precisions}
    print(run["device"]["name"])
    print_floors(limits.bandwidth, limits.rates)
    print_head()
    for job in jobs(options):
        if time.monotonic() > end:
            run["not_run"].append(job.named())
            continue
        try:
            for result in results(job, options.tasks, teams[job.precision], limits, effort):
                run["results"].append(result)
                print_line(result)
        except Exception as error:  # a row that breaks off leaves the others to be measured
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            run["failed"].append(job.named() | {"why": why})
            print(f"{job.row.name:<40} FAILED: {why}", flush=True)
        write(options.json, run)  # an error on the device may end all
        device.free()


def write(path: Path | None, run: Run) -> None:
    """Write what there is so far, whole or not at all."""
    if path:
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(run, indent=1))
        temporary.replace(path)


def jobs(options: argparse.Namespace) -> Iterator[Job]:
    """What is asked for: training steps first, then the rows of a quick run."""
    chosen = [row for row in ROWS if re.search(options.only, row.name)]
    for row in sorted(chosen, key=lambda row: (not isinstance(row, Training), not row.quick)):
        if options.quick and not row.quick:
            continue
        batches = [row.network.batch] if isinstance(row, Training) else options.batch
        for batch, precision, layout in product(batches, options.precisions, options.layouts):
            if precision != "tf32" or kind(row) in MULTIPLIES:
                yield Job(row, batch, precision, layout)


def results(
    job: Job, asked: Collection[str], team: dict[str, Player], limits: Floors, effort: Effort
) -> Iterator[dict[str, Any]]:
    """Those of a job, task by task."""
    row, batch, precision, layout = job
    device = team["ours"].device
    mine = [task for task in tasks(row) if task in asked]
    count = copies(row, work(row, batch, "forward", precision), device.cache)
    draws = [DeviceDraw(device, layout, precision, seed) for seed in range(count)]
    exact = DeviceDraw(device, layout, precision, exact=True)
    if kind(row) not in MULTIPLIES:
        team = {name: player for name, player in team.items() if name != "tuned"}
    all_copies = zip(*(row.cases(batch, mine, draw) for draw in draws), strict=True)
    for cases, right in zip(all_copies, row.cases(batch, mine, exact), strict=True):
        if (task := right.task) not in mine:
            continue
        tolerance = right.tolerance if right.compared else TOLERANCES[precision]
        found = measured(team, cases, right, tolerance, effort)
        theirs = min(found[who]["median"] for who in ("theirs", "tuned") if who in found)
        least = work(row, batch, task, precision).seconds(limits, precision)
        yield {
            **job.named(),
            "class": kind(row),
            "task": task,
            **found,
            "ratio": found["ours"]["median"] / theirs,
            "floor": least,
            "floor_ratio": found["ours"]["median"] / least,
        }


def source() -> str:
    """A digest of xpcnn's code, to tell which it was that ran; there may be no repository here."""
    digest = hashlib.sha256()
    for folder in ("xpcnn", "kernels"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".cu", ".cuh", ".h"):
                digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


if __name__ == "__main__":
    raise SystemExit(main())
