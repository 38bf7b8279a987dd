"""Bad calls of operations, devices, settings and layers, with the exact messages they get.

A message restates the call, says what was wrong and then what would be right. Activations, losses,
normalisation, training, data and files have such tables in their own tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cases
import numpy as np
import pytest
from checks import vjp_of

import xpcnn
from xpcnn import engines, ops
from xpcnn import layers as L

KEY = xpcnn.random.key(0)


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape)


X = ones(2, 4, 6, 5)
W = ones(8, 4, 3, 3)
T = ones(4, 8, 3, 3)
"""The weights of a transposed convolution."""

SIZE = "give an int of at least 1, or one per axis (H, W)"
PADDING = (
    "give 'valid', 'same', 'same_lower', a non-negative int, one per axis (H, W), or a "
    "(before, after) pair per axis"
)
ARRAY = "is no array; pass one of NumPy, CuPy, PyTorch, JAX or array-api-strict"
CONVERT = "convert it, for example to float32"
BATCH = "pass x[None, ...] for a batch of one"
MAKE_KEY = "make one of a seed: xpcnn.random.key(0)"
MOVE = "move one explicitly, for example by xpcnn.device(...).asarray"

OPS: list[tuple[str, Callable, type[Exception], str]] = [
    # ---- shapes of arrays -----------------------------------------------------------------------
    ("channels", lambda: ops.conv2d(X[:, :3], W), ValueError,
     "conv2d: w (O=8, C/G=4, KH=3, KW=3) needs x with 4 channels at groups=1; "
     "x is (N=2, C=3, H=6, W=5)"),
    ("channels of a group", lambda: ops.conv2d(X, W, groups=2), ValueError,
     "conv2d: w (O=8, C/G=4, KH=3, KW=3) needs x with 8 channels at groups=2; "
     "x is (N=2, C=4, H=6, W=5)"),
    ("channels last", lambda: ops.conv2d(X, W, layout="NHWC"), ValueError,
     "conv2d: w (O=8, C/G=4, KH=3, KW=3) needs x with 4 channels at groups=1; "
     "x is (N=2, C=5, H=4, W=6)"),
    ("channels, transposed", lambda: ops.conv_transpose2d(X, W), ValueError,
     "conv_transpose2d: w (C=8, O/G=4, KH=3, KW=3) needs x with 8 channels at groups=1; "
     "x is (N=2, C=4, H=6, W=5)"),
    ("unbatched image", lambda: ops.conv2d(X[0], W), ValueError,
     f"conv2d: x must be (N, C, H, W); x is (4, 6, 5): {BATCH}"),
    ("unbatched image, channels last", lambda: ops.conv2d(X[0], W, layout="NHWC"), ValueError,
     f"conv2d: x must be (N, H, W, C); x is (4, 6, 5): {BATCH}"),
    ("unbatched signal", lambda: ops.conv1d(ones(4, 6), ones(8, 4, 3)), ValueError,
     f"conv1d: x must be (N, C, W); x is (4, 6): {BATCH}"),
    ("unbatched volume", lambda: ops.conv3d(X, ones(8, 4, 3, 3, 3)), ValueError,
     f"conv3d: x must be (N, C, D, H, W); x is (2, 4, 6, 5): {BATCH}"),
    ("unbatched, transposed", lambda: ops.conv_transpose2d(X[0], T), ValueError,
     f"conv_transpose2d: x must be (N, C, H, W); x is (4, 6, 5): {BATCH}"),
    ("unbatched, max_pool2d", lambda: ops.max_pool2d(X[0], 2), ValueError,
     f"max_pool2d: x must be (N, C, H, W); x is (4, 6, 5): {BATCH}"),
    ("unbatched, avg_pool1d", lambda: ops.avg_pool1d(ones(4, 6), 2), ValueError,
     f"avg_pool1d: x must be (N, C, W); x is (4, 6): {BATCH}"),
    ("unbatched, unfold", lambda: ops.unfold(X[0], 2), ValueError,
     f"unfold: x must be (N, C, H, W); x is (4, 6, 5): {BATCH}"),
    ("unbatched, fold", lambda: ops.fold(ones(9, 4), 4, 3), ValueError,
     f"fold: columns of 3x3 windows over 4x4 must be (N, C*9, 4); x is (9, 4): {BATCH}"),
    ("unbatched, adaptive", lambda: ops.adaptive_avg_pool2d(X[0], 2), ValueError,
     f"adaptive_avg_pool2d: x must be (N, C, H, W); x is (4, 6, 5): {BATCH}"),
    ("unbatched, linear", lambda: ops.linear(ones(3), ones(2, 3)), ValueError,
     f"linear: w (out, in) is (2, 3) and needs x (N, in=3); x is (3,): {BATCH}"),
    ("unbatched, locally", lambda: ops.locally_connected2d(X[0], ones(4, 3, 8, 4, 3, 3)),
     ValueError, f"locally_connected2d: x must be (N, C, H, W); x is (4, 6, 5): {BATCH}"),
    ("rank of x", lambda: ops.conv2d(ones(6, 5), W), ValueError,
     "conv2d: x must be (N, C, H, W); x is (6, 5)"),
    ("rank of w", lambda: ops.conv2d(X, ones(8, 4, 3)), ValueError,
     "conv2d: w must be (O, C/G, KH, KW); w is (8, 4, 3)"),
    ("rank of w, transposed", lambda: ops.conv_transpose1d(ones(2, 4, 6), ones(8, 4)), ValueError,
     "conv_transpose1d: w must be (C, O/G, KW); w is (8, 4)"),
    ("rank of w, linear", lambda: ops.linear(ones(4, 3), ones(3)), ValueError,
     "linear: w must be (out, in); w is (3,)"),
    ("rank of w, locally", lambda: ops.locally_connected2d(X, W), ValueError,
     "locally_connected2d: w must be (OH, OW, O, C, KH, KW); w is (8, 4, 3, 3)"),
    ("no space", lambda: ops.global_avg_pool(ones(2, 4)), ValueError,
     "global_avg_pool: x must be (N, C, *space), of which only N may be 0; x is (2, 4)"),
    ("ranks of signals", lambda: ops.correlate(ones(3, 3), ones(2)), ValueError,
     "correlate: x and k must both be 1-d or both 2-d, and not empty; they are (3, 3) and (2,)"),
    ("bias", lambda: ops.conv2d(X, W, ones(4)), ValueError, "conv2d: b must be (O=8,); b is (4,)"),
    ("bias with axes", lambda: ops.conv2d(X, W, ones(8, 1, 1)), ValueError,
     "conv2d: b must be (O=8,); b is (8, 1, 1)"),
    ("bias, transposed", lambda: ops.conv_transpose2d(X, T, ones(16), groups=4), ValueError,
     "conv_transpose2d: b must be (O=32,); b is (16,)"),
    ("bias, linear", lambda: ops.linear(ones(4, 3), ones(2, 3), ones(3)), ValueError,
     "linear: b must be (out=2,); b is (3,)"),
    ("bias, locally", lambda: ops.locally_connected2d(X, ones(4, 3, 8, 4, 3, 3), ones(8)),
     ValueError, "locally_connected2d: b must be (O, OH, OW) = (8, 4, 3); b is (8,)"),
    ("weights, linear", lambda: ops.linear(ones(4, 3), ones(2, 4)), ValueError,
     "linear: w (out, in) is (2, 4) and needs x (N, in=4); x is (4, 3)"),
    ("weights, locally", lambda: ops.locally_connected2d(X, ones(4, 4, 8, 4, 3, 3)), ValueError,
     "locally_connected2d: x (2, 4, 6, 5) needs w (OH, OW, O, C, KH, KW) = (4, 3, 8, 4, 3, 3); "
     "w is (4, 4, 8, 4, 3, 3)"),
    ("columns", lambda: ops.fold(ones(1, 9, 5), 4, 3), ValueError,
     "fold: columns of 3x3 windows over 4x4 must be (N, C*9, 4); x is (1, 9, 5)"),
    # ---- empty arrays ---------------------------------------------------------------------------
    ("no height", lambda: ops.conv2d(X[:, :, :0], W, padding=2), ValueError,
     "conv2d: x (N=2, C=4, H=0, W=5) is empty along H; only N may be 0"),
    ("no channels", lambda: ops.max_pool2d(X[:, :0], 2), ValueError,
     "max_pool2d: x (N=2, C=0, H=6, W=5) is empty along C; only N may be 0"),
    ("no output channels", lambda: ops.conv2d(X, W[:0]), ValueError,
     "conv2d: w (O=0, C/G=4, KH=3, KW=3) is empty along O; only N may be 0"),
    ("no kernel", lambda: ops.conv_transpose2d(X, T[..., :0]), ValueError,
     "conv_transpose2d: w (C=4, O/G=8, KH=3, KW=0) is empty along KW; only N may be 0"),
    ("no pixels, adaptive", lambda: ops.adaptive_max_pool2d(X[:, :, :, :0], 1), ValueError,
     "adaptive_max_pool2d: x (N=2, C=4, H=6, W=0) is empty along W; only N may be 0"),
    ("no pixels, global", lambda: ops.global_avg_pool(X[:, :, :0]), ValueError,
     "global_avg_pool: x must be (N, C, *space), of which only N may be 0; x is (2, 4, 0, 5)"),
    ("no inputs", lambda: ops.linear(ones(4, 0), ones(2, 0)), ValueError,
     "linear: w (out=2, in=0) is empty along in; only N may be 0"),
    ("no columns", lambda: ops.fold(ones(1, 0, 4), 4, 3), ValueError,
     "fold: columns of 3x3 windows over 4x4 must be (N, C*9, 4); x is (1, 0, 4)"),
    ("empty signal", lambda: ops.convolve(ones(3), ones(0)), ValueError,
     "convolve: x and k must both be 1-d or both 2-d, and not empty; they are (3,) and (0,)"),
    # ---- outputs of zero size -------------------------------------------------------------------
    ("kernel larger than the image", lambda: ops.conv2d(X, ones(8, 4, 3, 7)), ValueError,
     "conv2d: along W a kernel of 7 (dilation 1, so spanning 7) does not fit 5 elements padded by "
     "(0, 0); it needs at least 7"),
    ("dilated kernel", lambda: ops.conv2d(X, W, padding=((0, 0), (0, 1)), dilation=(1, 3)),
     ValueError,
     "conv2d: along W a kernel of 3 (dilation 3, so spanning 7) does not fit 5 elements padded by "
     "(0, 1); it needs at least 7"),
    ("kernel, pooling", lambda: ops.avg_pool2d(X, 7), ValueError,
     "avg_pool2d: along H a kernel of 7 (dilation 1, so spanning 7) does not fit 6 elements padded "
     "by (0, 0); it needs at least 7"),
    ("kernel, unfold", lambda: ops.unfold(X, (2, 6)), ValueError,
     "unfold: along W a kernel of 6 (dilation 1, so spanning 6) does not fit 5 elements padded by "
     "(0, 0); it needs at least 6"),
    ("kernel, locally", lambda: ops.locally_connected2d(X, ones(1, 1, 8, 4, 7, 5)), ValueError,
     "locally_connected2d: along H a kernel of 7 (dilation 1, so spanning 7) does not fit 6 "
     "elements padded by (0, 0); it needs at least 7"),
    ("kernel, valid", lambda: ops.correlate(ones(3), ones(4), "valid"), ValueError,
     "correlate: along W a kernel of 4 (dilation 1, so spanning 4) does not fit 3 elements padded "
     "by (0, 0); it needs at least 4"),
    ("padding, transposed", lambda: ops.conv_transpose2d(X, T, padding=4), ValueError,
     "conv_transpose2d: the output would be 0x-1, from x (2, 4, 6, 5) with kernel 3x3, stride 1x1 "
     "and padding ((4, 4), (4, 4)); reduce the padding"),
    ("maximum of padding alone", lambda: ops.max_pool2d(X, 2, padding=(0, 2)), ValueError,
     "max_pool2d: along W window 0 lies wholly in the padding (2, 2) of 5 elements; "
     "reduce the padding"),
    ("average of padding alone",
     lambda: ops.avg_pool2d(X, 2, 2, ((0, 0), (0, 3)), count_include_pad=False), ValueError,
     "avg_pool2d: along W window 3 lies wholly in the padding (0, 3) of 5 elements; "
     "reduce the padding"),
    ("a rest", lambda: ops.conv2d(X, W, stride=2, exact=True), ValueError,
     "conv2d: exact=True, but along H 6 elements padded by (0, 0) leave a rest of 1 at kernel 3, "
     "stride 2; 5 or 7 would fit"),
    ("a rest that only more would fill", lambda: ops.max_pool1d(ones(1, 1, 2), 2, 3, 1, exact=True),
     ValueError,
     "max_pool1d: exact=True, but along W 2 elements padded by (1, 1) leave a rest of 2 at kernel "
     "2, stride 3; 3 would fit"),
    # ---- options --------------------------------------------------------------------------------
    ("stride 0", lambda: ops.conv2d(X, W, stride=0), ValueError, f"conv2d: stride=0; {SIZE}"),
    ("stride 0 on one axis", lambda: ops.max_pool2d(X, 2, (1, 0)), ValueError,
     f"max_pool2d: stride=(1, 0); {SIZE}"),
    ("float stride", lambda: ops.conv2d(X, W, stride=2.0), TypeError,
     f"conv2d: stride=2.0; {SIZE}"),
    ("bool stride", lambda: ops.conv2d(X, W, stride=True), TypeError,
     f"conv2d: stride=True; {SIZE}"),
    ("no stride", lambda: ops.conv2d(X, W, stride=None), TypeError, f"conv2d: stride=None; {SIZE}"),
    ("text as stride", lambda: ops.unfold(X, 2, "2"), TypeError, f"unfold: stride='2'; {SIZE}"),
    ("three strides", lambda: ops.conv2d(X, W, stride=(1, 1, 1)), ValueError,
     f"conv2d: stride=(1, 1, 1); {SIZE}"),
    ("two strides in one dimension", lambda: ops.conv1d(ones(2, 4, 6), ones(8, 4, 3), None, [1, 1]),
     ValueError, "conv1d: stride=[1, 1]; give an int of at least 1, or one per axis (W)"),
    ("float array of strides", lambda: ops.conv2d(X, W, stride=np.array([1.0, 1.0])), TypeError,
     f"conv2d: stride=array([1., 1.]); {SIZE}"),
    ("stride, transposed", lambda: ops.conv_transpose2d(X, T, stride=-1), ValueError,
     f"conv_transpose2d: stride=-1; {SIZE}"),
    ("dilation 0", lambda: ops.conv2d(X, W, dilation=0), ValueError, f"conv2d: dilation=0; {SIZE}"),
    ("dilation 0, pooling", lambda: ops.max_pool2d(X, 2, 2, 0, 0), ValueError,
     f"max_pool2d: dilation=0; {SIZE}"),
    ("kernel_size 0", lambda: ops.avg_pool2d(X, 0), ValueError,
     f"avg_pool2d: kernel_size=0; {SIZE}"),
    ("float kernel_size", lambda: ops.max_pool2d(X, 2.0), TypeError,
     f"max_pool2d: kernel_size=2.0; {SIZE}"),
    ("kernel_size of three", lambda: ops.max_pool2d(X, (2, 2, 2)), ValueError,
     f"max_pool2d: kernel_size=(2, 2, 2); {SIZE}"),
    ("no kernel_size", lambda: ops.unfold(X, ()), ValueError, f"unfold: kernel_size=(); {SIZE}"),
    ("output_size 0", lambda: ops.adaptive_avg_pool2d(X, (2, 0)), ValueError,
     f"adaptive_avg_pool2d: output_size=(2, 0); {SIZE}"),
    ("output_size None", lambda: ops.adaptive_max_pool2d(X, (None, 2)), TypeError,
     f"adaptive_max_pool2d: output_size=(None, 2); {SIZE}"),
    ("output_size of fold", lambda: ops.fold(ones(1, 9, 4), 4.5, 3), TypeError,
     f"fold: output_size=4.5; {SIZE}"),
    ("groups 0", lambda: ops.conv2d(X, W, groups=0), ValueError,
     "conv2d: groups=0; give an int of at least 1"),
    ("float groups", lambda: ops.conv2d(X, W, groups=2.0), TypeError,
     "conv2d: groups=2.0; give an int of at least 1"),
    ("groups that do not divide", lambda: ops.conv2d(X, ones(9, 2, 3, 3), groups=2), ValueError,
     "conv2d: groups=2 must divide O; w is (O=9, C/G=2, KH=3, KW=3)"),
    ("groups, transposed", lambda: ops.conv_transpose2d(X, T, groups=3), ValueError,
     "conv_transpose2d: groups=3 must divide C; w is (C=4, O/G=8, KH=3, KW=3)"),
    ("negative padding", lambda: ops.conv2d(X, W, padding=-1), ValueError,
     f"conv2d: padding=-1; {PADDING}"),
    ("negative padding on one side", lambda: ops.max_pool2d(X, 2, padding=((0, 0), (0, -1))),
     ValueError, f"max_pool2d: padding=((0, 0), (0, -1)); {PADDING}"),
    ("unknown padding", lambda: ops.conv2d(X, W, padding="full"), ValueError,
     f"conv2d: padding='full'; {PADDING}"),
    ("same, transposed", lambda: ops.conv_transpose2d(X, T, padding="same"), ValueError,
     "conv_transpose2d: padding='same'; give 'valid', a non-negative int, one per axis (H, W), or "
     "a (before, after) pair per axis"),
    ("float padding", lambda: ops.conv2d(X, W, padding=(1, 0.5)), TypeError,
     f"conv2d: padding=(1, 0.5); {PADDING}"),
    ("bool padding", lambda: ops.conv2d(X, W, padding=True), TypeError,
     f"conv2d: padding=True; {PADDING}"),
    ("no padding", lambda: ops.avg_pool2d(X, 2, padding=None), TypeError,
     f"avg_pool2d: padding=None; {PADDING}"),
    ("padding of three axes", lambda: ops.conv2d(X, W, padding=(1, 1, 1)), ValueError,
     f"conv2d: padding=(1, 1, 1); {PADDING}"),
    ("half a pair", lambda: ops.conv2d(X, W, padding=((1, 1), (1,))), ValueError,
     f"conv2d: padding=((1, 1), (1,)); {PADDING}"),
    ("output_padding", lambda: ops.conv_transpose2d(X, T, stride=2, output_padding=2), ValueError,
     "conv_transpose2d: output_padding=2 must be smaller than stride=(2, 2) or dilation=(1, 1)"),
    ("output_padding of one axis",
     lambda: ops.conv_transpose2d(X, T, stride=(2, 1), output_padding=(1, 1)), ValueError,
     "conv_transpose2d: output_padding=(1, 1) must be smaller than stride=(2, 1) or "
     "dilation=(1, 1)"),
    ("negative output_padding", lambda: ops.conv_transpose2d(X, T, output_padding=-1), ValueError,
     "conv_transpose2d: output_padding=-1; give an int of at least 0, or one per axis (H, W)"),
    ("layout", lambda: ops.conv2d(X, W, layout="NCWH"), ValueError,
     "conv2d: layout='NCWH'; give 'NCHW' or 'NHWC'"),
    ("layout of another rank", lambda: ops.max_pool1d(ones(2, 4, 6), 2, layout="NHWC"), ValueError,
     "max_pool1d: layout='NHWC'; give 'NCW' or 'NWC'"),
    ("no layout", lambda: ops.conv_transpose3d(X, W, layout=3), ValueError,
     "conv_transpose3d: layout=3; give 'NCDHW' or 'NDHWC'"),
    ("divisor 0", lambda: ops.avg_pool2d(X, 2, divisor_override=0), ValueError,
     "avg_pool2d: divisor_override=0; give an int other than 0, or None"),
    ("float divisor", lambda: ops.avg_pool2d(X, 2, divisor_override=0.5), TypeError,
     "avg_pool2d: divisor_override=0.5; give an int other than 0, or None"),
    ("mode", lambda: ops.convolve(ones(3), ones(2), "Full"), ValueError,
     "convolve: mode='Full'; give 'full', 'same' or 'valid'"),
    # ---- kinds of arrays ------------------------------------------------------------------------
    ("integer image", lambda: ops.conv2d(X.astype("uint8"), W), TypeError,
     f"conv2d: x must be floating, not uint8; {CONVERT}"),
    ("integer weights", lambda: ops.linear(ones(4, 3), np.ones((2, 3), np.int64)), TypeError,
     f"linear: w must be floating, not int64; {CONVERT}"),
    ("integers to average", lambda: ops.avg_pool2d(X.astype("int32"), 2), TypeError,
     f"avg_pool2d: x must be floating, not int32; {CONVERT}"),
    ("integers to average over all", lambda: ops.global_avg_pool(X.astype("uint8")), TypeError,
     f"global_avg_pool: x must be floating, not uint8; {CONVERT}"),
    ("booleans", lambda: ops.max_pool2d(X > 0, 2), TypeError,
     f"max_pool2d: x must be floating or integer, not bool; {CONVERT}"),
    ("complex numbers", lambda: ops.conv2d(X.astype(complex), W), TypeError,
     f"conv2d: x must be floating, not complex128; {CONVERT}"),
    ("a list", lambda: ops.conv2d(X.tolist(), W), TypeError, f"conv2d: x: list {ARRAY}"),
    ("a list of signals", lambda: ops.correlate(ones(3), [1.0]), TypeError,
     f"correlate: k: list {ARRAY}"),
    ("a number as bias", lambda: ops.conv2d(X, W, 1), TypeError, f"conv2d: b: int {ARRAY}"),
    ("no weights", lambda: ops.conv2d(X, None), TypeError,
     "conv2d: w is missing or None; pass an array"),
    ("weights left out", lambda: ops.linear(ones(4, 3)), TypeError,
     "linear: w is missing or None; pass an array"),
    ("dtypes", lambda: ops.conv2d(X.astype("float32"), W), TypeError,
     "conv2d: x is float32 and w is float64; convert one, so that both share a dtype"),
    ("dtype of the bias", lambda: ops.conv2d(X, W, np.ones(8, np.float16)), TypeError,
     "conv2d: x is float64 and b is float16; convert one, so that both share a dtype"),
    ("dtypes of signals", lambda: ops.correlate(ones(3), np.ones(2, np.int64)), TypeError,
     "correlate: x is float64 and k is int64; convert one, so that both share a dtype"),
    ("number of groups", lambda: ops.group_norm(X, 2.0), TypeError,
     "group_norm: num_groups=2.0; give an int of at least 1"),
    ("number of channels", lambda: ops.local_response_norm(X, 2.0), TypeError,
     "local_response_norm: size=2.0; give an int of at least 1"),
    ("a number of an axis", lambda: ops.softmax(X, 1.0), TypeError,
     "softmax: dim=1.0; give an int, the number of an axis"),
    ("half a place of padding", lambda: ops.pad(X, (0.5, 1)), TypeError,
     "pad: pad=(0.5, 1), mode='constant': give ints, (before, after) for each axis, the last one "
     "first"),
    ("one number of padding", lambda: ops.pad(X, 1), ValueError,
     "pad: pad=(1,), mode='constant' has 1 numbers for x (2, 4, 6, 5); give (before, after) for "
     "each axis, the last one first"),
    ("a seed as key", lambda: ops.dropout(X, key=3), TypeError, f"dropout: key=3; {MAKE_KEY}"),
    ("a key of floats", lambda: ops.dropout(X, key=(1.5, 2)), TypeError,
     f"dropout: key=(1.5, 2); {MAKE_KEY}"),
    ("probability", lambda: ops.dropout(X, "0.5", key=KEY), TypeError,
     "dropout: p must lie in [0, 1]; it is '0.5'"),
    # ---- vjp ------------------------------------------------------------------------------------
    ("wrt of another name", lambda: xpcnn.vjp(ops.conv2d, X, W, wrt=("weight",)), ValueError,
     "vjp of conv2d: wrt=('weight',); give a tuple of some of ('x', 'w', 'b')"),
    ("wrt as text", lambda: xpcnn.vjp(ops.conv2d, X, W, wrt="x"), ValueError,
     "vjp of conv2d: wrt='x'; give a tuple of some of ('x', 'w', 'b')"),
    ("wrt as a number", lambda: xpcnn.vjp(ops.conv2d, X, W, wrt=0), ValueError,
     "vjp of conv2d: wrt=0; give a tuple of some of ('x', 'w', 'b')"),
    ("no pullback", lambda: xpcnn.vjp(np.sin, X), TypeError,
     "vjp: sin has no pullback; pass an op of xpcnn.ops, a loss or a layer"),
    ("a name as function", lambda: xpcnn.vjp("conv2d", X, W), TypeError,
     "vjp: 'conv2d' has no pullback; pass an op of xpcnn.ops, a loss or a layer"),
    ("gradient of integers", lambda: xpcnn.vjp(ops.max_pool2d, X.astype(int), 2), TypeError,
     "vjp of max_pool2d: integers have no gradient; convert them, for example to float32"),
    ("nothing to differentiate", lambda: xpcnn.vjp(ops.conv2d), TypeError,
     "conv2d: x is missing or None; pass an array"),
]  # fmt: skip

PULLS: list[tuple[str, Any, type[Exception], str]] = [
    ("shape", ones(2, 8, 4, 4), ValueError,
     "conv2d: pull needs the gradient of y (2, 8, 4, 3); dy is (2, 8, 4, 4)"),
    ("number", 1.0, ValueError,
     "conv2d: pull needs the gradient of y (2, 8, 4, 3); dy is ()"),
    ("integers", np.ones((2, 8, 4, 3), np.int64), TypeError,
     f"conv2d: dy must be floating, not int64; {CONVERT}"),
    ("list", [1.0], TypeError, f"conv2d: dy: list {ARRAY}"),
    ("nothing", None, TypeError, f"conv2d: dy: NoneType {ARRAY}"),
]  # fmt: skip

DEVICES = "choose auto, cpu, cuda, cuda:1, torch, torch:cuda:0, jax or strict"


def used(*args: Any, **kwargs: Any) -> None:
    with xpcnn.use(*args, **kwargs):
        pass


PLACES: list[tuple[str, Callable, type[Exception], str]] = [
    ("device", lambda: xpcnn.device("gpu"), ValueError,
     f"device('gpu'): no such device; {DEVICES}"),
    ("no name", lambda: xpcnn.device(""), ValueError, f"device(''): no such device; {DEVICES}"),
    ("in capitals", lambda: xpcnn.device("CPU"), ValueError,
     f"device('CPU'): no such device; {DEVICES}"),
    ("a number as device", lambda: xpcnn.device(0), TypeError,
     "device(0): give a name, such as 'cpu' or 'cuda:1', or a Device"),
    ("None as device", lambda: xpcnn.device(None), TypeError,
     "device(None): give a name, such as 'cpu' or 'cuda:1', or a Device"),
    ("second host", lambda: xpcnn.device("cpu:1"), ValueError,
     "device('cpu:1'): the host has no device '1'; use 'cpu'"),
    ("text", lambda: xpcnn.device("cpu").asarray(["a", "b"]), TypeError,
     "asarray: this list does not hold numbers; give numbers"),
    ("None as array", lambda: xpcnn.device("cpu").asarray(None), TypeError,
     "asarray: this NoneType does not hold numbers; give numbers"),
    ("list to the host", lambda: xpcnn.device("cpu").to_numpy([1.0]), TypeError, f"list {ARRAY}"),
    ("engine", lambda: used("cudnn5"), ValueError,
     "use('cudnn5'): no such engine; choose one of numba, numpy, cuda, torch, jax, generic"),
    ("workspace", lambda: used(workspace=0), ValueError,
     "use: workspace=0; give an int of at least 1"),
    ("workspace in words", lambda: used(workspace="1 GiB"), TypeError,
     "use: workspace='1 GiB'; give an int of at least 1"),
    ("float workspace", lambda: used(workspace=1e9), TypeError,
     "use: workspace=1000000000.0; give an int of at least 1"),
]  # fmt: skip

IMAGE = (4, 6, 5)
SAMPLE = "give the shape of one sample, such as (1, 28, 28)"
PARAMS = {"weight": W, "bias": ones(8)}

LAYERS: list[tuple[str, Callable, type[Exception], str]] = [
    ("out_channels 0", lambda: L.Conv2d(0, 3), ValueError,
     "Conv2d: out_channels=0; give an int of at least 1"),
    ("float out_features", lambda: L.Linear(1.5), TypeError,
     "Linear: out_features=1.5; give an int of at least 1"),
    ("groups 0", lambda: L.ConvTranspose2d(8, 3, groups=0), ValueError,
     "ConvTranspose2d: groups=0; give an int of at least 1"),
    ("kernel_size 0", lambda: L.Conv2d(8, 0), ValueError, f"Conv2d: kernel_size=0; {SIZE}"),
    ("float kernel_size", lambda: L.AvgPool2d(2.0), TypeError,
     f"AvgPool2d: kernel_size=2.0; {SIZE}"),
    ("kernel_size of two", lambda: L.Conv3d(8, (3, 3)), ValueError,
     "Conv3d: kernel_size=(3, 3); give an int of at least 1, or one per axis (D, H, W)"),
    ("stride 0", lambda: L.MaxPool2d(2, 0), ValueError, f"MaxPool2d: stride=0; {SIZE}"),
    ("output_size 0", lambda: L.AdaptiveAvgPool2d(0), ValueError,
     f"AdaptiveAvgPool2d: output_size=0; {SIZE}"),
    ("in_shape without channels", lambda: L.Conv2d(8, 3).init(KEY, (6, 5)), ValueError,
     "Conv2d: in_shape must be (C, H, W), without a batch axis; it is (6, 5)"),
    ("in_shape with a batch", lambda: L.ConvTranspose1d(8, 3).init(KEY, (2, 4, 6)), ValueError,
     "ConvTranspose1d: in_shape must be (C, W), without a batch axis; it is (2, 4, 6)"),
    ("in_shape, pooling", lambda: L.MaxPool2d(2).init(KEY, (6, 5)), ValueError,
     "max_pool2d: x must be (N, C, H, W); x is (0, 6, 5)"),
    ("in_shape as a number", lambda: L.Linear(8).init(KEY, 4), TypeError,
     f"init: in_shape=4; {SAMPLE}"),
    ("float in in_shape", lambda: L.Conv2d(8, 3).init(KEY, (4, 6.0, 5)), TypeError,
     f"init: in_shape=(4, 6.0, 5); {SAMPLE}"),
    ("negative in_shape", lambda: L.Conv2d(8, 3).init(KEY, (4, -6, 5)), ValueError,
     f"init: in_shape=(4, -6, 5); {SAMPLE}"),
    ("a seed as key", lambda: L.Conv2d(8, 3).init(0, IMAGE), TypeError,
     f"init: key=0; {MAKE_KEY}"),
    ("floats as key", lambda: L.Conv2d(8, 3).init((1.5, 2), IMAGE), TypeError,
     f"init: key=(1.5, 2); {MAKE_KEY}"),
    ("groups that do not divide", lambda: L.Conv2d(8, 3, groups=3).init(KEY, IMAGE), ValueError,
     "Conv2d: groups=3 must divide channels in and out; they are 4 and 8"),
    ("groups, transposed",
     lambda: L.ConvTranspose2d(9, 3, groups=2, bias=False).init(KEY, IMAGE), ValueError,
     "ConvTranspose2d: groups=2 must divide channels in and out; they are 4 and 9"),
    ("device", lambda: L.Linear(8).init(KEY, (4,), device="gpu"), ValueError,
     f"device('gpu'): no such device; {DEVICES}"),
    ("too large a kernel, deep inside",
     lambda: L.Sequential(L.ReLU(), L.Sequential(L.MaxPool2d(7))).init(KEY, IMAGE), ValueError,
     "layer 1.0: max_pool2d: along H a kernel of 7 (dilation 1, so spanning 7) does not fit 6 "
     "elements padded by (0, 0); it needs at least 7"),
    ("no parameters", lambda: L.Conv2d(8, 3)({}, X), ValueError,
     "Conv2d: params must hold weight and bias, as `init` draws them, not nothing"),
    ("no bias", lambda: L.Conv2d(8, 3)({"weight": W}, X), ValueError,
     "Conv2d: params must hold weight and bias, as `init` draws them, not weight"),
    ("params and x exchanged", lambda: L.Conv2d(8, 3, bias=False)(X, {}), ValueError,
     "Conv2d: params must hold weight, as `init` draws them, not ndarray"),
    ("parameters of a layer inside",
     lambda: L.Sequential(L.ReLU(), L.Conv2d(8, 3)).vjp({"0": PARAMS}, X), ValueError,
     "layer 1: Conv2d: params must hold weight and bias, as `init` draws them, not nothing"),
    ("unbatched", lambda: L.Conv2d(8, 3)(PARAMS, X[0]), ValueError,
     f"conv2d: x must be (N, C, H, W); x is (4, 6, 5): {BATCH}"),
    ("integer image", lambda: L.Sequential(L.Conv2d(8, 3))({"0": PARAMS}, X.astype("uint8")),
     TypeError, f"layer 0: conv2d: x must be floating, not uint8; {CONVERT}"),
    ("wrt", lambda: xpcnn.vjp(L.Conv2d(8, 3), PARAMS, X, wrt=("w",)), ValueError,
     "vjp of Conv2d: wrt=('w',); give a tuple of some of ('params', 'x')"),
    ("wrt as a number", lambda: L.ReLU().vjp({}, X, wrt=1), ValueError,
     "vjp of ReLU: wrt=1; give a tuple of some of ('params', 'x')"),
    ("dy", lambda: L.Conv2d(8, 3).vjp(PARAMS, X)[1](ones(2, 8)), ValueError,
     "conv2d: pull needs the gradient of y (2, 8, 4, 3); dy is (2, 8)"),
    ("no key", lambda: L.Sequential(L.Dropout()).vjp({}, X), ValueError,
     "layer 0: Dropout: training needs a key; call vjp(..., key=xpcnn.random.key(0))"),
    ("a seed as key, training", lambda: L.Dropout().vjp({}, X, key=3), TypeError,
     f"dropout: key=3; {MAKE_KEY}"),
    ("a seed as key, deep inside", lambda: L.Sequential(L.Dropout()).vjp({}, X, key=3), TypeError,
     f"fold_in: key=3; {MAKE_KEY}"),
    ("probability", lambda: L.Dropout(2), ValueError, "Dropout: p must lie in [0, 1]; it is 2"),
    ("a list of parameters", lambda: L.Sequential(L.ReLU())([], X), TypeError,
     "Sequential: params must be a dict by the layers' names, as `init` draws it, not list"),
    ("a list of parameters, deep inside",
     lambda: L.Sequential(L.Residual(L.ReLU())).vjp({"0": [1]}, X), TypeError,
     "layer 0: Residual: params must be a dict by the layers' names, as `init` draws it, not list"),
    ("no running statistics", lambda: L.BatchNorm()({}, X), ValueError,
     "BatchNorm: params must hold running_mean and running_var and weight and bias, as `init` "
     "draws them, not nothing"),
    ("no scale", lambda: L.BatchNorm().vjp({"running_mean": ones(4), "running_var": ones(4)}, X),
     ValueError,
     "BatchNorm: params must hold running_mean and running_var and weight and bias, as `init` "
     "draws them, not running_mean and running_var"),
]  # fmt: skip

MIXED: list[tuple[str, Callable, str]] = [
    ("weights", lambda a: ops.conv2d(X, a(W)), "conv2d: x is {here} and w {there}; "),
    ("bias", lambda a: ops.linear(ones(2, 3), ones(4, 3), a(ones(4))),
     "linear: x is {here} and b {there}; "),
    ("image", lambda a: ops.conv_transpose2d(a(X), T),
     "conv_transpose2d: x is {there} and w {here}; "),
    ("gradient", lambda a: xpcnn.vjp(ops.max_pool2d, X, 2)[1](a(ones(2, 4, 3, 2))),
     "max_pool2d: y is {here} and dy {there}; "),
    ("parameters", lambda a: L.Conv2d(8, 3)({"weight": W, "bias": a(ones(8))}, X),
     "conv2d: x is {here} and bias {there}; "),
    ("parameters of a layer inside",
     lambda a: L.Sequential(L.Linear(4)).vjp({"0": {"weight": ones(4, 3), "bias": ones(4)}},
                                             a(ones(2, 3))),
     "layer 0: linear: x is {there} and weight {here}; "),
]  # fmt: skip


def table(*rows: tuple) -> Any:
    return pytest.mark.parametrize(
        ("call", "kind", "message"), [pytest.param(*row[1:], id=row[0]) for row in rows]
    )


def check(call: Callable, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind and str(caught.value) == message


@table(*OPS)
def test_operations(call, kind, message, monkeypatch):
    """The message comes before any work: no engine is asked."""
    monkeypatch.setattr(engines, "_ask", lambda verb, *_: pytest.fail(f"{verb} was called"))
    check(call, kind, message)


@table(*PULLS)
def test_gradients_given_to_a_pull(call, kind, message):
    _, pull = xpcnn.vjp(ops.conv2d, X, W)
    check(lambda: pull(call), kind, message)


@table(*PLACES)
def test_devices_and_settings(call, kind, message):
    before = engines.settings.current()
    check(call, kind, message)
    assert engines.settings.current() == before


@table(*LAYERS)
def test_layers(call, kind, message):
    check(call, kind, message)


def test_the_environment_names_no_device(monkeypatch):
    monkeypatch.setenv("XPCNN_DEVICE", "gpu")
    message = f"device('auto'), found to be 'gpu': no such device; {DEVICES}"
    check(lambda: xpcnn.device(), ValueError, message)


def test_arrays_on_a_device_are_copies(xp):
    host = np.zeros(4)
    x = xpcnn.device(xp.spec).asarray(host)
    host[:] = 1.0
    assert xp.to_numpy(x).any() == (xp.name == "numpy")


def test_what_numpy_says_of_bad_numbers_is_kept():
    host = xpcnn.device("cpu")
    right = r"; give numbers in rows of one length, and a dtype such as 'float32'$"
    with pytest.raises(ValueError, match=rf"^asarray: .*inhomogeneous.*{right}"):
        host.asarray([[1.0], [1.0, 2.0]])
    with pytest.raises(TypeError, match=rf"^asarray: .*float31.*{right}"):
        host.asarray([1.0], "float31")


@pytest.mark.parametrize(("call", "message"), [pytest.param(*r[1:], id=r[0]) for r in MIXED])
def test_mixed_libraries(call, message, xp):
    if xp.name == "numpy":
        pytest.skip("needs a second library")
    there = f"a {xp.name} array on {xpcnn._xp.device_of(xp.asarray(X))}"
    message = message.format(here="a numpy array on cpu", there=there)
    check(lambda: call(xp.asarray), TypeError, message + MOVE)


def test_mixed_devices(xp):
    """A second device that every machine has."""
    if xp.name == "torch":
        other = xp.namespace.ones((8, 4, 3, 3), dtype=xp.namespace.float64, device="meta")
    elif xp.name == "strict":
        second = xp.namespace.Device("device1")
        other = xp.namespace.ones((8, 4, 3, 3), dtype=xp.namespace.float64, device=second)
    else:
        pytest.skip(f"{xp.name} has but one device everywhere")
    x = xp.asarray(X)
    message = (
        f"conv2d: x is a {xp.name} array on {x.device} and w a {xp.name} array on {other.device}; "
    )
    check(lambda: ops.conv2d(x, other), TypeError, message + MOVE)


def test_mixed_dtypes(xp):
    w = xp.namespace.asarray(xp.asarray(W), dtype=xp.namespace.float32)
    message = "conv2d: x is float64 and w is float32; convert one, so that both share a dtype"
    check(lambda: ops.conv2d(xp.asarray(X), w), TypeError, message)


def test_an_engine_of_another_library(xp):
    if xp.name == "numpy":
        pytest.skip("the engine numpy takes these")
    own = {"strict": "generic", "cupy": "cuda, generic"}.get(xp.name, f"{xp.name}, generic")
    message = f"use('numpy'): that engine takes no {xp.name} arrays; they have {own}"
    with xpcnn.use("numpy"):
        check(lambda: ops.max_pool2d(xp.asarray(X), 2), ValueError, message)


BATCHED = [case for case in cases.ALL if case.op not in ("correlate", "convolve", "multiply")]


@pytest.mark.parametrize("case", BATCHED, ids=lambda case: case.id)
def test_a_batch_of_none_is_fine(case, xp):
    """Its result and gradient are empty; the weights' gradients are 0."""
    if xp.name == "jax" and case not in BATCHED[::8]:
        pytest.skip("JAX compiles every operation for every shape: a few cases stand for all")
    x, *weights = case.arrays
    y_shape = (0, *case.expected[0].shape[1:])
    y, (dx, *grads) = vjp_of(
        getattr(ops, case.op), [x[:0], *weights], np.zeros(y_shape), xp=xp, **case.options
    )
    assert y.shape == y_shape and dx.shape == (0, *x.shape[1:])
    for grad in grads:
        np.testing.assert_array_equal(grad, 0.0)
