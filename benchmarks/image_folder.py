"""How fast a folder of photos is read, and how long training waits for it.

    python benchmarks/image_folder.py                          # 512 JPEGs of 224x224
    python benchmarks/image_folder.py --height 375 --width 500    # as ImageNet's are
    python benchmarks/image_folder.py --step 0.05              # a batch takes 50 ms on some device

Makes the folder itself, of what looks like photos to a JPEG. Reading is compared with OpenCV's
decoding alone, of bytes in memory. Waiting is the share of an epoch in which the next batch was not
there yet, while ResNet-18 was trained on the last.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np

from xpcnn import data, models, optim, random
from xpcnn.training import init_state, train_step

SIDE = 224
QUALITY = 90  # of the JPEGs
ROUNDS = 3
Step = Callable[[np.ndarray], None]


def photo(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Something like a photo: large shapes, small ones and grain; uint8 (H, W, BGR)."""
    layers = [
        cv2.resize(rng.normal(size=(height // cell + 2, width // cell + 2, 3)), (width, height))
        * depth
        for cell, depth in ((64, 50), (16, 20), (4, 10), (1, 7))
    ]
    return np.clip(128 + sum(layers), 0, 255).astype(np.uint8)


def make_folder(root: Path, count: int, height: int, width: int) -> None:
    """Ten classes of photos, as JPEGs."""
    rng = np.random.default_rng(0)
    for number in range(count):
        path = root / f"class-{number % 10}" / f"{number:05}.jpg"
        path.parent.mkdir(exist_ok=True)
        _, jpeg = cv2.imencode(
            ".jpg", photo(rng, height, width), [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
        )
        path.write_bytes(jpeg.tobytes())


def decoding_rate(paths: tuple[str, ...]) -> float:
    """Images per second by cv2.imdecode alone, in one thread."""
    files = [np.fromfile(path, np.uint8) for path in paths]
    return len(files) / _least(lambda: [cv2.imdecode(file, cv2.IMREAD_COLOR) for file in files])


def reading_rate(pictures: data.Pictures, batch: int) -> float:
    """Images per second through `prefetch`, with nothing else to do."""

    def read() -> None:
        for _ in data.prefetch(pictures.__getitem__, data.batches(len(pictures), batch)):
            pass

    return len(pictures) / _least(read)


def waiting_share(images: Any, batch: int, step: Step) -> tuple[float, float]:
    """Of an epoch's time, the share waited for images (N, C, H, W); and seconds a step.

    The first batch, for which everybody waits, is counted, too.
    """
    waited, begun = 0.0, time.perf_counter()
    fetched = data.prefetch(images.__getitem__, data.batches(len(images), batch, random.key(0)))
    while True:
        asked = time.perf_counter()
        x = next(fetched, None)
        waited += time.perf_counter() - asked
        if x is None:
            break
        step(x)
    whole = time.perf_counter() - begun
    return waited / whole, (whole - waited) / -(-len(images) // batch)


def resnet_step() -> Step:
    """The training step of ResNet-18 on uint8 images of 224x224."""
    model, optimizer = models.resnet18(10), optim.SGD(1e-6, momentum=0.9)
    params, _ = model.init(random.key(0), (3, SIDE, SIDE))
    state = init_state(model, optimizer, params)

    def step(x: np.ndarray) -> None:
        nonlocal params, state
        floats, y = x * np.float32(1 / 255), np.arange(len(x)) % 10
        done = train_step(model, optimizer, params, state, floats, y, key=random.key(1))
        params, state = done.params, done.state

    return step


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--height", type=int, default=SIDE, help="of the files")
    parser.add_argument("--width", type=int, default=SIDE, help="of the files")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--step", type=float, help="seconds a batch takes, instead of ResNet-18")
    options = parser.parse_args()

    with TemporaryDirectory() as folder:
        make_folder(Path(folder), options.images, options.height, options.width)
        started = time.perf_counter()
        paths = data.image_folder(folder, SIDE, test=0.01).train[0].paths
        seconds = time.perf_counter() - started
        size = sum(map(os.path.getsize, paths)) / len(paths) / 1024
        print(f"{options.images} JPEGs of {options.height}x{options.width}, {size:.0f} KiB each")
        print(f"checked all in {seconds:.2f} s, {options.images / seconds:,.0f} images/s")
        print(f"cv2.imdecode alone: {decoding_rate(paths):,.0f} images/s")
        for threads in options.threads:
            pictures = data.Pictures(paths, (3, SIDE, SIDE), threads=threads)
            rate = reading_rate(pictures, options.batch)
            print(f"Pictures, {threads} threads: {rate:,.0f} images/s")
        step = resnet_step() if options.step is None else lambda _: time.sleep(options.step)
        step(pictures[: options.batch])  # compile
        share, seconds = waiting_share(pictures, options.batch, step)
        print(f"waiting for data: {share:.1%} of an epoch, a step of {seconds:.3f} s")


def _least(function: Callable[[], Any]) -> float:
    """Seconds of the quickest of a few calls."""
    taken = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return min(taken)


if __name__ == "__main__":
    main()
