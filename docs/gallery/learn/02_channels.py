"""
Channels
========

A colour image is three planes of numbers, one each for red, green and blue. Inside a network
there are more: what each kernel of a layer finds is a plane of its own. All these planes are
*channels*, and this page tells how a convolution takes some and gives others.
"""

# %%
# An image is a stack of planes
# -----------------------------
#
# The array of a photograph is (C, H, W): channels, height, width. A batch of N of them is (N, C,
# H, W).

from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
from skimage.data import chelsea

from xpcnn import ops, plots

photo = np.moveaxis(chelsea(), -1, 0)  # it comes as (H, W, C)
print(photo.shape)


def show(planes, titles, height, **options):
    _, axes = plt.subplots(1, len(planes), figsize=(9, height), layout="constrained")
    for ax, plane, title in zip(axes, planes, titles, strict=True):
        ax.imshow(plane, cmap="gray", **options)
        ax.set_title(title)
        ax.set_axis_off()


titles = ["the photograph", "red", "green", "blue"]
show([chelsea(), *photo], titles, height=1.9, vmin=0, vmax=255)

# %%
# Many to one
# -----------
#
# A kernel for three channels is three matrices, one a channel; together they are called a
# *filter*. Each slides over its own channel, and the three results are added: one plane comes
# out.

x = np.arange(27.0).reshape(1, 3, 3, 3)  # one image, three channels of 3x3
w = np.arange(12.0).reshape(1, 3, 2, 2)  # one filter, three kernels of 2x2

parts = [ops.conv2d(x[:, c : c + 1], w[:, c : c + 1]) for c in range(3)]
y = ops.conv2d(x, w)

assert y.shape == (1, 1, 2, 2)
assert np.array_equal(y, sum(parts))

plots.convolution(x[0], w[0])

# %%
# A filter sees colour
# --------------------
#
# The smallest kernel has a single number. It looks at no neighbours, but it mixes the channels of
# each pixel: grey is such a mixture, and so is *how much redder than green and blue*.

pixels = photo[None].astype(np.float32)
grey = np.array([0.299, 0.587, 0.114], np.float32).reshape(1, 3, 1, 1)
redness = np.array([1.0, -0.5, -0.5], np.float32).reshape(1, 3, 1, 1)
mixed = ops.conv2d(pixels, np.concatenate([grey, redness]))

assert mixed.shape == (1, 2, 300, 451)
by_hand = np.tensordot(grey[0, :, 0, 0], pixels[0], 1)
np.testing.assert_allclose(mixed[0, 0], by_hand, rtol=1e-5)
# sphinx_gallery_thumbnail_number = 3
show(mixed[0], ["grey", "redder than green and blue"], height=3.2)

# %%
# One to many
# -----------
#
# Grey and redness were two filters already, and two planes came out. Each filter goes over the
# same image and makes a channel of its own; what the filters look for may be quite different. In
# training, each learns its own.

image = np.arange(16.0).reshape(1, 1, 4, 4)
two = np.stack([np.ones((3, 3)), np.eye(3)])[:, None]  # (2, 1, 3, 3)
y = ops.conv2d(image, two)

assert y.shape == (1, 2, 2, 2)
for o in range(2):
    assert np.array_equal(y[:, o : o + 1], ops.conv2d(image, two[o : o + 1]))

# %%
# Many to many, and a bias
# ------------------------
#
# Both at once is what a layer does: every output channel is the sum over all input channels, each
# with its own kernel, and a number of its own is added to the whole plane: the *bias*.
#
# .. list-table::
#    :header-rows: 1
#    :widths: 15 25 60
#
#    * - array
#      - shape
#      - what it is
#    * - x
#      - (N, C, H, W)
#      - N images of C channels
#    * - w
#      - (O, C, KH, KW)
#      - O filters; each has a kernel for each of the C channels
#    * - b
#      - (O,)
#      - a bias for each filter
#    * - y
#      - (N, O, OH, OW)
#      - N images of O channels

x = np.arange(54.0).reshape(2, 3, 3, 3)
w = np.arange(24.0).reshape(2, 3, 2, 2)
b = np.array([10.0, -5.0])
y = ops.conv2d(x, w)

assert y.shape == (2, 2, 2, 2)
assert y[:, :, 0, 0].tolist() == [[1035, 2619], [2817, 8289]]
assert np.array_equal(ops.conv2d(x, w, b), y + b.reshape(1, 2, 1, 1))

for n in range(2):
    for o in range(2):
        by_hand = sum(ops.correlate(x[n, c], w[o, c], "valid") for c in range(3))
        assert np.array_equal(y[n, o], by_hand)

# %%
# A layer has O * C * KH * KW weights and O biases. The image's height and width do not occur: the
# same filters go over an image of any size.
#
# The number of channels must fit. Where it does not, nothing is computed, and the error tells
# what would be right:

try:
    ops.conv2d(x, w[:, :2])
except ValueError as error:
    print(fill(str(error), 80))

# %%
# (G is the number of *groups* that the channels may be parted into; here it is 1.)
#
# Where the channels lie
# ----------------------
#
# TensorFlow and Keras put the channels last. Their images are (N, H, W, C), in short NHWC, and
# their filters (KH, KW, C, O), HWIO. xpcnn takes such images with ``layout="NHWC"``; filters need
# their axes put in order once, which copies nothing.

images = np.ones((1, 32, 32, 3), np.float32)  # NHWC
hwio = np.ones((8, 8, 3, 20), np.float32)
oihw = hwio.transpose(3, 2, 0, 1)
y = ops.conv2d(images, oihw, stride=2, padding="same", layout="NHWC")

assert oihw.shape == (20, 3, 8, 8)
assert y.shape == (1, 16, 16, 20)

first = ops.conv2d(images.transpose(0, 3, 1, 2), oihw, stride=2, padding="same")
np.testing.assert_allclose(y, first.transpose(0, 2, 3, 1), rtol=1e-6)

# %%
# OpenCV has another surprise: it reads colours as blue, green, red. A network that learned from
# red, green, blue then sees red cats as blue ones. ``xpcnn.io`` gives red, green, blue.
#
# What to remember
# ----------------
#
# - A filter has a kernel for each input channel; the results are added.
# - There are as many output channels as filters.
# - The bias is one number for each output channel.
# - Weights are (O, C, KH, KW), images (N, C, H, W).
#
# The real thing: ``xpcnn/ops/conv.py``; the layouts are in ``xpcnn/ops/_layout.py``, and what the
# error above said is in ``xpcnn/window.py``.
#
# Next: :doc:`03_padding_and_stride`.
