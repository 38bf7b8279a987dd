"""
Parameter sharing
=================

A convolution uses the same weights at every place. You will see what that saves, 3,860 parameters
in place of 756,560, and what else it means: a pattern that was learned in one place is known in
all.
"""

# %%
# Two layers of the same shape
# ----------------------------
#
# An image of 3x32x32 goes through 20 filters of 3x8x8, with stride 2 and one ring of padding. Along
# each axis there are (32 + 2 - 8)/2 + 1 = 14 places, so 20x14x14 numbers come out.
#
# ``Conv2d`` has one filter a channel out, for all places. ``LocallyConnected2d`` has the same
# geometry and a filter of its own for each place.

# sphinx_gallery_thumbnail_number = 3
import matplotlib.pyplot as plt
import numpy as np

import xpcnn
from xpcnn import layers, random
from xpcnn.optim import Adam

in_shape = (3, 32, 32)
shared = layers.Conv2d(20, 8, stride=2, padding=1)
apart = layers.LocallyConnected2d(20, 8, stride=2, padding=1)

(with_sharing,) = shared.summary(in_shape).rows
(without,) = apart.summary(in_shape).rows
assert with_sharing.out_shape == without.out_shape == (20, 14, 14)

# %%
# The parameters, counted and by the formula: a filter has 8x8x3 weights and a bias, and there are
# 20 of them, or 20 at each of the 14x14 places.

filter_size = 8 * 8 * 3 + 1
assert with_sharing.parameters == 20 * filter_size == 3_860
assert without.parameters == 20 * filter_size * 14 * 14 == 756_560

figure, ax = plt.subplots(figsize=(7.5, 1.8), layout="constrained")
counts = (with_sharing.parameters, without.parameters)
bars = ax.barh(["Conv2d", "LocallyConnected2d"], counts, color=["C0", "C1"])
labels = ax.bar_label(bars, [f"{count:,}" for count in counts], padding=4)
ax.set(xlim=(0, 900_000), xticks=[], title="parameters")
ax.invert_yaxis()
ax.spines[["top", "right", "bottom"]].set_visible(False)

# %%
# There are two savings. A fully connected layer, each of whose outputs sees all of the image, would
# have 12,046,160 parameters; that an output sees a window alone takes a sixteenth of them. That all
# places share their filters takes 196 times fewer once more, as many as there are places.
#
# What is saved is memory, and what there is to learn, but no work: both layers multiply equally
# often.

fully_connected = layers.Sequential(layers.Flatten(), layers.Linear(20 * 14 * 14))
dense = fully_connected.summary(in_shape).parameters
assert dense == (3 * 32 * 32 + 1) * 20 * 14 * 14 == 12_046_160
assert 15 < dense / without.parameters < 17
assert without.parameters / with_sharing.parameters == 14 * 14
assert with_sharing.multiply_adds == without.multiply_adds == 14 * 14 * 20 * 8 * 8 * 3

# %%
# What sharing means
# ------------------
#
# Move what is in the image, and what a convolution finds moves along: it is *equivariant* under
# translation. Here is a cross, then the same cross three pixels further on, and the two layers'
# answers to both (red positive, blue negative), with one 3x3 filter of random numbers and as many
# as there are places.

cross = np.zeros((1, 1, 12, 12), np.float32)
cross[0, 0, 2:7, 4] = cross[0, 0, 4, 2:7] = 1
moved = np.roll(cross, (3, 3), axis=(2, 3))

figure, axes = plt.subplots(2, 3, figsize=(7.5, 5), layout="constrained")
answers = {}
pair = layers.Conv2d(1, 3), layers.LocallyConnected2d(1, 3)
for column, layer in enumerate(pair, start=1):
    params, _ = layer.init(random.key(4), (1, 12, 12))
    answers[column] = [layer(params, image) for image in (cross, moved)]
    for row, answer in enumerate(answers[column]):
        bound = np.abs(answer).max()
        axes[row, column].imshow(answer[0, 0], cmap="RdBu_r", vmin=-bound, vmax=bound)
for ax, image in zip(axes[:, 0], (cross, moved), strict=True):
    ax.imshow(image[0, 0], cmap="gray")
for ax, title in zip(axes[0], ("image", "Conv2d", "LocallyConnected2d"), strict=True):
    ax.set_title(title)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])

# %%
# The convolution's answer is the same, three pixels further on. The locally connected layer's has
# nothing to do with the first one: it would have to learn the cross anew at each place.

before, after = answers[1]
expected = np.roll(before, (3, 3), axis=(2, 3))
np.testing.assert_allclose(after, expected, rtol=0, atol=1e-6)

before, after = answers[2]
expected = np.roll(before, (3, 3), axis=(2, 3))
assert np.abs(after - expected).max() > 0.5

# %%
# Learned here, known there
# -------------------------
#
# Two patterns, an upright cross and an oblique one, lie somewhere in noise. Two small networks
# learn to tell them apart: eight filters, the maximum of each over all places, and a linear layer.
# They differ in their first layer alone. They train on patterns whose corner lies in one of the
# four left columns, by ``Adam``, which is gradient descent with a rate of its own for each weight.

PATTERNS = np.array([np.eye(5) + np.eye(5)[::-1] > 0, np.zeros((5, 5))], np.float32)
PATTERNS[1, 2, :] = PATTERNS[1, :, 2] = 1


def patterns_at(places, rng):
    """Images (1, 12, 12) with a pattern at each (row, column), and its label."""
    labels = rng.integers(0, 2, len(places))
    images = 0.2 * rng.standard_normal((len(places), 1, 12, 12)).astype(np.float32)
    for image, label, (row, column) in zip(images, labels, places, strict=True):
        image[0, row : row + 5, column : column + 5] += PATTERNS[label]
    return images, labels


rng = np.random.default_rng(0)
left = np.stack([rng.integers(0, 8, 1000), rng.integers(0, 4, 1000)], axis=1)
train = patterns_at(left, rng)
everywhere = np.argwhere(np.ones((8, 8))).repeat(100, axis=0)
images, labels = patterns_at(everywhere, rng)

accuracy = {}
for layer in (layers.Conv2d(8, 3), layers.LocallyConnected2d(8, 3)):
    model = layers.Sequential(
        layer,
        layers.ReLU(),
        layers.AdaptiveMaxPool2d(1),  # the maximum over all places
        layers.Flatten(),
        layers.Linear(2),
    )
    net = xpcnn.Classifier(
        model, optimizer=Adam(0.01), epochs=10, batch_size=50, device="cpu"
    )
    right = net.fit(*train).predict(images) == labels
    accuracy[type(layer).__name__] = right.reshape(8, 8, 100).mean(axis=2)

# %%
# The share of new images that each tells apart, by where the pattern's corner lies. Right of the
# line neither has ever seen a pattern.

figure, axes = plt.subplots(1, 2, figsize=(7.5, 3.6), layout="constrained")
for ax, (name, shares) in zip(axes, accuracy.items(), strict=True):
    drawn = ax.imshow(shares, cmap="cividis", vmin=0, vmax=1)
    ax.axvline(3.5, color="black", linewidth=2)
    ax.set(title=name, xlabel="column of the pattern")
    ax.set(xticks=range(0, 8, 2), yticks=range(0, 8, 2))
axes[0].set_ylabel("row of the pattern")
bar = figure.colorbar(drawn, ax=axes, label="accuracy")

shares = accuracy["Conv2d"]
assert shares[:, :4].mean() > 0.95 and shares[:, 4:].mean() > 0.95
shares = accuracy["LocallyConnected2d"]
assert shares[:, :4].mean() > 0.95 and shares[:, 4:].mean() < 0.7

# %%
# The convolution knows the patterns wherever they are. The locally connected layer knows them where
# it has seen them, and guesses elsewhere: what its filters there hold is mostly still the random
# numbers of the start. Where things always lie alike, as faces on passports do, filters that differ
# by place can be of use; in most images a thing may be anywhere.
#
# What to remember
# ----------------
#
# - A filter of CxKHxKW has C * KH * KW weights and a bias, shared by all places.
# - Without sharing it is as many for each of the OH * OW places.
# - Sharing saves memory and examples to learn from. It saves no multiplications.
# - A convolution is equivariant: what moves in the image moves in the maps.
#
# It does not know a thing turned or larger: of that, :doc:`10_invariance` tells.
#
# The real thing: ``Conv2d`` is in ``xpcnn/layers/conv.py``, ``LocallyConnected2d`` in
# ``xpcnn/layers/linear.py``.
#
# Next: :doc:`09_inception`.
