"""What plots draw, seen through Matplotlib's artists."""

from __future__ import annotations

import numpy as np
import pytest

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")

from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.colors import to_hex  # noqa: E402

from xpcnn import inspection, models, plots, random  # noqa: E402
from xpcnn.layers import BatchNorm, Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential  # noqa: E402
from xpcnn.plots import _draw  # noqa: E402
from xpcnn.training import History  # noqa: E402
from xpcnn.training.history import Epoch  # noqa: E402

RNG = np.random.default_rng(0)
KERNELS = RNG.normal(size=(6, 2, 3, 3))
MAPS = RNG.normal(size=(7, 5, 8))
LIKELY = np.asarray([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
PICTURES = RNG.uniform(size=(3, 1, 6, 4))
MODEL = Sequential(Conv2d(4, 3), BatchNorm(), ReLU(), MaxPool2d(2), Flatten(), Linear(3))


def history(epochs=3, validation=True):
    def figures(number):
        held_out = (1.2 / number, 0.3 * number) if validation else (None, None)
        return Epoch(number, 1.0 / number, 0.25 * number, *held_out, 1.0, 1.0)

    return History(tuple(figures(number + 1) for number in range(epochs)))


DRAWN = {
    "kernels": lambda a, **ax: plots.kernels(a(KERNELS), **ax),
    "feature_maps": lambda a, **ax: plots.feature_maps(a(MAPS), title="conv1", **ax),
    "network_features": lambda a, **ax: plots.network_features(
        {"0": a(MAPS[None]), "features.1.relu": a(MAPS[None, :3])}, **ax
    ),
    "learning_curves": lambda a, **ax: plots.learning_curves(history(), **ax),
    "confusion": lambda a, **ax: plots.confusion(
        a(np.eye(4, dtype=np.int64)), ["aeroplane", "automobile", "cat", "dog"], **ax
    ),
    "mistakes": lambda a, **ax: plots.mistakes(
        a(PICTURES), a(np.asarray([1, 0, 1])), a(LIKELY), ["bird", "frog"], **ax
    ),
    "heat_map": lambda a, **ax: plots.heat_map(
        a(PICTURES[0]), a(np.abs(PICTURES[1, 0])), title="Grad-CAM", **ax
    ),
    "receptive_field": lambda a, **ax: plots.receptive_field(MODEL, (1, 12, 16), **ax),
}


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(params=DRAWN)
def draw(request):
    return DRAWN[request.param]


def panels(figure):
    return figure.axes[0].child_axes


def same(a):
    return a


# ---- what all plots do --------------------------------------------------------------------------


def test_a_plot_is_a_figure_of_its_own_in_which_nothing_is_clipped(draw):
    settings = dict(matplotlib.rcParams)
    figure = draw(same)
    assert plt.get_fignums() == [figure.number]
    figure.canvas.draw()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert box.x0 > -0.02 and box.y0 > -0.02
    assert box.x1 < width + 0.02 and box.y1 < height + 0.02
    assert dict(matplotlib.rcParams) == settings


def test_a_plot_is_drawn_into_the_axes_it_is_given(draw):
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    assert draw(same, ax=right) is figure
    assert plt.get_fignums() == [figure.number]
    figure.canvas.draw()
    assert not left.has_data() and not left.child_axes
    assert right.images or right.child_axes


def test_a_plot_lies_in_a_part_of_a_figure_too(draw):
    figure = plt.figure(figsize=(12, 5), layout="constrained")
    _, part = figure.subfigures(1, 2)
    ax = part.subplots()
    assert draw(same, ax=ax) is figure
    figure.canvas.draw()
    for panel in ax.child_axes:
        assert panel.get_window_extent().x0 >= part.bbox.x0


def test_pixels_are_square(draw):
    for ax in (figure := draw(same)).axes + panels(figure):
        if ax.images and ax.get_label() != "<colorbar>":
            assert ax.get_aspect() == 1.0


def test_arrays_of_every_library_are_drawn(xp, draw):
    found, expected = draw(xp.asarray), draw(same)
    for one, other in zip(_pictures(found), _pictures(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def _pictures(figure):
    return [image.get_array() for ax in (*figure.axes, *panels(figure)) for image in ax.images]


# ---- each plot ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape, rows, columns", [
    ((6, 2, 3, 3), 6, 2), ((5, 1, 3, 3), 2, 3), ((1, 1, 5, 2), 1, 1),
])  # fmt: skip
def test_kernels_stand_in_a_mosaic_with_one_scale_round_zero(shape, rows, columns):
    weight = RNG.normal(size=shape).astype(np.float32)
    figure = plots.kernels(weight)
    image = figure.axes[0].images[0]
    assert image.get_clim() == pytest.approx((-abs(weight).max(), abs(weight).max()))
    assert image.get_cmap().name == _draw.DIVERGING
    zoom = -(-12 // max(shape[2:]))
    high, wide = zoom * shape[2], zoom * shape[3]
    picture = image.get_array()
    assert picture.shape == (rows * (high + 1) - 1, columns * (wide + 1) - 1)
    for number, kernel in enumerate(weight.reshape(-1, *shape[2:])):
        top, left = number // columns * (high + 1), number % columns * (wide + 1)
        tile = picture[top : top + high : zoom, left : left + wide : zoom]
        np.testing.assert_array_equal(tile, kernel)
        assert np.ma.getmaskarray(picture)[top : top + high, left + wide : left + wide + 1].all()
    bar = figure.axes[1]
    assert bar.get_label() == "<colorbar>"


def test_kernels_of_three_channels_are_in_colour_and_grey_at_zero():
    weight = RNG.normal(size=(4, 3, 5, 5))
    weight[0, :, 0, 0] = 0.0
    figure = plots.kernels(weight)
    picture = np.asarray(figure.axes[0].images[0].get_array())
    zoom, limit = 3, abs(weight).max()
    assert len(figure.axes) == 1 and picture.shape == (31, 31, 4)
    np.testing.assert_allclose(picture[0, 0], [0.5, 0.5, 0.5, 1.0])
    expected = np.moveaxis(weight[3], 0, -1) / (2 * limit) + 0.5
    np.testing.assert_allclose(picture[16::zoom, 16::zoom, :3], expected, atol=1e-6)
    assert (picture[15] == 0).all()


def test_kernels_of_zeros_are_drawn():
    assert plots.kernels(np.zeros((1, 1, 2, 2))).axes[0].images[0].get_clim() == (-1.0, 1.0)


def test_feature_maps_have_a_panel_each_up_to_the_limit_on_one_scale():
    figure = plots.feature_maps(MAPS, limit=5, title="conv1")
    assert figure.axes[0].get_title() == "conv1"
    assert [panel.get_title() for panel in panels(figure)] == ["0", "1", "2", "3", "4"]
    for panel, plane in zip(panels(figure), MAPS, strict=False):
        np.testing.assert_array_equal(panel.images[0].get_array(), plane)
        assert panel.images[0].get_clim() == (MAPS[:5].min(), MAPS[:5].max())
        assert panel.images[0].get_cmap().name == _draw.SEQUENTIAL


def test_network_features_have_a_row_for_each_layer_of_images():
    model = models.classic()
    params, _ = model.init(random.key(0), (1, 8, 8))
    x = RNG.uniform(size=(2, 1, 8, 8)).astype(np.float32)
    seen = inspection.features(model, params, x)
    figure = plots.network_features(seen, limit=5)
    shapes = {"0": "4x8x8", "1": "4x8x8", "2": "4x4x4", "3": "6x4x4", "4": "6x4x4", "5": "6x2x2"}
    titles = [panel.get_title("left") for panel in panels(figure)]
    assert titles == [f"{name}: {shape}" for name, shape in shapes.items()]
    first = np.ma.getdata(panels(figure)[0].images[0].get_array())
    assert first.shape == (16, 5 * 17 - 1)  # a place is a square of 2x2
    np.testing.assert_array_equal(first[::2, 17:33:2], seen["0"][0, 1])
    assert np.isnan(first[:, 4 * 17 :]).all()  # a row of four maps, others have five
    np.testing.assert_array_equal(
        panels(figure)[3].images[0].get_array()[::3, -12::3], seen["3"][0, 4]
    )


def test_learning_curves_are_lines_with_their_names():
    figure = plots.learning_curves(history())
    loss, accuracy = panels(figure)
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("loss", "accuracy")
    for panel, training, validation in (
        (loss, [1.0, 0.5, 1 / 3], [1.2, 0.6, 0.4]),
        (accuracy, [0.25, 0.5, 0.75], [0.3, 0.6, pytest.approx(0.9)]),
    ):
        assert [line.get_ydata().tolist() for line in panel.lines] == [
            pytest.approx(training), pytest.approx(validation),
        ]  # fmt: skip
        assert panel.lines[0].get_xdata().tolist() == [1, 2, 3]
        texts = {text.get_text(): text for text in panel.texts}
        assert set(texts) == {"training", "validation"}
        for line, text in zip(panel.lines, panel.texts, strict=True):
            assert to_hex(line.get_color()) == to_hex(text.get_color())
        assert texts["validation"].get_va() == "bottom"  # it ends higher
        assert texts["training"].get_va() == "top"


def test_learning_curves_without_validation_are_of_training_alone():
    figure = plots.learning_curves(history(1, validation=False))
    figure.canvas.draw()
    assert [text.get_text() for panel in panels(figure) for text in panel.texts] == ["training"] * 2


def test_confusion_tells_shares_by_colour_and_counts_by_numbers():
    matrix = np.asarray([[8, 2, 0], [1, 3, 0], [0, 0, 0]])
    ax = plots.confusion(matrix, ["cat", "dog", "cow"]).axes[0]
    shares = [[0.8, 0.2, 0], [0.25, 0.75, 0], [0, 0, 0]]
    np.testing.assert_allclose(ax.images[0].get_array(), shares)
    assert ax.images[0].get_clim() == (0.0, 1.0)
    written = {text.get_position(): text.get_text() for text in ax.texts}
    assert written == {(0, 0): "8", (1, 0): "2", (0, 1): "1", (1, 1): "3"}
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted", "true")
    for ticks in (ax.get_xticklabels(), ax.get_yticklabels()):
        assert [tick.get_text() for tick in ticks] == ["cat", "dog", "cow"]


def test_confusion_of_many_classes_has_no_numbers():
    assert not plots.confusion(np.eye(21, dtype=int)).axes[0].texts


def test_letters_of_the_east_are_taken_from_the_fonts_that_have_them(monkeypatch):
    names = ["DejaVu Sans", "SimHei", "Comic Sans"]
    monkeypatch.setattr(_draw.fontManager, "get_font_names", lambda: names)
    with matplotlib.rc_context({"font.family": ["serif"]}):
        ax = plots.confusion(np.eye(2, dtype=int), ["猫", "狗"]).axes[0]
        other = plots.mistakes(PICTURES, [1, 0, 0], LIKELY, ["猫", "狗"]).axes[0].child_axes[0]
    for text in (*ax.get_xticklabels(), *ax.get_yticklabels(), other.title):
        assert text.get_fontfamily() == ["serif", "SimHei"]
    assert ax.xaxis.label.get_fontfamily() == ["serif"]


@pytest.mark.skipif(len(_draw.families()) == 1, reason="no font with Chinese letters is known")
def test_chinese_names_are_drawn_in_letters(tmp_path):
    figure = plots.confusion(np.eye(2, dtype=int), ["猫", "狗"])
    figure.savefig(tmp_path / "a.png")  # a letter that is missing is a warning, and an error here


def test_mistakes_are_the_surest_with_what_they_were_taken_for():
    figure = plots.mistakes(PICTURES, [1, 0, 1], LIKELY, ["cat", "dog"], count=1)
    assert [panel.get_title() for panel in panels(figure)] == ["cat (90%)\nis dog"]
    figure = plots.mistakes(PICTURES, [1, 0, 1], LIKELY)
    assert [panel.get_title() for panel in panels(figure)] == ["0 (90%)\nis 1", "1 (80%)\nis 0"]
    for panel, image in zip(panels(figure), PICTURES[:2], strict=True):
        np.testing.assert_allclose(panel.images[0].get_array(), image[0], rtol=1e-6)


def test_no_mistake_is_told():
    ax = plots.mistakes(PICTURES, [0, 1, 1], LIKELY).axes[0]
    assert [text.get_text() for text in ax.texts] == ["no mistake among 3 images"]


def test_heat_lies_over_the_grey_image_as_dense_as_it_is_hot():
    image = np.zeros((3, 2, 2), np.uint8)
    image[0, 0, 0], image[1, 0, 1], image[2, 1, 0] = 255, 255, 255
    heat = np.asarray([[0.0, 1.0], [2.0, 4.0]])
    below, over = plots.heat_map(image, heat, title="saliency").axes[0].images
    np.testing.assert_allclose(below.get_array(), [[0.299, 0.587], [0.114, 0.0]], rtol=1e-6)
    assert below.get_cmap().name == "gray" and below.get_clim() == (0.0, 1.0)
    np.testing.assert_allclose(over.get_array(), heat / 4)
    np.testing.assert_allclose(over.get_alpha(), 0.75 * heat / 4)
    assert below.axes.get_title() == "saliency"


def test_no_heat_leaves_the_image_as_it_is():
    over = plots.heat_map(PICTURES[0], np.zeros((6, 4))).axes[0].images[1]
    assert not np.asarray(over.get_alpha()).any()


def test_receptive_fields_are_those_of_the_summary_until_all_is_seen():
    model = Sequential(
        Conv2d(2, 3, padding=1), ReLU(), MaxPool2d((2, 4)), Conv2d(2, 3, padding=1), Flatten(),
        Linear(2), Linear(2),
    )  # fmt: skip
    figure = plots.receptive_field(model, (1, 12, 16))
    titles = [panel.get_title() for panel in panels(figure)]
    assert titles == ["0\n3x3", "2\n4x6", "3\n8x14", "4\nall"]
    boxes = [panel.patches[0].get_bbox().bounds for panel in panels(figure)]
    assert boxes == [(6.5, 4.5, 3, 3), (5.0, 4.0, 6, 4), (1.0, 2.0, 14, 8), (0.0, 0.0, 16, 12)]
    assert all(panel.get_xlim() == (0, 16) for panel in panels(figure))


def test_a_field_larger_than_the_plane_ends_there():
    figure = plots.receptive_field(Sequential(Conv2d(2, 7, padding=3)), (1, 4, 5))
    [panel] = panels(figure)
    assert panel.get_title() == "0\n7x7"
    assert panel.patches[0].get_bbox().bounds == (0.0, 0.0, 5, 4)


# ---- what is shared -----------------------------------------------------------------------------


def test_panels_stand_in_rows_side_by_side():
    ax, made = _draw.panels(None, 5, 3, aspect=0.5)
    for panel in made:
        _draw.show(panel, np.ones((4, 8)), "title")
    ax.figure.canvas.draw()
    boxes = [panel.get_window_extent() for panel in made]
    for first, second in ((0, 1), (1, 2), (3, 4)):
        assert boxes[first].x1 < boxes[second].x0
        assert boxes[first].y0 == pytest.approx(boxes[second].y0)
    assert boxes[3].y1 < boxes[0].y0 and boxes[3].x0 == pytest.approx(boxes[0].x0)
    assert all(box.height == pytest.approx(0.5 * box.width) for box in boxes)
    assert boxes[0].width == pytest.approx(1.2 * ax.figure.dpi, rel=0.1)


@pytest.mark.parametrize(
    "image, expected",
    [
        (np.asarray([[0, 51]], np.uint8), [[0.0, 0.2]]),
        (np.asarray([[[0.0, 0.25]]]), [[0.0, 0.25]]),
        (np.asarray([[-1.0, 3.0]]), [[0.0, 1.0]]),
        (np.asarray([[5.0, 5.0]]), [[0.0, 0.0]]),
        (np.asarray([[0.5, np.nan, 2.5]]), [[0.0, np.nan, 1.0]]),
        (np.asarray([[[1.0]], [[0.5]], [[0.0]]]), [[[1.0, 0.5, 0.0]]]),
        (np.asarray([[True, False]]), [[1.0, 0.0]]),
    ],
)
def test_images_become_pixels_from_0_to_1(image, expected):
    found = _draw.pixels("stages", "image", image)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_half_precision_is_drawn():
    assert _draw.host("kernels", "weight", np.ones((2, 2), np.float16), "H W").dtype == np.float32
    ml_dtypes = pytest.importorskip("ml_dtypes")
    wide = _draw.host("kernels", "weight", np.ones((2, 2), ml_dtypes.bfloat16), "H W")
    assert wide.dtype == np.float32


# ---- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, kind, message",
    [
        (lambda: plots.kernels(np.ones((3, 3))), ValueError,
         r"kernels: weight must be \(O, C, KH, KW\), not empty; it is \(3, 3\)"),
        (lambda: plots.kernels(np.ones((0, 1, 3, 3))), ValueError,
         r"kernels: weight must be \(O, C, KH, KW\), not empty; it is \(0, 1, 3, 3\)"),
        (lambda: plots.kernels([["cat"]]), TypeError, "kernels: weight must hold numbers, not <U3"),
        (lambda: plots.feature_maps(np.ones((1, 1, 2, 2))), ValueError,
         r"feature_maps: maps must be \(C, H, W\), not empty; it is \(1, 1, 2, 2\)"),
        (lambda: plots.feature_maps(MAPS, limit=0), ValueError,
         "feature_maps: limit=0; give an int of at least 1"),
        (lambda: plots.network_features({"0": np.ones((1, 5))}), ValueError,
         r"network_features: no layer gives \(N, C, H, W\) of more than one place"),
        (lambda: plots.network_features({"0": MAPS[None]}, limit=1.5), TypeError,
         "network_features: limit=1.5; give an int of at least 1"),
        (lambda: plots.learning_curves(History()), ValueError,
         "learning_curves: the history has no epoch; train one first"),
        (lambda: plots.confusion([[1, 2]]), ValueError,
         r"confusion: matrix must be \(K, K\), true by predicted; it is \(1, 2\)"),
        (lambda: plots.confusion([[1]], ["cat", "dog"]), ValueError,
         "confusion: there are 1 classes and 2 names; give as many"),
        (lambda: plots.mistakes(PICTURES[:2], [1, 0, 1], LIKELY), ValueError,
         r"mistakes: images must be \(3, C, H, W\), one for each row of probabilities; they are"),
        (lambda: plots.mistakes(PICTURES[:, 0, 0], [1, 0, 1], LIKELY), ValueError,
         r"mistakes: images must be \(C, H, W\) or \(H, W\), not empty; it is \(4,\)"),
        (lambda: plots.mistakes(PICTURES, [2, 0, 1], LIKELY), ValueError,
         "most_confident_mistakes: labels must be from 0 to 1; one of them is 2"),
        (lambda: plots.heat_map(np.ones((2, 4, 4)), np.ones((4, 4))), ValueError,
         r"heat_map: image must have 1 or 3 channels; it is \(2, 4, 4\)"),
        (lambda: plots.heat_map(np.ones((4, 4)), np.ones((4, 5))), ValueError,
         r"heat_map: heat must be \(4, 4\), as the image is; it is \(4, 5\)"),
        (lambda: plots.heat_map(np.ones((1, 1)), -np.ones((1, 1))), ValueError,
         "heat_map: heat must be at least 0; its least number is -1"),
        (lambda: plots.receptive_field(Sequential(Linear(2)), (5,)), ValueError,
         r"receptive_field: in_shape must be \(C, H, W\), that of one image; it is \(5,\)"),
        (lambda: plots.receptive_field(Sequential(), (1, 5, 5)), ValueError,
         "receptive_field: the model has no layers"),
        (lambda: plots.receptive_field(3, (1, 5, 5)), TypeError, "receptive_field: model must be"),
    ],
)  # fmt: skip
def test_bad_calls_draw_nothing(call, kind, message):
    with pytest.raises(kind, match=f"^{message}"):
        call()
    assert not plt.get_fignums()
