"""Named data sets: found on this machine, downloaded from loopback, read out of small archives.

The archives are built like the published ones: the same members, records and orders of axes.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from loopback import cut, serving

from xpcnn.data import SETS, find, get, load, local, write_idx
from xpcnn.data.catalog import File
from xpcnn.data.local import cache, places
from xpcnn.data.mnist import BLOCK, FOUR

SPLITS = ("balanced", "byclass", "bymerge", "digits", "letters", "mnist")


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A machine without data sets; the folder that stands for it."""
    monkeypatch.delenv("XPCNN_DATA", raising=False)
    monkeypatch.setenv("XPCNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(local, "SYSTEM", str(tmp_path / "system"))
    return tmp_path


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# The list


def test_the_list():
    assert list(SETS) == [
        "mnist", "fashion-mnist", "kmnist", *(f"emnist-{split}" for split in SPLITS),
        "cifar-10", "cifar-100", "svhn", "svhn-extra",
    ]  # fmt: skip
    for name, source in SETS.items():
        assert source.name == name
        assert source.size == sum(file.size for file in source.files) > 0
        assert len(source.shape) == 3
        assert min(source.train, source.test, source.classes) > 0
        assert source.origin
    assert (SETS["mnist"].size, SETS["emnist-mnist"].size) == (11_594_722, 561_753_746)


def test_files_are_told_apart():
    """Equal places hold equal files, unequal files have unequal sums, and none is pickled."""
    kept = {(s.folder, file.name): file for s in SETS.values() for file in s.files}
    assert all(kept[s.folder, file.name] == file for s in SETS.values() for file in s.files)
    assert len({file.sha256 for file in kept.values()}) == len(kept) == 18
    for file in kept.values():
        assert re.fullmatch("[0-9a-f]{64}", file.sha256)
        assert re.fullmatch(r"https?://[^?#]+/[\w-]+(\.gz|\.zip|\.tar\.gz|\.mat)?", file.url)
        assert "python" not in file.url


# Where they are


def touch(folder, source):
    folder.mkdir(parents=True, exist_ok=True)
    for file in source.files:
        (folder / file.name).touch()


@pytest.mark.parametrize("name", SETS)
def test_places_in_their_order(machine, monkeypatch, name):
    source = SETS[name]
    monkeypatch.setenv("XPCNN_DATA", str(machine / "data"))
    folders = [machine / place / source.folder for place in ("data", "system", "cache")]
    assert [place for place in places(source) if place.name == source.folder] == folders
    assert find(source) is None
    for folder in reversed(folders):
        touch(folder, source)
        assert find(source) == [folder / file.name for file in source.files]


def test_data_itself_counts_where_nothing_can_be_mistaken(machine, monkeypatch):
    """Under MNIST's four names come several sets; the others have names of their own."""
    monkeypatch.setenv("XPCNN_DATA", str(machine / "mnist"))
    for name in ("mnist", "cifar-10", "svhn"):
        touch(machine / "mnist", SETS[name])
    found = {name for name in SETS if find(SETS[name])}
    assert found == {"mnist", "cifar-10", "svhn"}
    monkeypatch.chdir(machine / "mnist")
    monkeypatch.setenv("XPCNN_DATA", ".")
    assert {name for name in SETS if find(SETS[name])} == found


def test_a_folder_with_some_of_the_files_is_none(machine):
    touch(machine / "system" / "svhn", SETS["svhn"])
    assert find(SETS["svhn"])
    assert find(SETS["svhn-extra"]) is None


def test_files_may_be_unpacked(machine):
    folder = machine / "system" / "mnist"
    touch(folder, SETS["mnist"])
    (folder / f"{FOUR[0]}.gz").rename(folder / FOUR[0])
    assert [path.name for path in find(SETS["mnist"])] == [
        name + ".gz" * (name != FOUR[0]) for name in FOUR
    ]


def test_the_cache_of_this_system(monkeypatch):
    monkeypatch.delenv("XPCNN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert "xpcnn" in cache().parts
    assert sys.platform != "linux" or cache() == Path("/somewhere/xpcnn")
    monkeypatch.setenv("XPCNN_CACHE", "/elsewhere")
    assert cache() == Path("/elsewhere")


def test_what_is_not_here(machine):
    with pytest.raises(FileNotFoundError) as caught:
        load("cifar-100")
    assert str(caught.value) == (
        f"load: cifar-100 (cifar-100-binary.tar.gz) is not in {machine}/system/cifar-100 or"
        f' {machine}/cache/cifar-100; run "xpcnn data get cifar-100", or put it there'
    )
    assert not (machine / "cache").exists()


# How they get here


def four(folder, rng, shape=(28, 28)):
    """MNIST's files, gzipped, in their order: their contents."""
    folder.mkdir()
    for part, n in (("train", 20), ("t10k", 10)):
        images = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", (np.arange(n) % 10).astype(np.uint8))
    return [(folder / f"{name}.gz").read_bytes() for name in FOUR]


@pytest.fixture
def server(machine, rng, monkeypatch):
    """One that has a small KMNIST, which stands for the real one."""
    monkeypatch.setenv("NO_PROXY", "*")
    contents = four(machine / "origin", rng)
    names = [f"{name}.gz" for name in FOUR]
    with serving(dict(zip(names, contents, strict=True))) as server:
        files = tuple(
            File(server.url(name), len(content), hashlib.sha256(content).hexdigest())
            for name, content in server.files.items()
        )
        monkeypatch.setitem(SETS, "kmnist", replace(SETS["kmnist"], files=files))
        yield server


def test_got_and_loaded(machine, server):
    told = []
    folder = get("kmnist", lambda *numbers: told.append(numbers))
    assert folder == machine / "cache" / "kmnist"
    counts, totals = zip(*told, strict=True)
    assert list(counts) == sorted(counts)
    assert counts[-1] == totals[0] == SETS["kmnist"].size
    assert len(set(totals)) == 1
    data = load("kmnist")
    assert repr(data) == (
        "Dataset('kmnist', train=(20, 1, 28, 28), test=(10, 1, 28, 28), classes=10)"
    )
    assert data.classes[:3] == ("o", "ki", "su")
    assert data.test[1].tolist() == list(range(10))
    get("kmnist")
    assert len(server.requests) == 4


def test_what_is_broken_off_is_gone_on_with(server, monkeypatch):
    monkeypatch.setattr("xpcnn.data.download.time.sleep", lambda seconds: None)
    server.replies = [cut(100)] * 3
    with pytest.raises(ConnectionError, match=r"train-images-idx3-ubyte\.gz broke off: 100 of"):
        get("kmnist")
    get("kmnist")
    assert server.requests[3]["Range"] == "bytes=100-"
    assert len(load("kmnist").train[0]) == 20


def test_what_is_here_is_not_downloaded(machine, server):
    (machine / "system").mkdir()
    (machine / "origin").rename(machine / "system" / "kmnist")
    assert get("kmnist") == machine / "system" / "kmnist"
    assert server.requests == []


def test_what_is_damaged_in_the_cache_is_got_anew(machine, server):
    damaged = get("kmnist") / f"{FOUR[2]}.gz"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(ValueError, match="damaged or truncated gzip"):
        load("kmnist")
    get("kmnist")
    load("kmnist")
    assert len(server.requests) == 5


@pytest.mark.parametrize("name", ["digits", "emnist", ""])
def test_unknown_names(name):
    with pytest.raises(ValueError) as caught:
        get(name)
    assert str(caught.value) == (
        f'get: there is no data set "{name}" to download; choose {", ".join(SETS)}'
    )


# How they are read


def put(machine, name, content):
    """The one file of a set, in the cache: its path."""
    [file] = SETS[name].files
    path = machine / "cache" / SETS[name].folder / file.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def tar(members, mode="w:gz"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def cifar(rng, n, *labels):
    """Records of n images, and the images."""
    images = rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)
    columns = [np.full(n, label) if np.ndim(label) == 0 else label for label in labels]
    records = np.concatenate([np.stack(columns, 1), images.reshape(n, -1)], axis=1)
    return records.astype(np.uint8).tobytes(), images


def cifar_10(rng):
    folder = "cifar-10-batches-bin"
    batches = {k: cifar(rng, 4, (np.arange(4) + k) % 10) for k in range(1, 6)}
    members = {f"{folder}/data_batch_{k}.bin": batches[k][0] for k in (3, 1, 5, 2, 4)}
    test, test_images = cifar(rng, 3, np.array([9, 0, 4]))
    names = b"airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n"
    members |= {f"{folder}/readme.html": b"<html>", f"{folder}/test_batch.bin": test}
    members |= {f"{folder}/batches.meta.txt": names}
    return members, np.concatenate([batches[k][1] for k in range(1, 6)]), test_images


def test_cifar_10(machine, rng):
    members, images, test_images = cifar_10(rng)
    put(machine, "cifar-10", tar(members))
    data = load("cifar-10")
    np.testing.assert_array_equal(data.train[0], images, strict=True)
    np.testing.assert_array_equal(data.test[0], test_images, strict=True)
    assert data.train[1].tolist() == [(i + k) % 10 for k in range(1, 6) for i in range(4)]
    assert data.test[1].tolist() == [9, 0, 4]
    assert data.train[1].dtype == np.int64
    assert (data.classes[0], data.classes[9], len(data.classes)) == ("airplane", "truck", 10)


def test_cifar_100(machine, rng):
    train, images = cifar(rng, 5, 19, np.array([0, 99, 7, 50, 1]))
    test, test_images = cifar(rng, 2, 3, np.array([98, 2]))
    fine = "\n".join(f"kind_{number}" for number in range(100))
    members = {
        "cifar-100-binary/coarse_label_names.txt": b"aquatic_mammals\n",
        "cifar-100-binary/fine_label_names.txt": fine.encode(),
        "cifar-100-binary/test.bin": test,
        "cifar-100-binary/train.bin": train,
    }
    put(machine, "cifar-100", tar(members))
    data = load("cifar-100")
    np.testing.assert_array_equal(data.train[0], images, strict=True)
    np.testing.assert_array_equal(data.test[0], test_images, strict=True)
    assert data.train[1].tolist() == [0, 99, 7, 50, 1]
    assert data.test[1].tolist() == [98, 2]
    assert data.classes[99] == "kind_99"


FOLDER = "cifar-10-batches-bin"
BAD_CIFAR = {
    "no archive": (lambda members: b"hello" * 200, "no tar archive, or damaged or truncated"),
    "cut": (lambda members: tar(members)[:9000], "no tar archive, or damaged or truncated"),
    "cut, unpacked": (lambda members: tar(members, "w")[:2000], "damaged or truncated; get it"),
    "a part missing": (
        lambda members: tar({k: v for k, v in members.items() if "_4" not in k}),
        "there is no data_batch_4.bin in it; get CIFAR's archive anew",
    ),
    "half a record": (
        lambda members: tar(members | {f"{FOLDER}/test_batch.bin": bytes(4000)}),
        "test_batch.bin has 4000 bytes, no whole number of records of 3073",
    ),
    "no records": (
        lambda members: tar(members | {f"{FOLDER}/test_batch.bin": b""}),
        "test_batch.bin has 0 bytes, no whole number of records of 3073",
    ),
    "wild labels": (
        lambda members: tar(members | {f"{FOLDER}/test_batch.bin": b"\x0a" * 3073}),
        "to 10; cifar-10 has 10 classes",
    ),
    "few names": (
        lambda members: tar(members | {f"{FOLDER}/batches.meta.txt": b"airplane\n"}),
        "labels run from 0 to 9; cifar-10 has 1 classes",
    ),
}


@pytest.mark.parametrize("make, message", BAD_CIFAR.values(), ids=BAD_CIFAR)
def test_bad_archives_of_cifar(machine, rng, make, message):
    path = put(machine, "cifar-10", make(cifar_10(rng)[0]))
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load("cifar-10")
    assert str(path.parent) in str(caught.value)


def test_members_that_lead_elsewhere_are_no_files(machine, rng):
    """Nothing is unpacked to paths of the archive's, nor are its links followed."""
    secret = machine / "test_batch.bin"
    secret.write_bytes(bytes(3073))
    out = io.BytesIO(tar(cifar_10(rng)[0], "w"))
    with tarfile.open(fileobj=out, mode="a") as archive:
        for name, kind in (("../test_batch.bin", tarfile.SYMTYPE), ("../up", tarfile.REGTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, str(secret)
            archive.addfile(member)
    path = put(machine, "cifar-10", out.getvalue())
    assert load("cifar-10").test[1].tolist() == [9, 0, 4]
    assert not (path.parent.parent / "up").exists()


def emnist(rng, machine, split, n, labels, mapping):
    """The archive, and the images as they look upright."""
    members = {f"gzip/emnist-{split}-mapping.txt": mapping}
    upright = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
    for part, size in (("train", n), ("test", 5)):
        for kind, array in (
            ("images-idx3", upright[:size].transpose(0, 2, 1)),
            ("labels-idx1", np.resize(np.asarray(labels, np.uint8), size)),
        ):
            write_idx(machine / "member.gz", array)
            members[f"gzip/emnist-{split}-{part}-{kind}-ubyte.gz"] = (
                machine / "member.gz"
            ).read_bytes()
    return members, upright


def zipped(members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("gzip")
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


LETTERS = "".join(f"{k} {64 + k} {96 + k}\n" for k in range(1, 27)).encode()
DIGITS = "".join(f"{k} {48 + k}\n" for k in range(10)).encode()


def test_emnist_letters(machine, rng):
    members, upright = emnist(rng, machine, "letters", 30, range(1, 27), LETTERS)
    others, _ = emnist(rng, machine, "digits", 10, range(10), DIGITS)
    put(machine, "emnist-letters", zipped(others | members))
    data = load("emnist-letters")
    np.testing.assert_array_equal(data.train[0][:, 0], upright, strict=True)
    np.testing.assert_array_equal(data.test[0][:, 0], upright[:5], strict=True)
    assert data.train[1].tolist() == [*range(26), 0, 1, 2, 3]
    assert data.train[1].dtype == np.int64
    assert (data.classes[0], data.classes[25], len(data.classes)) == ("Aa", "Zz", 26)
    assert load("emnist-digits").classes == tuple("0123456789")
    with pytest.raises(ValueError, match=r"no item named 'gzip/emnist-mnist-mapping\.txt' in"):
        load("emnist-mnist")


def test_emnist_is_turned_block_by_block(machine, rng):
    members, upright = emnist(rng, machine, "digits", BLOCK + 3, range(10), DIGITS)
    put(machine, "emnist-digits", zipped(members))
    np.testing.assert_array_equal(load("emnist-digits").train[0][:, 0], upright, strict=True)


IMAGES = "gzip/emnist-digits-test-images-idx3-ubyte.gz"
MAPPING = "gzip/emnist-digits-mapping.txt"
BAD_EMNIST = {
    "no archive": (lambda m: b"hello", "damaged or truncated (File is not a zip file)"),
    "cut": (lambda m: zipped(m)[:-50], "damaged or truncated (File is not a zip file)"),
    "a flipped byte": (lambda m: flipped(zipped(m)), "damaged or truncated ("),
    "no gzip": (lambda m: zipped(m | {IMAGES: b"hello"}), "damaged or truncated (Not a gzipped"),
    "cut gzip": (lambda m: zipped(m | {IMAGES: m[IMAGES][:99]}), "damaged or truncated ("),
    "no IDX": (lambda m: zipped(m | {IMAGES: gzip.compress(b"hello")}), f"{IMAGES}, byte 0: no"),
    "no mapping": (lambda m: zipped(m | {MAPPING: b"hello\n"}), f"{MAPPING} is no list of labels:"),
    "empty mapping": (lambda m: zipped(m | {MAPPING: b""}), f"{MAPPING} is no list of labels:"),
    "gaps": (lambda m: zipped(m | {MAPPING: b"0 48\n2 50\n"}), "its labels do not follow each"),
    "no characters": (lambda m: zipped(m | {MAPPING: b"0\n1\n"}), "or have no characters; get it"),
    "few": (lambda m: zipped(m | {MAPPING: DIGITS[:-5]}), "from 0 to 9; emnist-digits has 9 cl"),
    "from 1": (lambda m: zipped(m | {MAPPING: DIGITS[5:]}), "labels run from -1 to 8; emnist-dig"),
}  # fmt: skip


def flipped(content):
    """With another byte in the middle of the last member."""
    place = content.rindex(b"PK\x03\x04") + 100
    return content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]


@pytest.mark.parametrize("make, message", BAD_EMNIST.values(), ids=BAD_EMNIST)
def test_bad_archives_of_emnist(machine, rng, make, message):
    members, _ = emnist(rng, machine, "digits", 20, range(10), DIGITS)
    path = put(machine, "emnist-digits", make(members))
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load("emnist-digits")
    assert str(path.parent) in str(caught.value)


def test_emnist_has_squares(machine, rng):
    members, _ = emnist(rng, machine, "digits", 20, range(10), DIGITS)
    write_idx(machine / "member.gz", np.zeros((5, 28, 27), np.uint8))
    members[IMAGES] = (machine / "member.gz").read_bytes()
    put(machine, "emnist-digits", zipped(members))
    with pytest.raises(ValueError, match=r"images are \(5, 1, 28, 27\), not \(N, 1, 28, 28\)"):
        load("emnist-digits")


def write_svhn(path, rng, n, labels=None, **other):
    scipy_io = pytest.importorskip("scipy.io")
    images = rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)
    labels = np.arange(n) % 10 + 1 if labels is None else np.asarray(labels)
    held = {"X": images.transpose(2, 3, 1, 0), "y": labels[:, None].astype(np.uint8)} | other
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy_io.savemat(path, held, do_compression=True)
    return images


def test_svhn(machine, rng):
    folder = machine / "cache" / "svhn"
    train = write_svhn(folder / "train_32x32.mat", rng, 12)
    test = write_svhn(folder / "test_32x32.mat", rng, 3, [10, 1, 9])
    data = load("svhn")
    np.testing.assert_array_equal(data.train[0], train, strict=True)
    np.testing.assert_array_equal(data.test[0], test, strict=True)
    assert data.train[0].flags.c_contiguous
    assert data.train[1].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2]
    assert data.test[1].tolist() == [0, 1, 9]
    assert data.train[1].dtype == np.int64
    assert data.classes == tuple("0123456789")
    extra = write_svhn(folder / "extra_32x32.mat", rng, 4)
    more = load("svhn-extra")
    np.testing.assert_array_equal(more.train[0], np.concatenate([train, extra]), strict=True)
    assert more.train[1].tolist() == [*data.train[1], 1, 2, 3, 4]
    np.testing.assert_array_equal(more.test[0], test)


def test_svhn_where_memory_ends(machine, rng, monkeypatch):
    """No word of damage."""
    scipy_io = pytest.importorskip("scipy.io")

    def without(*args, **options):
        raise MemoryError

    for name in ("train", "test"):
        write_svhn(machine / "cache" / "svhn" / f"{name}_32x32.mat", rng, 4)
    monkeypatch.setattr(scipy_io, "loadmat", without)
    with pytest.raises(MemoryError):
        load("svhn")


BAD_SVHN = {
    "axes": ({"X": np.zeros((3, 32, 32, 4), np.uint8)}, "X must be uint8 (32, 32, 3, N); it is"),
    "dtype": ({"X": np.zeros((32, 32, 3, 4))}, "it is float64 (32, 32, 3, 4)"),
    "lengths": ({"y": np.ones((3, 1), np.uint8)}, "y must be (4, 1), of 1 to 10; it is (3, 1)"),
    "labels": ({"y": np.full((4, 1), 11)}, "y must be (4, 1), of 1 to 10"),
    "names": ({"y": np.full((4, 1), "one")}, "y must be (4, 1), of 1 to 10"),
}


@pytest.mark.parametrize("other, message", BAD_SVHN.values(), ids=BAD_SVHN)
def test_bad_files_of_svhn(machine, rng, other, message):
    folder = machine / "cache" / "svhn"
    write_svhn(folder / "train_32x32.mat", rng, 4)
    write_svhn(folder / "test_32x32.mat", rng, 4, **other)
    with pytest.raises(ValueError, match=re.escape(f"{folder}/test_32x32.mat: ")) as caught:
        load("svhn")
    assert message in str(caught.value)


@pytest.mark.parametrize("change", [lambda b: b"hello", lambda b: b"", lambda b: b[: len(b) // 2]])
def test_damaged_files_of_svhn(machine, rng, change):
    path = machine / "cache" / "svhn" / "train_32x32.mat"
    write_svhn(path, rng, 4)
    (path.parent / "test_32x32.mat").write_bytes(path.read_bytes())
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=re.escape(f"{path}: no MATLAB file, or damaged")):
        load("svhn")


def test_a_matlab_file_of_something_else(machine, rng):
    scipy_io = pytest.importorskip("scipy.io")
    path = machine / "cache" / "svhn" / "train_32x32.mat"
    touch(path.parent, SETS["svhn"])
    scipy_io.savemat(path, {"Z": np.zeros(3)})
    with pytest.raises(ValueError, match=re.escape(f"{path}: it holds no X and no y; get it")):
        load("svhn")


def test_svhn_without_scipy(machine, monkeypatch):
    touch(machine / "cache" / "svhn", SETS["svhn"])
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(ImportError, match=r'SVHN needs SciPy: pip install "xpcnn\[data\]"'):
        load("svhn")
