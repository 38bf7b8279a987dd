"""
Learn an edge detector
======================

Ten steps of gradient descent find the kernel [1, -1] from one small image and the edges in it. You
see every number of the image and of the kernel on its way.
"""

# %%
# The image and its edges
# -----------------------
#
# The image has 6x8 pixels, white with a black band. The difference between a pixel and its right
# neighbour is 1 where white turns black, -1 where black turns white, and 0 elsewhere.

# sphinx_gallery_thumbnail_number = 2
import itertools

import matplotlib.pyplot as plt
import numpy as np

import xpcnn
from xpcnn import ops, plots, random
from xpcnn.layers.initializers import initialize

image = np.ones((6, 8))
image[:, 2:6] = 0.0
x = image[None, None]
detector = np.array([[1.0, -1.0]])
edges = ops.conv2d(x, detector[None, None])
np.testing.assert_array_equal(edges[0, 0], np.tile([0, 1, 0, 0, 0, -1, 0], (6, 1)))

widths = (8, 2, 7)
figure, axes = plt.subplots(
    1, 3, figsize=(9, 3), layout="constrained", width_ratios=widths
)
plots.numbers(image, title="image", ax=axes[0])
plots.numbers(detector, title="kernel", ax=axes[1])
plots.numbers(edges[0, 0], title="edges", ax=axes[2])

# %%
# Ten steps
# ---------
#
# The kernel starts with random numbers. The loss is the sum of the squared errors, the rate 0.03.

w = initialize("xavier_uniform", random.key(0), (1, 1, 1, 2))
weights, losses = [w[0, 0, 0]], []
for _ in range(10):
    y, pull = xpcnn.vjp(ops.conv2d, x, w, wrt=("w",))
    losses.append(float(np.sum((y - edges) ** 2)))
    w = w - 3e-2 * pull(2 * (y - edges))[1]
    weights.append(w[0, 0, 0])
losses.append(float(np.sum((ops.conv2d(x, w) - edges) ** 2)))  # of the last weights

assert all(later < earlier for earlier, later in itertools.pairwise(losses))
assert losses[-1] < 1.0
np.testing.assert_allclose(w[0, 0], detector, rtol=0, atol=0.15)
for step in range(0, 11, 2):
    print(f"after {step:2} steps: kernel {weights[step].round(3)}")

# %%
# Both weights go to where they belong, in zigzag:

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
left.axhline(1, color="C0", linestyle=":")
left.axhline(-1, color="C1", linestyle=":")
lines = left.plot(weights, "o-", label=["left weight", "right weight"])
left.legend(loc="center right")
left.set(xlabel="step", title="the kernel (dotted: the detector)")
right.set(xlabel="step", title="the sum of squared errors", yscale="log")
line = right.plot(losses, "o-", color="black")

# %%
# A row of the output, at the start, after three steps and in the end:

figure, axes = plt.subplots(3, 1, figsize=(6, 4.2), layout="constrained")
for ax, step in zip(axes, (0, 3, 10), strict=True):
    y = ops.conv2d(x, weights[step].reshape(1, 1, 1, 2))
    plots.numbers(y[0, 0, :1], title=f"after {step} steps", ax=ax)

# %%
# Why the zigzag
# --------------
#
# The loss is a bowl over the two weights, and each of its two axes is corrected by itself: the sum
# of the weights, of which pairs of white pixels tell, and their difference. A step multiplies the
# error along an axis by 1 - 0.03 times how steep the bowl is there. That is -0.8 for the sum, which
# is corrected too far each time, and 0.64 for the difference.

pairs = ops.unfold(x, (1, 2))[0]
steepness, directions = np.linalg.eigh(2 * pairs @ pairs.T)
np.testing.assert_allclose(1 - 0.03 * steepness, [0.64, -0.8])
np.testing.assert_allclose(np.abs(directions), np.sqrt(0.5))

first, second = (np.array(step) - detector[0] for step in weights[:2])
np.testing.assert_allclose(second.sum(), -0.8 * first.sum())
np.testing.assert_allclose(np.diff(second), 0.64 * np.diff(first))

# %%
# With a rate above 2/60 the factor of the sum would lie below -1, and each step would make it
# worse.
#
# What it does not see
# --------------------
#
# A kernel of one row sees no edge that runs along the rows. The image turned by a quarter has such
# edges alone, and the detector finds nothing in it:

turned = ops.conv2d(np.swapaxes(x, 2, 3), detector[None, None])
assert not turned.any()

# %%
# Where to go next
# ----------------
#
# - :doc:`learn_a_filter`: nine weights, and why some pictures teach slowly.
# - :doc:`/learn/01_convolution`: what the kernel does at each place.
# - :doc:`/learn/07_classic_network`: many kernels at once, learned from digits.
