"""
1x1 convolutions and Inception
==============================

A kernel of a single pixel looks at no neighbour, and yet is of much use: it mixes channels, and can
make them few before a large kernel comes. You will see how that saves nine tenths of the
multiplications, and a module that has kernels of several sizes side by side.
"""

# %%
# A kernel of one pixel
# ---------------------
#
# A 1x1 convolution takes the same weighted sums of the channels at every pixel: a product of
# matrices, and a small fully connected layer that slides over the image. With three weights it
# makes a colour photograph grey:

# sphinx_gallery_thumbnail_number = 3
import itertools

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyBboxPatch
from skimage.data import chelsea

from xpcnn import layers, models, ops, random

photo = np.moveaxis(chelsea(), -1, 0)[None] / 255
weights = np.array([0.299, 0.587, 0.114])  # how bright red, green and blue seem
grey = ops.conv2d(photo, weights.reshape(1, 3, 1, 1))
assert grey.shape == (1, 1, 300, 451)
np.testing.assert_allclose(grey[0, 0], np.tensordot(weights, photo[0], 1))

figure, axes = plt.subplots(1, 2, figsize=(7.5, 2.7), layout="constrained")
shown = {"3 channels": np.moveaxis(photo[0], 0, -1), "1 channel": grey[0, 0]}
for ax, (title, image) in zip(axes, shown.items(), strict=True):
    ax.imshow(image, cmap="gray")
    ax.set_title(title)
    ax.set_axis_off()

# %%
# The bottleneck
# --------------
#
# Within a network there are hundreds of channels. Let 192 of 28x28 go through 32 filters of 5x5.
# Each of the outputs is a sum of 5x5x192 products:

same = {"padding": "same"}
plain = layers.Sequential(layers.Conv2d(32, 5, **same))
without = plain.summary((192, 28, 28))
assert without.multiply_adds == (28 * 28 * 32) * (5 * 5 * 192) == 120_422_400

# %%
# Now a 1x1 convolution makes 16 channels of the 192 before, a *bottleneck*. What comes out has the
# same shape.

narrow = layers.Sequential(
    layers.Conv2d(16, 1), layers.ReLU(), layers.Conv2d(32, 5, **same)
)
with_bottleneck = narrow.summary((192, 28, 28))
by_hand = (28 * 28 * 16) * 192 + (28 * 28 * 32) * (5 * 5 * 16)
assert with_bottleneck.multiply_adds == by_hand == 12_443_648
assert without.rows[-1].out_shape == with_bottleneck.rows[-1].out_shape == (32, 28, 28)
for row in with_bottleneck.rows:
    cost = f"{row.parameters:8,} parameters{row.multiply_adds:12,} products"
    print(f"{row.name:3}{row.out_shape!s:14}{cost}")

# %%
# That is a tenth. (You may read 1.2 million and 124 thousand somewhere for this very example: both
# are a hundred times too small, which their ratio does not tell.) Parameters become fewer as well,
# 15,920 in place of 153,632.

assert (without.parameters, with_bottleneck.parameters) == (153_632, 15_920)
assert 0.1 < with_bottleneck.multiply_adds / without.multiply_adds < 0.11

# %%
# How narrow should it be? The multiplications grow in proportion to its width, and from 155
# channels on it costs more than it saves:


def multiplications(width):
    pair = layers.Conv2d(width, 1), layers.Conv2d(32, 5, **same)
    return layers.Sequential(*pair).summary((192, 28, 28)).multiply_adds


assert multiplications(154) < without.multiply_adds < multiplications(155)

widths = (4, 16, 64, 128, 192)
figure, ax = plt.subplots(figsize=(7.5, 2.8), layout="constrained")
names = ["no bottleneck", *(f"{width} channels" for width in widths)]
counts = [without.multiply_adds, *map(multiplications, widths)]
millions = [count / 1e6 for count in counts]
bars = ax.barh(names, millions, color=["gray"] + ["C0"] * len(widths))
labels = ax.bar_label(bars, fmt="%.1f", padding=4)
ax.set(xlim=(0, 165), xticks=[], title="millions of multiplications for an image")
ax.invert_yaxis()
ax.spines[["top", "right", "bottom"]].set_visible(False)

# %%
# What is lost? Sixteen mixtures of the channels must tell the 5x5 filters enough. They are learned
# together with those, so it is what matters that is kept, and the ReLU between makes the whole able
# to learn what one convolution cannot.
#
# Side by side
# ------------
#
# How large should a kernel be? In an Inception module there is no need to choose: kernels of 1x1,
# 3x3 and 5x5 and a max pool see the same input, and their channels are put one after the other.
# What is useful, training finds out. ``Branches`` is what puts layers side by side:

module = layers.Branches(
    layers.Conv2d(4, 1), layers.Conv2d(6, 3, **same), layers.Conv2d(2, 5, **same)
)
params, out_shape = module.init(random.key(0), (3, 28, 28), dtype="float64")
assert out_shape == (4 + 6 + 2, 28, 28)

x = photo[..., :28, :28]
parts = [layer(params[name], x) for name, layer in module.children]
np.testing.assert_array_equal(module(params, x), np.concatenate(parts, axis=1))

# %%
# Its gradient follows: each branch gets the gradient of its own channels, and as all of them saw
# the same input, what they send back to it is added up.

dy = random.normal(random.key(1), (1, *out_shape))
_, dx = module.vjp(params, x)[1](dy)
shares = np.split(dy, np.cumsum([4, 6]), axis=1)
sent = [
    layer.vjp(params[name], x)[1](share)[1]
    for (name, layer), share in zip(module.children, shares, strict=True)
]
np.testing.assert_allclose(dx, sum(sent), rtol=0, atol=1e-12)

# %%
# The module
# ----------
#
# ``models.inception`` is the module that GoogLeNet is built of: bottlenecks before the large
# kernels, and a 1x1 convolution after the pool, which otherwise would hand on all of its channels.
# Here with the widths of GoogLeNet's first:

in_shape = (192, 28, 28)
inception = models.inception(64, (96, 128), (16, 32), 32)
summary = inception.summary(in_shape)
assert inception.plan(in_shape)[1] == (64 + 128 + 32 + 32, 28, 28)


def box(x, y, text, color, width=0.8):
    corner = x - width / 2, y - 0.18
    look = {"facecolor": color, "edgecolor": "black", "linewidth": 0.8}
    ax.add_patch(FancyBboxPatch(corner, width, 0.36, boxstyle="round,pad=0.03", **look))
    ax.text(x, y, text, ha="center", va="center", fontsize="small")


LARGE, SMALL, POOL = "#9ecae1", "#fdd0a2", "#d9d9d9"
ARROW = {"arrowstyle": "-|>", "facecolor": "black"}
branches = (
    [("64 of 1x1", SMALL)],
    [("96 of 1x1", SMALL), ("128 of 3x3", LARGE)],
    [("16 of 1x1", SMALL), ("32 of 5x5", LARGE)],
    [("max pool 3x3", POOL), ("32 of 1x1", SMALL)],
)
figure, ax = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
box(1.5, 0, "192x28x28", "white", width=3.8)
for x, branch in enumerate(branches):
    heights = [0.8, 1.6] if len(branch) == 2 else [1.2]
    for (text, color), y in zip(branch, heights, strict=True):
        box(x, y, text, color)
    for below, above in itertools.pairwise([0, *heights, 2.4]):
        ax.annotate("", (x, above - 0.21), (x, below + 0.21), arrowprops=ARROW)
box(1.5, 2.4, "64 + 128 + 32 + 32 = 256x28x28", "white", width=3.8)
ax.set(xlim=(-0.5, 3.5), ylim=(-0.25, 2.65), aspect="equal")
ax.set_axis_off()

# %%
# Each convolution is followed by a ReLU. This is what they cost:

for row in summary.rows:
    if row.multiply_adds:
        cost = f"{row.parameters:8,} parameters{row.multiply_adds:12,} products"
        print(f"{row.name:15}{cost}")

# %%
# Without bottlenecks, and with the pool's channels handed on as they are, the same kernels cost
# more than twice as much in this one module, and 416 channels would go to the next in place of 256.

bare = models.inception(64, 128, 32)
assert bare.plan(in_shape)[1] == (64 + 128 + 32 + 192, 28, 28)
costs = summary.multiply_adds, bare.summary(in_shape).multiply_adds
assert costs == (128_049_152, 303_464_448)
print(f"{costs[0]:,} multiplications with bottlenecks, {costs[1]:,} without")

# %%
# What to remember
# ----------------
#
# - A 1x1 convolution mixes channels, pixel by pixel, by one product of matrices.
# - A convolution multiplies H * W * O * KH * KW * C times, for H*W places and O filters.
# - Few channels before a large kernel, a bottleneck, can save most of its multiplications (here
#   nine tenths).
# - ``Branches`` puts layers side by side; an Inception module has one kernel size in each.
#
# The real thing: ``Branches`` is in ``xpcnn/layers/branches.py``, ``inception`` and GoogLeNet in
# ``xpcnn/models/inception.py``. A small Inception network learns in :doc:`/examples/inception`.
#
# Next: :doc:`10_invariance`.
