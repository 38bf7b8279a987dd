"""Every instantiation in the table runs, and answers as the definition does in float32, rounded.

Which of them a call takes is a matter of its sizes, strides and dtype: a sweep over those that are
told apart. What is new in the table must be reached here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from cuda_device import Device, on_host
from cuda_on_cpu import sanitized
from strategies import view

from xpcnn import engines, ops
from xpcnn.engines import cuda, generic
from xpcnn.engines.cuda import _direct, _geometry, _norm
from xpcnn.engines.cuda._table import ACTIVATIONS, FILES
from xpcnn.window import conv_window, pool_window

FAMILIES = ("engine", "direct", "passes")
DTYPES = ("float16", "bfloat16", "float32", "float64")
LAYOUTS = ("plain", "channels last")
POOLS = ((2, 2), (3, 1), (3, 2), (4, 1), (1, 2))  # kernel, stride
KERNELS = ((3, 1), (3, 2), (5, 1), (5, 2), (2, 2), (1, 2))


def whole(
    shape: tuple[int, ...], dtype: np.dtype, layout: str = "plain", seed: int = 0
) -> np.ndarray:
    """Small whole numbers: their sums are exact, and rounded in half precision at most once."""
    numbers = np.random.default_rng(seed).integers(-3, 4, shape)
    return view(numbers.astype(dtype), layout)


def check(verb: str, *arguments) -> tuple:
    """Compare with the definition; gives what the engine answers."""
    wide = [
        a.astype(np.float32) if isinstance(a, np.ndarray) and a.dtype.itemsize == 2 else a
        for a in arguments
    ]
    answers = getattr(cuda, verb)(*arguments), getattr(generic, verb)(*wide)
    actual, right = (a if isinstance(a, tuple) else (a,) for a in answers)
    for one, other in zip(actual, right, strict=True):
        if one is not None:
            np.testing.assert_array_equal(one, other.astype(one.dtype))
    return actual


@contextmanager
def limits(wide: bool) -> Iterator[None]:
    """Blocks that few numbers fill and, if `wide`, indices of 64 bits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_direct, "LEAST", 1)
        patch.setattr(_norm, "LEAST_SHARE", 1)
        patch.setattr(_norm, "LEAST", 1)
        if wide:
            patch.setattr(_geometry, "LIMIT", 0)
        plans = (
            _geometry.geometry, _direct._planned_sums, _direct._planned_parts, _norm._plan,
        )  # fmt: skip
        for plan in plans:
            plan.cache_clear()
        yield
    for plan in plans:
        plan.cache_clear()


def windows(dtype: np.dtype, layout: str, channels: int) -> None:
    x = whole((2, channels, 9, 8), dtype, layout)
    for kernel, stride in POOLS:
        window = pool_window("pool", 2, x.shape, kernel, stride, 0, 1)
        y, places = check("max_pool", x, window, True)
        check("max_pool", x, window)
        check("max_pool_dx", y, places, window)
        check("avg_pool", x, window, 4)
        check("avg_pool_dx", y, window, 4)
        (cols,) = check("im2col", x, window)
        if dtype.itemsize > 2:
            check("col2im", cols, window)


def convolutions(dtype: np.dtype, layout: str, channels: int) -> None:
    """In many groups and in one, with room for columns and with none."""
    for kernel, stride in KERNELS:
        for groups, workspace in ((channels, 2**20), (1, 2**20), (1, 1)):
            x = whole((2, channels, 9, 8), dtype, layout)
            w = whole((channels, channels // groups, kernel, kernel), dtype)
            window = conv_window("conv", 2, x.shape, w.shape, None, stride, 2, 1, groups)
            dy = whole((2, channels, *window.out_size), dtype, layout)
            with engines.use(workspace=workspace):
                check("conv", x, w, window)
                check("conv_dx", dy, w, window)
                check("conv_dw", x, dy, window)


def passes(dtype: np.dtype, layout: str, channels: int) -> None:
    """To a few roundings, with what NumPy gives of the same numbers in float64."""
    x = whole((4, channels, 8, 8), dtype, layout) / dtype.type(2)
    v = whole((channels,), dtype)
    calls = [
        (lambda x: ops.relu(x), (x,)), (ops.relu6.vjp, (x,)),
        *((getattr(ops, name).vjp, (x, *more)) for name, *more in ACTIVATIONS),
        (lambda x: ops.dropout(x, 0.5, key=(1, 2)), (x,)),
        (ops.batch_norm_train.vjp, (x, v, v)),
        (lambda x, v: ops.conv2d.vjp(x, v.reshape(-1, 1, 1, 1), v, groups=channels), (x, v)),
    ]  # fmt: skip
    for call, arguments in calls:
        wide = [np.float64(a) if isinstance(a, np.ndarray) else a for a in arguments]
        with engines.use("cuda"):
            actual = results(call(*arguments))
        with engines.use("generic"):
            right = results(call(*wide))
        for one, other in zip(actual, right, strict=True):
            eps = {2: 2**-7, 4: 2e-5, 8: 1e-12}[dtype.itemsize]
            np.testing.assert_allclose(np.float64(one), other, eps, eps * abs(other).max())
    for name in ("sigmoid", "tanh"):  # which ops compute in float32, for their gradients' sake
        y = check_step(cuda.activation, (x,), name)
        check_step(cuda.activation_dx, (x, y), name)
    for momentum in (None, x):
        check_step(cuda.sgd, (x, x, momentum), 0.1, 0.9, False, 0.1)
    check_step(cuda.adam, (x, x, x, x * x), 0.1, 0.9, 0.99, 1e-8, 3, 0.1, False)


def results(answer) -> list[np.ndarray]:
    """A value, or a value and its gradients."""
    if not isinstance(answer, tuple):
        return [answer]
    y, pull = answer
    y = y if isinstance(y, tuple) else (y,)
    dy = whole(y[0].shape, y[0].dtype, LAYOUTS[y[0].strides[1] == y[0].itemsize], seed=1)
    return [*y, *(grad for grad in pull(dy) if grad is not None)]


def check_step(step, arrays, *options) -> np.ndarray:
    """In half precision as in float32, rounded; gives the first result."""
    dtype = arrays[0].dtype
    wide = [None if a is None else a.astype(np.float32) for a in arrays]
    answers = step(*arrays, *options), step(*wide, *options)
    pairs = list(zip(*(a if isinstance(a, tuple) else (a,) for a in answers), strict=True))
    for one, other in ((a, b) for a, b in pairs if a is not None):
        assert one.dtype == dtype
        np.testing.assert_allclose(np.float64(one), np.float64(other.astype(dtype)), 1e-6, 1e-6)
    return pairs[0][0]


def test_every_instantiation_runs():
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    with on_host(Device()) as device:
        for name in DTYPES:
            dtype = np.dtype(bfloat16 if name == "bfloat16" else name)
            for layout in LAYOUTS:
                for channels, wide in ((16, False), (3, False), (3, True)):
                    with limits(wide):
                        windows(dtype, layout, channels)
                        convolutions(dtype, layout, channels)
                        passes(dtype, layout, channels)
        missing = set(FILES) - set(device.launched)
        assert not missing, "\n".join(sorted(missing))


def test_nothing_outside_of_arrays_is_touched():
    """Some tests of each family once more, under the address sanitizer."""
    files = (str(Path(__file__).with_name(f"test_cuda_{of}.py")) for of in FAMILIES)
    some = "right_passes or blocks_end or needs_no_columns or equal_bits"
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", some)
    done = sanitized("-m", "pytest", *options, *files)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout
