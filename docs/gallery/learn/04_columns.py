"""
Columns: a convolution is a matrix product
==========================================

Two loops over the places of a kernel are slow, and a matrix product is what computers are best
at. Written in another order, a convolution *is* a matrix product. The order is called *columns*,
or im2col.
"""

# %%
# Each window becomes a column
# ----------------------------
#
# Take what the kernel covers at its first place, and write it down as a column; then the second
# place, and so on. ``ops.unfold`` does that.

import matplotlib.pyplot as plt
import numpy as np

import xpcnn
from xpcnn import ops, plots

image = np.arange(9.0).reshape(3, 3)
x = image.reshape(1, 1, 3, 3)
columns = ops.unfold(x, 2)[0]

assert columns.T.tolist() == [[0, 1, 3, 4], [1, 2, 4, 5], [3, 4, 6, 7], [4, 5, 7, 8]]
plots.columns(image, 2)

# %%
# The middle of the image, 4, stands in every column: all four windows cover it. (This matrix
# happens to be its own transpose. Some texts write each window as a row instead; it is the same
# thing on its side.)
#
# Multiply
# --------
#
# Write the kernel as a row, in the same order. A row times a column is the sum of products, so
# the row times all columns is the convolution at all places.

kernel = np.array([[3.0, 2.0], [1.0, 0.0]])
y = kernel.reshape(1, 4) @ columns

assert y.tolist() == [[5, 11, 23, 29]]
assert np.array_equal(y.reshape(2, 2), ops.conv2d(x, kernel.reshape(1, 1, 2, 2))[0, 0])

figure, axes = plt.subplots(1, 3, figsize=(9, 2.8), layout="constrained")
plots.numbers(kernel.reshape(1, 4), title="kernel", ax=axes[0])
plots.numbers(columns, title="times the columns", ax=axes[1])
plots.numbers(y, title="is the result", ax=axes[2])

# %%
# Channels, filters and a batch
# -----------------------------
#
# With C channels, a column is longer: it has the window of the first channel, then that of the
# second, and so on. With O filters, there are O rows instead of one. It stays one product,
#
# .. math:: (O,\ C \cdot KH \cdot KW) \times (C \cdot KH \cdot KW,\ L) = (O,\ L)
#
# for each image, L being the number of places. Weights in memory lie in that order already.

x = np.arange(54.0).reshape(2, 3, 3, 3)  # two images, three channels
w = np.arange(24.0).reshape(2, 3, 2, 2)  # two filters
columns = ops.unfold(x, 2)
print(columns.shape, "columns of two images")

y = (w.reshape(2, 12) @ columns).reshape(2, 2, 2, 2)
assert np.array_equal(y, ops.conv2d(x, w))
assert y[:, :, 0, 0].tolist() == [[1035, 2619], [2817, 8289]]

plots.columns(x[0], 2)

# %%
# Padding and stride
# ------------------
#
# Zeros around the image are zeros in the columns, and a stride leaves columns out. The window of
# 3x3 at the corner of a padded image has five of them:

rows = [10, 8, 9, 7], [2, 2, 12, 3], [20, 15, 8, 9], [13, 21, 23, 12]
plane = np.array(rows, np.float64)
columns = ops.unfold(plane.reshape(1, 1, 4, 4), 3, padding=1)[0]

assert columns.shape == (9, 16)
assert columns[:, 0].tolist() == [0, 0, 0, 0, 10, 8, 0, 2, 2]
assert columns[:, -1].tolist() == [8, 9, 0, 23, 12, 0, 0, 0, 0]

# %%
# The same, with the zeros that come from the padding coloured:

inside = ops.unfold(np.ones((1, 1, 4, 4)), 3, padding=1)[0]
plots.numbers(columns, mark=inside == 0)

# %%
# Direct or by columns: the same
# ------------------------------
#
# Here is a convolution written out, with every loop there is. It takes padding and stride, too.


def direct(x, w, b, stride, padding):
    n, _, height, width = x.shape
    o, _, kh, kw = w.shape
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    rows = (height + 2 * padding - kh) // stride + 1
    cols = (width + 2 * padding - kw) // stride + 1
    y = np.empty((n, o, rows, cols))
    for i in range(rows):
        for j in range(cols):
            window = x[:, :, i * stride : i * stride + kh, j * stride : j * stride + kw]
            for k in range(o):
                y[:, k, i, j] = np.sum(window * w[k], axis=(1, 2, 3)) + b[k]
    return y


random = np.random.default_rng(0)
x = random.standard_normal((8, 3, 28, 28))
w, b = random.standard_normal((4, 3, 3, 3)), random.standard_normal(4)

for stride, padding in ((1, 0), (1, 1), (2, 1), (3, 2)):
    loops = direct(x, w, b, stride, padding)
    columns = ops.unfold(x, 3, stride, padding)
    product = (w.reshape(4, 27) @ columns + b[:, None]).reshape(loops.shape)
    np.testing.assert_allclose(product, loops, rtol=0, atol=1e-7)
    y = ops.conv2d(x, w, b, stride, padding)
    np.testing.assert_allclose(y, loops, rtol=0, atol=1e-7)

# %%
# What it costs
# -------------
#
# A pixel stands in as many columns as there are windows that cover it, so with a kernel of 3x3
# the columns take about nine times the memory of the image. The ``numpy`` engine of xpcnn never
# holds them all: it makes a block of columns that fits into the cache, multiplies it, and makes
# the next. The ``numba`` engine makes none.

columns = ops.unfold(x, 3, padding=1)
print(f"{x.nbytes:,} bytes of images, {columns.nbytes:,} bytes of columns")
assert columns.size == 9 * x.size

# %%
# The way back
# ------------
#
# ``ops.fold`` adds columns back to where they were read. Of columns of ones it makes a count: how
# many windows cover each pixel.

covered = ops.fold(np.ones((1, 4, 4)), output_size=3, kernel_size=2)

assert covered[0, 0].tolist() == [[1, 2, 1], [2, 4, 2], [1, 2, 1]]
plots.numbers(covered[0, 0])

# %%
# Folding is not the inverse of unfolding, it is its *adjoint*: the matrix of the one is the
# transposed matrix of the other. That makes it what gradients are made of. If y = W columns(x),
# then the gradient of x is fold(W transposed times the gradient of y). The :doc:`next page
# <05_gradient>` derives the same without columns, and tells of ``xpcnn.vjp``, which gives a result
# and a function that takes gradients back through it.

dy = random.standard_normal((8, 4, 28, 28))
_, pull = xpcnn.vjp(ops.conv2d, x, w, b, padding=1)
dx, dw, db = pull(dy)

flat = dy.reshape(8, 4, 784)
back = w.reshape(4, 27).T @ flat
by_columns = ops.fold(back, output_size=28, kernel_size=3, padding=1)
np.testing.assert_allclose(dx, by_columns, rtol=0, atol=1e-10)

weights = sum(flat[n] @ columns[n].T for n in range(8)).reshape(w.shape)
np.testing.assert_allclose(dw, weights, rtol=0, atol=1e-10)

# %%
# What to remember
# ----------------
#
# - Each window is a column; filters are rows; one matrix product is the convolution at all places.
# - The price is memory: about KH * KW times that of the image, unless it is done in blocks.
# - ``fold``, the adjoint of ``unfold``, adds columns back, and carries gradients.
#
# Which is faster, loops or columns, is measured in :doc:`/examples/race`; :doc:`11_speed` says why.
#
# The real thing: ``conv``, ``im2col`` and ``col2im`` in ``xpcnn/engines/generic.py`` are a few
# lines each. ``unfold`` and ``fold`` are in ``xpcnn/ops/pooling.py``.
#
# Next: :doc:`05_gradient`.
