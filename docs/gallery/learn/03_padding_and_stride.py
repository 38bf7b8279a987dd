"""
Padding and stride
==================

A kernel fits into an image at fewer places than the image has pixels, so every convolution makes
the image smaller. *Padding* puts numbers around the image first; *stride* leaves places out. With
both, you choose the size of what comes out.
"""

# %%
# How large is the result?
# ------------------------
#
# Along each axis by itself, with i pixels, p pixels of padding on both sides together, a kernel
# of k and a stride of s, there are
#
# .. math:: o = \lfloor (i + p - k) / s \rfloor + 1
#
# results. Read it so: the kernel begins at the left of i + p pixels and has i + p - k left to go;
# it goes in steps of s; and the place where it begins counts, too. That last one is forgotten
# easily.

import itertools
from math import ceil
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np

import xpcnn
from xpcnn import ops, plots
from xpcnn.layers import Conv2d, MaxPool2d, ReLU, Sequential


def out_size(i, k, s=1, p=0):
    return (i + p - k) // s + 1


def size(i, k, s=1, p=0):
    """The same, asked of xpcnn; p is on each side."""
    x, w = np.zeros((1, 1, i)), np.zeros((1, 1, k))
    return ops.conv1d(x, w, stride=s, padding=p).shape[2]


for i, k, s, p in itertools.product(range(5, 12), range(1, 6), (1, 2, 3), (0, 1, 2)):
    assert size(i, k, s, p) == out_size(i, k, s, 2 * p)

for i, k, s, p in ((28, 5, 1, 0), (28, 5, 1, 2), (28, 5, 2, 0), (224, 7, 2, 3)):
    o = size(i, k, s, p)
    print(f"{i:3} pixels, kernel {k}, stride {s}, {p} on each side: {o:3} results")

# %%
# Padding
# -------
#
# Zeros around the image let the kernel reach beyond its border. Without them a pixel in the
# corner is read by one window alone, where a 3x3 kernel reads one in the middle nine times. And
# the image may keep its size: that takes k - 1 zeros along each axis, one on each side for a
# kernel of 3, two for 5.
#
# Here the kernel has 2x2 numbers and would need one zero an axis. There is one on each side, so the
# result is larger than the image.

image = np.arange(9.0).reshape(3, 3)
kernel = np.array([[0.0, 1.0], [2.0, 3.0]])
x, w = image.reshape(1, 1, 3, 3), kernel.reshape(1, 1, 2, 2)
y = ops.conv2d(x, w, padding=1)

assert y.shape == (1, 1, 4, 4)
plots.convolution(image, kernel, padding=1)

# %%
# The two sides need not be alike. ``padding`` is one number for all sides, one for each axis, or
# a pair (before, after) for each axis:

for padding in (1, (1, 0), ((0, 1), (2, 0))):
    print(padding, ops.conv2d(x, w, padding=padding).shape)

assert ops.conv2d(x, w, padding=((0, 1), (2, 0))).shape == (1, 1, 3, 4)

# %%
# Stride
# ------
#
# With a stride of 3 down and 2 across, the kernel visits every third row and every second column
# of the padded image. Four places are left:

y = ops.conv2d(x, w, stride=(3, 2), padding=1)

assert y[0, 0].tolist() == [[0, 8], [6, 8]]
# sphinx_gallery_thumbnail_number = 2
plots.convolution(image, kernel, stride=(3, 2), padding=1, at=(1, 0))

# %%
# The result is that of stride 1 with rows and columns left out; a stride spares the work of
# computing what would be thrown away.

everywhere = ops.conv2d(x, w, padding=1)
assert np.array_equal(y, everywhere[:, :, ::3, ::2])

# %%
# Valid and same
# --------------
#
# Two paddings have names. ``"valid"`` is none. ``"same"`` is as much as it takes for ceil(i / s)
# results, which at stride 1 is the size of the image. Where the number of zeros is odd, the odd one
# comes last.
#
# .. math::
#
#    \text{valid:} \quad o &= \lceil (i - k + 1) / s \rceil \\
#    \text{same:} \quad o &= \lceil i / s \rceil, \qquad p = \max(0, (o - 1)\, s + k - i)
#
# The first is no new rule: it is the formula above with p = 0, written otherwise.

for i, k, s in itertools.product(range(5, 40), range(1, 6), range(1, 5)):
    assert ceil((i - k + 1) / s) == out_size(i, k, s)
    assert size(i, k, s, "same") == ceil(i / s)

# %%
# Twenty filters of 8x8 over a colour image of 32x32, its channels last:

pictures, filters = np.ones((1, 32, 32, 3)), np.ones((20, 3, 8, 8))
for padding in ("same", "valid"):
    y = ops.conv2d(pictures, filters, stride=2, padding=padding, layout="NHWC")
    print(f"{padding:5} {y.shape}")
assert y.shape == (1, 13, 13, 20)

# %%
# At stride 1, *same* keeps even an image that is no larger than the kernel:

x, w = np.ones((4, 2, 3, 2)), np.ones((5, 2, 2, 3))
assert ops.conv2d(x, w, padding="same", layout="NHWC").shape == (4, 2, 3, 5)

# %%
# *Same* at stride 2 is not padding 1
# -----------------------------------
#
# With a kernel of 3 and a stride of 2, eight pixels need one zero: *same* puts it after the last.
# ``padding=1`` puts one on each side. Both give four results, but look where the windows lie:


def draw_windows(ax, i, k, s, before, after, title):
    ax.axvspan(-0.5, i - 0.5, color="0.9")
    zeros = [*range(-before, 0), *range(i, i + after)]
    ax.plot(zeros, np.zeros(len(zeros)), "o", color="0.5", mfc="white")
    ax.plot(range(i), np.zeros(i), "o", color="C0")
    for number in range(out_size(i, k, s, before + after)):
        first = number * s - before
        line = -0.6 - 0.45 * number
        ax.plot([first, first + k - 1], [line, line], "C1", linewidth=5)
    ax.set(title=title, xlim=(-1.8, i + 0.8), ylim=(-2.5, 0.6))
    ax.set_axis_off()


figure, axes = plt.subplots(1, 2, figsize=(8, 2.4), layout="constrained")
draw_windows(axes[0], 8, 3, 2, 0, 1, '"same": a zero after')
draw_windows(axes[1], 8, 3, 2, 1, 1, "padding=1: one on each side")

row, ones = np.arange(8.0).reshape(1, 1, 8), np.ones((1, 1, 3))
same = ops.conv1d(row, ones, stride=2, padding="same")
one = ops.conv1d(row, ones, stride=2, padding=1)

assert np.array_equal(same, ops.conv1d(row, ones, stride=2, padding=((0, 1),)))
assert same.shape == one.shape and not np.array_equal(same, one)
print("same:     ", same[0, 0])
print("padding=1:", one[0, 0])

# %%
# The zero at the right of ``padding=1`` is not even read. So weights that were trained with
# TensorFlow's *same* need ``padding="same"``, though the sizes would be right with ``padding=1``,
# too. A network that was converted without that computes something slightly else, and no error
# tells of it.
#
# When the step does not come out even
# ------------------------------------
#
# The formula rounds down: eight pixels, a kernel of 3 and a stride of 2 leave one pixel at the
# right that no window covers. Mostly that is fine. Where you want to hear of it, ask for
# ``exact=True``:

print(size(8, 3, 2), "places, and the last pixel is not read")
try:
    ops.conv2d(np.zeros((1, 1, 8, 7)), np.zeros((1, 1, 3, 3)), stride=2, exact=True)
except ValueError as error:
    message = str(error)
    print(fill(message, 80))
assert "7 or 9 would fit" in message

# %%
# Pools have the same geometry
# ----------------------------
#
# What was said of kernels holds for the windows of :doc:`pooling <06_pooling>`. Maxima of 3x3,
# with strides of 2 and 1 and *same*, on a 4x4 image with two channels, channels last. The windows
# at the border have fewer pixels to choose from; padding never wins.

x = np.arange(32).reshape(1, 4, 4, 2)
y = ops.max_pool2d(x, 3, (2, 1), "same", layout="NHWC")

assert y.shape == (1, 2, 4, 2)
assert y[0].tolist() == [
    [[18, 19], [20, 21], [22, 23], [22, 23]],
    [[26, 27], [28, 29], [30, 31], [30, 31]],
]
print(y[0, :, :, 0])

# %%
# What an output sees
# -------------------
#
# One number after one convolution depends on k x k pixels: its *receptive field*. After a second
# convolution it is larger. Two kernels of 2x2, one after the other, see 3x3 pixels, and the
# gradient shows them, with the number of ways from each pixel to the output. (``xpcnn.vjp`` gives a
# result and a function that takes gradients back through it; :doc:`05_gradient` tells how.)

ones = np.ones((1, 1, 2, 2))
middle, pull_first = xpcnn.vjp(ops.conv2d, np.ones((1, 1, 3, 3)), ones)
top, pull_second = xpcnn.vjp(ops.conv2d, middle, ones)
ways = pull_first(pull_second(np.ones((1, 1, 1, 1)))[0])[0]

assert top.shape == (1, 1, 1, 1)
assert ways[0, 0].tolist() == [[1, 2, 1], [2, 4, 2], [1, 2, 1]]
print(ways[0, 0])

# %%
# From layer to layer, the field grows by k - 1 of what a step is then worth in pixels of the
# image; and a stride of s makes each later step worth s times as much. That is why strides and
# pools let a network see much with little kernels. ``summary`` has both numbers for every layer:

model = Sequential(
    *(Conv2d(8, 3), ReLU(), MaxPool2d(2)),
    *(Conv2d(16, 3), ReLU(), MaxPool2d(2)),
    Conv2d(32, 3),
)
field, step = 1, 1
for layer, row in zip(model.layers, model.summary((1, 28, 28)).rows, strict=True):
    kind = type(layer).__name__
    k, s = {"Conv2d": (3, 1), "MaxPool2d": (2, 2), "ReLU": (1, 1)}[kind]
    field, step = field + (k - 1) * step, step * s
    assert row.receptive_field == (field, field) and row.stride == (step, step)
    print(f"{kind:10} sees {field:2} x {field:<2} pixels; neighbours lie {step} apart")

# %%
# The same drawn: in the 28x28 image, what one output in the middle sees after the layers 0, 2, 3, 5
# and 6 (a ReLU changes nothing).

plots.receptive_field(model, (1, 28, 28))

# %%
# There is a third way to see more: ``dilation=d`` pulls the kernel apart and reads every d-th
# pixel. It then spans d (k - 1) + 1 pixels, and the formula above holds with that number in the
# place of k.

y = ops.conv2d(np.zeros((1, 1, 28, 28)), np.zeros((1, 1, 3, 3)), dilation=4)
assert y.shape[2] == out_size(28, 4 * (3 - 1) + 1) == 20

# %%
# What to remember
# ----------------
#
# - o = floor((i + p - k) / s) + 1, along each axis by itself.
# - k - 1 zeros keep the size at stride 1. *Same* gives ceil(i / s) results at any stride.
# - At stride 2, *same* and ``padding=1`` differ: in where the windows lie, not in how many there
#   are.
# - Depth, strides and pools make the receptive field grow.
#
# One of the texts that xpcnn grew from gives (i - k)/s - 1 for the size of a convolution, and
# another forgets the stride of a pool. The loop at the top of this page would have told them.
#
# The real thing: all of this is ``xpcnn/window.py``, integers only. Every shape error comes from
# there.
#
# Next: :doc:`04_columns`.
