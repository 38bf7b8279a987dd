"""Folders of images: classes and parts, what is passed over, left out or refused, and reading."""

from __future__ import annotations

import os
import re
import threading
from dataclasses import replace

import numpy as np
import pytest

from xpcnn.data import folder as folders
from xpcnn.data.folder import image_folder, is_image_folder
from xpcnn.data.pictures import Pictures, in_threads
from xpcnn.data.scan import EXTENSIONS, is_image, printable
from xpcnn.io import images
from xpcnn.io.images import read_image

cv2 = pytest.importorskip("cv2")

ODD = os.fsdecode(b"z\xff")


def save(path, colour=(0, 0, 0), shape=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    ok, data = cv2.imencode(path.suffix, np.full((*shape, len(colour)), colour[::-1], np.uint8))
    assert ok
    path.write_bytes(data.tobytes())
    return path


def fill(root, **counts):
    """So many black images for each class."""
    for name, count in counts.items():
        for number in range(count):
            save(root / name / f"{number:02}.png")
    return root


@pytest.fixture
def pets(tmp_path):
    """Five red cats and ten green dogs, one of them deep down."""
    for number in range(5):
        save(tmp_path / "pets" / "cat" / f"{number}.png", (255, 0, 0))
    for number in range(9):
        save(tmp_path / "pets" / "dog" / f"{number}.png", (0, 255, 0))
    save(tmp_path / "pets" / "dog" / "young" / "small" / "9.JPG", (0, 255, 0))
    return tmp_path / "pets"


def names(pictures, root):
    return [os.path.relpath(path, root) for path in pictures.paths]


# ---- classes and parts


def test_classes_are_folders(pets):
    data = image_folder(pets, 8)
    assert (data.name, data.train[0].shape, data.test[0].shape) == (
        "pets",
        (12, 3, 8, 8),
        (3, 3, 8, 8),
    )
    assert data.classes == ("cat", "dog")
    assert data.skipped == ()
    for pictures, labels in (data.train, data.test):
        assert labels.dtype == np.int64
        pixels = pictures[np.arange(len(labels))]
        assert pixels.dtype == pictures.dtype == np.uint8
        assert pixels.shape == pictures.shape
        np.testing.assert_array_equal(
            pixels[:, 0] > 128, np.broadcast_to(labels == 0, (8, 8, len(labels))).T
        )
        np.testing.assert_array_equal(
            pixels[:, 1] > 128, np.broadcast_to(labels == 1, (8, 8, len(labels))).T
        )
    paths = names(data.train[0], pets) + names(data.test[0], pets)
    assert len(set(paths)) == 15
    assert "dog/young/small/9.JPG" in paths


def test_a_part_of_each_class_is_held_back(pets):
    data = image_folder(pets, 8, test=0.4)
    assert np.bincount(data.test[1]).tolist() == [2, 4]
    again = image_folder(pets, 8, test=0.4)
    assert again.test[0].paths == data.test[0].paths
    others = [image_folder(pets, 8, test=0.4, seed=seed).test[0].paths for seed in range(1, 4)]
    assert data.test[0].paths not in others


@pytest.mark.parametrize("held", [("test",), ("val",), ("valid",), ("val", "test"), ("test", "x")])
def test_parts_in_folders_of_their_own(tmp_path, held):
    fill(tmp_path / "train", cat=3, dog=2)
    for name in held:
        fill(tmp_path / name, cat=1, dog=1)
    data = image_folder(tmp_path, 8)
    chosen = "test" if "test" in held else held[0]
    assert data.classes == ("cat", "dog")
    assert names(data.train[0], tmp_path / "train") == [
        *[f"cat/0{i}.png" for i in range(3)],
        *[f"dog/0{i}.png" for i in range(2)],
    ]
    assert data.train[1].tolist() == [0, 0, 0, 1, 1]
    assert names(data.test[0], tmp_path / chosen) == ["cat/00.png", "dog/00.png"]
    assert data.test[1].tolist() == [0, 1]


def test_train_alone_is_split(tmp_path):
    fill(tmp_path / "train", cat=4, dog=4)
    data = image_folder(tmp_path, 8, test=0.25)
    assert (data.classes, len(data.train[0]), len(data.test[0])) == (("cat", "dog"), 6, 2)


def test_train_and_test_may_be_classes(tmp_path):
    data = image_folder(fill(tmp_path, train=3, test=3), 8)
    assert data.classes == ("test", "train")


def test_train_may_be_a_class_among_others(tmp_path):
    fill(tmp_path, bus=3, car=3)
    save(tmp_path / "train" / "freight" / "a.png")
    assert image_folder(tmp_path, 8).classes == ("bus", "car", "train")


def test_names_of_other_scripts(tmp_path):
    known = ["Hund", "kot ół", "собака", "می\u200cشود", "猫", "a\nb", ODD]
    data = image_folder(fill(tmp_path, **dict.fromkeys(known, 2)), 8)
    expected = [{"a\nb": "a\\nb", ODD: "z\\udcff"}.get(name, name) for name in sorted(known)]
    assert data.classes == tuple(expected)
    for name in data.classes:
        name.encode()
        assert "\n" not in name
    assert data.train[0][:].shape == (7, 3, 8, 8)


def test_what_is_no_image_is_passed_over(tmp_path):
    fill(tmp_path, cat=2, dog=2)
    for name in ("labels.csv", ".hidden.png", "cat/Thumbs.db", "cat/.x.png", "dog/.git/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no image")
    fill(tmp_path, **{".trash": 2})
    data = image_folder(tmp_path, 8)
    assert data.classes == ("cat", "dog")
    assert len(data.train[0]) + len(data.test[0]) == 4


def test_extensions():
    written = {ending for ending in EXTENSIONS if cv2.haveImageWriter(f"a{ending}")}
    assert {".png", ".jpg", ".jpeg", ".bmp", ".tiff", ".tif", ".ppm"} <= written
    assert all(map(is_image, ["a.PnG", "a.jfif"]))
    assert not any(map(is_image, ["a.txt", "png", "a.png.txt", ""]))


def test_what_is_a_folder_of_images(tmp_path):
    assert not is_image_folder(tmp_path)
    assert not is_image_folder(tmp_path / "absent")
    assert is_image_folder(fill(tmp_path, cat=1))
    assert is_image_folder(tmp_path / "cat")  # of loose pictures, which image_folder tells of
    (tmp_path / "labels.csv").touch()
    assert is_image_folder(os.fsencode(tmp_path))
    for name in ("images.npy", "t10k-images-idx3-ubyte", "t10k-images-idx3-ubyte.gz"):
        (tmp_path / name).touch()
        assert not is_image_folder(tmp_path)
        (tmp_path / name).unlink()


# ---- reading


def test_grey_colour_and_size(pets):
    assert image_folder(pets, (4, 6)).train[0].shape[1:] == (3, 4, 6)
    grey = image_folder(pets, np.int64(4), color=False).train[0]
    assert grey.shape[1:] == (1, 4, 4)
    assert set(np.unique(grey[:2])) == {76}


@pytest.mark.parametrize("resize", ["crop", "stretch"])
def test_pictures_are_what_read_image_reads(tmp_path, resize):
    ramp = np.arange(24 * 40, dtype=np.uint16).reshape(24, 40).astype(np.uint8)
    for name in ("cat", "dog"):
        for number in range(3):
            (tmp_path / name).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / name / f"{number}.png"), ramp + number)
    pictures = image_folder(tmp_path, 10, resize=resize).train[0]
    assert pictures.resize == resize
    read = [read_image(path, (3, 10, 10), resize) for path in pictures.paths]
    np.testing.assert_array_equal(pictures[:], np.stack(read))


@pytest.fixture
def numbered(tmp_path):
    paths = [save(tmp_path / f"{number}.png", (number,)) for number in range(9)]
    return Pictures(tuple(map(str, paths)), (1, 8, 8), threads=2)


@pytest.mark.parametrize(
    "indices", [[3], [8, 0, 0, -1], [], np.array([], np.int64), slice(2, 7, 2), slice(None)]
)
def test_indexing(numbered, indices):
    expected = np.arange(9)[np.asarray(indices, np.int64) if isinstance(indices, list) else indices]
    found = numbered[indices]
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.tile(expected[:, None, None, None], (1, 1, 8, 8)))


@pytest.mark.parametrize("index", [0, 8, -9, np.int64(3)])
def test_an_integer_gives_one_image(numbered, index):
    np.testing.assert_array_equal(numbered[index], np.full((1, 8, 8), index % 9, np.uint8))
    with pytest.raises(IndexError):
        numbered[9]


@pytest.mark.parametrize("chosen", [[], [4], [0, 3, 8], range(9)])
def test_masks(numbered, chosen):
    mask = np.isin(np.arange(9), chosen)
    for one in (mask, mask.tolist()):
        np.testing.assert_array_equal(numbered[one], numbered[np.asarray(chosen, np.int64)])
    for other in (mask[:-1], mask[:, None], True):
        with pytest.raises(IndexError, match=r"Pictures: a mask must be \(9,\); it is \("):
            numbered[other]


def test_pictures_are_data(numbered):
    assert repr(numbered) == "Pictures((9, 1, 8, 8), resize='crop')"
    assert (len(numbered), numbered.ndim) == (9, 4)
    part = replace(numbered, paths=numbered.paths[4:6])
    np.testing.assert_array_equal(part[:], numbered[4:6])


@pytest.mark.parametrize("index", [[9], [-10]])
def test_indices_beyond(numbered, index):
    with pytest.raises(IndexError):
        numbered[index]


@pytest.mark.parametrize("index", [3.0, [1.0], [[1, 2]], "1", None])
def test_indices_of_another_kind(numbered, index):
    with pytest.raises(TypeError):
        numbered[index]


def test_a_file_that_goes_missing_is_named(numbered):
    os.unlink(numbered.paths[5])
    with pytest.raises(FileNotFoundError, match=re.escape(numbered.paths[5])):
        numbered[[0, 5, 6]]


def test_a_file_that_breaks_is_named(numbered):
    with open(numbered.paths[5], "r+b") as file:
        file.truncate(50)
    with pytest.raises(ValueError, match=re.escape(f"{numbered.paths[5]}: cannot be")):
        numbered[[0, 5, 6]]


def test_so_many_threads_read(numbered):
    before = threading.active_count()
    gate = threading.Barrier(3, timeout=20)
    assert list(in_threads(lambda _: gate.wait(), range(3), 3)) != []
    assert list(in_threads(lambda item: item, range(5000), 2)) == list(range(5000))
    with pytest.raises(IndexError):
        numbered[[0, 9]]
    os.unlink(numbered.paths[1])
    with pytest.raises(FileNotFoundError):
        numbered[:]
    assert threading.active_count() == before


# ---- what cannot be used


@pytest.fixture
def torn(tmp_path):
    """Two good classes, with a broken image, an empty one, and an empty class."""
    root = fill(tmp_path / "torn", cat=3, dog=3)
    data = (root / "cat" / "00.png").read_bytes()
    (root / "cat" / "broken.png").write_bytes(data[:-20])
    (root / "dog" / "empty.jpg").touch()
    (root / "fish").mkdir()
    return root


BROKEN = "it is no image, or damaged or truncated, or of an unknown format"


def test_refused(torn):
    with pytest.raises(ValueError) as caught:
        image_folder(torn, 8)
    assert str(caught.value) == (
        f"image_folder: of {torn}, 3 cannot be used; mend or remove what follows, or have it left"
        ' out with on_error="skip" (--skip-unreadable):\n'
        f"  {torn}/cat/broken.png: {BROKEN}\n"
        f"  {torn}/dog/empty.jpg: is empty; give an image file\n"
        f"  {torn}/fish: it holds no image"
    )


def test_skipped(torn):
    data = image_folder(torn, 8, on_error="skip")
    assert data.classes == ("cat", "dog")
    assert [tuple(skipped) for skipped in data.skipped] == [
        (f"{torn}/cat/broken.png", BROKEN),
        (f"{torn}/dog/empty.jpg", "is empty; give an image file"),
        (f"{torn}/fish", "it holds no image"),
    ]
    assert len(data.train[0]) + len(data.test[0]) == 6
    data.train[0][:]


def test_ten_are_named(tmp_path):
    fill(tmp_path, cat=3, dog=3)
    for number in range(14):
        (tmp_path / "dog" / f"x{number:02}.png").write_bytes(b"no image")
    with pytest.raises(
        ValueError, match=r"(?s), 14 cannot be used;.*x09\.png: it is no image"
    ) as caught:
        image_folder(tmp_path, 8)
    lines = str(caught.value).splitlines()
    assert len(lines) == 12
    assert lines[-1] == "  and 4 more"


def test_jfif_is_jpeg(tmp_path):
    fill(tmp_path, cat=2, dog=2)
    save(tmp_path / "dog" / "a.jpg").rename(tmp_path / "dog" / "a.jfif")
    data = image_folder(tmp_path, 8)
    assert "dog/a.jfif" in names(data.train[0], tmp_path) + names(data.test[0], tmp_path)


@pytest.mark.parametrize("ending", [".heic", ".HEIF", ".jxl", ".tga"])
def test_images_of_unread_formats_are_told(tmp_path, ending):
    fill(tmp_path, cat=2, dog=2)
    path = tmp_path / "cat" / f"a{ending}"
    path.write_bytes(bytes(range(64)))
    assert image_folder(tmp_path, 8, on_error="skip").skipped == ((str(path), BROKEN),)
    with pytest.raises(ValueError, match=f"a{ending}: {BROKEN}"):
        image_folder(tmp_path, 8)


def test_a_jpeg_that_ends_early_is_found(tmp_path):
    fill(tmp_path, cat=2, dog=2)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = cv2.imencode(".jpg", noise)[1].tobytes()
    (tmp_path / "cat" / "cut.jpg").write_bytes(data[: len(data) * 9 // 10])
    (skipped,) = image_folder(tmp_path, 8, on_error="skip").skipped
    assert skipped == (str(tmp_path / "cat" / "cut.jpg"), BROKEN)


def test_images_of_no_class(tmp_path):
    fill(tmp_path, cat=2, dog=2)
    save(tmp_path / "stray.png")
    (skipped,) = image_folder(tmp_path, 8, on_error="skip").skipped
    assert skipped == (str(tmp_path / "stray.png"), "it lies in no class's folder")
    with pytest.raises(ValueError, match=r"stray\.png: it lies in no class's folder"):
        image_folder(tmp_path, 8)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_a_pipe_is_not_waited_for(tmp_path):
    fill(tmp_path, cat=2, dog=2)
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    (skipped,) = image_folder(tmp_path, 8, on_error="skip").skipped
    assert skipped.reason == "is no ordinary file; give an image file"


def test_a_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    fill(tmp_path, cat=2, dog=2)
    (tmp_path / "cat" / "deep").mkdir()
    real = os.scandir

    def scandir(path):
        if os.fspath(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    (skipped,) = image_folder(tmp_path, 8, on_error="skip").skipped
    assert skipped == (str(tmp_path / "cat" / "deep"), "Permission denied")


# ---- links


@pytest.fixture
def linked(tmp_path):
    outside = save(tmp_path / "outside" / "secret.png")
    root = fill(tmp_path / "root", cat=2, dog=2)
    return root, outside


@pytest.mark.parametrize("place", ["cat/link.png", "cat/link", "link", "link.png"])
def test_links_that_leave_the_folder(linked, place):
    root, outside = linked
    target = outside if place.endswith("png") else outside.parent
    (root / place).symlink_to(target)
    reason = f"it is a link that leaves the folder, to {target}"
    with pytest.raises(ValueError, match=re.escape(f"{root / place}: {reason}")):
        image_folder(root, 8)
    data = image_folder(root, 8, on_error="skip")
    assert data.skipped == ((str(root / place), reason),)
    assert data.classes == ("cat", "dog")
    assert len(data.train[0]) + len(data.test[0]) == 4


def test_a_name_that_begins_like_the_folder_is_outside(linked):
    root, _ = linked
    target = save(root.parent / "root-2" / "a.png")
    (root / "cat" / "a.png").symlink_to(target)
    with pytest.raises(ValueError, match="leaves the folder"):
        image_folder(root, 8)


def test_a_part_that_is_a_link_outwards(linked):
    root, _ = linked
    parts = root.parent / "parts"
    fill(parts / "train", cat=2, dog=2)
    (parts / "test").symlink_to(root)
    with pytest.raises(ValueError, match=r"parts/test: it is a link that leaves the folder, to"):
        image_folder(parts, 8, on_error="skip")


def test_links_within_the_folder(linked):
    root, _ = linked
    (root / "cat" / "more").mkdir()
    (root / "cat" / "more" / "link.png").symlink_to(root / "dog" / "00.png")
    (root / "fish").symlink_to(root / "dog", target_is_directory=True)
    data = image_folder(root, 8)
    assert data.classes == ("cat", "dog", "fish")
    assert len(data.train[0]) + len(data.test[0]) == 7


def test_the_folder_may_be_a_link(linked):
    root, _ = linked
    (root.parent / "alias").symlink_to(root, target_is_directory=True)
    assert len(image_folder(root.parent / "alias", 8).train[0]) == 2


@pytest.mark.parametrize("target", [".", "..", "../.."])
def test_links_back_up(linked, target):
    root, _ = linked
    (root / "cat" / "deep").mkdir()
    (root / "cat" / "deep" / "loop").symlink_to(target)
    (skipped,) = image_folder(root, 8, on_error="skip").skipped
    assert skipped.path == str(root / "cat" / "deep" / "loop")
    assert skipped.reason == "it is a link to a folder that it lies in"


def test_links_in_a_circle(linked):
    root, _ = linked
    for name, other in (("one", "two"), ("two", "one")):
        (root / "cat" / name).mkdir()
        (root / "cat" / name / "link").symlink_to(root / "cat" / other)
        save(root / "cat" / name / f"{name}.png")
    data = image_folder(root, 8)
    found = names(data.train[0], root) + names(data.test[0], root)
    assert sum(name.startswith("cat") for name in found) == 4


@pytest.mark.parametrize("place", ["cat/a.png", "a"])
def test_links_to_nothing(linked, place):
    root, _ = linked
    (root / place).symlink_to(root / "gone")
    (skipped,) = image_folder(root, 8, on_error="skip").skipped
    assert skipped == (str(root / place), "it is a link to nothing")


@pytest.mark.parametrize("place", ["cat/a.png", "a"])
def test_a_link_to_itself(linked, place):
    root, _ = linked
    (root / place).symlink_to(root / place)
    assert len(image_folder(root, 8, on_error="skip").skipped) == 1


# ---- nothing to learn from


@pytest.mark.parametrize(
    "counts, message",
    [
        ({}, "holds no class; give at least two, each a folder with its images"),
        ({"cat": 3}, "holds the one class 'cat'; give at least two"),
        (
            {"cat": 1, "dog": 1},
            "has two images; one to train on and one to test with are the least",
        ),
    ],
)
def test_too_little(tmp_path, counts, message):
    for on_error in ("raise", "skip"):
        with pytest.raises(ValueError, match=message):
            image_folder(fill(tmp_path, **counts), 8, on_error=on_error)


def test_one_image(tmp_path):
    save(tmp_path / "only.png")
    for on_error in ("raise", "skip"):
        with pytest.raises(ValueError, match="holds no folders; put the pictures of each"):
            image_folder(tmp_path, 8, on_error=on_error)


def test_one_class_is_left(tmp_path):
    fill(tmp_path, cat=3, dog=1)
    (tmp_path / "dog" / "00.png").write_bytes(b"x")
    with pytest.raises(ValueError, match="holds the one class 'cat'"):
        image_folder(tmp_path, 8, on_error="skip")


def test_parts_with_other_classes(tmp_path):
    fill(tmp_path / "train", cat=2, dog=2, fish=2)
    fill(tmp_path / "test", cat=2, dog=2, bird=2)
    with pytest.raises(ValueError, match="the same classes; not all hold bird, fish"):
        image_folder(tmp_path, 8, on_error="skip")


def test_a_class_without_images_to_train_on_is_not_tested(tmp_path):
    fill(tmp_path / "train", cat=2, dog=2)
    fill(tmp_path / "test", bird=2, cat=2, dog=2)
    (tmp_path / "train" / "bird").mkdir()
    data = image_folder(tmp_path, 8, on_error="skip")
    assert data.classes == ("cat", "dog")
    assert data.test[1].tolist() == [0, 0, 1, 1]
    assert data.skipped == ((str(tmp_path / "train" / "bird"), "it holds no image"),)


def test_nothing_to_test_with(tmp_path):
    fill(tmp_path / "train", cat=2, dog=2)
    for name in ("cat", "dog"):
        (tmp_path / "test" / name).mkdir(parents=True)
    with pytest.raises(ValueError, match="test holds no image to test with; give some"):
        image_folder(tmp_path, 8, on_error="skip")


def test_a_file_where_a_folder_is_due(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(NotADirectoryError, match="file is a file; give the folder of the folders"):
        image_folder(tmp_path / "file", 8)
    with pytest.raises(FileNotFoundError, match=r"there is no .*absent; give a folder with one"):
        image_folder(tmp_path / "absent", 8)


@pytest.mark.parametrize(
    "options, kind, message",
    [
        ({"size": 0}, ValueError, "size=0; give an int of at least 1, or one per axis (H, W)"),
        ({"size": (8, 8, 8)}, ValueError, "size=(8, 8, 8); give an int"),
        ({"size": (8.0, 8)}, TypeError, "size=(8.0, 8); give an int"),
        ({"size": True}, TypeError, "size=True; give an int"),
        ({"size": None}, TypeError, "size=None; give an int"),
        ({"resize": "pad"}, ValueError, "resize='pad'; give 'stretch' or 'crop'"),
        ({"on_error": "ignore"}, ValueError, "on_error='ignore'; give 'raise' or 'skip'"),
        ({"test": 0.0}, ValueError, "test must lie in (0, 1); it is 0.0"),
        ({"test": 1.0}, ValueError, "test must lie in (0, 1); it is 1.0"),
        ({"test": "a"}, TypeError, "test must lie in (0, 1); it is 'a'"),
        ({"threads": 0}, ValueError, "threads=0; give an int of at least 1"),
        ({"threads": 1.5}, TypeError, "threads=1.5; give an int of at least 1"),
    ],
)
def test_options_that_are_none(pets, options, kind, message):
    with pytest.raises(kind, match=re.escape(f"image_folder: {message}")):
        image_folder(pets, **{"size": 8} | options)


def test_without_opencv(pets, monkeypatch):
    def without(call):
        raise ImportError("needs OpenCV")

    monkeypatch.setattr(images, "_opencv", without)
    with pytest.raises(ImportError, match="needs OpenCV"):
        image_folder(pets, 8, on_error="skip")


def test_names_are_told_as_they_are():
    assert printable("Ünter «x» 猫 \u200d\u3000'\"\\") == "Ünter «x» 猫 \u200d\u3000'\"\\"
    assert printable("\x1b[31m\r\x7f\x85") == "\\x1b[31m\\r\\x7f\\x85"
    assert folders.TOLD == 10
