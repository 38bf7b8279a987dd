"""Augmentation: affine maps against a naive definition, the same images on every library."""

from __future__ import annotations

import ast
import itertools
from copy import deepcopy
from dataclasses import replace
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xpcnn
from xpcnn import ops, random
from xpcnn.data import (
    Augment,
    Colour,
    Crop,
    CutOut,
    Flip,
    Mixup,
    Rotate,
    Scale,
    Shift,
    digits,
    parse_augment,
)
from xpcnn.data.augmentation import affine
from xpcnn.data.augmentation.affine import resample
from xpcnn.layers import Flatten, Linear, Sequential
from xpcnn.training import Checkpoints
from xpcnn.training.ranks import Ranks
from xpcnn.training.trainer import AUGMENT as USE

KEY = random.key(5)
GEOMETRIC = [
    Shift(0.3), Shift(0.3, fill="edge"), Crop(2), Crop(1, fill=7.0), Flip(), Flip(0.5, 0.5),
    Rotate(40), Rotate(180, fill="edge"), Rotate(30, fill=-2.0), Scale(1.5), Scale(2, fill="edge"),
]  # fmt: skip
OTHERS = [Colour(), Colour(0.5, 0.0, 0.0), Colour(0.0, 0.4, 1.0), CutOut(), CutOut(0.6, fill=3.0)]
TURNED = [
    [1.7394500, 1.8663056, 1.6257801],
    [5.4242158, 5.0000000, 4.5757842],
    [4.9910107, 8.1336937, 4.8773403],
]
COLOURED = [
    [0.3836443, 1.7643824, 3.1451204],
    [4.5258589, 5.9065971, 7.2873349],
    [8.6680727, 10.0488110, 11.4295492],
]
JOINED = [
    Augment(Shift(0.2), Rotate(20), Flip()),
    Augment(Crop(1), Colour(), Scale(1.3, fill="edge"), Flip(), CutOut(0.4)),
]
each_step = pytest.mark.parametrize("step", [*GEOMETRIC, *OTHERS, *JOINED], ids=repr)
each_geometric = pytest.mark.parametrize("step", GEOMETRIC, ids=repr)
SHAPES = [(5, 3, 8, 5), (3, 1, 6, 9)]


def batch(shape, dtype=np.float32):
    return np.random.default_rng(sum(shape)).uniform(size=shape).astype(dtype)


def at(plane, row, column, fill):
    """A pixel, or what lies outside."""
    height, width = plane.shape
    if fill == "edge":
        return plane[min(max(row, 0), height - 1), min(max(column, 0), width - 1)]
    return plane[row, column] if 0 <= row < height and 0 <= column < width else fill


def naive_resample(x, maps, fill):
    """Pixel by pixel, of the four around the place that the map tells."""
    y = np.empty(x.shape)
    height, width = x.shape[2:]
    for n, c, i, j in np.ndindex(*x.shape):
        right, down, _ = maps[n] @ [j - (width - 1) / 2, i - (height - 1) / 2, 1.0]
        column, row = np.round([right + (width - 1) / 2, down + (height - 1) / 2], 12)
        left, top = floor(column), floor(row)
        y[n, c, i, j] = sum(
            (1 - abs(row - k)) * (1 - abs(column - m)) * at(x[n, c], k, m, fill)
            for k, m in itertools.product((top, top + 1), (left, left + 1))
        )
    return y


def turn(degrees):
    """The map of images turned anticlockwise."""
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.asarray([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])


def move(right, down):
    """The map of images that are read so many pixels further right and down."""
    return np.asarray([[1.0, 0, right], [0, 1, down], [0, 0, 1]])


# ---- the same on every library ------------------------------------------------------------------


@each_step
@pytest.mark.parametrize("shape, dtype", [(SHAPES[0], "float32"), (SHAPES[1], "float64")])
def test_a_key_tells_the_images(xp, step, shape, dtype):
    """To rounding; shape and dtype stay, and so does what is given."""
    x = batch(shape, dtype)
    given = xp.asarray(x)
    found = xp.to_numpy(step(KEY, given))
    assert found.dtype == dtype and found.shape == shape
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(found, step(KEY, x), rtol=0, atol=tolerance)
    np.testing.assert_array_equal(xp.to_numpy(given), x)


def test_known_numbers(xp):
    """Drawn once and for all: a key means these images in every version and on every library."""
    x = xp.asarray(np.arange(1.0, 10.0, dtype=np.float32).reshape(1, 1, 3, 3))
    shifted = xp.to_numpy(Shift(0.34)(random.key(1), x))[0, 0]
    np.testing.assert_array_equal(shifted, [[0, 0, 0], [1, 2, 3], [4, 5, 6]])
    turned = xp.to_numpy(Rotate(30)(random.key(2), x))[0, 0]
    np.testing.assert_allclose(turned, TURNED, rtol=0, atol=2e-6)
    coloured = xp.to_numpy(Colour()(random.key(3), x))[0, 0]
    np.testing.assert_allclose(coloured, COLOURED, rtol=0, atol=2e-6)


@each_step
@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (1, 1, 1, 1), (2, 3, 1, 7)], ids=str)
def test_few_images_and_few_pixels(xp, step, shape):
    x = batch(shape)
    found = xp.to_numpy(step(KEY, xp.asarray(x)))
    assert found.shape == shape and np.isfinite(found).all()
    np.testing.assert_allclose(found, step(KEY, x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("step", [Rotate(40), Crop(1), Colour(), CutOut(), JOINED[0]], ids=repr)
def test_half_precision_is_rounded_once(xp, step):
    if xp.name == "strict":
        pytest.skip("array-api-strict has no float16")
    x = batch((4, 3, 6, 5), np.float16)
    wide = xp.to_numpy(step(KEY, xp.asarray(x.astype(np.float32)))).astype(np.float16)
    np.testing.assert_array_equal(xp.to_numpy(step(KEY, xp.asarray(x))), wide, strict=True)


@each_step
def test_another_key_other_images(step):
    x = batch((6, 3, 16, 16))
    results = [step(random.fold_in(KEY, i), x) for i in range(4)]
    assert len({one.tobytes() for one in results}) == 4
    np.testing.assert_array_equal(step(random.fold_in(KEY, 0), x), results[0])


@each_step
def test_an_image_is_changed_alike_in_a_longer_batch(step):
    x = batch((6, 3, 7, 9))
    np.testing.assert_allclose(step(KEY, x)[:2], step(KEY, x[:2]), rtol=0, atol=1e-6)


def test_blocks_of_images_are_no_matter(monkeypatch):
    x = batch((7, 3, 6, 5))
    whole = Rotate(40)(KEY, x)
    for piece in (1, 61, 6 * 30):
        monkeypatch.setattr(affine, "PIECE", piece)
        np.testing.assert_array_equal(Rotate(40)(KEY, x), whole)


def test_any_memory_layout():
    x = batch((4, 5, 6, 3))
    seen = np.moveaxis(x, -1, 1)
    np.testing.assert_array_equal(JOINED[0](KEY, seen), JOINED[0](KEY, np.ascontiguousarray(seen)))
    assert JOINED[0](KEY, seen).flags.c_contiguous


# ---- affine maps --------------------------------------------------------------------------------


@each_geometric
def test_against_the_naive_definition(xp, step):
    """In one shape, as JAX compiles for each; the next test has others."""
    x = batch(SHAPES[1], np.float64)
    expected = naive_resample(x, step.maps(KEY, x.shape), step.fill or 0.0)
    found = xp.to_numpy(step(KEY, xp.asarray(x)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 7), st.integers(1, 7)),
    numbers=st.lists(st.floats(-2, 2), min_size=6, max_size=6),
    fill=st.sampled_from([0.0, 1.5, "edge"]),
)
def test_any_map(shape, numbers, fill):
    x = batch(shape, np.float64)
    one = np.vstack([np.reshape(numbers, (2, 3)), [0, 0, 1]])
    maps = np.stack([one, *[turn(30 * i) @ one for i in range(1, shape[0])]])
    expected = naive_resample(x, maps, fill)
    np.testing.assert_allclose(resample(x, maps, fill), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    "step",
    [
        Shift(0.0), Crop(0), Rotate(0), Scale(1), Flip(0.0), Colour(0.0, 0.0, 0.0), CutOut(0.0),
        Augment(), Augment(Rotate(0), Flip(0.0)),
    ],
    ids=repr,
)  # fmt: skip
def test_nothing_to_do_returns_the_same_bits(xp, step):
    x = batch((3, 3, 5, 4))
    x[:, :, 0, 0], x[:, :, 0, 1] = -0.0, 1e-42
    assert xp.to_numpy(step(KEY, xp.asarray(x))).tobytes() == x.tobytes()


@pytest.mark.parametrize("fill", [0.0, 2.5, "edge"])
@pytest.mark.parametrize("right, down", [(1, 0), (0, -2), (-3, 1), (40, 0), (0, 0)])
def test_shifts_by_whole_pixels_are_exact(xp, right, down, fill):
    x = batch((2, 3, 5, 7))
    x[:, :, 2, 3] = -0.0
    maps = np.stack([move(right, down), move(-down, right)])
    expected = np.empty_like(x)
    for n, c, i, j in np.ndindex(*x.shape):
        column, row = (maps[n] @ [j, i, 1])[:2].astype(int)
        expected[n, c, i, j] = at(x[n, c], row, column, fill)
    assert xp.to_numpy(resample(xp.asarray(x), maps, fill)).tobytes() == expected.tobytes()


def test_shifts_and_crops_move_pixels_as_they_are(xp):
    x = batch((9, 1, 8, 6))
    for step in (Shift(0.4), Crop(3)):
        found = xp.to_numpy(step(KEY, xp.asarray(x)))
        for image, before in zip(found, x, strict=True):
            assert set(np.unique(image)) <= {0.0, *np.unique(before)}


def test_flips(xp):
    x = batch((3, 2, 5, 4))
    given = xp.asarray(x)
    np.testing.assert_array_equal(xp.to_numpy(Flip(1.0)(KEY, given)), x[..., ::-1])
    np.testing.assert_array_equal(xp.to_numpy(Flip(0.0, 1.0)(KEY, given)), x[..., ::-1, :])
    np.testing.assert_array_equal(xp.to_numpy(Flip(1.0, 1.0)(KEY, given)), x[..., ::-1, ::-1])


@pytest.mark.parametrize("size", [4, 5])
@pytest.mark.parametrize("turns", [-1, 0, 1, 2])
def test_right_angles_are_rot90(xp, size, turns):
    """Of even sizes too, and to the bit."""
    x = batch((2, 3, size, size))
    maps = np.stack([turn(90 * turns)] * 2)
    found = xp.to_numpy(resample(xp.asarray(x), maps, 9.0))
    np.testing.assert_array_equal(found, np.rot90(x, turns, axes=(2, 3)))


def test_two_halves_of_a_turn_of_a_wide_image():
    x = batch((1, 1, 3, 8))
    np.testing.assert_array_equal(resample(x, turn(180)[None], 0.0), x[..., ::-1, ::-1])


def test_doubling_reads_half_as_far():
    x = np.arange(5.0).reshape(1, 1, 1, 5)
    maps = np.diag([0.5, 0.5, 1.0])[None]
    np.testing.assert_array_equal(resample(x, maps, 0.0)[0, 0, 0], [1, 1.5, 2, 2.5, 3])
    np.testing.assert_array_equal(resample(x, np.linalg.inv(maps), 9.0)[0, 0, 0], [9, 0, 2, 4, 9])


# ---- what is drawn ------------------------------------------------------------------------------

MANY = (4000, 1, 20, 10)


def test_shifts_are_whole_and_within_their_share():
    moved = Shift(0.3).maps(KEY, MANY)[:, :2, 2]
    assert set(moved[:, 0]) == set(range(-3, 4)) and set(moved[:, 1]) == set(range(-6, 7))
    assert np.abs(moved.mean(axis=0)).max() < 0.2


def test_crops_are_equally_likely():
    moved = Crop(2).maps(KEY, MANY)[:, :2, 2]
    places, counts = np.unique(moved, axis=0, return_counts=True)
    assert len(places) == 25 and np.abs(places).max() == 2
    assert (np.abs(counts - 160) < 5 * np.sqrt(160)).all()


def test_turns_are_turns():
    maps = Rotate(30).maps(KEY, MANY)[:, :2, :2]
    np.testing.assert_allclose(maps @ maps.transpose(0, 2, 1), [np.eye(2)] * 4000, atol=1e-12)
    degrees = np.rad2deg(np.arctan2(maps[:, 1, 0], maps[:, 0, 0]))
    assert 29.9 < np.abs(degrees).max() <= 30 and abs(degrees.mean()) < 1


def test_as_many_grow_as_shrink():
    rates = Scale(1.5).maps(KEY, MANY)[:, 0, 0]
    assert 1.49 < rates.max() <= 1.5 and 1 / 1.5 <= rates.min() < 1 / 1.49
    assert abs(np.mean(rates < 1) - 0.5) < 0.03


def test_chances_of_flips():
    signs = Flip(0.25, 0.75).maps(KEY, MANY)[:, [0, 1], [0, 1]]
    np.testing.assert_allclose((signs < 0).mean(axis=0), [0.25, 0.75], atol=0.03)


# ---- joined -------------------------------------------------------------------------------------


def test_neighbours_are_read_once(xp):
    """The product of the maps, the first step's on the left; what left may come back."""
    x = batch((6, 2, 9, 7), np.float64)
    steps = Shift(0.4), Rotate(50), Flip(), Scale(1.4), Crop(2)
    keys = [random.fold_in(KEY, i) for i in range(len(steps))]
    maps = np.eye(3)
    for step, key in zip(steps, keys, strict=True):
        maps = maps @ step.maps(key, x.shape)
    found = xp.to_numpy(Augment(*steps)(KEY, xp.asarray(x)))
    np.testing.assert_allclose(found, naive_resample(x, maps, 0.0), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "steps",
    [
        (Rotate(40), CutOut(), Rotate(40)),
        (Rotate(40), Shift(0.3, fill=1.0), Flip()),
        (Flip(), Flip()),
        (Flip(1.0), Rotate(30, fill=3.0)),
        (CutOut(), Colour()),
    ],
    ids=repr,
)
def test_steps_one_after_another(steps):
    """As if each were called by itself, where none are joined or joining changes nothing."""
    x = expected = batch((4, 3, 8, 8), np.float64)
    for i, step in enumerate(steps):
        expected = step(random.fold_in(KEY, i), expected)
    np.testing.assert_allclose(Augment(*steps)(KEY, x), expected, rtol=0, atol=1e-12)


def test_a_function_is_a_step(xp):
    x = batch((2, 1, 4, 4))
    found = xp.to_numpy(Augment(lambda key, x: 2.0 * x, Flip(1.0))(KEY, xp.asarray(x)))
    np.testing.assert_array_equal(found, 2 * x[..., ::-1])


# ---- colours and squares ------------------------------------------------------------------------


def naive_colour(step, key, x):
    """Factor by factor, as the docstring tells."""
    amounts = np.asarray([step.brightness, step.contrast, step.saturation])
    factors = 1 + amounts * (2 * random.uniform(key, (len(x), 3)) - 1)
    result = []
    for image, (bright, contrast, colour) in zip(x, factors, strict=True):
        three = len(image) == 3
        image = bright * image
        grey = np.tensordot([0.299, 0.587, 0.114], image, 1) if three else image
        image = grey.mean() + contrast * (image - grey.mean())
        if three:
            grey = np.tensordot([0.299, 0.587, 0.114], image, 1)
            image = grey + colour * (image - grey)
        result.append(image)
    return np.stack(result)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("step", [Colour(), Colour(1, 1, 1), Colour(0.0, 0.5, 0.0)], ids=repr)
def test_colours(xp, step, channels):
    x = batch((5, channels, 4, 6), np.float64)
    found = xp.to_numpy(step(KEY, xp.asarray(x)))
    np.testing.assert_allclose(found, naive_colour(step, KEY, x), rtol=0, atol=1e-12)


@given(
    seed=st.integers(0, 2**20),
    size=st.floats(0, 1),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
)
def test_cut_out_cuts_one_rectangle(seed, size, height, width):
    x = np.ones((6, 2, height, width), np.float32)
    cut = CutOut(size, fill=5.0)(random.key(seed), x) == 5.0
    side = round(size * min(height, width))
    for image in cut:
        rows, columns = image[0].any(axis=1), image[0].any(axis=0)
        np.testing.assert_array_equal(image, [np.outer(rows, columns)] * 2)
        for along in (rows, columns):
            assert side // 2 <= np.count_nonzero(along) <= side
            assert np.count_nonzero(np.diff(along.astype(int))) <= 2


# ---- options, texts and errors ------------------------------------------------------------------


def built(node):
    """What a call in a syntax tree makes, of the names in xpcnn.data."""
    if not isinstance(node, ast.Call):
        return ast.literal_eval(node)
    named = {word.arg: built(word.value) for word in node.keywords}
    return getattr(xpcnn.data, node.func.id)(*map(built, node.args), **named)


@each_step
def test_a_step_is_data(step):
    """It compares, hashes, copies, and prints as the call that makes it."""
    assert built(ast.parse(repr(step), mode="eval").body) == step == deepcopy(step) == replace(step)
    assert hash(step) == hash(deepcopy(step))


@pytest.mark.parametrize(
    "text, steps",
    [
        ("shift=0.1,rotate=15,flip", (Shift(0.1), Rotate(15), Flip())),
        (" scale = 1.5 , crop=2 ", (Scale(1.5), Crop(2))),
        ("colour", (Colour(),)),
        ("colour=0.4,cutout=0.5", (Colour(0.4, 0.4, 0.4), CutOut(0.5))),
    ],
)
def test_texts(text, steps):
    assert parse_augment(text) == Augment(*steps)


X = batch((2, 3, 4, 4))


@pytest.mark.parametrize(
    "call, kind, message",
    [
        (lambda: Shift(1.5), ValueError, "Shift(share=1.5): share must lie in [0, 1]"),
        (lambda: Shift("1"), TypeError, "Shift(share='1'): share must be a number"),
        (lambda: Rotate(-1), ValueError, "Rotate(degrees=-1): degrees must lie in [0, 180]"),
        (lambda: Scale(0.5), ValueError, "Scale(factor=0.5): factor must lie in [1, 100]"),
        (
            lambda: Scale(float("inf")),
            ValueError,
            "Scale(factor=inf): factor must lie in [1, 100]",
        ),
        (lambda: Flip(float("nan")), ValueError, "Flip(p=nan): p must lie in [0, 1]"),
        (lambda: Flip(0.5, 2), ValueError, "Flip(vertical=2): vertical must lie in [0, 1]"),
        (lambda: Crop(1.5), TypeError, "Crop(padding=1.5): padding must be an integer"),
        (lambda: Crop(-1), ValueError, "Crop(padding=-1): padding must be at least 0"),
        (
            lambda: Colour(contrast=2),
            ValueError,
            "Colour(contrast=2): contrast must lie in [0, 1]",
        ),
        (lambda: CutOut(True), TypeError, "CutOut(size=True): size must be a number"),
        (
            lambda: replace(Shift(), fill="mirror"),
            ValueError,
            "Shift(fill='mirror'): give a finite number, or \"edge\"",
        ),
        (
            lambda: Rotate(fill=None),
            TypeError,
            'Rotate(fill=None): give a finite number, or "edge"',
        ),
        (
            lambda: CutOut(fill="edge"),
            ValueError,
            "CutOut(fill='edge'): give a finite number",
        ),
        (
            lambda: Augment(Shift(), 3),
            TypeError,
            "Augment: 3 is no step; give some such as Shift(0.1)",
        ),
        (
            lambda: Flip()(7, X),
            TypeError,
            "Flip: key=7; make one of a seed: xpcnn.random.key(0)",
        ),
        (
            lambda: Augment(Flip())(KEY, X.astype(np.uint8)),
            TypeError,
            "Augment: x must be floating; it is uint8; scale it to [0, 1]",
        ),
        (
            lambda: Colour()(KEY, X[0]),
            ValueError,
            "Colour: x must be (N, C, H, W); x is (3, 4, 4): pass x[None, ...] for a batch of one",
        ),
        (
            lambda: Shift()(KEY, X[:, :, :0]),
            ValueError,
            "Shift: x (N=2, C=3, H=0, W=4) is empty along H; only N may be 0",
        ),
        (
            lambda: parse_augment("shift,spin"),
            ValueError,
            "augment \"shift,spin\": there is no step 'spin'; choose shift, rotate, scale, flip, "
            "crop, colour, cutout",
        ),
        (
            lambda: parse_augment(""),
            ValueError,
            "augment \"\": there is no step ''; choose shift, rotate, scale, flip, crop, colour, "
            "cutout",
        ),
        (
            lambda: parse_augment("rotate=far"),
            ValueError,
            "augment \"rotate=far\": 'far' is no number; give rotate, or rotate=0.5",
        ),
        (
            lambda: parse_augment("crop=0.5"),
            TypeError,
            "Crop(padding=0.5): padding must be an integer",
        ),
        (
            lambda: xpcnn.Classifier(xpcnn.models.classic, augment=3, device="cpu").fit(X, [0, 1]),
            TypeError,
            "fit: augment=3; give one such as xpcnn.data.Shift(0.1), or None",
        ),
        (
            lambda: xpcnn.Classifier(
                xpcnn.models.classic, augment=Flip(), layout="NC", device="cpu"
            ).fit(X.reshape(2, -1), [0, 1]),
            ValueError,
            "fit: augment changes images, and layout='NC' has rows; give None",
        ),
    ],
)
def test_errors(call, kind, message):
    with pytest.raises(kind) as error:
        call()
    assert str(error.value) == message


# ---- in training --------------------------------------------------------------------------------

AUGMENT = Augment(Shift(0.2), Rotate(10))


def net(**options):
    chosen = {"augment": AUGMENT, "epochs": 2, "device": "cpu", "batch_size": 32, **options}
    return xpcnn.Classifier(xpcnn.models.classic, **chosen)


def some_digits(count=96):
    x, y = digits().train
    return x[:count], y[:count]


def test_fit_augments_what_it_trains_on():
    """Step by step: the images of a run are those that its seed's keys tell, before mixing."""
    seen = []

    def augment(key, x):
        changed = AUGMENT(key, x)
        seen.append((key, x, changed))
        return changed

    def mixing(key, x, y):
        assert x is seen[-1][2]
        return x, y

    by_hand = net(augment=augment, mixing=mixing).fit(*some_digits())
    assert len(seen) == 6 and len({key for key, _, _ in seen}) == 6
    plain = net().fit(*some_digits())
    for other in (net(augment=None), net(seed=1)):
        assert other.fit(*some_digits()).history_ != plain.history_
    x = some_digits()[0]
    labels = net(mixing=lambda key, x, y: (x, y)).fit(*some_digits())
    np.testing.assert_array_equal(by_hand.predict_proba(x), labels.predict_proba(x))
    for key, before, changed in seen:
        assert before.dtype == np.float32 and before.max() <= 1
        np.testing.assert_array_equal(AUGMENT(key, before), changed)


def test_predicting_is_not_augmented():
    x, y = some_digits()
    trained = net().fit(x, y)
    logits = trained.model_(trained.params_, (x / 255.0).astype(np.float32))
    assert trained.score(x, y) == np.mean(np.argmax(logits, axis=1) == y)


@pytest.mark.parametrize("options", [{}, {"mixing": Mixup(), "accumulate": 2}], ids=str)
def test_a_resumed_run_ends_in_the_same_bits(tmp_path, options):
    x, y = some_digits()
    checkpoints = Checkpoints(tmp_path, every=1)
    net(**options).fit(x, y, epochs=1, checkpoints=checkpoints)
    checkpoints.paths()[-1].unlink()  # the end of the epoch: on from within it
    resumed = net(**options).fit(x, y, checkpoints=checkpoints, resume=True)
    unbroken = net(**options).fit(x, y)
    assert resumed.predict_proba(x).tobytes() == unbroken.predict_proba(x).tobytes()
    assert resumed.history_.column("loss") == unbroken.history_.column("loss")


def test_another_augmentation_is_another_run(tmp_path):
    x, y = some_digits()
    net().fit(x, y, epochs=1, checkpoints=Checkpoints(tmp_path))
    with pytest.raises(ValueError) as error:
        net(augment=Flip()).fit(x, y, checkpoints=Checkpoints(tmp_path), resume=True)
    assert f"its augment was {AUGMENT!r} and is {Flip()!r} now" in str(error.value)


def test_each_rank_draws_its_own():
    class Second(Ranks):
        rank, size = 1, 2

    x, y = some_digits()
    alone, second = (net().prepare(x, y, ranks=r)[0]._keys for r in (Ranks(), Second()))
    assert second[USE] == random.fold_in(alone[USE], 1)
    assert len(set(alone.values())) == len(alone)


def test_options_within():
    within = net(augment=Rotate(15)).set_params(augment__degrees=30)
    assert within.augment == Rotate(30) and within.get_params()["augment__fill"] == 0.0
    assert net().get_params()["augment__steps"] == AUGMENT.steps
    assert "augment=Augment(Shift(share=0.2, fill=0.0), Rotate(" in repr(net())


def test_scikit_learn_clones_it():
    base = pytest.importorskip("sklearn.base")
    cloned = base.clone(net())
    assert cloned.augment == AUGMENT and repr(cloned) == repr(net())


def test_training_on_other_libraries(xp):
    """The same images, so to rounding the same network."""
    x, y = some_digits(32)

    def chances(device):
        linear = Sequential(Flatten(), Linear(10))
        trained = xpcnn.Classifier(linear, augment=AUGMENT, epochs=1, device=device)
        return trained.fit(x, y).predict_proba(x)

    np.testing.assert_allclose(chances(xp.spec), chances("cpu"), rtol=0, atol=1e-5)


# ---- the seeds ----------------------------------------------------------------------------------


def test_row_10_shifted_rotated_and_scaled_digits_with_and_without_augmentation():
    """Trained on digits as they are, a network fails on changed ones; with augmentation, less."""

    def enlarged(images):
        """16x16 pixels in the middle of 20x20, so that changes do not blur what little there is."""
        small = (images / 255.0).astype(np.float32)
        return ops.pad(ops.interpolate(small, scale_factor=2, mode="bilinear"), (2, 2, 2, 2))

    (x, y), (xt, yt) = digits().train, digits().test
    x, xt = enlarged(x), enlarged(xt)
    changes = {"shifted": Shift(0.15), "rotated": Rotate(40), "scaled": Scale(1.5)}
    chosen = {"epochs": 6, "optimizer": xpcnn.optim.Adam(0.01), "batch_size": 64}
    plain = net(augment=None, **chosen).fit(x, y)
    augmented = net(augment=Augment(*changes.values()), **chosen).fit(x, y)
    assert plain.score(xt, yt) > 0.95
    for name, change in changes.items():
        changed = change(random.key(0), xt)
        gain = augmented.score(changed, yt) - plain.score(changed, yt)
        assert gain > 0.1, name
