"""
Columns against loops: a race
=============================

A convolution can be one product of matrices, of columns that were copied out of the images first,
or loops that go straight to the sums. You see that both give the same numbers, and which was faster
on the machine that made this page.
"""

# %%
# The course
# ----------
#
# 64 images of 3x28x28 in float64, 4 filters of 3x3, one ring of padding, and 1,000 runs for each.

import time

import matplotlib.pyplot as plt
import numpy as np

import xpcnn
from xpcnn import ops

rng = np.random.default_rng(0)
x = rng.standard_normal((64, 3, 28, 28))
w = rng.standard_normal((4, 3, 3, 3))
b = rng.standard_normal(4)

# %%
# The runners
# -----------
#
# The first copies what each output reads, 27 numbers, into a column. All columns by the filters,
# each written out as a row, is one product of matrices, which BLAS multiplies.


def by_columns():
    columns = ops.unfold(x, 3, padding=1)  # (64, 27, 784)
    return (w.reshape(4, 27) @ columns + b[:, None]).reshape(64, 4, 28, 28)


# %%
# The second is the ``numba`` engine: loops over outputs, compiled, with the sums held in the
# processor's registers. Nothing is copied but padded rows.


def directly():
    with xpcnn.use("numba"):
        return ops.conv2d(x, w, b, padding=1)


with xpcnn.use("numba"):
    print(xpcnn.explain(ops.conv2d, x, w, b, padding=1))

# %%
# (The two gradients and ``channel_sums``, that of the bias, are not raced here.)
#
# They agree
# ----------

np.testing.assert_allclose(directly(), by_columns(), rtol=0, atol=1e-7)

# %%
# So do the gradients, of the loops and of the ``generic`` engine, whose columns define what is
# right:


def gradients(engine, dy):
    with xpcnn.use(engine):
        return xpcnn.vjp(ops.conv2d, x, w, b, padding=1)[1](dy)


dy = rng.standard_normal((64, 4, 28, 28))
both = gradients("numba", dy), gradients("generic", dy)
for loops, columns in zip(*both, strict=True):
    np.testing.assert_allclose(loops, columns, rtol=0, atol=1e-7)

# %%
# The race
# --------
#
# They run in turn, so that whatever else the machine does hinders both. The first five of each do
# not count: caches fill there.

RUNS = 1000
seconds = {by_columns: [], directly: []}
for run in range(RUNS + 5):
    for runner, taken in seconds.items():
        begun = time.perf_counter()
        runner()
        if run >= 5:
            taken.append(time.perf_counter() - begun)

# %%
# What counts is the median of the runs, and the ratio of the two. The lines reach from the first
# quartile to the third.

names = ("columns and BLAS", "loops, directly")
parts = (0.25, 0.5, 0.75)
quartiles = np.array([np.quantile(taken, parts) for taken in seconds.values()])
low, median, high = (quartiles / quartiles[0, 1]).T

figure, ax = plt.subplots(figsize=(7.5, 2.2), layout="constrained")
ax.barh(names, median, color=["C1", "C0"])
reach = median - low, high - median
ax.errorbar(median, names, xerr=reach, fmt="none", color="black", capsize=3)
for place, ratio in enumerate(median):
    ax.text(high[place] + 0.02, place, f"{ratio:.2f}", va="center")
ax.set(
    xlim=(0, 1.1 * high.max()),
    xlabel=f"median of {RUNS:,} runs, that of columns being 1",
)
ax.invert_yaxis()
ax.spines[["top", "right"]].set_visible(False)
print(f"the loops took {median[1]:.2f} of the columns' time on this machine")

# %%
# The columns hold nine times as many numbers as the images, all of which are written to memory and
# read again; the loops read the images. With few channels the product is a small one for BLAS, too:
# each of its sums has 27 terms. Other shapes give other ratios.

assert ops.unfold(x, 3, padding=1).size == 9 * x.size

# %%
# Where to go next
# ----------------
#
# - :doc:`/learn/04_columns`: how the columns are formed.
# - :doc:`/learn/11_speed`: Winograd's algorithm, which multiplies less often, and memory's order.
# - :doc:`/performance`: measured layer by layer, against PyTorch.
