"""Data sets and the files that hold them: IDX round trips, damage of every kind, exact splits."""

from __future__ import annotations

import gzip
import hashlib
import re
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xpcnn._files import replacing
from xpcnn.data import (
    SETS,
    Dataset,
    batches,
    digits,
    fashion_mnist,
    from_path,
    load,
    local,
    read_idx,
    sets,
    stratified_split,
    write_idx,
)
from xpcnn.random import key

DTYPES = ["uint8", "int8", "int16", "int32", "float32", "float64"]
PACKED = Path(sets.__file__).with_name("digits")
SHA256 = {
    "images.idx3.gz": "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3",
    "labels.idx1.gz": "8ba4f891220f5e4c9c819638d1602d74b83618f167043c6da52a2a247841ddf0",
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("idx")


# IDX: what is written is read


@given(
    array=st.sampled_from(DTYPES).flatmap(
        lambda name: hnp.arrays(
            np.dtype(name).newbyteorder("<>"[len(name) % 2]),
            hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4),
        )
    ),
    ending=st.sampled_from(["", ".gz"]),
)
def test_round_trip(folder, array, ending):
    path = folder / f"round{ending}"
    write_idx(path, array)
    back = read_idx(path)
    assert back.dtype == array.dtype.newbyteorder("=")
    assert back.dtype.isnative
    assert back.flags.writeable
    np.testing.assert_array_equal(back, array, strict=False)
    assert back.shape == array.shape


def test_the_bytes_are_those_of_the_format(tmp_path):
    write_idx(tmp_path / "a", np.array([[1, -2, 3]], np.int16))
    expected = b"\0\0\x0b\x02" + b"\0\0\0\x01\0\0\0\x03" + b"\0\x01\xff\xfe\0\x03"
    assert (tmp_path / "a").read_bytes() == expected


def test_views_are_written_in_the_order_of_their_axes(tmp_path):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4).transpose(2, 0, 1)[::-2]
    write_idx(tmp_path / "a", array)
    np.testing.assert_array_equal(read_idx(tmp_path / "a"), array)


def test_gzip_is_told_by_the_bytes_and_reproducible(tmp_path):
    array = np.arange(100, dtype=np.uint8)
    write_idx(tmp_path / "a.gz", array)
    write_idx(tmp_path / "b.gz", array)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    (tmp_path / "a.gz").rename(tmp_path / "plain-name")
    np.testing.assert_array_equal(read_idx(tmp_path / "plain-name"), array)


@pytest.mark.parametrize("dtype", ["int64", "uint16", "bool", "complex64", "float16", "U3"])
def test_dtypes_that_idx_lacks(tmp_path, dtype):
    with pytest.raises(TypeError, match=r"IDX has no .*; convert to uint8, .* or float64"):
        write_idx(tmp_path / "a", np.zeros(3, dtype))
    assert list(tmp_path.iterdir()) == []


def test_a_size_over_32_bits_is_refused(tmp_path):
    with pytest.raises(ValueError, match=re.escape("write_idx: (4294967296, 0) is too large")):
        write_idx(tmp_path / "a", np.zeros((1 << 32, 0), np.uint8))


# IDX: what is damaged is refused, by name and place

HEADER = b"\0\0\x08\x02\0\0\0\x02\0\0\0\x03"  # uint8 (2, 3)
DAMAGE = {
    "empty": (b"", "byte 0: it is empty"),
    "text": (b"hello", "byte 0: no IDX file: it starts with 68 65, not with 00 00"),
    "one byte of text": (b"h", "byte 0: no IDX file: it starts with 68"),
    "magic ends": (b"\0\0\x08", "byte 3: the header ends"),
    "type 0a": (b"\0\0\x0a\x01\0\0\0\0", "byte 2: unknown type code 0a; there are 08, 09, 0b"),
    "rank 65": (b"\0\0\x08\x41" + bytes(4 * 65), "byte 3: rank 65; at most 64 can be read"),
    "sizes end": (HEADER[:10], "byte 10: the header ends; rank 2 has 2 sizes"),
    "no values": (HEADER, "byte 12: it ends; shape (2, 3) is 6 bytes of values"),
    "values end": (HEADER + b"12345", "byte 17: it ends; shape (2, 3) is 6 bytes of values"),
    "too many": (HEADER + b"1234567", "byte 18: more bytes than the 6 of shape (2, 3)"),
    "huge": (b"\0\0\x08\x01\xff\xff\xff\xff1", "byte 9: it ends; shape (4294967295,) is 42949"),
    "absurd": (b"\0\0\x0e\x03" + b"\xff" * 12, "byte 4: shape (4294967295, 4294967295, 42949"),
    "absurd and empty": (b"\0\0\x08\x04" + b"\xff" * 12 + bytes(4), "byte 4: shape (4294967295,"),
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("content, message", DAMAGE.values(), ids=DAMAGE)
def test_damage(tmp_path, content, message, packed):
    path = tmp_path / "damaged"
    path.write_bytes(gzip.compress(content) if packed else content)
    if packed and "byte 9" in message:
        message = "byte 4: shape (4294967295,) is 4294967295 bytes, too many for gzip of this size"
    with pytest.raises(ValueError, match=re.escape(f"read_idx: {path}, {message}")):
        read_idx(path)


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b[:5], lambda b: b + b"x"])
def test_damaged_gzip(tmp_path, change):
    path = tmp_path / "damaged.gz"
    path.write_bytes(change(gzip.compress(HEADER + b"123456")))
    with pytest.raises(ValueError, match=f"read_idx: {path}: damaged or truncated gzip within"):
        read_idx(path)


@given(data=st.data())
def test_any_changed_or_missing_byte(folder, data):
    """A gzip IDX file with one byte changed, or cut short, is refused or else reads as promised."""
    array = np.arange(60, dtype=np.int32).reshape(3, 4, 5)
    path = folder / "flipped.gz"
    write_idx(path, array)
    raw = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(raw) - 1))
    if data.draw(st.booleans()):
        raw[place] ^= data.draw(st.integers(1, 255))
    else:
        del raw[place:]
    path.write_bytes(raw)
    _refused_or_read(path, array, sealed=True)  # by gzip's sum


@given(place=st.integers(0, 15), mask=st.integers(1, 255), packed=st.booleans())
def test_any_changed_byte_of_the_header(folder, place, mask, packed):
    array = np.arange(60, dtype=np.int32).reshape(3, 4, 5)
    path = folder / "header"
    write_idx(path, array)
    raw = bytearray(path.read_bytes())
    raw[place] ^= mask
    path.write_bytes(gzip.compress(raw) if packed else raw)
    _refused_or_read(path, array, sealed=False)  # int32 may have become float32


def _refused_or_read(path, array, sealed):
    tracemalloc.start()
    try:
        back = read_idx(path)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert back.shape == array.shape
        if sealed:
            np.testing.assert_array_equal(back, array, strict=True)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.parametrize("promised", [4, (1 << 28) + 1])
def test_a_gzip_bomb_takes_no_memory(tmp_path, promised):
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"\0\0\x08\x01" + struct.pack(">I", promised))
        for _ in range(32):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"more bytes than the 4|too many for gzip of this size"):
        read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        read_idx(tmp_path / "absent")
    with pytest.raises(IsADirectoryError, match=f"read_idx: {tmp_path} is a folder; give"):
        read_idx(tmp_path)
    with pytest.raises(ValueError, match=f"writing {tmp_path}: it is a folder or a device; give"):
        write_idx(tmp_path, np.zeros(1, np.uint8))


# Files are written whole or not at all


def test_an_error_leaves_the_old_file_and_no_rest(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="half-way"), replacing(path) as file:
        file.write(b"ne")
        raise RuntimeError("half-way")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_missing_is_named(tmp_path):
    path = tmp_path / "absent" / "a"
    with pytest.raises(FileNotFoundError) as error, replacing(path):
        pass
    assert str(error.value) == f"writing {path}: there is no folder {path.parent}; make it first"


def test_a_symbolic_link_stays_one(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    with replacing(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


# Splits


@given(
    labels=hnp.arrays(np.int64, st.integers(2, 60), elements=st.integers(-3, 4)),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 5),
)
def test_splits_are_exact(labels, fraction, seed):
    _, counts = np.unique(labels, return_counts=True)
    if counts.max() < 2:
        with pytest.raises(ValueError, match="must hold a class of two members"):
            stratified_split(labels, fraction, seed)
        return
    train, test = stratified_split(labels, fraction, seed)
    assert train.dtype == test.dtype == np.int64
    np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(labels.size))
    assert (np.diff(train) > 0).all()
    assert (np.diff(test) > 0).all()
    for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
        held = np.count_nonzero(labels[test] == label)
        if count == 1:
            assert held == 0
        else:
            assert 1 <= held <= count - 1
            assert abs(held - count * fraction) < 1.0 + 1e-6 or held in (1, count - 1)


def test_the_whole_is_as_exact_as_the_classes():
    labels = np.repeat(np.arange(4), [11, 12, 13, 14])
    _, test = stratified_split(labels, 0.2, seed=0)
    assert np.bincount(labels[test]).tolist() == [2, 2, 3, 3]  # shares 2.2, 2.4, 2.6, 2.8
    assert test.size == 10


def test_a_whole_share_is_no_matter_of_rounding():
    labels = np.repeat(np.arange(3), [15, 35, 50])  # 15 * 0.2 is 3.0000000000000004 in binary
    _, test = stratified_split(labels, 0.2, seed=0)
    assert np.bincount(labels[test]).tolist() == [3, 7, 10]


def test_splits_by_seed():
    labels = np.arange(200) % 3
    first, again, other = (stratified_split(labels, 0.2, seed)[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, 2.0, float("nan")])
def test_fractions_out_of_range(fraction):
    with pytest.raises(ValueError, match=r"stratified_split: fraction must lie in \(0, 1\)"):
        stratified_split(np.zeros(9, np.int64), fraction, 0)


def test_splits_of_what_is_no_list_of_labels():
    with pytest.raises(ValueError, match=r"labels must be \(N,\); they are \(3, 2\)"):
        stratified_split(np.zeros((3, 2), np.int64), 0.2, 0)
    with pytest.raises(ValueError, match="labels must hold a class of two members"):
        stratified_split(np.zeros(0, np.int64), 0.2, 0)


# The digits


@pytest.mark.parametrize("name", SHA256)
def test_the_packed_digits_are_those_of_the_readme(name):
    assert hashlib.sha256(read_idx(PACKED / name).tobytes()).hexdigest() == SHA256[name]
    assert SHA256[name] in (PACKED / "README.md").read_text(encoding="utf-8")


def test_the_packed_digits_are_those_of_scikit_learn():
    original = pytest.importorskip("sklearn.datasets").load_digits()
    np.testing.assert_array_equal(read_idx(PACKED / "images.idx3.gz"), original.images)
    np.testing.assert_array_equal(read_idx(PACKED / "labels.idx1.gz"), original.target)


def test_digits():
    data = digits()
    (images, labels), (test_images, test_labels) = data.train, data.test
    assert (images.shape, test_images.shape) == ((1438, 1, 8, 8), (359, 1, 8, 8))
    assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
    assert (images.min(), images.max()) == (0, 255)
    assert np.array_equal(np.unique(images), (np.arange(17) * 255 + 8) // 16)
    assert data.classes == tuple("0123456789")
    assert repr(data) == (
        "Dataset('digits', train=(1438, 1, 8, 8), test=(359, 1, 8, 8), classes=10)"
    )
    shares = np.bincount(test_labels) / np.bincount(np.concatenate([labels, test_labels]))
    assert np.abs(shares - 0.2).max() < 1 / 174  # of 174 to 183 in a class: one at most


def test_digits_by_seed():
    first, again, other = digits(0), digits(0), digits(1)
    np.testing.assert_array_equal(first.test[0], again.test[0])
    assert not np.array_equal(first.test[0], other.test[0])


# Other sets


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def write_four(folder, rng, ending="", shape=(9, 7)):
    folder.mkdir(exist_ok=True)
    for part, n in (("train", 20), ("t10k", 10)):
        images = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
        write_idx(folder / f"{part}-images-idx3-ubyte{ending}", images)
        labels = (np.arange(n) % 10).astype(np.uint8)
        write_idx(folder / f"{part}-labels-idx1-ubyte{ending}", labels)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_folder_of_four(tmp_path, rng, ending):
    write_four(tmp_path / "mine", rng, ending)
    data = load(str(tmp_path / "mine"))
    assert data.name == "mine"
    assert data.train[0].shape == (20, 1, 9, 7)
    assert data.test[0].shape == (10, 1, 9, 7)
    assert data.test[1].tolist() == list(range(10))
    assert data.classes == tuple("0123456789")


@pytest.mark.parametrize("above", ["", "fashion-mnist"])
def test_fashion_mnist_is_found_by_the_environment(tmp_path, rng, monkeypatch, above):
    write_four(tmp_path / "fashion-mnist", rng)
    monkeypatch.setenv("XPCNN_DATA", str(tmp_path / above))
    data = load("fashion-mnist")
    assert data.train[0].shape == (20, 1, 9, 7)
    assert (data.classes[0], data.classes[9]) == ("T-shirt/top", "Ankle boot")


def test_fashion_mnist_is_missing(tmp_path):
    write_idx(tmp_path / "train-images-idx3-ubyte", IMAGES)
    with pytest.raises(FileNotFoundError) as caught:
        fashion_mnist(tmp_path)
    assert str(caught.value) == (
        "load: fashion-mnist (train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz,"
        f" t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz) is not in {tmp_path}; run"
        ' "xpcnn data get fashion-mnist", or put it there'
    )


def test_fashion_mnist_has_ten_classes(tmp_path, rng):
    write_four(tmp_path, rng)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", np.full(10, 10, np.uint8))
    with pytest.raises(ValueError, match="labels run from 0 to 10; fashion-mnist has 10 classes"):
        fashion_mnist(tmp_path)


DEBIAN = Path(local.SYSTEM, "fashion-mnist")


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="no package dataset-fashion-mnist")
def test_fashion_mnist_of_debian():
    data = fashion_mnist(DEBIAN)
    assert data.train[0].shape == (60000, 1, 28, 28)
    assert np.bincount(data.train[1]).tolist() == [6000] * 10
    assert np.bincount(data.test[1]).tolist() == [1000] * 10


@pytest.mark.parametrize(
    "images, labels, shape",
    [
        ("my-images-idx3.gz", "my-labels-idx1.gz", (30, 5, 6)),
        ("my-images-idx3.gz", "my-labels-idx1", (30, 5, 6)),
        ("images.idx4", "labels.idx1", (30, 3, 5, 6)),
    ],
)
def test_one_file_of_images(tmp_path, rng, images, labels, shape):
    pixels = rng.integers(0, 256, shape, dtype=np.uint8)
    write_idx(tmp_path / images, pixels)
    write_idx(tmp_path / labels, (np.arange(30) % 3).astype(np.int32))
    data = from_path(tmp_path / images)
    assert data.classes == ("0", "1", "2")
    assert np.bincount(data.test[1]).tolist() == [2, 2, 2]
    assert data.train[0].shape == (24, shape[1] if len(shape) == 4 else 1, 5, 6)
    assert data.train[1].dtype == np.int64
    together = np.concatenate([data.train[0], data.test[0]]).reshape(30, -1)
    assert sorted(map(bytes, together)) == sorted(map(bytes, pixels.reshape(30, -1)))


IMAGES = np.zeros((4, 5, 5), np.uint8)
LABELS = np.array([0, 0, 1, 1], np.uint8)
MISFITS = {
    "lengths": (IMAGES, LABELS[:3], "labels must be integers (4,), one for each image of"),
    "rank of labels": (IMAGES, LABELS.reshape(2, 2), "they are uint8 (2, 2)"),
    "floats as labels": (IMAGES, LABELS.astype(np.float32), "they are float32 (4,)"),
    "rank of images": (IMAGES[0], LABELS, "images must be unsigned bytes (N, H, W) or (N, C, H"),
    "no images": (IMAGES[:0], LABELS[:0], "at least one; they are uint8 (0, 5, 5)"),
    "images of no size": (IMAGES[:, :0], LABELS, "they are uint8 (4, 0, 5)"),
    "dtype of images": (IMAGES.astype(np.int16), LABELS, "they are int16 (4, 5, 5)"),
    "negative": (IMAGES, -LABELS.astype(np.int8), "lie in 0 to 65535; they run from -1 to 0"),
    "wild": (IMAGES, LABELS * np.int32(1 << 30), "they run from 0 to 1073741824"),
}


@pytest.mark.parametrize("images, labels, message", MISFITS.values(), ids=MISFITS)
def test_files_that_do_not_fit(tmp_path, images, labels, message):
    write_idx(tmp_path / "images", images)
    write_idx(tmp_path / "labels", labels)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        from_path(tmp_path / "images")
    assert str(tmp_path) in str(caught.value)


def test_parts_of_different_shape(tmp_path, rng):
    write_four(tmp_path, rng)
    write_idx(tmp_path / "t10k-images-idx3-ubyte", np.zeros((10, 8, 7), np.uint8))
    with pytest.raises(ValueError, match=r"\(1, 9, 7\) and those to test with \(1, 8, 7\)"):
        from_path(tmp_path)


def test_what_is_not_there(tmp_path, rng):
    write_idx(tmp_path / "a-images", IMAGES)
    with pytest.raises(FileNotFoundError, match=r"there is no a-labels, plain or with \.gz"):
        from_path(tmp_path / "a-images")
    with pytest.raises(FileNotFoundError, match=r"from_path: there is no .*absent; give an IDX"):
        from_path(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match="there is no train-images-idx3-ubyte, plain or"):
        from_path(tmp_path)
    (tmp_path / "a-images").rename(tmp_path / "data.idx")
    with pytest.raises(ValueError, match="does not say where its labels are; name the two"):
        from_path(tmp_path / "data.idx")


@pytest.mark.parametrize("read", [from_path, load])
def test_a_folder_of_pictures(tmp_path, read):
    (tmp_path / "cat").mkdir()
    with pytest.raises(FileNotFoundError) as caught:
        read(tmp_path)
    assert str(caught.value) == (
        f"from_path: {tmp_path} holds pictures or folders, but neither NumPy's files (images.npy,"
        " labels.npy) nor MNIST's four; image_folder(path, size) reads a folder of pictures"
    )


def test_unknown_names():
    with pytest.raises(ValueError) as caught:
        load("cifar")
    assert str(caught.value) == (
        f'load: there is no data set and no file "cifar"; choose digits, {", ".join(SETS)}, or give'
        " the path of a folder with one subfolder of pictures a class, of an IDX images file or of"
        " a folder with MNIST's four files"
    )


def test_data_sets_are_frozen():
    data = Dataset("none", (IMAGES, LABELS), (IMAGES, LABELS), ("a", "b"))
    with pytest.raises(AttributeError):
        data.name = "other"


# Batches


@given(n=st.integers(0, 50), size=st.integers(1, 60), shuffled=st.booleans())
def test_batches_hold_every_index_once(n, size, shuffled):
    parts = list(batches(n, size, key(3) if shuffled else None))
    assert all(part.dtype == np.int64 for part in parts)
    assert [len(part) for part in parts] == [size] * (n // size) + [n % size] * (n % size > 0)
    indices = np.concatenate([np.empty(0, np.int64), *parts])
    np.testing.assert_array_equal(np.sort(indices) if shuffled else indices, np.arange(n))


def test_batches_by_key():
    first, again, other = (np.concatenate([*batches(100, 7, key(s))]) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("n, size", [(-1, 2), (5, 0), (5, -3)])
def test_impossible_batches(n, size):
    with pytest.raises(
        ValueError, match=f"batches: n .* they are n={n}, start=0, size={size}, run=1"
    ):
        batches(n, size)
    with pytest.raises(TypeError):
        batches(float(n), size)
