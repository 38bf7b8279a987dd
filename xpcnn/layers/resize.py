"""Layers that give images another size: resampling, and pooling undone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .. import ops
from .._xp import Array
from ..ops.interpolate import Scale, require_scaling
from ..window import Size
from .base import Layer, OpLayer, Shape, wanted
from .combinators import JoinedPull, Pulls, Sequential, learns
from .pooling import MaxPool2d
from .tree import Tree


@dataclass(frozen=True, repr=False)
class Upsample(OpLayer):
    """Resample (C, *space) to `size` or by `scale_factor`: `ops.interpolate` with its modes.

    >>> from xpcnn import random
    >>> Upsample(scale_factor=2, mode="bilinear").init(random.key(0), (3, 5, 5))[1]
    (3, 10, 10)

    Source: torch.nn.Upsample.
    """

    size: Size | None = None
    scale_factor: Scale | None = None
    mode: str = "nearest"
    align_corners: bool = False

    op = staticmethod(ops.interpolate)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_scaling("Upsample", **self.options())


@dataclass(frozen=True, repr=False, init=False)
class PoolUnpool(Sequential):
    """Layers one after another between a max pool and its undoing, which gives back the old size.

    Each value that the layers give goes to the place where the pool had found the maximum, all
    other places are 0: `ops.max_unpool2d`. The layers keep the shape that the pool gives; nested,
    these make SegNet's encoder and decoder.

    Raises ValueError where the layers change that shape, TypeError for a pool that is no MaxPool2d.

    >>> from xpcnn import random
    >>> from xpcnn.layers import Conv2d
    >>> model = PoolUnpool(MaxPool2d(2), Conv2d(3, 3, padding=1))
    >>> model
    PoolUnpool(
      pool=MaxPool2d(kernel_size=(2, 2))
      (0): Conv2d(out_channels=3, kernel_size=(3, 3), padding=(1, 1))
    )
    >>> model.init(random.key(0), (3, 9, 9))[1]
    (3, 9, 9)

    Source: Badrinarayanan, Kendall & Cipolla, "SegNet", 2015; torch.nn.MaxUnpool2d.
    """

    pool: MaxPool2d

    def __init__(
        self,
        pool: MaxPool2d,
        *args: Layer,
        layers: Sequence[Layer] = (),
        names: Sequence[str] = (),
    ) -> None:
        if not isinstance(pool, MaxPool2d):
            raise TypeError(f"PoolUnpool: pool must be a MaxPool2d; it is {pool!r}")
        object.__setattr__(self, "pool", pool)
        super().__init__(*args, layers=layers, names=names)

    def plan(self, in_shape: Shape) -> tuple[Tree, Shape]:
        _, pooled = self.pool.plan(in_shape)
        planned, out_shape = super().plan(pooled)
        if out_shape != pooled:
            raise ValueError(
                f"PoolUnpool: its layers must keep the shape {pooled} that the pool gives; they "
                f"make it {out_shape}"
            )
        return planned, in_shape

    def __call__(self, params: Tree, x: Array) -> Array:
        pooled, indices = ops.max_pool2d(x, **self.pool.options(), return_indices=True)
        y = super().__call__(params, pooled)
        return ops.max_unpool2d(y, indices, **self._window(x))

    def vjp(self, params, x, *, key=None, wrt=None):
        asked = wanted(self, wrt)
        needs_x = "x" in asked
        needs_y = needs_x or learns(self, params, asked)
        options = {**self.pool.options(), "return_indices": True, "wrt": ("x",) * needs_x}
        (y, indices), pull_pool = ops.max_pool2d.vjp(x, **options)
        y, pull_layers = super().vjp(params, y, key=key, wrt=asked)
        options = {**self._window(x), "wrt": ("x",) * needs_y}
        y, pull_unpool = ops.max_unpool2d.vjp(y, indices, **options)

        def back(dy: Array, pulls: Pulls) -> tuple[Tree, Array]:
            if not needs_y:
                return {}, None
            dy, _ = next(pulls)[1](dy)
            grads, dy = next(pulls)[1](dy)
            return grads, next(pulls)[1](dy)[0] if needs_x else None

        pulls = [("pool", pull_pool), ("layers", pull_layers), ("unpool", pull_unpool)]
        return y, JoinedPull(pulls, back)

    def _window(self, x: Array) -> dict:
        """The options by which `max_unpool2d` undoes the pool of x."""
        options = self.pool.options()
        del options["ceil_mode"]
        return {**options, "output_size": tuple(x.shape[2:])}

    def _notes(self) -> tuple[str, ...]:
        return (f"pool={self.pool!r}",)
