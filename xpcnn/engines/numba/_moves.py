"""Moving numbers: bytes as they are, vectors of lanes, and squares of vectors turned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._vectors import INT, Vectors


@intrinsic
def copy_bytes(context, to, start, count):
    """Copy `count` bytes between addresses."""

    def generate(context, builder, signature, args):
        pointers = [builder.inttoptr(a, ir.IntType(8).as_pointer()) for a in args[:2]]
        cgutils.raw_memcpy(builder, *pointers, args[2], ir.Constant(args[2].type, 1))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), generate


@intrinsic
def clear_bytes(context, to, count):
    """Set `count` bytes from an address on to zero."""

    def generate(context, builder, signature, args):
        pointer = builder.inttoptr(args[0], ir.IntType(8).as_pointer())
        cgutils.memset(builder, pointer, args[1], 0)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), generate


def _mover(write: Callable) -> Any:
    """An intrinsic on an address, another, a step in bytes and how many lanes are real."""

    @intrinsic
    def move(context, from_, to, step, lanes, like):
        def generate(context, builder, signature, args):
            on = Vectors(builder, like.bitwidth)
            write(on, *args[:3], on.mask(args[3]))
            return context.get_dummy_value()

        return types.void(types.intp, types.intp, types.intp, types.intp, like), generate

    return move


gather = _mover(lambda on, from_, to, step, real: on.store(on.gather(from_, step, real), to))
"""Write a vector of the numbers each `step` bytes, zeros in lanes that are not real."""

move = _mover(lambda on, from_, to, step, real: on.store(on.load(from_, real), to))
"""As `gather` of numbers side by side, whatever the step, at the cost of one load."""

move_real = _mover(lambda on, from_, to, step, real: on.store(on.load(from_, real), to, real))
"""As `move`, but lanes that are not real are left as they are."""


@intrinsic
def transpose(context, from_, from_step, rows, lanes, to, to_step, like):
    """Write row i, lane l of a square of vectors as row l, lane i; only `rows` and `lanes` count.

    Rows are vectors a step of bytes apart; neither `rows` nor `lanes` exceeds a vector's lanes.
    """

    def generate(context, builder, signature, args):
        from_, from_step, rows, lanes, to, to_step, _ = args
        on = Vectors(builder, like.bitwidth)
        numbers = range(on.lanes)

        def masks(lanes: Any, rows: Any) -> list:
            real = on.mask(lanes)
            exists = [builder.icmp_signed("<", INT(i), rows) for i in numbers]
            return [builder.and_(real, on.splat(one)) for one in exists]

        vectors = [
            on.load(on.at(from_, (from_step, i)), mask) for i, mask in enumerate(masks(lanes, rows))
        ]
        for i, (value, mask) in enumerate(
            zip(on.transposed(vectors), masks(rows, lanes), strict=True)
        ):
            on.store(value, on.at(to, (to_step, i)), mask)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 6, like), generate
