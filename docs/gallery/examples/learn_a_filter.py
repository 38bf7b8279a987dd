"""
Learn a filter
==============

A filter is given to an image; the result is shown to a kernel of random numbers, which finds out by
gradient descent what the filter was. You see the picture, the target, what was learned, and the
loss on its way down.
"""

# %%
# The picture, the filter and the target
# --------------------------------------
#
# The picture is a disc. The filter takes from twice a pixel the pixel above and the one below:
# nothing is left where the picture is even from top to bottom.

# sphinx_gallery_thumbnail_number = 2
import matplotlib.pyplot as plt
import numpy as np

import xpcnn
from xpcnn import ops, plots

row, column = np.mgrid[:64, :64]
picture = ((row - 32) ** 2 + (column - 32) ** 2 < 22**2).astype(np.float64)
true = np.array([[0.0, -1.0, 0.0], [0.0, 2.0, 0.0], [0.0, -1.0, 0.0]])

x = picture[None, None]  # one image of one channel
target = ops.conv2d(x, true[None, None])
assert target.shape == (1, 1, 62, 62)

# %%
# Gradient descent
# ----------------
#
# The loss is the sum of the squared errors divided by 2m, for m pixels, so its gradient with
# respect to the output is error/m. The pull of the convolution turns that into the gradient of the
# kernel. The rate is 0.5, and it ends where the loss is below 1e-7.

w = start = 0.1 * xpcnn.random.normal(xpcnn.random.key(0), (1, 1, 3, 3))
losses = []
while not losses or losses[-1] >= 1e-7:
    y, pull = xpcnn.vjp(ops.conv2d, x, w, wrt=("w",))
    error = y - target
    losses.append(float(np.sum(error**2) / 2 / error.size))
    w = w - 0.5 * pull(error / error.size)[1]
    assert len(losses) < 10_000

np.testing.assert_allclose(w[0, 0], true, rtol=0, atol=1e-2)
off = np.abs(w - true).max()
print(f"{len(losses):,} steps, loss {losses[-1]:.2e}, largest error {off:.4f}")

# %%
# The kernel that was learned is the filter, to less than 0.01 in each entry:

figure, axes = plt.subplots(1, 3, figsize=(8, 3), layout="constrained")
shown = (("at the start", start[0, 0]), ("learned", w[0, 0]), ("the filter", true))
for ax, (title, kernel) in zip(axes, shown, strict=True):
    plots.numbers(kernel, title=title, ax=ax)

# %%
# and so the picture filtered by it is the target:

learned = ops.conv2d(x, w)
np.testing.assert_allclose(learned, target, rtol=0, atol=1e-2)

figure, axes = plt.subplots(1, 3, figsize=(8, 3.1), layout="constrained")
shown = (
    ("picture", picture),
    ("target", target[0, 0]),
    ("by the learned kernel", learned[0, 0]),
)
for ax, (title, image) in zip(axes, shown, strict=True):
    ax.imshow(image, cmap="gray")
    ax.set_title(title)
    ax.set_axis_off()

# %%
# How fast, and why
# -----------------
#
# The loss falls fast at first, then slowly.

figure, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
ax.set(xlabel="step", ylabel="loss", yscale="log")
ax.plot(losses)
line = ax.axhline(1e-7, color="gray", linestyle="--")

# %%
# The output is linear in the kernel, so the loss is a bowl, and how steep it is in each direction
# are the eigenvalues of the mean product of the columns with themselves. Each step multiplies the
# error along a direction by 1 - 0.5 eigenvalue. With the largest below 4 that never grows; the
# smallest say how long it takes. Neighbouring pixels of a disc are mostly equal, so the picture
# tells little about differences between neighbouring weights: those are learned last. A picture
# with more detail is the better teacher.

columns = ops.unfold(x, 3)[0]
steepness = np.linalg.eigvalsh(columns @ columns.T / target.size)
assert steepness[0] > 0 and steepness[-1] < 4
print(f"steepest {steepness[-1]:.2f}, flattest {steepness[0]:.5f}")

# %%
# Where to go next
# ----------------
#
# - :doc:`learn_an_edge_detector`: two weights, ten steps, and all of them to be followed by eye.
# - :doc:`/learn/05_gradient`: what the pull of a convolution computes.
# - :doc:`/learn/04_columns`: what the columns are.
