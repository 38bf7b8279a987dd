"""Mixup, CutMix and labels as probabilities: the same mixtures on every library."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xpcnn
from xpcnn import ops, random
from xpcnn.data import CutMix, Mixup, mixing, one_hot

KEY = random.key(4)
MIXTURES = [Mixup(), Mixup(1.0), Mixup(8), CutMix(), CutMix(0.3)]
SHAPES = [(6, 3, 8, 5), (5, 1, 9), (4, 2, 4, 3, 5)]
each_mixture = pytest.mark.parametrize("mixture", MIXTURES, ids=repr)


def batch(shape, dtype=np.float32, classes=7):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, shape[0])
    return rng.normal(size=shape).astype(dtype), np.eye(classes, dtype=dtype)[labels]


def numbered(images, size=12):
    """Image i is full of the number i, and of class i."""
    x = np.zeros((images, 2, size, size)) + np.arange(images).reshape(-1, 1, 1, 1)
    return x, np.eye(images)


# ---- the same on every library ------------------------------------------------------------------


@each_mixture
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_key_tells_the_mixture(xp, mixture, shape, dtype):
    """To the last bit; shapes and dtypes stay, and so does what is given."""
    x, y = batch(shape, dtype)
    expected = mixture(KEY, x, y)
    given = xp.asarray(x), xp.asarray(y)
    for ours, theirs in zip(mixture(KEY, *given), expected, strict=True):
        np.testing.assert_array_equal(xp.to_numpy(ours), theirs, strict=True)
    for ours, before in zip(given, (x, y), strict=True):
        np.testing.assert_array_equal(xp.to_numpy(ours), before)


@each_mixture
def test_another_key_another_mixture(mixture):
    x, y = batch((6, 1, 16, 16))
    results = [mixture(random.fold_in(KEY, i), x, y)[0] for i in range(4)]
    assert len({one.tobytes() for one in results}) > 2
    np.testing.assert_array_equal(mixture(random.fold_in(KEY, 0), x, y)[0], results[0])


@each_mixture
@pytest.mark.parametrize("count", [0, 1])
def test_few_images(xp, mixture, count):
    """None stays none, and one has only itself."""
    x, y = batch((count, 2, 4, 4))
    mixed, labels = mixture(KEY, xp.asarray(x), xp.asarray(y))
    np.testing.assert_allclose(xp.to_numpy(mixed), x, rtol=1e-6)
    np.testing.assert_allclose(xp.to_numpy(labels), y, rtol=1e-6)


@pytest.mark.parametrize("mixture", [Mixup(1.0), CutMix()], ids=repr)
def test_half_precision_is_rounded_once(xp, mixture):
    if xp.name == "strict":
        pytest.skip("array-api-strict has no float16")
    x, y = batch((6, 2, 5, 4), np.float16)
    wide = mixture(KEY, x.astype(np.float32), y.astype(np.float32))
    for ours, expected in zip(mixture(KEY, xp.asarray(x), xp.asarray(y)), wide, strict=True):
        np.testing.assert_array_equal(xp.to_numpy(ours), expected.astype(np.float16), strict=True)


def test_the_labels_train(xp):
    x, y = (xp.asarray(a) for a in Mixup(1.0)(KEY, *batch((6, 7))))
    loss, pull = xpcnn.vjp(ops.cross_entropy, x, y)
    assert np.isfinite(float(loss)) and pull(1.0)[0].shape == (6, 7)


# ---- what is mixed ------------------------------------------------------------------------------


def drawn(key, images):
    """The partners of the images."""
    return random.permutation(random.fold_in(key, mixing.PARTNERS), images)


@given(seed=st.integers(0, 2**20), images=st.integers(2, 6), alpha=st.floats(0.05, 20.0))
def test_mixup_blends_each_image_with_its_partner(seed, images, alpha):
    key = random.key(seed)
    x, y = numbered(images, size=2)
    mixed, labels = Mixup(alpha)(key, x, y)
    partners = drawn(key, images)
    np.testing.assert_allclose(labels.sum(axis=1), 1.0, rtol=1e-15)
    assert (labels >= 0).all()
    np.testing.assert_allclose(mixed[:, 0, 0, 0], labels @ np.arange(images), rtol=1e-14)
    shares = labels[np.arange(images), np.arange(images)][partners != np.arange(images)]
    if shares.size:
        share = shares[0]
        expected = share * np.eye(images) + (1 - share) * np.eye(images)[partners]
        np.testing.assert_allclose(labels, expected, atol=1e-15)


@given(seed=st.integers(0, 2**20), alpha=st.floats(0.05, 20.0), size=st.integers(1, 13))
def test_cutmix_counts_the_pixels_it_pastes(seed, alpha, size):
    key, images = random.key(seed), 5
    x, y = numbered(images, size)
    mixed, labels = CutMix(alpha)(key, x, y)
    partners = drawn(key, images)
    pasted = mixed != x
    for i in range(images):
        assert set(np.unique(mixed[i])) <= {i, partners[i]}
        shares = [np.count_nonzero(mixed[i, 0] == k) / size**2 for k in range(images)]
        np.testing.assert_allclose(labels[i], shares, rtol=0, atol=1e-15)
    rows, columns = (pasted[:, 0].any(axis=(0, axis)) for axis in (2, 1))
    moved = partners != np.arange(images)
    box = np.outer(rows, columns)
    np.testing.assert_array_equal(pasted[moved, 0], np.broadcast_to(box, (moved.sum(), *box.shape)))
    for along in (rows, columns):  # one piece
        assert np.count_nonzero(np.diff(along.astype(int))) <= 2


def test_cutmix_takes_an_axis_of_size_1_whole():
    """And spreads the share over the others, as in images without it."""
    for space, half in (((1, 400), 150), ((400, 1, 1), 150), ((1, 400, 400), 173)):
        boxes = [mixing._draw_box(random.key(i), space, 0.25) for i in range(50)]
        for axis, size in enumerate(space):
            widths = [box[axis][1] - box[axis][0] for box in boxes]
            assert max(widths) == (1 if size == 1 else 2 * half) and min(widths) > 0


@pytest.mark.parametrize("space", [(1, 40), (40, 1), (1, 9, 9), (1, 1)])
def test_cutmix_pastes_into_images_of_one_line(space):
    x = np.zeros((2, 1, *space)) + np.arange(2).reshape(-1, *[1] * (len(space) + 1))
    shares = []
    for key in map(random.key, range(40)):
        mixed, labels = CutMix()(key, x, np.eye(2))
        np.testing.assert_allclose(labels[:, 1], mixed.reshape(2, -1).mean(axis=1), atol=1e-15)
        shares.append(labels[0, 1])
    assert max(shares) > 0.5


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 3.5, 50.0])
def test_shares_are_of_the_beta_distribution(alpha):
    """Mean 1/2, variance 1 / (4 (2 alpha + 1)), and the fourth moment."""
    shares = np.asarray([mixing._draw_share(random.key(i), alpha) for i in range(4000)])
    assert ((shares >= 0) & (shares <= 1)).all()
    away = 2 * (shares - 0.5)
    square, fourth = 1 / (2 * alpha + 1), 3 / ((2 * alpha + 1) * (2 * alpha + 3))
    errors = np.asarray([away.std(), (away**2).std(), (away**4).std()]) / np.sqrt(away.size)
    moments = np.asarray([away.mean(), (away**2).mean(), (away**4).mean()])
    assert (np.abs(moments - [0, square, fourth]) < 3.5 * errors).all()


def test_shares_follow_the_distribution_function():
    """Of Beta(1, 1), which is uniform, and of Beta(1/2, 1/2), the arc sine's."""
    ranks = (np.arange(4000) + 0.5) / 4000
    for alpha, inverse in ((1.0, ranks), (0.5, np.sin(0.5 * np.pi * ranks) ** 2)):
        shares = sorted(mixing._draw_share(random.key(i), alpha) for i in range(4000))
        assert np.abs(shares - inverse).max() < 0.03


@pytest.mark.parametrize("alpha", [1e-300, 1e-5, 1e300])
def test_extreme_alphas_give_shares(alpha):
    shares = [mixing._draw_share(random.key(i), alpha) for i in range(50)]
    assert all(0 <= share <= 1 for share in shares)
    assert {round(share, 2) for share in shares} <= ({0.5} if alpha > 1 else {0.0, 1.0})


def test_cutmix_pastes_the_share_it_draws():
    """Where no edge cuts it off: the mean area of Beta(1, 1), less what lies beyond the edges."""
    x, y = numbered(2, size=40)
    swapped = [key for key in map(random.key, range(400)) if drawn(key, 2)[0] == 1]
    areas = [CutMix()(key, x, y)[1][0, 1] for key in swapped]
    assert len(areas) > 150 and max(areas) > 0.6
    # the mean of r**2 (1 - r/4)**2 over r**2 uniform: 1/2 - 1/5 + 1/48
    assert np.mean(areas) == pytest.approx(1 / 2 - 1 / 5 + 1 / 48, abs=0.05)


# ---- labels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint8])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_hot(xp, kind, dtype):
    labels = np.asarray([2, 0, 3, 1, 0], kind)
    found = xp.to_numpy(one_hot(xp.asarray(labels), 4, dtype))
    np.testing.assert_array_equal(found, np.eye(4, dtype=dtype)[labels], strict=True)
    assert one_hot(xp.asarray(labels[:0]), 4).shape == (0, 4)


def test_one_hot_of_more_classes_than_the_labels_dtype_counts(xp):
    labels = np.asarray([3, 0, 255], np.uint8)
    found = xp.to_numpy(one_hot(xp.asarray(labels), 300))
    np.testing.assert_array_equal(found, np.eye(300, dtype=np.float32)[labels], strict=True)


# ---- errors -------------------------------------------------------------------------------------

X, Y = batch((4, 3, 5, 5))


@pytest.mark.parametrize(
    "call, kind, message",
    [
        (lambda: Mixup(0.0), ValueError, "Mixup(alpha=0.0): alpha must be finite and positive"),
        (
            lambda: replace(CutMix(), alpha=float("nan")),
            ValueError,
            "CutMix(alpha=nan): alpha must be finite and positive",
        ),
        (lambda: CutMix("1"), TypeError, "CutMix(alpha='1'): alpha must be a number"),
        (
            lambda: Mixup()(7, X, Y),
            TypeError,
            "Mixup: key=7; make one of a seed: xpcnn.random.key(0)",
        ),
        (
            lambda: Mixup()(KEY, X.astype(np.uint8), Y),
            TypeError,
            "Mixup: x must be floating; it is uint8; scale it to [0, 1]",
        ),
        (
            lambda: CutMix()(KEY, X, np.zeros(4, np.int64)),
            TypeError,
            "CutMix: y must be floating; it is int64; make it probabilities by one_hot",
        ),
        (
            lambda: CutMix()(KEY, X, Y[:3]),
            ValueError,
            "CutMix: x must be (N, C, *space) and y (N, K); x is (4, 3, 5, 5) and y (3, 7)",
        ),
        (
            lambda: Mixup()(KEY, X, np.zeros(4)),
            ValueError,
            "Mixup: x must be (N, C, *space) and y (N, K); x is (4, 3, 5, 5) and y (4,)",
        ),
        (
            lambda: CutMix()(KEY, X[:, :, 0, 0], Y),
            ValueError,
            "CutMix: x must be (N, C, *space) with space; it is (4, 3)",
        ),
        (
            lambda: one_hot(np.zeros(3), 2),
            TypeError,
            "one_hot: labels must be integers; they are float64",
        ),
        (
            lambda: one_hot(np.zeros((3, 1), int), 2),
            ValueError,
            "one_hot: labels must be (N,); they are (3, 1)",
        ),
        (
            lambda: one_hot(np.zeros(3, int), 0),
            ValueError,
            "one_hot: classes=0; give an int of at least 1",
        ),
    ],
)
def test_bad_calls_say_what_is_wrong(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message


def test_arrays_of_two_libraries_are_refused(torch):
    with pytest.raises(TypeError, match=r"Mixup: x is a numpy array .* and y a torch array"):
        Mixup()(KEY, X, torch.from_numpy(Y))
