"""
The gradient of a convolution
=============================

Learning needs to know: if this weight were a little larger, would the loss rise or fall, and how
fast? That is the gradient. For a convolution it is again a convolution, and it can be found with
a pencil.
"""

# %%
# Who read this pixel?
# --------------------
#
# Suppose that the gradient of the loss with respect to each output is known; call it delta. We
# want the one with respect to each pixel of the input. Take an image of 3x3, a kernel of 2x2 and
# the pixel in the middle, :math:`a_{11}`. All four outputs read it, each through another weight:
#
# .. math::
#
#    y_{00} &= \ldots + w_{11} a_{11}, & y_{01} &= \ldots + w_{10} a_{11}, \\
#    y_{10} &= \ldots + w_{01} a_{11}, & y_{11} &= \ldots + w_{00} a_{11}
#
# By the chain rule, what a pixel does to the loss is the sum of what it does through each of them:
#
# .. math::
#
#    \frac{\partial L}{\partial a_{11}} = \delta_{00} w_{11} + \delta_{01} w_{10}
#    + \delta_{10} w_{01} + \delta_{11} w_{00}
#
# Look at the order of the weights. Delta runs forward, the kernel runs backward: it is delta,
# correlated with the kernel *turned by half a turn*. (Not with the transposed kernel, as a text has
# it: turned upside down *and* left to right.)

import matplotlib.pyplot as plt
import numpy as np

import xpcnn
from xpcnn import ops, plots

x = np.arange(9.0).reshape(1, 1, 3, 3)
w = np.array([[3.0, 2.0], [1.0, 0.0]]).reshape(1, 1, 2, 2)
y, pull = xpcnn.vjp(ops.conv2d, x, w)
delta = np.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 1, 2, 2)
dx, dw, _ = pull(delta)

print(dx[0, 0])
assert dx[0, 0, 1, 1] == 1 * 0 + 2 * 1 + 3 * 2 + 4 * 3

# %%
# ``xpcnn.vjp`` gives the result and its *pull*: the function that takes delta and gives the
# gradients of the image and of the kernel.
#
# Zeros around delta
# ------------------
#
# The pixel in the corner was read by one output only. To write one rule for all pixels, put zeros
# around delta: k - 1 of them on each side, so that the turned kernel can reach as far as it did
# on the way out.

turned = w[:, :, ::-1, ::-1]
assert np.array_equal(ops.conv2d(delta, turned, padding=1), dx)

names = ("delta", "turned kernel", "dx")
plots.convolution(delta[0, 0], turned[0, 0], padding=1, at=(1, 1), names=names)

# %%
# Sizes come out right by themselves. An image of 10x8 and a kernel of 5x5 give 6x4; delta has
# that size, is padded by 4 on each side to 14x12, and the turned kernel makes 10x8 of it:

random = np.random.default_rng(0)
image = random.standard_normal((1, 1, 10, 8))
kernel = random.standard_normal((1, 1, 5, 5))
out, pull = xpcnn.vjp(ops.conv2d, image, kernel)
back = random.standard_normal(out.shape)
padded = ops.pad(back, (4, 4, 4, 4))
again = ops.conv2d(padded, kernel[:, :, ::-1, ::-1])

assert out.shape == (1, 1, 6, 4)
assert padded.shape == (1, 1, 14, 12)
assert again.shape == image.shape
np.testing.assert_allclose(pull(back)[0], again, rtol=0, atol=1e-12)

# %%
# The gradient of the kernel
# --------------------------
#
# Each weight multiplies a whole patch of the image: w00 meets the pixels under the top left
# corner of the window at all its places. So its gradient is the sum of these pixels times delta.
# That is the image, correlated with delta, which is now the kernel:

assert np.array_equal(ops.conv2d(x, delta), dw)
plots.convolution(x[0, 0], delta[0, 0], names=("image", "delta", "dw"))

# %%
# The bias is added to every output, so its gradient is the sum of delta.
#
# Some texts divide here by the number of images. In xpcnn that belongs to the loss: if the loss
# is a mean, delta has been divided already, and nothing else needs to know.
#
# With a stride: zeros between
# ----------------------------
#
# A stride leaves results out. Put the ones that were left out back, as zeros: s - 1 zeros between
# neighbours of delta. From there on, the stride is 1 and the rule is the one above.


def insert_zeros(delta, stride):
    n, c, h, w = delta.shape
    wide = np.zeros((n, c, (h - 1) * stride[0] + 1, (w - 1) * stride[1] + 1))
    wide[:, :, :: stride[0], :: stride[1]] = delta
    return wide


small = np.arange(1.0, 10.0).reshape(1, 1, 3, 3)
wide = insert_zeros(small, (2, 2))
around = ops.pad(wide, (2, 2, 2, 2))

widths = (3, 5, 9)
figure, axes = plt.subplots(
    1, 3, figsize=(9, 4), layout="constrained", width_ratios=widths
)
plots.numbers(small[0, 0], title="delta", ax=axes[0])
plots.numbers(wide[0, 0], title="stride 2: zeros between", ax=axes[1])
plots.numbers(around[0, 0], title="kernel 3x3: two zeros around", ax=axes[2])

# %%
# Channels change sides: what went from C to O goes back from O to C, so the first two axes of the
# weights are swapped. And where the image was padded, the padding's gradient is cut off at the
# end. Altogether:


def backward(delta, w, stride, padding):
    around = [w.shape[3] - 1] * 2 + [w.shape[2] - 1] * 2
    wide = ops.pad(insert_zeros(delta, stride), around)
    turned = np.swapaxes(w[:, :, ::-1, ::-1], 0, 1)
    full = ops.conv2d(wide, turned)
    height, width = full.shape[2:]
    return full[:, :, padding[0] : height - padding[0], padding[1] : width - padding[1]]


# %%
# (``full[p:-p]`` would be shorter, and for p = 0 it would be empty: a trap that a text fell into.)
#
# Or with loops
# -------------
#
# The other way needs no thought of turning or of zeros. Go the way of the forward loops once
# more, and instead of reading a window, *add* to it what its output sends back.


def backward_by_loops(x, delta, w, stride, padding):
    (ph, pw), (sh, sw), (kh, kw) = padding, stride, w.shape[2:]
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for n, o, i, j in np.ndindex(delta.shape):
        window = np.s_[n, :, i * sh : i * sh + kh, j * sw : j * sw + kw]
        dx[window] += delta[n, o, i, j] * w[o]
        dw[o] += delta[n, o, i, j] * x[window]
    return dx[:, :, ph : dx.shape[2] - ph, pw : dx.shape[3] - pw], dw


for stride, padding in (((1, 1), (0, 0)), ((2, 2), (1, 1)), ((2, 3), (1, 2))):
    # sizes that leave no rest
    size = [6 * s + 3 - 2 * p for s, p in zip(stride, padding, strict=True)]
    x, w = random.standard_normal((2, 3, *size)), random.standard_normal((4, 3, 3, 3))
    y, pull = xpcnn.vjp(ops.conv2d, x, w, stride=stride, padding=padding, exact=True)
    delta = random.standard_normal(y.shape)
    dx, dw, _ = pull(delta)
    by_rule = backward(delta, w, stride, padding)
    np.testing.assert_allclose(dx, by_rule, rtol=0, atol=1e-10)
    looped_dx, looped_dw = backward_by_loops(x, delta, w, stride, padding)
    np.testing.assert_allclose(dx, looped_dx, rtol=0, atol=1e-10)
    np.testing.assert_allclose(dw, looped_dw, rtol=0, atol=1e-10)

# %%
# The check above asks for sizes that the stride divides (``exact=True``), for else the inserted
# zeros lack some at the end: pixels that no window read have the gradient 0. xpcnn's own rule
# knows that.
#
# For the kernel's gradient, the stride becomes a *dilation*: neighbours of delta meet pixels that
# lie s apart. One text keeps it a stride. With 7 pixels, a kernel of 3 and a stride of 2 even the
# size is right, and the numbers are wrong:

x, w = random.standard_normal((1, 1, 7, 7)), random.standard_normal((1, 1, 3, 3))
y, pull = xpcnn.vjp(ops.conv2d, x, w, stride=2)
delta = random.standard_normal(y.shape)
dw = pull(delta)[1]
wrong = ops.conv2d(x, delta, stride=2)

np.testing.assert_allclose(ops.conv2d(x, delta, dilation=2), dw, rtol=0, atol=1e-12)
assert wrong.shape == dw.shape and np.abs(wrong - dw).max() > 1

# %%
# Never trust a gradient
# ----------------------
#
# Check it. Make one number a little larger, then a little smaller, and see what the loss does;
# that is what a gradient promises to tell. (Use float64. In float32 the difference drowns in
# rounding.)


def numerically(loss, array, step=1e-4):
    slope = np.zeros_like(array)
    for place in np.ndindex(array.shape):
        one = np.zeros_like(array)
        one[place] = step
        slope[place] = (loss(array + one) - loss(array - one)) / (2 * step)
    return slope


x, w = random.standard_normal((2, 3, 6, 5)), random.standard_normal((4, 3, 3, 2))
b = random.standard_normal(4)
options = {"stride": 2, "padding": ((1, 0), (0, 2))}


def loss(x, w, b):
    return float(np.sum(ops.conv2d(x, w, b, **options) ** 2) / 2)


y, pull = xpcnn.vjp(ops.conv2d, x, w, b, **options)
gradients = pull(y)  # the derivative of y**2 / 2 is y
for number, name in enumerate(("x", "w", "b")):
    given = [x, w, b]
    checked = numerically(
        lambda array, n=number, g=given: loss(*g[:n], array, *g[n + 1 :]), given[number]
    )
    error = np.abs(checked - gradients[number]).max()
    assert error < 1e-7
    largest = np.abs(checked).max()
    print(f"d{name}: largest gradient {largest:5.1f}, largest error below 1e-7")

# %%
# A second check needs no small step. A convolution is linear in x and in w, so its gradient is
# its adjoint: the three products below are one number.

delta = random.standard_normal(y.shape)
y, pull = xpcnn.vjp(ops.conv2d, x, w, **options)
dx, dw, _ = pull(delta)
back = [np.sum(x * dx), np.sum(w * dw)]
np.testing.assert_allclose(back, np.sum(y * delta), rtol=1e-12)

# %%
# What to remember
# ----------------
#
# - The image's gradient: delta, with s - 1 zeros between and k - 1 around, correlated with the
#   turned kernel.
# - The kernel's gradient: the image correlated with delta; a stride becomes a dilation.
# - The bias' gradient: the sum of delta.
# - A gradient is right when differences say so.
#
# The real thing: ``_conv_vjp`` in ``xpcnn/ops/conv.py`` is the pull; ``conv_dx`` and ``conv_dw``
# in ``xpcnn/engines/generic.py`` compute it. A transposed convolution, ``ops.conv_transpose2d``,
# is nothing but this gradient used to go forward.
#
# Next: :doc:`06_pooling`.
