"""Image files become arrays: colours, depth, transparency, orientation, size; and bad files.

`read_photo` reads by the same code as `read_image`, so what both promise is tested of the latter.
"""

from __future__ import annotations

import builtins
import os
import zlib

import numpy as np
import pytest

from xpcnn.io import _decode, read_image, read_photo

cv2 = pytest.importorskip("cv2")

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


@pytest.fixture
def save(tmp_path):
    """Write pixels (H, W) or (H, W, RGB[A]) to a file of that name, and tell its path."""

    def save(pixels, name="image.png"):
        order = [2, 1, 0, 3][: pixels.shape[2]] if pixels.ndim == 3 else None
        ok, data = cv2.imencode(f".{name.split('.')[-1]}", pixels[..., order] if order else pixels)
        assert ok
        path = tmp_path / name
        path.write_bytes(data.tobytes())
        return path

    return save


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)


def filled(colour, shape=(4, 4), dtype=np.uint8):
    return np.full((*shape, len(colour)), colour, dtype)


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tiff", "a.ppm"])
def test_colours_are_red_green_blue(save, noise, name):
    image = read_image(save(noise, name), (3, 12, 10))
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    np.testing.assert_array_equal(image, noise.transpose(2, 0, 1), strict=True)


def test_jpeg(save):
    image = read_image(save(filled(RED, (16, 16)), "a.jpg"), (3, 16, 16))
    assert np.abs(image.astype(int) - np.array(RED)[:, None, None]).max() <= 3  # it is lossy


@pytest.mark.parametrize("colour, grey", [(RED, 76), (GREEN, 150), (BLUE, 29), ((9, 9, 9), 9)])
def test_grey_weighs_the_colours_as_the_eye_does(save, colour, grey):
    image = read_image(save(filled(colour)), (1, 4, 4))
    np.testing.assert_array_equal(image, np.full((1, 4, 4), grey, np.uint8), strict=True)


def test_grey_files(save, noise):
    path = save(noise[..., 0])
    np.testing.assert_array_equal(read_image(path, (1, 12, 10))[0], noise[..., 0])
    for plane in read_image(path, (3, 12, 10)):
        np.testing.assert_array_equal(plane, noise[..., 0])


@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_16_bits_become_8(save, name):
    deep = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16) + np.uint16(128)
    image = read_image(save(deep, name), (1, 16, 16))[0].astype(int)
    assert np.abs(image - deep / 257).max() <= 1.0


def test_what_is_half_transparent_is_rounded_to_the_nearest():
    pixel, opacity = np.full((1, 1, 3), 10, np.uint8), np.full((1, 1, 1), 100, np.uint8)
    mixed = _decode._over_white(pixel, opacity)  # 158.9
    assert mixed.tolist() == [[[159, 159, 159]]]


@pytest.mark.parametrize("dtype, full", [(np.uint8, 255), (np.uint16, 65535)])
def test_transparency_shows_white(save, dtype, full):
    pixels = filled((0, 0, 0, full), dtype=dtype)
    pixels[:2, :, 3] = 0
    pixels[2, :, 3] = full // 2
    grey = read_image(save(pixels), (1, 4, 4))[0]
    assert grey[:, 0].tolist() == [255, 255, 128, 0]


def test_opaque_pixels_keep_their_colours(save, noise):
    pixels = np.concatenate([noise, np.full((12, 10, 1), 255, np.uint8)], axis=2)
    np.testing.assert_array_equal(read_image(save(pixels), (3, 12, 10)), noise.transpose(2, 0, 1))


def exif(orientation, order="big"):
    mark = b"MM" if order == "big" else b"II"
    numbers = [(42, 2), (8, 4), (1, 2), (0x0112, 2), (3, 2), (1, 4), (orientation, 2), (0, 6)]
    return mark + b"".join(number.to_bytes(size, order) for number, size in numbers)


def in_jpeg(data, exif):
    body = b"Exif\0\0" + exif
    return data[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + data[2:]


def in_png(data, exif):
    body = b"eXIf" + exif
    chunk = len(exif).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    return data[:33] + chunk + data[33:]  # after the signature and IHDR


# how a viewer turns the rows and columns of the file
TURNS = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.swapaxes(a, 0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(np.swapaxes(a, 0, 1), 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation, turned", TURNS.items())
@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize(
    "name, insert, channels",
    [("a.jpg", in_jpeg, 1), ("a.png", in_png, 1), ("a.png", in_png, 3), ("a.png", in_png, 4)],
    ids=["JPEG", "grey", "colour", "alpha"],
)
def test_orientation(save, name, insert, channels, orientation, turned, order):
    pixels = np.full((16, 32, channels), 200, np.uint8)
    pixels[:8, :8, -1] = 0
    path = save(pixels if channels > 1 else pixels[..., 0], name)
    path.write_bytes(insert(path.read_bytes(), exif(orientation, order)))
    plain = save(pixels if channels > 1 else pixels[..., 0], f"plain-{name}")
    expected = turned(read_image(plain, (1, 16, 32))[0])
    upright = read_image(path, (1, *expected.shape))[0]
    assert np.abs(upright.astype(int) - expected).max() <= (8 if name == "a.jpg" else 0)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_orientations_that_are_none(save, orientation):
    path = save(filled(RED, (4, 8)))
    path.write_bytes(in_png(path.read_bytes(), exif(orientation)))
    assert (read_image(path, (1, 4, 8)) == 76).all()


@pytest.mark.parametrize("length", range(26))
def test_exif_that_ends_early(save, length):
    path = save(filled(RED, (4, 8)))
    path.write_bytes(in_png(path.read_bytes(), exif(6)[:length]))
    assert (read_image(path, (1, 4, 8)) == 76).all()


def test_shrinking_averages(save, noise):
    image = read_image(save(noise), (3, 6, 5))
    means = noise.reshape(6, 2, 5, 2, 3).mean(axis=(1, 3)).transpose(2, 0, 1)
    assert np.abs(image - means).max() <= 0.5


def test_growing_interpolates(save):
    image = read_image(save(np.array([[0, 200]], np.uint8)), (1, 1, 4))
    assert image.tolist() == [[[0, 50, 150, 200]]]


def test_an_axis_that_shrinks_averages_though_the_other_grows(save):
    rows = np.zeros((8, 2), np.uint8)
    rows[::2] = 200
    assert (read_image(save(rows), (1, 2, 6)) == 100).all()


def test_cropping_keeps_the_middle_and_its_proportions(save):
    wide = np.zeros((10, 30), np.uint8)
    wide[:, 10:20] = 200
    assert (read_image(save(wide, "wide.png"), (1, 5, 5), "crop") == 200).all()
    assert (read_image(save(wide.T, "tall.png"), (1, 20, 20), "crop") == 200).all()
    columns = read_image(save(wide, "wide.png"), (1, 10, 20), "crop")[0, 0]
    assert columns.tolist() == [0] * 5 + [200] * 10 + [0] * 5


def test_stretching_keeps_all(save):
    wide = np.zeros((10, 30), np.uint8)
    wide[:, 10:20] = 200
    columns = read_image(save(wide), (1, 5, 3))[0, 0]
    assert columns.tolist() == [0, 200, 0]


@pytest.mark.parametrize("shape, in_shape", [((1, 40), (1, 9, 2)), ((40, 1), (3, 2, 9))])
def test_cropping_what_is_very_thin(save, shape, in_shape):
    path = save(np.full(shape, 77, np.uint8))
    assert (read_image(path, in_shape, "crop") == 77).all()


def test_a_crop_is_turned_first(save):
    pixels = np.zeros((16, 32), np.uint8)
    pixels[:8] = 255  # once turned, the right half
    path = save(pixels)
    path.write_bytes(in_png(path.read_bytes(), exif(6)))
    image = read_image(path, (1, 16, 16), "crop")[0]
    assert (image == np.repeat([0, 255], 8)).all()


def photo(height, width):
    """Smooth shapes and fine grain, as photos have them."""
    grain = np.random.default_rng(0).normal(0, 4, (height, width, 3))
    rows, columns = np.mgrid[:height, :width][..., None] / np.array([30.0, 41.0, 55.0])
    return np.clip(128 + 90 * np.sin(rows) * np.cos(columns) + grain, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("resize", ["crop", "stretch"])
@pytest.mark.parametrize("side", [8, 16, 30, 60])  # decoded at an eighth, a quarter, a half, whole
def test_large_jpegs_are_decoded_at_a_fraction(save, monkeypatch, side, resize, orientation):
    path = save(photo(200, 131), "a.jpg")
    path.write_bytes(in_jpeg(path.read_bytes(), exif(orientation)))
    quick = read_image(path, (3, side, side), resize).astype(float)
    monkeypatch.setattr(_decode, "FRACTIONS", ())
    slow = read_image(path, (3, side, side), resize)
    error = np.sqrt(np.mean((quick - slow) ** 2))
    assert error <= 6.0  # of 255
    assert (error == 0.0) == (side == 60)


@pytest.mark.parametrize(
    "side, fraction", [(1, 8), (6, 8), (7, 4), (12, 4), (13, 2), (25, 2), (26, 1)]
)
def test_a_fraction_leaves_twice_the_size(save, side, fraction):
    for pixels in (photo(100, 170), photo(170, 100)):
        data = save(pixels, "a.jpg").read_bytes()
        assert _decode._fraction(data, side, min) == fraction


@pytest.mark.parametrize("length", range(0, 170, 3))
def test_headers_that_end_have_no_fraction(save, length):
    data = save(photo(16, 16), "a.jpg").read_bytes()
    frame = data.index(b"\xff\xc0")
    assert _decode._fraction(data[:length], 1, min) == (8 if length >= frame + 9 else 1)


@pytest.mark.parametrize("name", ["Ziffer ä 数.png", "a b\nc.png", os.fsdecode(b"\xff\xfe.png")])
def test_names(save, noise, name):
    assert read_image(save(noise, name), (3, 12, 10)).shape == (3, 12, 10)


def test_sun_raster(save, noise):
    path = save(noise[..., 0], "a.ras")
    np.testing.assert_array_equal(read_image(path, (1, 12, 10))[0], noise[..., 0])


# Bad files


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "tiff", "webp"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_truncated(save, noise, ending, part):
    path = save(noise, f"a.{ending}")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(ValueError, match=f"{path}: cannot be read: it is no image, or"):
        read_image(path, (3, 8, 8))


@pytest.mark.parametrize("place", range(0, 70, 3))
def test_a_changed_byte_raises_nothing_else(save, place):
    path = save(np.zeros((3, 3), np.uint8), "a.bmp")
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 0x90
    path.write_bytes(data)
    try:
        image = read_image(path, (1, 5, 5))
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert image.shape == (1, 5, 5)


@pytest.mark.parametrize("content", [b"no image at all", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"BM"])
def test_no_image(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path}: cannot be read: "):
        read_image(path, (1, 8, 8))


def test_sizes_beyond_reason(save):
    path = save(np.zeros((3, 3), np.uint8), "a.bmp")
    data = bytearray(path.read_bytes())
    data[18:26] = b"\xff\xff\xff\x6f" * 2  # width and height
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"{path}: cannot be read: "):
        read_image(path, (1, 8, 8))


def test_floats(save):
    path = save(np.zeros((4, 4, 3), np.float32), "a.tiff")
    with pytest.raises(ValueError, match="its pixels are float32; save it with 8 or 16 bits a"):
        read_image(path, (1, 8, 8))


def test_empty_missing_and_folder(tmp_path):
    (tmp_path / "empty.png").touch()
    with pytest.raises(ValueError, match=r"empty\.png: is empty; give an image file"):
        read_image(tmp_path / "empty.png", (1, 8, 8))
    with pytest.raises(FileNotFoundError, match=r"absent\.png"):
        read_image(tmp_path / "absent.png", (1, 8, 8))
    with pytest.raises(IsADirectoryError, match=f"{tmp_path}: is a folder; give"):
        read_image(tmp_path, (1, 8, 8))


@pytest.mark.parametrize("in_shape", [(2, 8, 8), (8, 8), (1, 0, 8), (3, 8, -1), (1, 1, 8, 8)])
def test_shapes_that_are_none(save, noise, in_shape):
    with pytest.raises(ValueError, match=r"in_shape must be \(C, H, W\) with C = 1 \(grey\) or 3"):
        read_image(save(noise), in_shape)


def test_without_opencv(save, noise, monkeypatch):
    path, real = save(noise), builtins.__import__

    def without(name, *rest):
        if name == "cv2":
            raise ModuleNotFoundError("No module named 'cv2'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r'OpenCV: pip install "xpcnn\[images\]"'):
        read_image(path, (3, 8, 8))


def test_opencv_that_is_too_old(save, noise, monkeypatch):
    path = save(noise)
    monkeypatch.delattr(cv2, "imdecodeWithMetadata")
    with pytest.raises(ImportError, match=r"needs OpenCV 4\.12 or later; this is [\d.]+: pip inst"):
        read_image(path, (3, 8, 8))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png: is no ordinary file; give an image file"):
        read_image(tmp_path / "a.png", (3, 8, 8))


def test_resizes_that_are_none(save, noise):
    with pytest.raises(ValueError, match="read_image: resize='pad'; give 'stretch' or 'crop'"):
        read_image(save(noise), (3, 8, 8), "pad")


# Photos


def test_a_photo_is_as_it_is(save, noise):
    image = read_photo(save(noise))
    assert image.flags.c_contiguous
    np.testing.assert_array_equal(image, noise.transpose(2, 0, 1), strict=True)


def test_a_grey_photo_weighs_the_colours_as_the_eye_does(save):
    grey = read_photo(save(filled(GREEN)), grey=True)
    np.testing.assert_array_equal(grey, np.full((1, 4, 4), 150, np.uint8), strict=True)


def test_photos_of_every_kind(save):
    """Grey, with alpha, with 16 bits, of one pixel: three channels come of all."""
    ramp = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)
    for plane in read_photo(save(ramp)):
        np.testing.assert_array_equal(plane, ramp)
    clear = filled((*RED, 0), (2, 3))
    clear[0, :, 3] = 255
    assert read_photo(save(clear))[1].tolist() == [[0] * 3, [255] * 3]  # red, then white
    deep = ramp.astype(np.uint16) * 257
    np.testing.assert_array_equal(read_photo(save(deep), grey=True)[0], ramp)
    assert read_photo(save(filled(BLUE, (1, 1)))).tolist() == [[[0]], [[0]], [[255]]]


@pytest.mark.parametrize("name, insert", [("a.jpg", in_jpeg), ("a.png", in_png)])
def test_a_photo_is_upright(save, name, insert):
    pixels = np.full((16, 32), 200, np.uint8)
    pixels[:8, :8] = 0
    path = save(pixels, name)
    path.write_bytes(insert(path.read_bytes(), exif(6)))
    for longest, side in ((None, 32), (16, 16)):
        upright = read_photo(path, longest, grey=True)[0]
        assert upright.shape == (side, side // 2)
        assert (upright[: side // 4, side // 4 :] < 40).all()  # top right; a JPEG is not exact
        assert upright[side // 2 :].min() > 180


@pytest.mark.parametrize(
    "shape, longest, sides",
    [
        ((12, 10), None, (12, 10)),
        ((12, 10), 12, (12, 10)),
        ((12, 10), 100, (12, 10)),  # it does not grow
        ((12, 10), 6, (6, 5)),
        ((10, 12), 6, (5, 6)),
        ((30, 2), 3, (3, 1)),
        ((5, 5), 1, (1, 1)),
    ],
)
def test_a_photo_keeps_its_proportions(save, shape, longest, sides):
    assert read_photo(save(np.zeros(shape, np.uint8)), longest).shape == (3, *sides)


def test_a_shrunken_photo_is_averaged(save, noise):
    image = read_photo(save(noise), 6)
    means = noise.reshape(6, 2, 5, 2, 3).mean(axis=(1, 3)).transpose(2, 0, 1)
    assert np.abs(image - means).max() <= 0.5


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_photo_of_20_000_pixels_across(save, name):
    across = np.linspace(0, 255, 20_000).astype(np.uint8)[None].repeat(30, 0)
    path = save(across, name)
    assert read_photo(path).shape == (3, 30, 20_000)
    small = read_photo(path, 1000, grey=True)[0].astype(float)
    assert small.shape == (2, 1000)  # 1.5 rows, to the even
    assert np.abs(small - across[0].reshape(1000, 20).mean(1)).max() <= 2


@pytest.mark.parametrize("longest", [8, 20, 40, 66])
def test_large_photos_are_decoded_at_a_fraction(save, monkeypatch, longest):
    path = save(photo(131, 200), "a.jpg")
    quick = read_photo(path, longest).astype(float)
    monkeypatch.setattr(_decode, "FRACTIONS", ())
    error = np.sqrt(np.mean((quick - read_photo(path, longest)) ** 2))
    assert error <= 6.0  # of 255
    assert (error == 0.0) == (longest == 66)


@pytest.mark.parametrize("name", ["猫 的 照片.png", os.fsdecode(b"\xff\xfe.png")])
def test_names_of_photos(save, noise, name):
    assert read_photo(save(noise, name)).shape == (3, 12, 10)


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_photos_that_end_early(save, noise, ending):
    path = save(noise, f"a.{ending}")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=f"^{path}: cannot be read: it is no image, or"):
        read_photo(path, 100)


def test_photos_that_are_empty_missing_or_folders(tmp_path):
    (tmp_path / "empty.png").touch()
    with pytest.raises(ValueError, match=r"^.*empty\.png: is empty; give an image file"):
        read_photo(tmp_path / "empty.png")
    with pytest.raises(FileNotFoundError, match=r"absent\.png"):
        read_photo(tmp_path / "absent.png")
    with pytest.raises(IsADirectoryError, match=f"^{tmp_path}: is a folder; give"):
        read_photo(tmp_path)


@pytest.mark.parametrize(
    "longest, kind", [(0, ValueError), (-3, ValueError), (9.5, TypeError), (True, TypeError)]
)
def test_longest_sides_that_are_none(longest, kind):
    with pytest.raises(kind, match=f"^read_photo: longest={longest}; give an int of at least 1"):
        read_photo("before.any.reading", longest)
