"""
Pooling and its gradient
========================

A convolution tells where something was found. To the pixel, that is more than anybody asked for:
*pooling* looks at a window and keeps one number of it, the largest or the mean. The image gets
smaller, and it matters less where exactly things are.
"""

# %%
# The largest, or the mean
# ------------------------
#
# A window of 2x2 moves by 2, so that no two windows meet. Each gives one number:

import matplotlib.pyplot as plt
import numpy as np

import xpcnn
from xpcnn import ops, plots

rows = [10, 8, 9, 7], [2, 2, 12, 3], [20, 15, 8, 9], [13, 21, 23, 12]
plane = np.array(rows, np.float64)
x = plane.reshape(1, 1, 4, 4)
largest, mean = ops.max_pool2d(x, 2), ops.avg_pool2d(x, 2)

assert largest[0, 0].tolist() == [[10, 12], [21, 23]]
assert mean[0, 0].tolist() == [[5.5, 7.75], [17.25, 13]]

# sphinx_gallery_thumbnail_number = 1
figure, axes = plt.subplots(1, 3, figsize=(8, 3), layout="constrained")
plots.numbers(plane, title="image", ax=axes[0])
plots.numbers(largest[0, 0], title="the largest of each 2x2", ax=axes[1])
plots.numbers(mean[0, 0], title="the mean of each 2x2", ax=axes[2])

# %%
# There is nothing to learn in it. Each channel is pooled by itself, so there are as many as before.
#
# Sizes
# -----
#
# The size is that of a convolution: a window of f that moves by s over n pixels gives
#
# .. math:: \lfloor (n - f) / s \rfloor + 1
#
# numbers. By default it moves by its own size.

random = np.random.default_rng(0)
for n, f, s in ((4, 2, 2), (4, 2, 1), (7, 3, 2), (6, 2, 3), (5, 5, 1)):
    image = random.standard_normal((1, 2, n, n))
    out = (n - f) // s + 1
    for op, one in ((ops.max_pool2d, np.max), (ops.avg_pool2d, np.mean)):
        y = op(image, f, s)
        assert y.shape == (1, 2, out, out)
        for i, j in np.ndindex(out, out):
            window = image[:, :, i * s : i * s + f, j * s : j * s + f]
            np.testing.assert_allclose(y[:, :, i, j], one(window, axis=(2, 3)))

channels_last = np.arange(80.0).reshape(1, 4, 4, 5)
assert ops.avg_pool2d(channels_last, 2, layout="NHWC").shape == (1, 2, 2, 5)

# %%
# A window that moves by less than its size overlaps the next. Then one large number is the
# largest of several windows, and the result is full of it. Here the window moves by 1:

overlapping = ops.max_pool2d(x, 2, stride=1)
print(overlapping[0, 0])
assert np.count_nonzero(overlapping == 23) == 2

# %%
# How much does a shift matter?
# -----------------------------
#
# Pooling is said not to see small shifts. Try it: move the image by one pixel to the right.

shifted = np.pad(plane, ((0, 0), (1, 0)))[:, :4]
after = ops.max_pool2d(shifted.reshape(1, 1, 4, 4), 2)

assert after[0, 0].tolist() == [[10, 12], [20, 23]]
figure, axes = plt.subplots(1, 3, figsize=(8, 3), layout="constrained")
plots.numbers(shifted, title="shifted by one", ax=axes[0])
plots.numbers(largest[0, 0], title="largest, before", ax=axes[1])
plots.numbers(after[0, 0], title="largest, after", ax=axes[2])

# %%
# Three of four numbers stayed, for these maxima moved within their windows. The 21 left its
# window, and 20 took its place. (The text that this example is from says that all four stay. They
# do not.) So a pool *tolerates* shifts that do not cross the border of a window; it is not blind
# to shifts.
#
# The gradient
# ------------
#
# A pool gets one number for each window, delta, and must share it out among the pixels.
#
# Of the *largest*, only one pixel mattered: had another been a little larger, nothing would have
# changed. That one gets all of it. Of the *mean*, each pixel mattered equally: each gets the same
# share.

delta = np.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 1, 2, 2)
_, pull_largest = xpcnn.vjp(ops.max_pool2d, x, 2)
_, pull_mean = xpcnn.vjp(ops.avg_pool2d, x, 2)
to_largest, to_all = pull_largest(delta)[0], pull_mean(delta)[0]

assert to_largest[0, 0].tolist() == [
    [1, 0, 0, 0],
    [0, 0, 2, 0],
    [0, 0, 0, 0],
    [0, 3, 4, 0],
]
assert np.array_equal(to_all[0, 0], np.kron(delta[0, 0] / 4, np.ones((2, 2))))

figure, axes = plt.subplots(1, 3, figsize=(8, 3), layout="constrained")
plots.numbers(delta[0, 0], title="delta", ax=axes[0])
plots.numbers(to_largest[0, 0], title="to the largest", ax=axes[1])
plots.numbers(to_all[0, 0], title="to all alike", ax=axes[2])

# %%
# The same with a delta of ones, drawn where it goes:

plots.pooling(plane, 2)

# %%

plots.pooling(plane, 2, kind="avg")

# %%
# To send the gradient back, a max pool must remember where each maximum was. ``return_indices``
# tells it, as a number that counts the pixels of the image row by row:

_, where = ops.max_pool2d(x, 2, return_indices=True)
print(where[0, 0])
assert np.array_equal(plane.reshape(-1)[where[0, 0]], largest[0, 0])

# %%
# Where windows overlap, a pixel that is the largest of several gets the sum of what they send.

_, pull = xpcnn.vjp(ops.max_pool2d, x, 2, stride=1)
counted = pull(np.ones((1, 1, 3, 3)))[0]

assert counted.sum() == 9
assert counted[0, 0, 1, 2] == 3 and counted[0, 0, 3, 2] == 2  # the 12 and the 23
plots.pooling(plane, 2, stride=1)

# %%
# Ties, and the border
# --------------------
#
# Two equal maxima in one window: who gets it? The first, reading row by row, and the other gets
# nothing. A rule like "every pixel that equals the maximum" would send the same delta twice and
# make the sum wrong. After a ReLU, ties are no rarity: whole windows are zero.

tied = np.array([[5.0, 1.0], [2.0, 5.0]]).reshape(1, 1, 2, 2)
_, pull = xpcnn.vjp(ops.max_pool2d, tied, 2)
assert pull(np.ones((1, 1, 1, 1)))[0][0, 0].tolist() == [[1, 0], [0, 0]]

# %%
# Padding never wins a maximum, even where all pixels are negative; it counts as minus infinity.
# In a mean it counts as zero, unless ``count_include_pad=False`` leaves it out, as Keras does.

negative = np.full((1, 1, 2, 2), -4.0)
assert ops.max_pool2d(negative, 2, 1, padding=1).max() == -4
assert ops.avg_pool2d(negative, 2, padding=1)[0, 0, 0, 0] == -1
without = ops.avg_pool2d(negative, 2, padding=1, count_include_pad=False)
assert without[0, 0, 0, 0] == -4

# %%
# What texts get wrong
# --------------------
#
# Pooling looks too simple to be wrong. In the texts that xpcnn grew from it was:
#
# .. list-table::
#    :header-rows: 1
#    :widths: 45 55
#
#    * - a text
#      - what is right
#    * - has n div f results, whatever the stride
#      - floor((n - f) / s) + 1; equal where s = f
#    * - says that a shift by one leaves all maxima as they are
#      - only those that stay in their window
#    * - finds the maxima, and returns a gradient of zeros
#      - delta must be put where they are
#    * - puts delta at row index mod s and column index mod s of the window
#      - index is f * row + column: row index div f, column index mod f
#    * - repeats delta s times along each axis to send it back
#      - right where s = f; where windows overlap, what they send is added
#    * - says that *same* keeps the size
#      - at stride 1; otherwise there are ceil(n / s) results
#
# The first is quickly seen: 7x6 pixels, windows of 3x2, moving by 2.

image = random.standard_normal((2, 3, 7, 6))
assert ops.max_pool2d(image, (3, 2), 2).shape == (2, 3, 3, 3)
print(f"{7 // 3}x{6 // 2} by the text, but there are 3x3 places")

# %%
# So is the fourth. Row and column are the same number, so it always finds a pixel on the diagonal
# of the window. Of the four windows of our image, two have their maximum there, and look right:

for i, j in np.ndindex(2, 2):
    window = plane[2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
    index = int(np.argmax(window))
    text, right = window[index % 2, index % 2], window[index // 2, index % 2]
    assert right == largest[0, 0, i, j]
    print(f"maximum {right:2.0f}; the text sends its gradient to the {text:2.0f}")

# %%
# What to remember
# ----------------
#
# - A pool keeps the largest or the mean of each window, channel by channel; it has no weights.
# - The gradient of the largest goes to the one pixel that was the largest, of a mean to all alike.
# - Of equal pixels the first counts. Overlapping windows add.
# - It tolerates shifts within a window.
#
# The real thing: ``xpcnn/ops/pooling.py``; ``max_pool`` and ``max_pool_dx`` in
# ``xpcnn/engines/generic.py`` are the rule for ties in one line, and what sends the gradient
# back.
#
# Next: :doc:`07_classic_network`, where all of this works together.
