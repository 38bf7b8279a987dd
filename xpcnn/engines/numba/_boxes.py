"""What an output makes of the box of entries that it reads: the average, the maximum, a gradient.

A box is a list of `count` pairs of offsets from where it starts: bytes, and whatever is walked
through beside. Addresses are integers. What is gathered stays in vector registers, whose lanes are
channels, and is written once; loops of Numba's own would go through memory at every entry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._vectors import INT, Vectors

VECTORS = 4
"""Vectors gathered at once, where there are as many channels."""

LONG = 8
"""Bytes of an offset and of an index."""


@intrinsic
def average(context, channels, count, offsets, x, divisor, y):
    """Write the sum of a box of x, divided, to y."""

    def generate(context, builder, signature, args):
        *box, x, divisor, y = args
        vectors = Vectors(builder, signature.args[4].bitwidth)

        def visit(state, at, lane, mask):
            return [builder.fadd(state[0], _load(vectors, at[0], lane, mask))]

        def write(state, lane, mask):
            _store(vectors, builder.fdiv(state[0], vectors.splat(divisor)), y, lane, mask)

        _gather(vectors, *box, [x], [vectors.constant(0.0)], visit, write)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 4, divisor, types.intp), generate


def _maximum(indexed: bool) -> Any:
    @intrinsic
    def maximum(context, channels, count, offsets, x, place, least, y, indices):
        def generate(context, builder, signature, args):
            *box, x, place, least, y, indices = args
            vectors, integers = _vectors(builder, signature.args[5])

            def visit(state, at, lane, mask):
                value, best = _load(vectors, at[0], lane, mask), state[0]
                larger_or_nan = builder.fcmp_unordered(">", value, best)
                new = builder.and_(larger_or_nan, builder.fcmp_ordered("ord", best, best))
                offered = [value, vectors.splat(at[1])][: len(state)]
                return [builder.select(new, *pair) for pair in zip(offered, state, strict=True)]

            def write(state, lane, mask):
                _store(vectors, state[0], y, lane, mask)
                if indexed:
                    bits = builder.bitcast(state[1], integers.vector)
                    _store(integers, bits, indices, lane, mask)

            initial = [vectors.splat(least), vectors.splat(place)][: 1 + indexed]
            _gather(vectors, *box, [x, place], initial, visit, write)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 5, least, types.intp, types.intp), generate

    return maximum


maximum = _maximum(indexed=False)
"""Write the maximum of a box of x to y: NaN if there is one, `least` if there is nothing."""

maximum_and_index = _maximum(indexed=True)
"""The same, and to `indices` its place, walked through beside: of several the first."""


@intrinsic
def chosen(context, channels, count, offsets, dy, indices, place, zero, dx):
    """Write the sum of those in a box of dy whose index is `place` to dx."""

    def generate(context, builder, signature, args):
        *box, dy, indices, place, zero, dx = args
        vectors, integers = _vectors(builder, signature.args[6])

        def visit(state, at, lane, mask):
            bits = _load(integers, at[1], lane, mask)
            index = builder.bitcast(bits, ir.VectorType(INT, integers.lanes))
            here = builder.icmp_signed("==", index, vectors.splat(place))
            total = builder.fadd(state[0], _load(vectors, at[0], lane, mask))
            return [builder.select(here, total, state[0])]

        def write(state, lane, mask):
            _store(vectors, state[0], dx, lane, mask)

        _gather(vectors, *box, [dy, indices], [vectors.splat(zero)], visit, write)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 6, zero, types.intp), generate


def _vectors(builder: ir.IRBuilder, number: types.Float) -> tuple[Vectors, Vectors]:
    """Vectors of numbers, and of the bits of as many integers."""
    vectors = Vectors(builder, number.bitwidth)
    return vectors, Vectors(builder, 8 * LONG, vectors.lanes)


def _load(vectors: Vectors, start: Any, lane: Any, mask: Any) -> Any:
    return vectors.load(vectors.at(start, (lane, vectors.size)), mask)


def _store(vectors: Vectors, value: Any, start: Any, lane: Any, mask: Any) -> None:
    vectors.store(value, vectors.at(start, (lane, vectors.size)), mask)


def _gather(
    vectors: Vectors, channels: Any, count: Any, offsets: Any, starts: list, initial: list,
    visit: Callable, write: Callable,
) -> None:  # fmt: skip
    """For each vector of channels, `write` what visiting a box makes of an `initial` state.

    A state is a list of vectors. `visit(state, at, lane, mask)` returns the next one: `at` are the
    starts and an entry's offsets, added; `lane` is the first channel, `mask` None or the real ones.
    """
    builder = vectors.builder

    def block(first: Any, many: int, mask: Any) -> None:
        lanes = [builder.add(first, INT(v * vectors.lanes)) for v in range(many)]
        states = [[cgutils.alloca_once_value(builder, i) for i in initial] for _ in lanes]
        with cgutils.for_range(builder, count) as loop:
            pair = vectors.at(offsets, (loop.index, 2 * LONG))
            addresses = [vectors.at(pair, (INT(LONG), beside)) for beside in range(len(starts))]
            moves = [builder.load(vectors.pointer(address, INT)) for address in addresses]
            at = [builder.add(*both) for both in zip(starts, moves, strict=True)]
            for state, lane in zip(states, lanes, strict=True):
                after = visit([builder.load(register) for register in state], at, lane, mask)
                for value, register in zip(after, state, strict=True):
                    builder.store(value, register)
        for state, lane in zip(states, lanes, strict=True):
            write([builder.load(register) for register in state], lane, mask)

    _blocks(vectors, channels, block)


def _blocks(vectors: Vectors, channels: Any, block: Callable) -> None:
    """Call `block(first channel, vectors, mask)` until all channels are done."""
    builder, many = vectors.builder, INT(VECTORS * vectors.lanes)
    whole = builder.udiv(channels, many)
    with cgutils.for_range(builder, whole) as loop:
        block(builder.mul(loop.index, many), VECTORS, None)
    done = builder.mul(whole, many)
    rest = builder.add(builder.sub(channels, done), INT(vectors.lanes - 1))
    with cgutils.for_range(builder, builder.udiv(rest, INT(vectors.lanes))) as loop:
        first = vectors.at(done, (loop.index, vectors.lanes))
        block(first, 1, vectors.mask(builder.sub(channels, first)))
