"""
Invariance and augmentation
===========================

A digit stays the same digit when it is moved, turned a little, or written larger. A network does
not know that: it has to be built so, or to be shown. You will see what convolution and pooling give
by themselves, how little that is, and what it is worth to show the network changed images.
"""

# %%
# One digit, changed
# ------------------
#
# Something is *invariant* under a change if it stays as it is, and *equivariant* if it changes
# likewise. Which class an image shows should be invariant under shifts, small turns and small
# changes of size. xpcnn has such changes as *steps*: a step is called with a key, which decides all
# that is random, and a batch of images (N, C, H, W).

import matplotlib.pyplot as plt
import numpy as np

import xpcnn
from xpcnn import data, ops, optim, random
from xpcnn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential

digits = data.digits()
(x, labels), (test_x, test_labels) = digits.train, digits.test


def framed(images):
    """Digits of 8x8 pixels as 16x16, with room around them to move: 24x24 in all."""
    images = (images / 255).astype(np.float32)
    images = ops.interpolate(images, scale_factor=2, mode="bilinear")
    return ops.pad(images, (4, 4, 4, 4))


x, test_x = framed(x), framed(test_x)

steps = {
    "Shift(0.2)": data.Shift(0.2),
    "Rotate(40)": data.Rotate(40),
    "Scale(1.5)": data.Scale(1.5),
    "Flip()": data.Flip(),
    "Crop(4)": data.Crop(4),
    "Colour(0.5)": data.Colour(0.5),
    "CutOut(0.3)": data.CutOut(0.3),
}
five = x[np.flatnonzero(labels == 5)[3]]
copies = np.stack([five] * 8)

figure, axes = plt.subplots(len(steps), 9, figsize=(7.5, 6.4), layout="constrained")
for number, (row, name) in enumerate(zip(axes, steps, strict=True)):
    changed = steps[name](random.fold_in(random.key(0), number), copies)
    for ax, image in zip(row, [five, *changed], strict=True):
        ax.imshow(image[0], cmap="gray", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(name, rotation=0, ha="right", va="center")
    row[0].spines[:].set(color="#D55E00", linewidth=2)
figure.suptitle("A digit as it is, and what eight draws make of it")

# %%
# ``Shift(0.2)`` moves by up to a fifth of the height and width, ``Rotate(40)`` turns by up to 40
# degrees, ``Scale(1.5)`` changes the size by a factor of 1/1.5 to 1.5, ``Flip()`` mirrors half of
# the images, ``Crop(4)`` cuts the image out of one padded by 4, ``Colour(0.5)`` changes
# brightness by a factor of 0.5 to 1.5 and contrast by 0.8 to 1.2, ``CutOut(0.3)`` blanks a square.
#
# Not every change leaves a label true. A flipped 5 is no digit, and a 6 turned by 180 degrees is a
# 9: ``Flip`` is for cats, and large turns are for what has no upright.
#
# What a convolution gives
# ------------------------
#
# The same kernel looks at every place, so a convolution is *equivariant*: it finds in a shifted
# image what it found before, shifted likewise.


def shifted(images, right):
    """Images moved to the right by whole pixels."""
    return ops.pad(images, (right, -right))


kernel = np.asarray([[[[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]]], np.float32)
image = five[None]
found = ops.conv2d(image, kernel, padding=1)
found_later = ops.conv2d(shifted(image, 3), kernel, padding=1)
assert np.array_equal(found_later, shifted(found, 3))

# %%
# That is half of what is wanted. What was found is found elsewhere, and the linear layers after it
# have a weight of its own for each place.
#
# What pooling gives
# ------------------
#
# A pool keeps the largest of each window, wherever in the window it lies. On :doc:`06_pooling`, a
# shift by one pixel left three of four maxima as they were. So a pool of 2 tolerates a shift by one
# pixel in part. Each further pool doubles the distance, no more.
#
# Turns and changes of size get less. A stroke that is turned a little stays near where it was, and
# pooling takes up some of that; an image that is half as large is pooled as often as before, and
# still is half as large at the end.
#
# What a network learns
# ---------------------
#
# How much is that worth? Two networks, equal in their first weights, the order of their batches and
# the number of their updates. One learns from the digits as they are; the other's are shifted,
# turned and scaled anew in every batch. Steps that move pixels are joined into one map, so an image
# is read once, and is not blurred three times.

EPOCHS = 20
changes = {
    "shifted": data.Shift(0.2),
    "rotated": data.Rotate(40),
    "scaled": data.Scale(1.5),
}
augment = data.Augment(*changes.values())


def network(classes):
    same = {"kernel_size": 3, "padding": "same"}
    return Sequential(
        Conv2d(16, **same), ReLU(), MaxPool2d(2),
        Conv2d(32, **same), ReLU(), MaxPool2d(2),
        Flatten(), Linear(64), ReLU(), Linear(classes),
    )  # fmt: skip


def trained(augment):
    rate = optim.OneCycle(0.01, steps=EPOCHS * -(-len(x) // 64))
    net = xpcnn.Classifier(
        network,
        optimizer=optim.Adam(rate),
        epochs=EPOCHS,
        augment=augment,
        device="cpu",
    )
    return net.fit(x, labels)


networks = {"without": trained(None), "with": trained(augment)}

# %%
# Both are tested with digits that neither has seen, as they are and changed:

tests = {"as they are": test_x}
tests |= {name: change(random.key(1), test_x) for name, change in changes.items()}
accuracy = {
    which: [net.score(images, test_labels) for images in tests.values()]
    for which, net in networks.items()
}
print(f"{'test digits':<12} {'without':>8} {'with':>8}")
for name, *shares in zip(tests, *accuracy.values(), strict=True):
    print(f"{name:<12} {shares[0]:8.1%} {shares[1]:8.1%}")

figure, ax = plt.subplots(figsize=(7.5, 3.4), layout="constrained")
places = np.arange(len(tests))
for offset, colour, (which, shares) in zip(
    (-0.2, 0.2), ("#0072B2", "#D55E00"), accuracy.items(), strict=True
):
    named = {"color": colour, "label": f"{which} augmentation"}
    bars = ax.bar(places + offset, shares, 0.38, **named)
    ax.bar_label(bars, [f"{share:.0%}" for share in shares])
ax.set_xticks(places, tests)
ax.set(ylabel="accuracy on test digits", ylim=(0, 1.15))
ax.spines[["top", "right"]].set_visible(False)
ax.legend(loc="upper center", ncols=2, frameon=False)

without, augmented = (
    dict(zip(tests, shares, strict=True)) for shares in accuracy.values()
)
assert without["as they are"] > 0.97 and augmented["as they are"] > 0.9
for name in changes:
    assert augmented[name] > without[name] + 0.1
assert augmented["shifted"] > without["shifted"] + 0.4

# %%
# Without augmentation the network is a little better at digits in the middle, and lost elsewhere.
# With it, accuracy is about the same whatever is done to the digits. There is a price: more to
# learn in as many updates.
#
# Pixel by pixel
# --------------
#
# Now all test digits are moved to the right by the same distance. One pixel is mostly forgiven, as
# pooling promises; at four, a quarter of a digit's width, the network that knows only the middle is
# wrong about most of them.

distances = range(7)
# sphinx_gallery_thumbnail_number = 3
figure, ax = plt.subplots(figsize=(7.5, 3.2), layout="constrained")
curves = {}
for colour, (which, net) in zip(("#0072B2", "#D55E00"), networks.items(), strict=True):
    moved = [shifted(test_x, right) for right in distances]
    curves[which] = [net.score(images, test_labels) for images in moved]
    ax.plot(distances, curves[which], "o-", color=colour)
    ax.annotate(
        f"{which} augmentation", (distances[2], curves[which][2]), (8, 8),
        textcoords="offset points", color=colour,
    )  # fmt: skip
ax.set(xlabel="pixels to the right", ylabel="accuracy on test digits", ylim=(0, 1.08))
ax.spines[["top", "right"]].set_visible(False)

assert curves["without"][1] > 0.9 and curves["without"][4] < 0.4
assert min(curves["with"][:5]) > 0.85

# %%
# In your own training
# --------------------
#
# ``Classifier(model, augment=data.Augment(data.Shift(0.1), data.Rotate(15)))`` is all, or on the
# command line
#
# .. code-block:: sh
#
#    xpcnn train --augment shift=0.1,rotate=15
#
# Images are changed in training alone, each time anew. The key of a step follows from the seed, so
# the same seed means the same changes on every library, and a resumed run ends in the same bits.
#
# Another answer to changes of size is to look with several at once: kernels of 1x1, 3x3 and 5x5
# side by side, as in :doc:`Inception <09_inception>`; what is too large for one may be right for
# another.
#
# What to remember
# ----------------
#
# - A convolution is equivariant under shifts: what it finds moves along.
# - A pool is invariant under a shift that stays in its windows. That is little, and two pools are
#   not much more.
# - The rest has to be learned, from images that are changed as those to come may be.
# - Change only what leaves the label true.
#
# The real thing: ``xpcnn/data/augmentation/``; ``affine.py`` there reads each new pixel from the
# four old ones around its place.
#
# Next: :doc:`11_speed`.
