"""Compare the peaks of memory that `summary` predicts with those of real runs (Linux).

    python benchmarks/memory.py
    python benchmarks/memory.py --only ResNet --engines numba --batch 4 64 --json memory.json

Each run has a process of its own, and is counted twice: by what NumPy tells tracemalloc of its
arrays, and by what of the process is in memory, beyond what was before the parameters were drawn.
The exit status is 1 if a prediction is off by more than 20 % of what NumPy tells.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from _memory import PROCESS, _settle, _status

import xpcnn
from xpcnn import models, random
from xpcnn.layers import GlobalAvgPool, Layer, Linear, Sequential
from xpcnn.optim import Adam
from xpcnn.training import init_state, train_step

ENGINES, TASKS, OFF = ("numpy", "numba"), ("inference", "training"), 0.2
RUNS = 2
"""The second finds what the first has left."""

ASLEEP = 0.2
"""Seconds after which no thread holds a kernel's arrays any more."""

AT_ONCE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""Has glibc give every array back as soon as it is free; it may keep some, to be quicker."""

HEAD = ("model", "batch", "engine", "task", "predicted MB", "traced", "resident", "off")
LINE = "{:<24} {:>6} {:<7} {:<10} {:>12} {:>8} {:>9} {:>7}"


class Subject(NamedTuple):
    """A model, the images it takes, and how many of them."""

    model: Layer
    in_shape: tuple[int, int, int]
    images: int


def vgg_stack() -> Layer:
    """VGG-11's convolutions; its linear layers would leave nothing else to see."""
    features, *_ = models.vgg11().layers
    return Sequential(features, GlobalAvgPool(), Linear(10))


SUBJECTS = {
    "convnet 28x28": Subject(models.convnet(), (1, 28, 28), 64),
    "LeNet-5 28x28": Subject(models.lenet5(), (1, 28, 28), 1024),
    "VGG-11's stack 64x64": Subject(vgg_stack(), (3, 64, 64), 64),
    "ResNet-18 112x112": Subject(models.resnet18(), (3, 112, 112), 64),
    "GoogLeNet 112x112": Subject(models.googlenet(), (3, 112, 112), 32),
    "MobileNet 112x112": Subject(models.mobilenet(), (3, 112, 112), 32),
}


def main() -> bool:
    """Print the table; whether a prediction was too far off."""
    options = _options()
    if options.measure:
        print(json.dumps(measured(*options.measure[:3], int(options.measure[3]))))
        return False
    print(LINE.format(*HEAD))
    results = []
    for result in compared(options):
        results.append(result)
        print(LINE.format(*_cells(result)), flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    return any(abs(result["off"]) > OFF for result in results)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--only", default="", help="models whose name holds this regular expression")
    add("--engines", nargs="+", choices=ENGINES, default=ENGINES, help="who computes")
    add("--tasks", nargs="+", choices=TASKS, default=TASKS, help="what to measure")
    add("--batch", nargs="+", type=int, help="images at a time, by default each model's own")
    add("--json", type=Path, help="where to write all results")
    add("--measure", nargs=4, help=argparse.SUPPRESS)  # what a process of our own is to do
    return parser.parse_args()


def compared(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Results one by one."""
    for name, subject in SUBJECTS.items():
        if not re.search(options.only, name):
            continue
        for images in options.batch or [subject.images]:
            for task in options.tasks:
                for engine in options.engines:
                    found = _in_own_process(name, engine, task, images)
                    off = found["predicted"] / found["traced"] - 1
                    keys = {"model": name, "batch": images, "engine": engine, "task": task}
                    yield {**keys, **found, "off": off}


def _in_own_process(name: str, engine: str, task: str, images: int) -> dict[str, int]:
    call = [sys.executable, __file__, "--measure", name, engine, task, str(images)]
    done = subprocess.run(call, stdout=subprocess.PIPE, check=True, env=os.environ | AT_ONCE_BACK)
    return json.loads(done.stdout)


def measured(name: str, engine: str, task: str, images: int) -> dict[str, int]:
    """Bytes predicted, and at most in use in a second run, by two ways of counting."""
    subject, run = SUBJECTS[name], {"inference": infer, "training": train}[task]
    with xpcnn.use(engine):
        summary = subject.model.summary(subject.in_shape, images)
        run(subject, 2, _nothing)  # loads kernels, wakes threads
        time.sleep(ASLEEP)
        before = _settle()
        run(subject, images, _forget_peak)
        resident = _status("VmHWM") - before
        tracemalloc.start()
        run(subject, images, tracemalloc.reset_peak)
        _, traced = tracemalloc.get_traced_memory()
    predicted = summary.inference_bytes if task == "inference" else summary.training_bytes
    return {"predicted": predicted, "traced": traced, "resident": resident}


def infer(subject: Subject, images: int, begin: Callable[[], None]) -> None:
    """Run the model on a batch; `begin` is called when parameters and batch are there."""
    params, _ = subject.model.init(random.key(0), subject.in_shape)
    x, _ = _batch(subject, images)
    begin()
    for _ in range(RUNS):
        subject.model(params, x)


def train(subject: Subject, images: int, begin: Callable[[], None]) -> None:
    """Take steps of Adam; `begin` is called when parameters, state and batch are there."""
    params, _ = subject.model.init(random.key(0), subject.in_shape)
    (x, y), adam, key = _batch(subject, images), Adam(), random.key(1)
    state = init_state(subject.model, adam, params)
    begin()
    for _ in range(RUNS):
        done = train_step(subject.model, adam, params, state, x, y, key=key)
        params, state = done.params, done.state
        del done


def _batch(subject: Subject, images: int) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.random.default_rng(0)
    x = numbers.standard_normal((images, *subject.in_shape), np.float32)
    return x, numbers.integers(0, 10, images)


def _forget_peak() -> None:
    (PROCESS / "clear_refs").write_text("5")


def _nothing() -> None:
    pass


def _cells(result: dict[str, Any]) -> tuple[str, ...]:
    names = (str(result[name]) for name in ("model", "batch", "engine", "task"))
    sizes = (f"{result[name] / 1e6:.1f}" for name in ("predicted", "traced", "resident"))
    return (*names, *sizes, f"{result['off']:+.1%}")


if __name__ == "__main__":
    raise SystemExit(main())
