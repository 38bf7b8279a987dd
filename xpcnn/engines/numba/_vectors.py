"""Vector instructions, written in LLVM's terms for the registers this processor has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba.core import cgutils

INT, INT32 = ir.IntType(64), ir.IntType(32)


def _registers() -> tuple[int, int]:
    """Bytes in a vector register of this processor, and rows of a tile two vectors wide."""
    features = llvmlite.binding.get_host_cpu_features()
    if features.get("avx512f"):
        return 64, 14  # 28 sums in 32 registers
    return (32 if features.get("avx2") else 16), 6  # 12 sums in 16 registers


VECTOR_BYTES, ROWS = _registers()


class Vectors:
    """Writes loads, stores and sums of vectors of floats of `bits` bits; addresses are integers.

    A vector has as many `lanes` as a register, unless told otherwise.
    """

    def __init__(self, builder: ir.IRBuilder, bits: int, lanes: int | None = None) -> None:
        self.builder = builder
        self.scalar, self.size = (ir.FloatType() if bits == 32 else ir.DoubleType()), bits // 8
        self.lanes = lanes or VECTOR_BYTES // self.size
        self.vector = ir.VectorType(self.scalar, self.lanes)

    def choose(self, number: Any, writers: dict[int, Callable[[], None]]) -> None:
        """Write what each writer writes, and run that of `number` alone."""
        end = self.builder.append_basic_block("end")
        choice = self.builder.switch(number, end)
        for value, write in writers.items():
            with self.builder.goto_block(self.builder.append_basic_block(f"case{value}")):
                choice.add_case(INT(value), self.builder.block)
                write()
                self.builder.branch(end)
        self.builder.position_at_end(end)

    def at(self, start: Any, *steps: tuple[Any, int]) -> Any:
        """The address `start` plus count times step for each (step, count)."""
        for step, count in steps:
            start = self.builder.add(start, self.builder.mul(step, INT(count)))
        return start

    def pointer(self, address: Any, kind: Any) -> Any:
        """An address as a pointer to `kind`."""
        return self.builder.inttoptr(address, kind.as_pointer())

    def splat(self, number: Any) -> Any:
        """A vector of one number."""
        vector = ir.VectorType(number.type, self.lanes)
        first = self.builder.insert_element(ir.Constant(vector, ir.Undefined), number, INT(0))
        return self._shuffle(first, first, [0] * self.lanes)

    def constant(self, number: float) -> Any:
        """A vector of one number that is known now."""
        return ir.Constant(self.vector, [self.scalar(number)] * self.lanes)

    def mask(self, count: Any, skipped: int = 0) -> Any:
        """Which lanes are below `count`, those of `skipped` vectors before being counted too."""
        numbers = [skipped * self.lanes + lane for lane in range(self.lanes)]
        numbers = ir.Constant(ir.VectorType(INT32, self.lanes), numbers)
        return self.builder.icmp_signed("<", numbers, self.splat(self.builder.trunc(count, INT32)))

    def load(self, address: Any, mask: Any = None) -> Any:
        """The vector there; with a mask, only its lanes are read, the others are 0."""
        pointer = self.pointer(address, self.vector)
        if mask is None:
            return self.builder.load(pointer, align=self.size)
        zero = ir.Constant(self.vector, None)
        align = INT32(self.size)
        return self._call("masked.load", self.vector, pointer, align, mask, zero)

    def prefetch(self, address: Any) -> None:
        """Ask for the line there, without waiting for it; the address need not be valid."""
        args = [
            self.pointer(address, ir.IntType(8)),
            INT32(0),
            INT32(2),
            INT32(1),
        ]  # to read, into L2, as data
        kind = ir.FunctionType(ir.VoidType(), [arg.type for arg in args])
        name = "llvm.prefetch.p0"
        self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), args)

    def gather(self, address: Any, step: Any, mask: Any) -> Any:
        """One number each `step` bytes from the address on, as a vector."""
        pointers, zero = self._pointers(address, step), ir.Constant(self.vector, None)
        align = INT32(self.size)
        return self._call("masked.gather", self.vector, pointers, align, mask, zero)

    def store(self, value: Any, address: Any, mask: Any = None) -> None:
        """Write the lanes of the mask."""
        pointer, align = self.pointer(address, self.vector), INT32(self.size)
        if mask is None:
            self.builder.store(value, pointer, align=self.size)
        else:
            self._call("masked.store", ir.VoidType(), value, pointer, align, mask)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """a * b + c, rounded once where the processor can."""
        return self._call("fmuladd", self.vector, a, b, c)

    def transposed(self, rows: list) -> list:
        """As many vectors as they have lanes, turned: lane l of row i becomes lane i of row l."""
        rows, lanes = list(rows), range(self.lanes)
        for half in (1 << bit for bit in range(self.lanes.bit_length() - 1)):
            # between rows i and i + half, the squares off the diagonal change places
            low = [lane + self.lanes - half if lane & half else lane for lane in lanes]
            high = [lane + self.lanes if lane & half else lane + half for lane in lanes]
            for i in (i for i in lanes if not i & half):
                pair = rows[i], rows[i + half]
                rows[i], rows[i + half] = (self._shuffle(*pair, order) for order in (low, high))
        return rows

    def _shuffle(self, a: Any, b: Any, order: list[int]) -> Any:
        """The lanes of a, then b, by their numbers."""
        numbers = ir.Constant(ir.VectorType(INT32, self.lanes), order)
        return self.builder.shuffle_vector(a, b, numbers)

    def _pointers(self, address: Any, step: Any) -> Any:
        numbers = ir.Constant(ir.VectorType(INT, self.lanes), list(range(self.lanes)))
        offsets = self.builder.mul(numbers, self.splat(step))
        addresses = self.builder.add(self.splat(address), offsets)
        kind = ir.VectorType(self.scalar.as_pointer(), self.lanes)
        return self.builder.inttoptr(addresses, kind)

    def _call(self, name: str, result: Any, *args: Any) -> Any:
        pointer = {"load": ".p0", "store": ".p0", "gather": f".v{self.lanes}p0"}
        suffix = pointer[name.partition(".")[2]] if "masked" in name else ""
        name = f"llvm.{name}.v{self.lanes}f{8 * self.size}{suffix}"
        kind = ir.FunctionType(result, [arg.type for arg in args])
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(function, args)
