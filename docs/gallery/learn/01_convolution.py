"""
What a convolution is
=====================

A small matrix, the *kernel*, slides over an image. At each place, the numbers that lie under it
are multiplied by its own and the products are added: that sum is one pixel of the result. A
convolutional network is made of this operation, and learns what numbers to put into the kernels.
"""

# %%
# A kernel slides over an image
# -----------------------------
#
# An image of 3x3 pixels and a kernel of 2x2 are enough to follow by hand.

import matplotlib.pyplot as plt
import numpy as np
from skimage.data import chelsea

from xpcnn import ops, plots

image = np.arange(9.0).reshape(3, 3)
kernel = np.array([[3.0, 2.0], [1.0, 0.0]])

plots.convolution(image, kernel)

# %%
# The kernel fits into the image at 2x2 places, so the result has 2x2 pixels. Below the figure
# stands how the first of them is made. Find the four products that add up to the second, 11.
#
# In code, an array of images has four axes, (N, C, H, W): how many images, how many channels
# (colours), height and width. Ours is one image with one channel. A kernel has four axes, too, of
# which the :doc:`next page <02_channels>` tells.

x = image.reshape(1, 1, 3, 3)
w = kernel.reshape(1, 1, 2, 2)
y = ops.conv2d(x, w)

assert y.tolist() == [[[[5, 11], [23, 29]]]]
print(y[0, 0])

# %%
# Now the kernel is at the bottom right:

plots.convolution(image, kernel, at=(1, 1))

# %%
# The definition as a program
# ---------------------------
#
# Two loops over the places say all of it. Libraries compute the same sums in a quicker order; this
# program tells whether they are right.


def slide(image, kernel):
    rows = image.shape[0] - kernel.shape[0] + 1
    columns = image.shape[1] - kernel.shape[1] + 1
    result = np.zeros((rows, columns))
    for i in range(rows):
        for j in range(columns):
            under = image[i : i + len(kernel), j : j + len(kernel[0])]
            result[i, j] = np.sum(under * kernel)
    return result


assert np.array_equal(slide(image, kernel), y[0, 0])

# %%
# A kernel of ones adds up what it covers. Over this image of 4x4 pixels, a 3x3 kernel has 2x2
# places:

rows = [10, 8, 9, 7], [2, 2, 12, 3], [20, 15, 8, 9], [13, 21, 23, 12]
plane = np.array(rows, np.float64)
sums = ops.conv2d(plane.reshape(1, 1, 4, 4), np.ones((1, 1, 3, 3)))

assert sums[0, 0].tolist() == [[86, 73], [116, 105]]
assert np.array_equal(slide(plane, np.ones((3, 3))), sums[0, 0])
plots.convolution(plane, np.ones((3, 3)))

# %%
# Convolution or correlation?
# ---------------------------
#
# In mathematics, what we did is called *cross-correlation*. A *convolution* turns the kernel by
# half a turn first, upside down and left to right, and then does the same. ``ops.correlate`` and
# ``ops.convolve`` are these two, on plain matrices.

turning = np.array([[0, 1], [2, 3]])
nine = np.arange(9).reshape(3, 3)
correlated = ops.correlate(nine, turning, "valid")
convolved = ops.convolve(nine, turning, "valid")
turned = turning[::-1, ::-1]

assert correlated.tolist() == [[19, 25], [37, 43]]
assert np.array_equal(convolved, ops.correlate(nine, turned, "valid"))

figure, axes = plt.subplots(1, 4, figsize=(9, 2.6), layout="constrained")
for ax, title, matrix in zip(
    axes,
    ("kernel", "correlated with it", "turned kernel", "convolved"),
    (turning, correlated, turned, convolved),
    strict=True,
):
    plots.numbers(matrix, title=title, ax=ax)

# %%
# Networks do not turn their kernels: ``ops.conv2d`` is a correlation, as in every deep learning
# library, and is called a convolution all the same. It makes no difference to a network. Its
# kernels are learned, so it would learn the turned ones. It makes a difference when a kernel
# comes from a book.

turned_first = ops.conv2d(x, w[:, :, ::-1, ::-1])
assert np.array_equal(turned_first[0, 0], ops.convolve(image, kernel, "valid"))

# %%
# Why turn it? Two dice
# ---------------------
#
# The turned kernel comes from adding random numbers. How likely do two dice show 4 together? The
# first shows 1 and the second 3, or 2 and 2, or 3 and 1:
#
# .. math:: P(4) = f(1)\, g(3) + f(2)\, g(2) + f(3)\, g(1) = \tfrac{3}{36}
#
# While the number of the first die rises, that of the second falls: one of the two rows is read
# backwards. That is a convolution, and it gives the chances of all sums at once.

die = np.full(6, 1 / 6)  # of the numbers 1 to 6
total = ops.convolve(die, die)  # of the sums 2 to 12
assert total.shape == (11,)
np.testing.assert_allclose(total[4 - 2], 3 / 36)
np.testing.assert_allclose(total.sum(), 1)

figure, ax = plt.subplots(figsize=(7, 3), layout="constrained")
points = np.arange(2, 13)
ax.set(xlabel="sum of two dice", xticks=points)
ax.set(ylabel="chance, in 36ths", ylim=(0, 6.8))
bars = ax.bar(points, total * 36, color=["C1" if n == 4 else "C0" for n in points])
labels = ax.bar_label(bars, fmt="%.0f")

# %%
# What kernels see
# ----------------
#
# Long before networks, people made kernels by hand. Here are nine of them over a photograph, made
# grey first; each kernel stands at the right above what it makes. Some make a picture again. The
# others make differences: there, middle grey is zero, brighter is positive and darker negative.

photo = np.moveaxis(chelsea(), -1, 0)  # (C, H, W)
print(photo.shape, photo.dtype)
plots.filter_gallery(photo)

# %%
# The sum of a kernel's numbers tells much. Where the image is even, each result is the pixel times
# that sum: with 1 (*identity*, *sharpen*, *blur*) the brightness stays; with 0 (*edges*, *Sobel*,
# *emboss*) an even surface vanishes and only changes are left; with -1 (*surround*) the picture
# becomes its negative.

for name, numbers in plots.FILTERS.items():
    print(f"{name:16}{numbers.sum():3.0f}")
    assert abs(numbers.sum() - round(float(numbers.sum()))) < 1e-6

# %%
# A kernel that subtracts left from right, such as *Sobel x*, answers to *vertical* edges: along a
# row something changes there. *Sobel y* answers to horizontal ones.
#
# From pixels to a feature
# ------------------------
#
# A network does three things one after the other, again and again. It *convolves*. Then it sets
# what is negative to zero (*ReLU*): of the edges, those from dark to bright are left. Then it
# keeps the largest of each 2x2 pixels (*max pooling*): the map is half as wide and high, and the
# feature is still there. Here with the kernel Sobel x on each of the three colours; white is
# zero, red is positive and blue negative:

plots.stages(photo)

# %%
# What to remember
# ----------------
#
# - A convolution is a sum of products at every place that the kernel fits into.
# - n pixels and a kernel of k give n - k + 1 places along each axis.
# - Deep learning's convolution does not turn the kernel; mathematics' does.
# - One small kernel looks for the same thing everywhere in the image.
#
# The real thing: ``conv2d`` is in ``xpcnn/ops/conv.py``, ``correlate`` and ``convolve`` are in
# ``xpcnn/ops/signal.py``, and what computes them on any array, in a few lines, is ``conv`` in
# ``xpcnn/engines/generic.py``.
#
# Next: :doc:`02_channels`.
