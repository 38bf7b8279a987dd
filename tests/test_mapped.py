"""Mapped files: the same as what is read, damage refused, parts, and more than memory holds."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from xpcnn.data import read_idx, stratified_split, write_idx
from xpcnn.data.idx import map_idx
from xpcnn.data.mapped import Subset, is_read_as_needed, mapped_folder, part, run_length

# ---- IDX


@pytest.mark.parametrize("shape", [(5,), (3, 4, 5), (2, 3, 4, 5), (0, 3), ()])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_a_mapped_idx_is_the_one_read(tmp_path, shape, dtype):
    array = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
    write_idx(tmp_path / "a", array)
    mapped = map_idx(tmp_path / "a")
    assert isinstance(mapped, np.memmap)
    assert not mapped.flags.writeable
    np.testing.assert_array_equal(mapped, read_idx(tmp_path / "a"), strict=False)
    assert (mapped.shape, mapped.dtype) == (shape, dtype)


@pytest.mark.parametrize("cut", range(0, 16))
def test_an_idx_that_ends_early(tmp_path, cut):
    write_idx(tmp_path / "a", np.zeros((1, 4), np.uint8))
    data = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(data[:cut])
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path}/a, byte {cut if cut else 0}: ")):
        map_idx(tmp_path / "a")


def test_an_idx_that_goes_on(tmp_path):
    write_idx(tmp_path / "a", np.zeros((1, 4), np.uint8))
    with open(tmp_path / "a", "ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=r"byte 16: more bytes than the 4 of shape \(1, 4\)"):
        map_idx(tmp_path / "a")


def test_idx_that_cannot_be_mapped(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"x"))
    with pytest.raises(
        ValueError, match=r"map_idx: .*a\.gz is gzip, which cannot be mapped; unpac"
    ):
        map_idx(tmp_path / "a.gz")
    write_idx(tmp_path / "floats", np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="floats holds float32; only bytes can be mapped"):
        map_idx(tmp_path / "floats")
    with pytest.raises(IsADirectoryError, match="is a folder; give the path of one IDX file"):
        map_idx(tmp_path)
    with pytest.raises(FileNotFoundError):
        map_idx(tmp_path / "absent")


# ---- parts, and how they are read


def test_a_subset_is_like_an_array():
    images = np.arange(5 * 2 * 3 * 4, dtype=np.uint8).reshape(5, 2, 3, 4)
    part = Subset(images, np.asarray([4, 0, 3]))
    assert (part.shape, part.dtype, part.ndim, len(part)) == ((3, 2, 3, 4), np.uint8, 4, 3)
    assert repr(part) == "Subset((3, 2, 3, 4), uint8)"
    np.testing.assert_array_equal(part[np.asarray([2, 0, 2])], images[[3, 4, 3]])
    np.testing.assert_array_equal(part[1:], images[[0, 3]])
    np.testing.assert_array_equal(part[[]], images[:0])
    with pytest.raises(IndexError):
        part[np.asarray([3])]


def test_a_part_is_copied_from_memory_alone(tmp_path):
    images, chosen = np.arange(8).reshape(4, 2), np.asarray([3, 1])
    np.save(tmp_path / "a.npy", images)
    for source in (
        images,
        np.load(tmp_path / "a.npy", mmap_mode="r"),
        Subset(images, np.arange(4)),
    ):
        found = part(source, chosen)
        assert isinstance(found, Subset) == is_read_as_needed(source) == (source is not images)
        np.testing.assert_array_equal(found[:], images[chosen])


def mapped(path, shape, dtype=np.uint8):
    """A sparse file: its zeros take no place on the disk."""
    return np.lib.format.open_memmap(path, "w+", dtype, shape)


def test_run_length(tmp_path):
    assert run_length(np.zeros((9, 1, 2, 2))) == 1
    small = mapped(tmp_path / "small.npy", (4096, 1, 128, 128))
    assert run_length(small) == 1  # no more than a window: shuffled as a whole anyway
    images = mapped(tmp_path / "large.npy", (5000, 1, 128, 128))
    assert run_length(images) == 16
    assert run_length(images[:4500]) == 16
    assert run_length(Subset(images, np.arange(10))) == 16
    assert run_length(Subset(np.zeros((9, 1, 2, 2)), np.arange(3))) == 1
    assert run_length(mapped(tmp_path / "huge.npy", (200, 3, 1000, 1000))) == 1
    assert run_length(mapped(tmp_path / "half.npy", (600, 1, 256, 512))) == 2  # 128 KiB each
    assert run_length(mapped(tmp_path / "more.npy", (600, 1, 257, 512))) == 1
    assert run_length(mapped(tmp_path / "f.npy", (5000, 1, 128, 128), np.float32)) == 4


# ---- folders of NumPy's files

LABELS = np.asarray([0, 1] * 10)


def images_of(shape=(20, 3, 4, 5), dtype=np.uint8):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.float16])
@pytest.mark.parametrize("shape", [(20, 3, 4, 5), (20, 4, 5)])
def test_one_array_is_split(tmp_path, dtype, shape):
    images = images_of(shape, dtype)
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", LABELS.astype(">u2"))
    data = mapped_folder(tmp_path, test=0.25, seed=3)
    train, test = stratified_split(LABELS, 0.25, 3)
    images = images if images.ndim == 4 else images[:, None]
    for (found, labels), places in ((data.train, train), (data.test, test)):
        assert isinstance(found.images, np.memmap)
        assert (found.shape, found.dtype) == ((len(places), *images.shape[1:]), dtype)
        assert type(found[[0]]) is np.ndarray
        np.testing.assert_array_equal(found[:], images[places], strict=True)
        np.testing.assert_array_equal(labels, LABELS[places], strict=True)
    assert (data.name, data.classes) == (tmp_path.name, ("0", "1"))


def test_two_arrays(tmp_path):
    np.save(tmp_path / "train-images.npy", images_of())
    np.save(tmp_path / "train-labels.npy", LABELS)
    np.save(tmp_path / "test-images.npy", images_of()[::-2])
    np.save(tmp_path / "test-labels.npy", LABELS[:10] + 1)
    data = mapped_folder(tmp_path)
    assert isinstance(data.train[0], np.memmap)
    np.testing.assert_array_equal(data.test[0], images_of()[::-2])
    assert data.classes == ("0", "1", "2")
    np.save(tmp_path / "test-images.npy", images_of((10, 3, 4, 6)))
    with pytest.raises(ValueError, match=r"train on are uint8 \(3, 4, 5\) and those to test with "):
        mapped_folder(tmp_path)
    np.save(tmp_path / "test-images.npy", images_of((10, 3, 4, 5), np.float32))
    with pytest.raises(ValueError, match=r"test with float32 \(3, 4, 5\); they must be alike"):
        mapped_folder(tmp_path)


MISFITS = {
    "rank": (
        images_of((20, 5)),
        LABELS,
        r"images must be uint8 or floating, .* are uint8 \(20, 5\)",
    ),
    "integers": (images_of(dtype=np.int64), LABELS, "they are int64"),
    "bytes": (images_of(dtype=">f4"), LABELS, "they are >f4"),
    "none": (images_of((0, 3, 4, 5)), LABELS[:0], "at least one"),
    "order": (np.asfortranarray(images_of()), LABELS, "in Fortran's order, whose images are scat"),
    "lengths": (images_of(), LABELS[:5], r"labels must be integers \(20,\), one for each image"),
    "below zero": (images_of(dtype=np.float32), LABELS - 1, "labels must lie in 0 to 65535; they"),
    "floats": (images_of(), LABELS / 2, "labels must be integers"),
    "objects": (images_of().astype(object), LABELS, "is no whole array of numbers"),
}


@pytest.mark.parametrize("images, labels, message", MISFITS.values(), ids=MISFITS)
def test_arrays_that_do_not_fit(tmp_path, images, labels, message):
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", labels)
    with pytest.raises(ValueError, match=message):
        mapped_folder(tmp_path)


@pytest.mark.parametrize("part", [0.0, 0.05, 0.5, 0.99])
def test_an_array_that_ends_early(tmp_path, part):
    np.save(tmp_path / "images.npy", images_of())
    np.save(tmp_path / "labels.npy", LABELS)
    data = (tmp_path / "images.npy").read_bytes()
    (tmp_path / "images.npy").write_bytes(data[: int(len(data) * part)])
    with pytest.raises(ValueError, match=r"images\.npy is no whole array of numbers"):
        mapped_folder(tmp_path)


def test_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no .*/images\.npy; put it there"):
        mapped_folder(tmp_path)
    np.save(tmp_path / "train-images.npy", images_of())
    with pytest.raises(FileNotFoundError, match=r"there is no .*/train-labels\.npy; put it there"):
        mapped_folder(tmp_path)


# ---- larger than memory

PROGRAM = """
import resource, sys
import numpy as np
from xpcnn.data import batches
from xpcnn.data.mapped import mapped_folder, run_length
from xpcnn.data.prefetch import prefetch
from xpcnn.random import key

resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[2]),) * 2)  # what the process itself holds
images, _ = mapped_folder(sys.argv[1]).train
try:
    np.array(images)
except MemoryError:
    print("too much at once")
orders = batches(len(images), 32, key(0), run=run_length(images))
seen = sum(len(x) + int(x.max()) for x in prefetch(images.__getitem__, orders))
print(run_length(images), seen)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's data")
def test_four_times_the_memory_allowed(tmp_path):
    allowed = 128 << 20
    count = 4 * allowed >> 16
    mapped(tmp_path / "train-images.npy", (count, 1, 256, 256))
    mapped(tmp_path / "test-images.npy", (1, 1, 256, 256))
    np.save(tmp_path / "train-labels.npy", np.arange(count) % 2)
    np.save(tmp_path / "test-labels.npy", [0])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), str(allowed)],
        capture_output=True, text=True, timeout=120, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["too much at once", f"4 {count}"]
