"""What else there is to know: errors, growth with size, where the time goes, what bounds it."""

from __future__ import annotations

import cProfile
import pstats
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _clock import Effort, difference, measure
from _conv import Conv
from _networks import OurLearner
from _rows import Draw, Row
from _training import Training, twin

import xpcnn
from xpcnn import layers, random

TASKS = ("forward", "dx", "dw")

SMALL = {
    "conv 3x3 64->64": (64, layers.Conv2d(64, 3, padding=1)),
    "small network": (
        3,
        layers.Sequential(
            layers.Conv2d(32, 3, padding=1), layers.ReLU(), layers.MaxPool2d(2),
            layers.Conv2d(64, 3, padding=1), layers.ReLU(), layers.GlobalAvgPool(),
            layers.Linear(10),
        ),
    ),
}  # fmt: skip
"""What is run at many sizes, with its channels."""

SIZES = {
    "images": [(2**n, 32) for n in range(10)],
    "pixels": [(1, 2**n) for n in range(4, 10)],
}
"""(batch, rows and columns), by what grows."""

STEPS = 5
"""Training steps in a profile."""

Result = dict[str, Any]


def errors(rows: Iterable[Row]) -> list[Result]:
    """The largest errors of convolutions of one image; without Winograd too ("direct")."""
    results = []
    who = ("ours", "direct", "theirs")
    print("largest difference from float64, as a share of the largest entry")
    print(f"{'layer':<40} {'task':<8} {who[0]:>8} {who[1]:>8} {who[2]:>8}")
    for row in rows:
        if not isinstance(row, Conv):
            continue
        exact = row.cases(1, TASKS, Draw(dtype=torch.float64))
        for case, truth in zip(row.cases(1, TASKS, Draw()), exact, strict=True):
            right = truth.theirs()
            with xpcnn.use(winograd=False):
                direct = difference(case.ours(), right)
            off = difference(case.ours(), right), direct, difference(case.theirs(), right)
            print(f"{row.name:<40} {case.task:<8} {off[0]:8.1e} {off[1]:8.1e} {off[2]:8.1e}")
            named = dict(zip(who, off, strict=True))
            results.append({"row": row.name, "task": case.task, "errors": named})
    for name in who:
        print(f"largest of {name}: {max(one['errors'][name] for one in results):.1e}")
    worse = sum(one["errors"]["direct"] > one["errors"]["theirs"] for one in results)
    print(f"direct is worse than theirs in {worse} of {len(results)}")
    return results


def scaling(rows: Iterable[Row]) -> list[Result]:
    """Forward times as images or their area grow; linear where the last columns stay the same."""
    results = []
    print(f"{'':<16} {'images':>6} {'pixels':>8} {'ours ms':>10} {'theirs ms':>10}  ns per pixel")
    for name, (channels, model) in SMALL.items():
        params, _ = model.init(random.key(0), (channels, 32, 32))
        for along, sizes in SIZES.items():
            for batch, side in sizes:
                x, their_x = Draw().images(batch, channels, side, side)
                network = twin(model, params, their_x)
                both = partial(model, params, x), partial(network, their_x)
                ours, theirs = measure(both, Effort(5, 0.2))
                pixels = batch * side**2
                each = [f"{1e9 * taken.median / pixels:8.1f}" for taken in (ours, theirs)]
                print(
                    f"{name:<16} {batch:>6} {side**2:>8} {1e3 * ours.median:>10.3f}"
                    f" {1e3 * theirs.median:>10.3f} {each[0]} {each[1]}",
                    flush=True,
                )
                size = {"images": batch, "pixels": side**2}
                times = {"ours": ours._asdict(), "theirs": theirs._asdict()}
                results.append({"model": name, "along": along, **size, **times})
    return results


def plot(results: list[Result], path: Path) -> None:
    """Draw what `scaling` found; a straight line of slope 1 is growth in proportion."""
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(SIZES), figsize=(11, 4.5), layout="constrained")
    for panel, along in zip(panels, SIZES, strict=True):
        for number, name in enumerate(SMALL):
            for who, style in (("ours", "o-"), ("theirs", "x--")):
                for threads in sorted({one["threads"] for one in results}):
                    kept = [
                        (one[along], 1e3 * one[who]["median"])
                        for one in results
                        if (one["along"], one["model"], one["threads"]) == (along, name, threads)
                    ]
                    label = f"{name}, {'xpcnn' if who == 'ours' else 'PyTorch'}, threads: {threads}"
                    panel.loglog(*zip(*kept, strict=True), style, color=f"C{number}", label=label)
        panel.set(xlabel=along, ylabel="milliseconds", aspect="equal")
        panel.grid(alpha=0.3)
    panels[0].legend(fontsize="small")
    figure.savefig(path)


def profile(rows: Iterable[Row]) -> list[Result]:
    """The ten functions whose own code takes most of each training step."""
    results = []
    for row in rows:
        if not isinstance(row, Training):
            continue
        learner = OurLearner(row.network)
        learner.step()
        profiler = cProfile.Profile()
        for _ in range(STEPS):
            profiler.runcall(learner.step)
        stats = pstats.Stats(profiler)
        total = stats.total_tt
        print(f"\n{row.name}: {1e3 * total / STEPS:.1f} ms a step, its own code:")
        entries = sorted(stats.stats.items(), key=lambda entry: -entry[1][2])[:10]
        for (path, line, function), (_, calls, own, *_) in entries:
            where = f"{Path(path).parent.name}/{Path(path).name}:{line} " if line else ""
            share = own / total
            print(f"  {share:6.1%} {calls / STEPS:8.0f} calls  {where}{function}")
            results.append({"row": row.name, "function": f"{where}{function}", "share": share})
    return results


def limits(_: Iterable[Row]) -> list[Result]:
    """What bounds everybody: the rates of a large product of matrices and of copying memory."""
    a, far = torch.randn(2048, 2048), torch.ones(2**26)
    to = torch.empty_like(far)
    product, copy = measure((lambda: a @ a, lambda: to.copy_(far)), Effort(7, 2.0))
    rates = {
        "products": 2e-9 * len(a) ** 3 / product.least,
        "copied": 2e-9 * far.nbytes / copy.least,
    }
    print(f"{rates['products']:.0f} GFLOP/s in a product of matrices of 2048x2048")
    print(f"{rates['copied']:.1f} GB/s read and written in a copy of {far.nbytes >> 20} MiB")
    return [rates]
