"""The drawings that teach: every number, colour and picture in them is what the operations compute.

Drawings of numbers are read back from their cells; pictures from their pixels.
"""

from __future__ import annotations

import re
from types import SimpleNamespace

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpcnn import ops

plt = pytest.importorskip("matplotlib.pyplot")

from xpcnn.plots import (  # noqa: E402
    FILTERS,
    columns,
    convolution,
    filter_gallery,
    numbers,
    pooling,
    stages,
)

NINE = np.arange(9.0).reshape(3, 3)
HILLS = [[1, 2, 3, 4], [5, 6, 7, 8], [9, 8, 7, 6], [1, 2, 3, 4]]
"""The plane of row 8."""
PLANE = [[10, 8, 9, 7], [2, 2, 12, 3], [20, 15, 8, 9], [13, 21, 23, 12]]
"""The 4x4 image of row 19."""


@pytest.fixture(autouse=True)
def _no_windows():
    plt.switch_backend("Agg")
    yield
    plt.close("all")


def grids(figure):
    """The grids of cells of a drawing: numbers (H, W), colours, and how the numbers are set."""
    [ax] = figure.axes
    return [_grid(ax, mesh) for mesh in ax.collections]


def _grid(ax, mesh):
    corners = mesh.get_coordinates()
    (left, top), (right, bottom) = corners[0, 0], corners[-1, -1]
    height, width = corners.shape[0] - 1, corners.shape[1] - 1
    inside, titles = {}, []
    for text in ax.texts:
        x, y = text.get_position()
        if left < x < right and top < y < bottom:
            inside[int(y - top), int(x - left)] = text
        elif left < x < right and top - 0.4 < y < top and not text.get_text().isdecimal():
            titles.append(text.get_text())
    assert len(inside) == height * width

    def each(read):
        return np.array([[read(inside[i, j]) for j in range(width)] for i in range(height)])

    fill = np.asarray(mesh.get_array())
    return SimpleNamespace(
        numbers=each(lambda text: float(text.get_text())),
        bold=each(lambda text: text.get_weight() == "bold"),
        faint=each(lambda text: text.get_color() != "black"),
        fill=fill,
        coloured=np.ptp(fill, axis=-1) > 0.05,
        title="".join(titles),
    )


def pictures(figure):
    """The pixels of each panel, and what is written over it."""
    [ax] = figure.axes
    return [
        SimpleNamespace(
            pixels=np.asarray(panel.images[0].get_array()),
            limits=panel.images[0].get_clim(),
            title=panel.get_title() or panel.get_title("left"),
            numbers=panel.get_title("right"),
        )
        for panel in ax.child_axes
    ]


def photo(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


# Columns: row 1


def test_columns_of_row_1():
    *windows, matrix = grids(columns(NINE, 2))
    expected = [[0, 1, 3, 4], [1, 2, 4, 5], [3, 4, 6, 7], [4, 5, 7, 8]]
    np.testing.assert_array_equal(matrix.numbers.T, expected)
    assert [window.title for window in windows] == [f"window {n}" for n in range(4)]
    for number, window in enumerate(windows):
        np.testing.assert_array_equal(window.numbers, NINE)
        assert window.numbers[window.coloured].tolist() == expected[number]
        colours = np.concatenate([window.fill[window.coloured], matrix.fill[:, number]])
        assert np.ptp(colours, axis=0).max() < 1e-9
    assert len({tuple(matrix.fill[0, n].round(3)) for n in range(4)}) == 4


def test_columns_of_a_padded_plane():
    *windows, matrix = grids(columns(PLANE, 3, padding=1))
    assert matrix.numbers.shape == (9, 16)
    assert matrix.numbers[:, 0].tolist() == [0, 0, 0, 0, 10, 8, 0, 2, 2]
    assert matrix.numbers[:, -1].tolist() == [8, 9, 0, 23, 12, 0, 0, 0, 0]
    for window in windows:
        np.testing.assert_array_equal(window.numbers, np.pad(PLANE, 1))
        np.testing.assert_array_equal(~window.faint, np.pad(np.ones((4, 4), bool), 1))


@settings(max_examples=8)
@given(st.data())
def test_each_window_is_its_column(data):
    pick = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    channels, kernel = pick(1, 2), (pick(1, 3), pick(1, 2))
    stride, padding = (pick(1, 2), pick(1, 3)), ((pick(0, 1), pick(0, 2)), (pick(0, 1), 0))
    x = np.arange(1.0, channels * pick(3, 4) * 3 + 1).reshape(channels, -1, 3)
    drawn = grids(columns(x, kernel, stride, padding))
    plt.close("all")
    *planes, matrix = drawn
    expected = ops.unfold(x[None], kernel, stride, padding)[0]
    np.testing.assert_array_equal(matrix.numbers, expected)
    assert len(planes) == channels * expected.shape[1]
    for number in range(expected.shape[1]):
        own = planes[channels * number : channels * (number + 1)]
        seen = np.concatenate([plane.numbers[plane.coloured] for plane in own])
        np.testing.assert_array_equal(seen, expected[:, number])


# Pooling: row 8


def test_pooling_of_row_8():
    plane, maxima, dx, dy = grids(pooling(HILLS, 2))
    np.testing.assert_array_equal(plane.numbers, HILLS)
    np.testing.assert_array_equal(maxima.numbers, [[6, 8], [9, 7]])
    places = [[0, 0, 0, 0], [0, 1, 0, 1], [1, 0, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(dx.numbers, places)
    np.testing.assert_array_equal(plane.bold, np.asarray(places, bool))
    np.testing.assert_array_equal(dy.numbers, np.ones((2, 2)))
    spread = maxima.fill.repeat(2, 0).repeat(2, 1)
    for grid in (plane, dx):
        np.testing.assert_allclose(grid.fill, spread)
    assert [grid.title for grid in (plane, maxima, dx, dy)] == [
        "input 4×4", "maximum 2×2", "gradient dx", "gradient dy",  # noqa: RUF001
    ]  # fmt: skip


def test_average_pooling_of_row_8():
    plane, averages, dx, _ = grids(pooling(HILLS, 2, kind="avg"))
    np.testing.assert_array_equal(averages.numbers, [[3.5, 5.5], [5, 5]])
    np.testing.assert_array_equal(dx.numbers, np.full((4, 4), 0.25))
    assert not plane.bold.any()


def test_pooling_with_windows_that_overlap_or_leave_out():
    """23 is the maximum of two windows, and gets both gradients."""
    plane, maxima, dx, _ = grids(pooling(PLANE, 3, 1))
    np.testing.assert_array_equal(maxima.numbers, [[20, 15], [23, 23]])
    np.testing.assert_array_equal(dx.numbers[[2, 2, 3]][:, [0, 1, 2]].diagonal(), [1, 1, 2])
    assert dx.numbers.sum() == 4
    np.testing.assert_allclose(plane.fill[1, 1], maxima.fill.mean((0, 1)))
    np.testing.assert_allclose(plane.fill[0, 0], maxima.fill[0, 0])
    plane, *_ = grids(pooling(np.ones((3, 5)), 2, (1, 3)))
    assert plane.coloured.all(0).tolist() == [True, True, False, True, True]


# A convolution at one place


@pytest.mark.parametrize("at, value", [((0, 0), 5), ((0, 1), 11), ((1, 0), 23), ((1, 1), 29)])
def test_convolution_of_row_1(at, value):
    figure = convolution(NINE, [[3, 2], [1, 0]], at=at)
    plane, kernel, output = grids(figure)
    np.testing.assert_array_equal(output.numbers, [[5, 11], [23, 29]])
    np.testing.assert_array_equal(kernel.numbers, [[3, 2], [1, 0]])
    assert [tuple(place) for place in np.argwhere(output.coloured)] == [at]
    i, j = at
    terms = NINE[i : i + 2, j : j + 2].reshape(-1)
    np.testing.assert_array_equal(plane.numbers[plane.coloured], terms)
    written = figure.axes[0].texts[-1].get_text()
    dot = "\N{DOT OPERATOR}"
    products = zip(terms, [3, 2, 1, 0], strict=True)
    assert written == f"{' + '.join(f'{x:.0f}{dot}{w}' for x, w in products)} = {value}"


def test_convolution_with_channels_padding_and_stride():
    x, w = np.arange(24.0).reshape(2, 3, 4), np.arange(-5.0, 7.0).reshape(2, 3, 2)
    *planes, first, second, output = grids(convolution(x, w, (2, 1), ((1, 0), (0, 2)), at=(0, 3)))
    expected = ops.conv2d(x[None], w[None], stride=(2, 1), padding=((1, 0), (0, 2)))[0, 0]
    np.testing.assert_array_equal(output.numbers, expected)
    np.testing.assert_array_equal(np.stack([first.numbers, second.numbers]), w)
    padded = np.pad(x, ((0, 0), (1, 0), (0, 2)))
    for plane, channel in zip(planes, padded, strict=True):
        np.testing.assert_array_equal(plane.numbers, channel)
        assert plane.faint[0].all() and plane.faint[:, -2:].all() and not plane.faint[1:, :4].any()
    under = np.concatenate([plane.numbers[plane.coloured] for plane in planes])
    assert under @ w.reshape(-1) == expected[0, 3]


@pytest.mark.parametrize(
    "channels, options, titles",
    [
        (1, {}, ["input 3x4", "kernel 2x2", "output 2x3"]),
        (2, {}, ["input 2x3x4", "kernel 2x2x2", "output 2x3"]),
        (1, {"names": ("image", "delta", "dw")}, ["image 3x4", "delta 2x2", "dw 2x3"]),
    ],
)
def test_a_convolution_is_titled_by_names_and_sizes(channels, options, titles):
    figure = convolution(np.ones((channels, 3, 4)), np.ones((channels, 2, 2)), **options)
    found = [text.get_text() for text in figure.axes[0].texts]
    assert [text for text in found if text[0].isalpha()] == [
        title.replace("x", "\N{MULTIPLICATION SIGN}") for title in titles
    ]


def test_numbers_tell_three_decimals_and_mark_cells():
    [grid] = grids(numbers([[1 / 3, -2.0], [1e-9, 12345.6789]], title="m", mark=[[0, 1], [1, 0]]))
    np.testing.assert_array_equal(grid.numbers, [[0.333, -2], [0, 12345.679]])
    np.testing.assert_array_equal(grid.coloured, [[False, True], [True, False]])
    assert grid.title == "m"


# The filters: row 2


def grey_of(image):
    """As the eye weighs the colours."""
    return np.tensordot([0.299, 0.587, 0.114], image / 255.0, (0, 0))


def test_the_gallery_shows_what_the_filters_find():
    image = photo(3, 11, 14)
    padded = np.pad(grey_of(image), 1, mode="edge")
    panels = pictures(filter_gallery(image))
    assert [panel.title for panel in panels] == list(FILTERS)
    for panel, kernel in zip(panels, FILTERS.values(), strict=True):
        expected = naive.correlate(padded, kernel.astype(np.float64), "valid")
        np.testing.assert_allclose(panel.pixels, expected, rtol=0, atol=2e-5)
        written = [float(word) for word in panel.numbers.split()]
        np.testing.assert_allclose(written, kernel.reshape(-1), atol=5e-4)
        low, high = panel.limits
        if np.isclose(kernel.sum(), 1):
            assert (low, high) == (0, 1)
        else:
            assert low == -high
            assert 0.97 < np.mean(np.abs(expected) <= high) < 0.99


def test_the_gallery_in_little_room_leaves_the_numbers_out():
    _, axes = plt.subplots(2, 2, figsize=(7, 7))
    filter_gallery(photo(1, 9, 9), ax=axes[0, 0])
    assert [panel.get_title("left") for panel in axes[0, 0].child_axes] == list(FILTERS)
    assert not any(panel.get_title("right") for panel in axes[0, 0].child_axes)


def test_the_gallery_takes_red_for_red():
    for channel, weight in enumerate([0.299, 0.587, 0.114]):
        image = np.zeros((3, 4, 4), np.float32)
        image[channel] = 1
        pixels = pictures(filter_gallery(image))[list(FILTERS).index("identity")].pixels
        np.testing.assert_allclose(pixels, weight, rtol=1e-6)


def test_the_gallery_of_one_pixel_and_of_one_colour():
    for image in (np.full((1, 1, 1), 0.25, np.float32), np.full((6, 9), 64 / 256, np.float32)):
        for panel, kernel in zip(pictures(filter_gallery(image)), FILTERS.values(), strict=True):
            np.testing.assert_allclose(panel.pixels, kernel.sum() / 4, atol=1e-6)


def test_what_is_not_finite_is_left_blank():
    image = np.full((4, 6), 0.5, np.float32)
    image[1, 1] = np.nan
    for figure in (filter_gallery(image), stages(image)):
        for panel in pictures(figure):
            assert np.isfinite(panel.limits).all()
        figure.canvas.draw()


# The stages: row 3


def test_the_stages_show_what_the_operations_compute():
    image, sobel = photo(3, 12, 15), FILTERS["Sobel x"].astype(np.float64)
    source, convolved, rectified, pooled = pictures(stages(image))
    np.testing.assert_allclose(source.pixels, image.transpose(1, 2, 0) / 255, rtol=1e-6)
    channels = [naive.correlate(plane / 255, sobel, "valid") for plane in image]
    np.testing.assert_allclose(convolved.pixels, sum(channels), rtol=0, atol=2e-5)
    np.testing.assert_array_equal(rectified.pixels, np.maximum(convolved.pixels, 0))
    maxima, _ = naive.max_pool(rectified.pixels[None, None], 2, 2)
    np.testing.assert_array_equal(pooled.pixels, maxima[0, 0])
    assert [panel.title for panel in (source, convolved, rectified, pooled)] == [
        "image 3×12×15", "convolution 1×10×13", "ReLU 1×10×13", "max pool 1×5×6",  # noqa: RUF001
    ]  # fmt: skip
    assert convolved.limits == rectified.limits == pooled.limits
    assert source.limits == (0, 1)


def test_the_stages_with_a_kernel_of_ones_own():
    image, kernel = photo(1, 9, 9), [[1, 2, 3, 4, -5]]
    _, convolved, *_ = pictures(stages(image, kernel))
    expected = naive.correlate(image[0] / 255.0, np.asarray(kernel, np.float64), "valid")
    np.testing.assert_allclose(convolved.pixels, expected, rtol=0, atol=2e-5)


# All of them

DRAWINGS = {
    "columns": lambda asarray, ax: columns(asarray(NINE), 2, padding=1, ax=ax),
    "pooling": lambda asarray, ax: pooling(asarray(NINE), 2, 1, ax=ax),
    "convolution": lambda asarray, ax: convolution(asarray(NINE), asarray(NINE / 7), 1, 1, ax=ax),
    "numbers": lambda asarray, ax: numbers(asarray(NINE * 1000.5), title="thousands", ax=ax),
    "filter_gallery": lambda asarray, ax: filter_gallery(asarray(photo(3, 8, 11)), ax=ax),
    "stages": lambda asarray, ax: stages(asarray(photo(3, 8, 11)), ax=ax),
}
UNUSUAL = {
    "columns of channels": lambda asarray, ax: columns(asarray(np.stack([NINE] * 3)), 2, ax=ax),
    "one column": lambda asarray, ax: columns(asarray(NINE[:1, :1]), 1, ax=ax),
    "pooling of one": lambda asarray, ax: pooling(asarray(NINE[:1, :1]), 1, kind="avg", ax=ax),
    "gallery of one pixel": lambda asarray, ax: filter_gallery(asarray(photo(1, 1, 1)), ax=ax),
    "gallery of a strip": lambda asarray, ax: filter_gallery(asarray(photo(1, 2, 400)), ax=ax),
    "stages of a tower": lambda asarray, ax: stages(asarray(photo(3, 90, 4)), ax=ax),
}


@pytest.fixture(params=DRAWINGS)
def drawing(request):
    return DRAWINGS[request.param]


def shown(figure):
    """All numbers and pixels of a figure."""
    [ax] = figure.axes
    if ax.child_axes:
        return [(picture.title, picture.pixels.tolist()) for picture in pictures(figure)]
    return [(text.get_text(), text.get_position()) for text in ax.texts]


def test_arrays_of_every_library_are_drawn_alike(xp, drawing):
    assert shown(drawing(xp.asarray, None)) == shown(drawing(np.asarray, None))


@pytest.mark.parametrize("name", DRAWINGS | UNUSUAL)
def test_a_drawing_has_square_cells_and_cuts_nothing_off(name):
    figure = (DRAWINGS | UNUSUAL)[name](np.asarray, None)
    figure.canvas.draw()
    [ax] = figure.axes
    for one in (ax, *ax.child_axes):
        if one.axison:
            assert one.get_aspect() == 1
        words = [*one.texts, *(getattr(one, name) for name in ("title", "_left_title"))]
        for text in filter(lambda text: text.get_text(), words):
            box = text.get_window_extent()
            inside = figure.bbox.padded(2)
            assert inside.x0 <= box.x0 and box.x1 <= inside.x1, text.get_text()
            assert inside.y0 <= box.y0 and box.y1 <= inside.y1, text.get_text()


def test_numbers_stay_within_their_cells():
    figure = columns(np.arange(27.0).reshape(3, 3, 3) * 1234.567, 2)
    figure.canvas.draw()
    [ax] = figure.axes
    (x0, _), (x1, _) = ax.transData.transform([(0, 0), (1, 0)])
    widths = [
        t.get_window_extent().width for t in ax.texts if re.fullmatch(r"[\d.]+", t.get_text())
    ]
    assert max(widths) <= x1 - x0


def test_a_drawing_goes_into_given_axes_and_changes_no_settings(drawing):
    before = dict(plt.rcParams)
    figure, (ax, other) = plt.subplots(1, 2)
    assert drawing(np.asarray, ax) is figure
    assert figure.axes == [ax, other]
    assert not other.texts and not other.images
    assert ax.texts or ax.child_axes
    assert dict(plt.rcParams) == before
    assert plt.get_fignums() == [figure.number]


@pytest.mark.parametrize(
    "call, kind, message",
    [
        (lambda: columns(np.ones((2, 2)), 3), ValueError, "columns: along H a kernel of 3"),
        (lambda: columns(np.ones(3), 1), ValueError, "columns: x must be (C, H, W) or (H, W), not"),
        (
            lambda: columns(np.ones((40, 40)), 3),
            ValueError,
            "columns: that makes 2,323,396 cells, ",
        ),
        (
            lambda: pooling(NINE, 2, kind="min"),
            ValueError,
            "pooling: kind='min'; give 'max' or 'avg",
        ),
        (
            lambda: pooling(np.ones((1, 3, 3)), 2),
            ValueError,
            "pooling: x must be (H, W), not empty",
        ),
        (lambda: pooling(NINE, 4), ValueError, "pooling: along H a kernel of 4"),
        (
            lambda: convolution(NINE, np.ones((2, 2, 2))),
            ValueError,
            "convolution: w (O=1, C/G=2, KH=2, KW=2) needs x with 2 channels at groups=1; x is",
        ),
        (
            lambda: convolution(NINE, [[1]], at=(0, 3)),
            ValueError,
            "convolution: at=(0, 3) is outside the output (3, 3); give (row, column) within it",
        ),
        (
            lambda: numbers(NINE, mark=[[1]]),
            ValueError,
            "numbers: mark must be (3, 3) like matrix; it is (1, 1)",
        ),
        (lambda: convolution(NINE, [[1]], at=(0,)), ValueError, "convolution: at=(0,) is outside"),
        (
            lambda: convolution(NINE, [[1]], names=("x", "w")),
            ValueError,
            "convolution: names=('x', 'w'); give three, of input, kernel and output",
        ),
        (lambda: columns(photo(500, 500), 3), ValueError, "columns: that makes 62,"),
        (
            lambda: convolution(photo(500, 500), [[1]]),
            ValueError,
            "convolution: that makes 500,001",
        ),
        (lambda: pooling(photo(500, 500), 2), ValueError, "pooling: that makes 625,000 cells"),
        (lambda: numbers([["a"]]), TypeError, "numbers: matrix must hold numbers, not <U1"),
        (
            lambda: numbers(np.ones((70, 70))),
            ValueError,
            "numbers: that makes 4,900 cells, 4,000 at",
        ),
        (
            lambda: filter_gallery(np.ones((4, 5, 5))),
            ValueError,
            "filter_gallery: image must have 1",
        ),
        (
            lambda: stages(photo(3, 3, 9)),
            ValueError,
            "stages: a 3x3 kernel and a 2x2 window need an image of 4x4 pixels or more; it is 3x9",
        ),
        (
            lambda: stages(photo(3, 9, 9), [1]),
            ValueError,
            "stages: kernel must be (KH, KW), not em",
        ),
    ],
)
def test_what_cannot_be_drawn_is_told(call, kind, message):
    with pytest.raises(kind, match=f"^{re.escape(message)}"):
        call()
