"""What a model is and costs, layer by layer: `Layer.summary`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

import numpy as np

from ... import ops
from ..._check import is_int, kind_of, require_count
from .. import tree
from ..base import Layer, Shape, require_input
from ._rehearsal import Seen, rehearse, trained_bytes

HEAD = (
    "name", "output", "parameters", "multiply-adds", "activations", "kept", "field", "stride",
    "layer",
)  # fmt: skip
TEXTS = (0, 1, 8)
"""The columns that are no numbers."""

MANY = 2**14
"""So many numbers no engine leaves to NumPy."""


@dataclass(frozen=True)
class Row:
    """A layer of a model, by its dotted name.

    `multiply_adds` are those of one sample. Of the whole batch are `activation_bytes`, the output's
    in inference, 0 where it is the input's memory, and `kept_bytes`, what training holds for
    gradients from this layer on, and no layer before. `receptive_field` tells how many places of
    the model's input an output sees along each axis of space, None if all, and `stride` how far
    apart what neighbours see lies.
    """

    name: str
    layer: str
    out_shape: Shape
    parameters: int
    multiply_adds: int
    activation_bytes: int
    kept_bytes: int
    receptive_field: tuple[int, ...] | None
    stride: tuple[int | Fraction, ...] | None

    def cells(self) -> tuple[str, ...]:
        """What stands under `HEAD`."""
        return (
            self.name, "x".join(map(str, self.out_shape)), f"{self.parameters:,}",
            f"{self.multiply_adds:,}", in_bytes(self.activation_bytes), in_bytes(self.kept_bytes),
            _per_axis(self.receptive_field, "all"), _per_axis(self.stride, "-"), self.layer,
        )  # fmt: skip


@dataclass(frozen=True)
class Summary:
    """What a model is and costs for a batch of `batch_size`: print it for a table.

    `parameter_bytes` are those of weights and buffers, `kept_bytes` all that training holds when
    the gradients begin. `inference_bytes` and `training_bytes` are the most that lives at once,
    parameters and batch among it, in training gradients and the optimizer's averages as well.
    """

    rows: tuple[Row, ...]
    in_shape: Shape
    batch_size: int
    dtype: str
    parameter_bytes: int
    kept_bytes: int
    inference_bytes: int
    training_bytes: int

    @property
    def parameters(self) -> int:
        """How many numbers the weights hold."""
        return sum(row.parameters for row in self.rows)

    @property
    def multiply_adds(self) -> int:
        """Those of one sample."""
        return sum(row.multiply_adds for row in self.rows)

    @property
    def activation_bytes(self) -> int:
        """All layers' outputs together."""
        return sum(row.activation_bytes for row in self.rows)

    def totals(self) -> tuple[str, ...]:
        """What stands below the table, line by line."""
        shape = "x".join(map(str, (self.batch_size, *self.in_shape)))
        return (
            f"{self.parameters:,} parameters, {self.multiply_adds:,} multiply-adds for each sample",
            f"memory for {shape} in {self.dtype}: at most {in_bytes(self.inference_bytes)} in "
            f"inference, {in_bytes(self.training_bytes)} in training; of these, parameters and "
            f"buffers {in_bytes(self.parameter_bytes)}",
        )

    def __str__(self) -> str:
        lines = [HEAD, *(row.cells() for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join((*(_aligned(line, widths) for line in lines), *self.totals()))


def summarize(
    model: Layer, in_shape: Sequence[int], batch_size: int, dtype: str, averages: int
) -> Summary:
    """Do what `Layer.summary` tells."""
    require_input("summary", in_shape, dtype)
    require_count("summary", "batch_size", batch_size)
    if not is_int(averages) or averages < 0:
        raise kind_of([averages])(f"summary: averages={averages!r}; give an int of at least 0")
    zero, kernels, in_shape = np.zeros((), dtype), _has_kernels(), tuple(in_shape)
    params = tree.map(lambda one: np.broadcast_to(zero, one.shape), model.plan(in_shape)[0])
    seen = rehearse(model, params, in_shape, dtype, batch_size, kernels)
    trained = trained_bytes(model, params)
    before = seen.training + averages * sum(trained)
    after = seen.batch + _update(trained, averages, kernels)
    held = sum(array.nbytes for array in tree.leaves(params))
    return Summary(
        tuple(_row(name, one) for name, one in seen.seen.items()), in_shape, batch_size, dtype,
        held, seen.kept, held + seen.inference, held + max(before, after),
    )  # fmt: skip


def _update(trained: list[int], averages: int, kernels: bool) -> int:
    """Bytes of an optimizer's step beyond the weights: gradients, new weights, averages twice.

    Array API code has as many arrays in between as there are averages, one at least.
    """
    between = 0 if kernels else max(1, averages) * max(trained, default=0)
    return (2 + 2 * averages) * sum(trained) + between


def _has_kernels() -> bool:
    """Whether an engine in force normalises by a kernel, in place of Array API code."""
    x, statistics = np.zeros((1, 1, MANY), np.float32), np.ones(1, np.float32)
    return bool(ops.explain(lambda: ops.batch_norm(x, statistics, statistics)))


def _row(name: str, seen: Seen) -> Row:
    weights, _ = tree.partition(seen.params)
    fields = seen.fields
    return Row(
        name, " ".join(repr(seen.layer).split()), seen.out_shape,
        sum(array.size for array in tree.leaves(weights)),
        seen.layer.multiply_adds(seen.in_shape, seen.out_shape), seen.made, seen.kept,
        None if fields is None else tuple(ceil(field.size) for field in fields),
        None if fields is None else tuple(_whole(field.stride) for field in fields),
    )  # fmt: skip


def _whole(number: Fraction) -> int | Fraction:
    return number.numerator if number.denominator == 1 else number


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    columns = enumerate(zip(cells, widths, strict=True))
    padded = (cell.ljust(n) if i in TEXTS else cell.rjust(n) for i, (cell, n) in columns)
    return "  ".join(padded).rstrip()


def _per_axis(numbers: Sequence[int | Fraction] | None, none: str) -> str:
    """Such as 5, or 5x3 where axes differ."""
    if not numbers:
        return none if numbers is None else "-"
    return "x".join(map(str, numbers[:1] if len(set(numbers)) == 1 else numbers))


def in_bytes(count: int) -> str:
    """Bytes to be read: three digits, and a binary unit.

    >>> in_bytes(0), in_bytes(1000), in_bytes(3 * 2**20), in_bytes(1000 * 2**20)
    ('0', '1000 B', '3.00 MiB', '1000 MiB')
    """
    size, unit = float(count), 0
    while size >= 1024:
        size, unit = size / 1024, unit + 1
    if not unit:
        return f"{count} B" if count else "0"
    return f"{size:.{max(0, 3 - len(str(int(size))))}f} {'KMGTPE'[unit - 1]}iB"
