"""The one inner loop of all convolutions: a tile of sums of products, held in vector registers.

    c[p, l] = init[p, l] + sum over runs r and k of a[p, r, k] * b[r, k, l]

for p in a few rows (output pixels, or kernel places) and l in one or two vectors of lanes
(channels).
Numba would not keep such a block in registers, so the loop is written in LLVM's own terms: each
number loaded takes part in many products, and no product is stored.

Source: Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", 2008.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from ._vectors import INT, ROWS, VECTOR_BYTES, Vectors

VECTORS = 2
BLOCK_BYTES = VECTORS * VECTOR_BYTES
"""Bytes of a tile's lanes."""


LONG = 128
"""Products that a tile should sum at most: of longer sums the digits suffer."""

UNROLLED, FEW_ROWS = 4, 8
"""Products of a sum that are written out one after another, where there are but few rows: finding
the addresses would cost as much as they do. With more rows, registers would not suffice."""


def _tile(each_lane: bool, ahead: bool) -> Any:
    """A tile whose `a` is one number for all lanes, or a number for each lane.

    One that looks `ahead` asks for its results' lines before it begins, and for the line
    `fetch_step` bytes further with each product.
    """

    @intrinsic
    def tile(
        context, rows, a, a_row, a_step, b, b_step, runs, n_runs, length, init, init_row, c, c_row,
        lanes, zero, fetch, fetch_step,
    ):  # fmt: skip
        def generate(context, builder, signature, args):
            rows, *rest, _, fetch, fetch_step = args
            on = Vectors(builder, zero.bitwidth)
            fetched = (fetch, fetch_step) if ahead else None
            wide = builder.icmp_signed(">", rest[-1], INT(on.lanes))
            number = builder.add(rows, builder.select(wide, INT(ROWS), INT(0)))
            writers = {
                rows + ROWS * (vectors - 1): partial(
                    _write, on, rows, vectors, each_lane, fetched, *rest
                )
                for vectors in range(1, VECTORS + 1)
                for rows in range(1, ROWS + 1)
            }
            on.choose(number, writers)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 14, zero, types.intp, types.intp), generate

    return tile


_plain, _of_lanes = _tile(each_lane=False, ahead=False), _tile(each_lane=True, ahead=False)


@njit
def tile(
    rows, a, a_row, a_step, b, b_step, runs, n_runs, length, init, init_row, c, c_row, lanes, zero
):
    """The tile of products of matrices: `a` is broadcast over the lanes.

    All arguments are integers but `zero`, which tells the entries' type; addresses, and steps
    between rows, between k and in `runs`, count bytes. `runs` is the address of (a offset, b
    offset) pairs, `lanes` how many lanes are real: the others are not written. `b` must be readable
    in all lanes of the vectors they begin.
    """
    _plain(
        rows, a, a_row, a_step, b, b_step, runs, n_runs, length, init, init_row, c, c_row, lanes,
        zero, 0, 0,
    )  # fmt: skip


tile_ahead = _tile(each_lane=False, ahead=True)
"""As `tile`, while memory is on its way: the processor asks for the lines that it will write, and
with each product for one that the next tiles need, from `fetch` on, `fetch_step` bytes apart."""


@njit
def tile_of_lanes(
    rows, a, a_row, a_step, b, b_step, runs, n_runs, length, init, init_row, c, c_row, lanes, zero
):
    """The same for channels apart: lane l of `a` meets lane l of `b`."""
    _of_lanes(
        rows, a, a_row, a_step, b, b_step, runs, n_runs, length, init, init_row, c, c_row, lanes,
        zero, 0, 0,
    )  # fmt: skip


def _write(
    on: Vectors, rows: int, vectors: int, each_lane: bool, fetched, a, a_row, a_step, b, b_step,
    runs, n_runs, length, init, init_row, c, c_row, lanes,
) -> None:  # fmt: skip
    builder, vector = on.builder, INT(VECTOR_BYTES)
    at_once = UNROLLED if rows <= FEW_ROWS else 1
    places = [(p, v) for p in range(rows) for v in range(vectors)]
    masks = [on.mask(lanes, v) for v in range(vectors)]
    sums = {place: cgutils.alloca_once(builder, on.vector) for place in places}
    for total in sums.values():
        builder.store(on.constant(0.0), total)

    if fetched:
        for p, v in places:
            on.prefetch(on.at(c, (c_row, p), (vector, v)))

    def multiply(a_run: Any, b_run: Any, k: Any) -> None:
        a_k = builder.add(a_run, builder.mul(k, a_step))
        b_k = builder.add(b_run, builder.mul(k, b_step))
        right = [on.load(on.at(b_k, (vector, v))) for v in range(vectors)]
        if fetched:
            on.prefetch(builder.add(fetched[0], builder.mul(k, fetched[1])))
        for p in range(rows):
            a_p = on.at(a_k, (a_row, p))
            if each_lane:
                left = [on.load(on.at(a_p, (vector, v)), masks[v]) for v in range(vectors)]
            else:
                left = [on.splat(builder.load(on.pointer(a_p, on.scalar)))] * vectors
            for v in range(vectors):
                total = on.multiply_add(left[v], right[v], builder.load(sums[p, v]))
                builder.store(total, sums[p, v])

    with cgutils.for_range(builder, n_runs) as run:
        pair = on.at(runs, (run.index, 16))
        a_run = builder.add(a, builder.load(on.pointer(pair, INT)))
        b_run = builder.add(b, builder.load(on.pointer(on.at(pair, (INT(8), 1)), INT)))
        whole = builder.sub(length, builder.urem(length, INT(at_once)))
        with cgutils.for_range_slice(builder, INT(0), whole, INT(at_once), INT) as (k, _):
            for more in range(at_once):
                multiply(a_run, b_run, on.at(k, (INT(1), more)))
        if at_once > 1:
            with cgutils.for_range_slice(builder, whole, length, INT(1), INT) as (k, _):
                multiply(a_run, b_run, k)

    def total_at(p: int, v: int) -> Any:
        start = on.load(on.at(init, (init_row, p), (vector, v)), masks[v])
        return builder.fadd(builder.load(sums[p, v]), start)

    # rows of one vector may lie so close that a load after the store beside it would wait for it
    for together in [places] if vectors == 1 else [[place] for place in places]:
        for value, (p, v) in [(total_at(*place), place) for place in together]:
            on.store(value, on.at(c, (c_row, p), (vector, v)), masks[v])
