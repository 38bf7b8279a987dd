"""What training in several processes costs and gains on this machine.

    python benchmarks/parallel.py                # convnet at 1x28x28 and ResNet-18 at 3x32x32
    python benchmarks/parallel.py --ranks 1 2 4

Times whole epochs of the same data: by one process without MPI, and by so many under mpiexec, each
with one thread. The median of a few epochs, the runs taking turns. Needs mpi4py and an MPI
(`pip install mpi4py mpich`).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from contextlib import nullcontext

TURNS, EPOCHS = 3, 4
CASES = {"convnet": (1, 28, 28, 2048, 128), "resnet18": (3, 32, 32, 256, 64)}
"""C, H, W, images and batch size."""


def seconds_of(name: str, parallel: bool) -> list[float]:
    """How long each epoch but the first took, in this process and those beside it."""
    import numpy as np

    import xpcnn
    from xpcnn.training import mpi_ranks
    from xpcnn.training.ranks import ALONE

    *in_shape, images, batch_size = CASES[name]
    rng = np.random.default_rng(0)
    x = rng.random((images, *in_shape), np.float32)
    y = np.arange(images) % 10
    with mpi_ranks() if parallel else nullcontext(ALONE) as ranks:
        net = xpcnn.Classifier(xpcnn.models.MODELS[name], batch_size=batch_size, device="cpu")
        net.fit(x, y, EPOCHS, ranks=ranks)
        if ranks.rank == 0:
            print(json.dumps(net.history_.column("seconds")[1:]))


def measured(name: str, ranks: int | None) -> list[float]:
    """The same, in processes of their own; None for one without MPI."""
    start = [] if ranks is None else ["mpiexec", "-n", str(ranks)]
    command = [*start, sys.executable, __file__, "--one", name, *["--mpi"] * (ranks is not None)]
    threads = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env={**os.environ, **threads}, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--one", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--mpi", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        seconds_of(options.one, options.mpi)
        return
    for name in CASES:
        runs: dict[int | None, list[float]] = {ranks: [] for ranks in (None, *options.ranks)}
        for _ in range(TURNS):
            for ranks, seconds in runs.items():
                seconds += measured(name, ranks)
        alone = statistics.median(runs.pop(None))
        print(f"{name}: one process without MPI 1.00 ({alone:.2f} s an epoch)")
        for ranks, seconds in runs.items():
            print(f"{name}: {ranks} ranks {statistics.median(seconds) / alone:.2f}")


if __name__ == "__main__":
    main()
