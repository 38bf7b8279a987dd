"""A process trains on four times the memory it may have."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux limits what a process may allocate"
)

LIMIT = 160 << 20
"""Bytes of memory of its own, of which importing and training take a good part."""

SHAPE = (3, 128, 128)
PROGRAM = """
import resource, sys

import numpy as np

import xpcnn
from xpcnn.data import mapped_folder
from xpcnn.layers import AvgPool2d, Flatten, Linear, Sequential

folder, limit = sys.argv[1], int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    np.load(f"{folder}/images.npy")
    sys.exit("it fits into memory")
except MemoryError:
    pass
images = mapped_folder(folder, test=0.05)
model = Sequential(AvgPool2d(32), Flatten(), Linear(4))
net = xpcnn.Classifier(model, device="cpu", optimizer=xpcnn.optim.Adam(0.05))
with xpcnn.use("numpy"):
    net.fit(*images.train, 1, validation=images.test)
print(net.history_[0].val_accuracy)
"""


def test_four_times_the_memory(tmp_path):
    """A label is the quarter of an image that is bright."""
    count = 4 * LIMIT // int(np.prod(SHAPE)) + 1
    labels = np.arange(count) % 4
    images = np.lib.format.open_memmap(tmp_path / "images.npy", "w+", np.uint8, (count, *SHAPE))
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        images[
            2 * row + column :: 4, :, 64 * row : 64 * row + 64, 64 * column : 64 * column + 64
        ] = 99
    np.save(tmp_path / "labels.npy", labels)
    del images
    assert os.path.getsize(tmp_path / "images.npy") > 4 * LIMIT
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path, str(LIMIT)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 0.9
    os.remove(tmp_path / "images.npy")  # pytest keeps what the last few runs have written
