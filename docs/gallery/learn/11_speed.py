"""
What makes convolution fast
===========================

The same sums can be made in several ways: by loops, as a product of matrices, or with a quarter of
the multiplications. You will see each of them, how the order of numbers in memory matters, how to
ask xpcnn which it takes, and a small race.
"""

# %%
# The work
# --------
#
# The layer of this page: 8 images of 64x28x28, 64 filters of 3x3. Each output is a sum of 64x3x3
# products.

# sphinx_gallery_thumbnail_number = 2
import time

import matplotlib.pyplot as plt
import numpy as np

import xpcnn
from xpcnn import ops
from xpcnn.layers import Conv2d

rng = np.random.default_rng(0)
x = rng.standard_normal((8, 64, 28, 28), dtype=np.float32)
w = rng.standard_normal((64, 64, 3, 3), dtype=np.float32) / 24

multiply_adds = Conv2d(64, 3, padding=1).summary((64, 28, 28)).multiply_adds
assert multiply_adds == 28 * 28 * 64 * 64 * 3 * 3 == 28_901_376

# %%
# Columns
# -------
#
# On nothing has more work been spent than on the product of matrices: BLAS, the library that NumPy
# asks for it, comes near to all that a processor can do. So one copies what each output reads into
# a column, and multiplies once. The price is memory: with a 3x3 kernel each number is copied nine
# times.

columns = ops.unfold(x, 3, padding=1)
assert columns.nbytes == 9 * x.nbytes
y = (w.reshape(64, -1) @ columns).reshape(8, 64, 28, 28)
np.testing.assert_allclose(y, ops.conv2d(x, w, padding=1), rtol=0, atol=1e-4)

# %%
# The ``generic`` engine does just this, in one piece; the ``numpy`` engine forms the columns in
# blocks that fit into the processor's cache, multiplies, and forgets them.
#
# Directly
# --------
#
# The ``numba`` engine forms no columns. Its loops read the images as they lie, and keep a tile of
# sums in the processor's registers, where adding to them costs no access to memory.
#
# For that it matters how images lie. In xpcnn their shape is always (N, C, H, W), but in memory the
# channels may be last, so that the 64 numbers of a pixel are neighbours, and what an output reads
# along a kernel row, three pixels, is one run of 192 numbers. An array's strides tell how far it
# is, in bytes, to the next entry along each axis:

last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
print("channels first", x.strides)
print("channels last ", last.strides)
assert last.shape == x.shape and np.array_equal(last, x)
assert last.strides[1] == 4  # from channel to channel: one float32

# %%
# What goes in with channels last comes out so, and a network moves its first images once and
# nothing after that.

assert ops.conv2d(last, w, padding=1).strides[1] == 4

# %%
# Winograd's algorithm
# --------------------
#
# Some products can be saved. Two outputs of a kernel of three read four inputs and cost six
# products:
#
# .. math::
#
#    y_0 &= x_0 w_0 + x_1 w_1 + x_2 w_2 \\
#    y_1 &= x_1 w_0 + x_2 w_1 + x_3 w_2
#
# These four products do as well:
#
# .. math::
#
#    a &= (x_0 - x_2) \, w_0 \\
#    b &= (x_1 + x_2) \, (w_0 + w_1 + w_2) / 2 \\
#    c &= (x_2 - x_1) \, (w_0 - w_1 + w_2) / 2 \\
#    d &= (x_1 - x_3) \, w_2 \\
#    y_0 &= a + b + c \\
#    y_1 &= b - c - d
#
# What is made of the kernel alone is computed once for all places.


def two_outputs(x, w):
    """Two outputs of a kernel of three, by four products."""
    even, odd = (w[0] + w[2]) / 2, w[1] / 2
    a, b = (x[0] - x[2]) * w[0], (x[1] + x[2]) * (even + odd)
    c, d = (x[2] - x[1]) * (even - odd), (x[1] - x[3]) * w[2]
    return np.array([a + b + c, b - c - d])


signal, kernel = rng.standard_normal(4), rng.standard_normal(3)
expected = ops.correlate(signal, kernel, mode="valid")
np.testing.assert_allclose(two_outputs(signal, kernel), expected)

# %%
# In two dimensions it is done along both axes, and larger tiles save more. For each pair of
# channels, a tile of 4x4 outputs takes 6x6 products in place of 16x9. That is what xpcnn takes for
# 3x3 kernels of stride 1 in float32 with enough channels; for 5x5 kernels the same 36 products make
# a tile of 2x2.

tiles = {"one by one": (1, 9), "tiles of 2x2": (4, 16), "tiles of 4x4": (16, 36)}
products = [products / outputs for outputs, products in tiles.values()]
assert products == [9.0, 4.0, 2.25]

figure, ax = plt.subplots(figsize=(7.5, 2.2), layout="constrained")
bars = ax.barh(list(tiles), products, color=["gray", "C0", "C0"])
labels = ax.bar_label(bars, [f"{count:g}" for count in products], padding=4)
ax.set(xlim=(0, 10), xticks=[])
ax.set(title="products for one output of a 3x3 kernel and one channel")
ax.invert_yaxis()
ax.spines[["top", "right", "bottom"]].set_visible(False)

# %%
# It is not free: the transforms before and after are additions and small multiplications, and they
# round. Against float64, the error is a few times larger:

exact = ops.conv2d(x.astype(np.float64), w.astype(np.float64), padding=1)
errors = {}
for winograd in (False, True):
    with xpcnn.use("numba", winograd=winograd):
        error = np.abs(ops.conv2d(x, w, padding=1) - exact).max()
    errors[winograd] = error / np.abs(exact).max()
print(f"largest error, as a share of the largest output: direct {errors[False]:.1e}, "
      f"Winograd {errors[True]:.1e}")  # fmt: skip
assert errors[False] < errors[True] < 1e-5

# %%
# Ask
# ---
#
# Which engine takes a call, and by which algorithm, follows from its shapes by a plain rule.
# :func:`xpcnn.explain` runs a call and its gradients once and tells:

print(xpcnn.explain(ops.conv2d, last, w, padding=1))

# %%

print(xpcnn.explain(ops.conv2d, last, w, padding=1, stride=2))

# %%
# With a stride, the gradient of the images, ``conv_dx``, is made in parts. Pixels in even and in
# odd rows and columns are read by different weights, so each of the four kinds has a convolution of
# stride 1 with a kernel of its own, of 1x1, 1x2, 2x1 or 2x2: too small for Winograd's algorithm.

with xpcnn.use("numpy", winograd=False):
    print(xpcnn.explain(ops.conv2d, last, w, padding=1))

# %%
# A small race
# ------------
#
# All the ways on the layer of this page, in turn, so that whatever else the machine does hinders
# all of them. A bar is the median of the runs, as a ratio to the first; no number here is a
# promise: machines differ, and the one that made this page may have been busy.

ways = {
    "columns, in one piece": ("generic", x, False),
    "columns in blocks": ("numpy", last, False),
    "Winograd, NumPy alone": ("numpy", last, True),
    "loops, channels first": ("numba", x, False),
    "loops, channels last": ("numba", last, False),
    "Winograd, channels last": ("numba", last, True),
}
seconds = {name: [] for name in ways}
for _ in range(12):
    for name, (engine, images, winograd) in ways.items():
        with xpcnn.use(engine, winograd=winograd):
            begun = time.perf_counter()
            y = ops.conv2d(images, w, padding=1)
            seconds[name].append(time.perf_counter() - begun)
        np.testing.assert_allclose(y, exact, rtol=0, atol=1e-4)

medians = np.array([np.median(taken[2:]) for taken in seconds.values()])
ratios = medians / medians[0]
figure, ax = plt.subplots(figsize=(7.5, 3.2), layout="constrained")
colors = ["gray" if engine == "generic" else "C1" if engine == "numpy" else "C0"
          for engine, *_ in ways.values()]  # fmt: skip
bars = ax.barh(list(ways), ratios, color=colors)
labels = ax.bar_label(bars, [f"{ratio:.2f}" for ratio in ratios], padding=4)
ax.set(xlim=(0, 1.15 * ratios.max()), xlabel="median time, that of the first being 1")
ax.set_title("engines: generic (grey), numpy (orange), numba (blue)", fontsize="medium")
ax.invert_yaxis()
ax.spines[["top", "right"]].set_visible(False)

# %%
# Blocks spare memory for certain, and time on some machines and not on others. The loops gain a
# little from channels last; columns and loops alike gain most from Winograd's algorithm.
#
# What to remember
# ----------------
#
# - Columns make a convolution one product of matrices, and of a 3x3 kernel's input nine copies.
# - Loops need no copies where channels lie side by side in memory.
# - Winograd's algorithm saves three quarters of a 3x3 kernel's products, and costs a digit.
# - ``xpcnn.explain`` tells which of them a call takes.
# - Measure as a ratio, in turn, and by the median.
#
# The real thing: the loops are in ``xpcnn/engines/numba/_direct.py`` and ``_tile.py``, Winograd's
# algorithm is in ``_winograd.py`` beside them, columns in blocks are in
# ``xpcnn/engines/numpy/_columns.py``.
#
# This is the last page of these. From here: the :doc:`/examples/index`, among them :doc:`the race
# of columns and loops over a thousand runs </examples/race>`; :doc:`/performance`, layer by layer
# against PyTorch, and where xpcnn is not faster; :doc:`/architecture`, what an engine is and which
# are asked in which order.
