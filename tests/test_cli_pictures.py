"""The commands that draw a photo: what they write, and a line for every photo that is none."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
from command import run

from xpcnn import plots
from xpcnn.io import read_photo

cv2 = pytest.importorskip("cv2")
plt = pytest.importorskip("matplotlib.pyplot")

TURNED = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
"""EXIF that says: a quarter turn to the right makes it upright."""


@pytest.fixture(autouse=True)
def plain(monkeypatch, tmp_path):
    """In an empty folder, without windows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENCV_LOG_LEVEL", "SILENT")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setattr("xpcnn.cli._figures.DPI", 40)  # quicker
    plt.switch_backend("Agg")
    yield
    plt.close("all")


def save(name, pixels):
    ok, data = cv2.imencode(Path(name).suffix, pixels)
    assert ok
    Path(name).write_bytes(data.tobytes())
    return name


def pixels(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def turned():
    name = save("turned.jpg", pixels(20, 30, 3))
    data = Path(name).read_bytes()
    length = (len(TURNED) + 2).to_bytes(2, "big")
    Path(name).write_bytes(data[:2] + b"\xff\xe1" + length + TURNED + data[2:])
    return name


@pytest.fixture
def drawn(monkeypatch):
    """The images and kernels that the commands hand to be drawn."""
    seen = []

    def watch(name):
        draw = getattr(plots, name)

        def watching(*given):
            seen.append(given)
            return draw(*given)

        monkeypatch.setattr(plots, name, watching)

    watch("filter_gallery")
    watch("stages")
    return seen


COMMANDS = ("filters", "stages")


@pytest.fixture(params=COMMANDS)
def command(request):
    return request.param


def test_a_figure_is_written_into_this_folder(command, drawn):
    os.mkdir("photos")
    path = save("photos/my cat.png", pixels(30, 40, 3))
    done = run(command, path)
    written = f"my cat-{command}.png"
    assert (done.status, done.err) == (0, "")
    assert done.out == f"figure written to {written}\n"
    assert sorted(os.listdir()) == [written, "photos"]
    figure = read_photo(written)
    assert min(figure.shape[1:]) > 150
    assert np.ptp(figure) > 200  # not a blank page
    np.testing.assert_array_equal(drawn[0][0], read_photo(path))


@pytest.mark.parametrize(
    "name, magic", [("a.svg", b"<?xml"), ("a.PDF", b"%PDF"), ("猫.png", b"\x89PNG")]
)
def test_out_says_where_and_how(name, magic):
    done = run("stages", save("cat.png", pixels(12, 12)), "--out", name)
    assert (done.status, done.out, done.err) == (0, f"figure written to {name}\n", "")
    assert Path(name).read_bytes().startswith(magic)


def test_a_figure_that_fails_leaves_the_old_one(monkeypatch):
    save("cat.png", pixels(12, 12))
    Path("a.png").write_bytes(b"old")
    monkeypatch.setattr(
        plt.Figure, "savefig", lambda *_, **__: (_ for _ in ()).throw(OSError("full"))
    )
    done = run("filters", "cat.png", "--out", "a.png")
    assert (done.status, done.err) == (1, "error: full\n")
    assert sorted(os.listdir()) == ["a.png", "cat.png"]
    assert Path("a.png").read_bytes() == b"old"


def test_longest_shrinks_a_photo(command, drawn):
    save("cat.png", pixels(30, 60))
    run(command, "cat.png")
    run(command, "cat.png", "--longest", 20)
    assert [given[0].shape for given in drawn] == [(3, 30, 60), (3, 10, 20)]


@pytest.mark.parametrize("name", ["sobel-x", "Sobel x", "SOBEL-X", None])
def test_the_stages_take_a_filter_by_its_name(drawn, name):
    run("stages", save("cat.png", pixels(9, 9)), *([] if name is None else ["--filter", name]))
    np.testing.assert_array_equal(drawn[0][1], [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])


def test_every_filter_that_is_shown_can_be_taken(drawn):
    save("cat.png", pixels(9, 9))
    for title, kernel in plots.FILTERS.items():
        assert run("stages", "cat.png", "--filter", title).status == 0
        np.testing.assert_array_equal(drawn[-1][1], kernel)
        plt.close("all")


# Photos that are unusual


@pytest.mark.parametrize(
    "photo, shape",
    [
        (lambda: save("grey.png", pixels(20, 30)), (3, 20, 30)),
        (lambda: save("alpha.png", pixels(20, 30, 4)), (3, 20, 30)),
        (lambda: save("deep.png", pixels(20, 30, 3, dtype=np.uint16)), (3, 20, 30)),
        (lambda: save("wide.png", pixels(300, 20_000)), (3, 8, 512)),
        (lambda: save("wide.jpg", pixels(300, 20_000)), (3, 8, 512)),
        (turned, (3, 30, 20)),
    ],
    ids=["grey", "alpha", "16-bit", "20,000 wide", "20,000 wide, JPEG", "EXIF-rotated"],
)
def test_unusual_photos_are_drawn(command, drawn, photo, shape):
    path = photo()
    done = run(command, path)
    little = f"{path} is 8x512 pixels when its longer side has 512, which is little to look at; "
    assert done.err == (f"{little}raise --longest\n" if shape == (3, 8, 512) else "")
    assert (done.status, done.out) == (0, f"figure written to {Path(path).stem}-{command}.png\n")
    assert drawn[0][0].shape == shape


def test_one_pixel_is_filtered_and_too_small_for_the_stages():
    save("dot.png", pixels(1, 1, 3))
    assert run("filters", "dot.png").out == "figure written to dot-filters.png\n"
    done = run("stages", "dot.png")
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        "error: stages: a 3x3 kernel and a 2x2 window need an image of 4x4 pixels or more; it is "
        "1x1\n"
    )
    assert sorted(os.listdir()) == ["dot-filters.png", "dot.png"]


def test_a_photo_that_shrinking_leaves_too_small_for_the_stages():
    done = run("stages", save("wide.png", pixels(10, 600)), "--longest", 100)
    hint, error = done.err.splitlines()
    assert (done.status, done.out) == (1, "")
    assert hint.startswith("wide.png is 2x100 pixels when its longer side has 100, ")
    assert error.endswith("; it is 2x100")
    assert run("stages", "wide.png", "--longest", 600).status == 0


def truncated(name):
    save(name, pixels(20, 30, 3))
    Path(name).write_bytes(Path(name).read_bytes()[:-30])
    return name


def empty(name):
    Path(name).touch()
    return name


@pytest.mark.parametrize(
    "words, message",
    [
        (
            lambda: [truncated("bad.png")],
            "bad.png: cannot be read: it is no image, or da",
        ),
        (
            lambda: [truncated("bad.jpg")],
            "bad.jpg: cannot be read: it is no image, or da",
        ),
        (lambda: [empty("none.png")], "none.png: is empty; give an image file"),
        (lambda: ["absent.png"], "absent.png: No such file or directory"),
        (lambda: ["."], ".: is a folder; give the path of one image file"),
        (
            lambda: ["absent.png", "--out", "a.gif"],
            "--out a.gif: no figure is written",
        ),
        (
            lambda: ["absent.png", "--out", "nowhere/a.png"],
            "writing nowhere/a.png: there is no folder",
        ),
    ],
)
def test_what_is_no_photo_is_told_in_a_line(command, words, message):
    done = run(command, *words())
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(f"error: {message}")
    assert done.err.count("\n") == 1
    assert not [name for name in os.listdir() if name.endswith(f"-{command}.png")]


def test_a_filter_that_is_none():
    done = run("stages", save("cat.png", pixels(9, 9)), "--filter", "sobel")
    assert (done.status, done.out) == (1, "")
    names = "sharpen, vertical-edge, surround, sobel-y, identity, horizontal-edge, blur, sobel-x"
    assert done.err == f"error: --filter sobel: no such filter; choose {names}, emboss\n"


def test_a_longest_side_that_is_none(command):
    done = run(command, "cat.png", "--longest", 0)
    assert done.status == 2
    assert "--longest" in done.err


def test_without_matplotlib(command, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "xpcnn.cli._figures.find_spec", lambda name: None if name == "matplotlib" else find(name)
    )
    done = run(command, save("cat.png", pixels(9, 9)))
    assert (done.status, done.out) == (1, "")
    assert done.err == f'error: {command} needs Matplotlib: pip install "xpcnn[plots]"\n'
