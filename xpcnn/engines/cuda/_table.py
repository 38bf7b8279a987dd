"""Which kernels there are: every instantiation of every source, by the name that C++ gives it.

Nothing else lists them. The engine asks for a name and its source, the checks compile them all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import product
from typing import NamedTuple

from .._kernels import source

INDICES = ("int", "long long")
NUMBERS = {"half": 2, "bfloat16": 2, "float": 4, "double": 8}
TRAINED = {name: size for name, size in NUMBERS.items() if name != "double"}
"""Those that are worth a kernel of their own; doubles check gradients."""

WORDS = {"unsigned short": 2, "unsigned": 4, "unsigned long long": 8}
UNROLLED = {*TRAINED, *WORDS}

ACTIVATIONS = {
    ("leaky_relu",): "LeakyRelu", ("elu",): "Elu", ("selu",): "Selu", ("sigmoid",): "Sigmoid",
    ("tanh",): "Tanh", ("softplus",): "Softplus", ("hardsigmoid",): "HardSigmoid",
    ("silu",): "Silu", ("mish",): "Mish", ("hardswish",): "HardSwish", ("gelu", "none"): "Gelu",
    ("gelu", "tanh"): "GeluByTanh",
}  # fmt: skip
"""Functions of activations.cu: by the op's name, and those of its options that are words."""

PACK = 16
"""Bytes that one instruction reads or writes at most."""


class Kernel(NamedTuple):
    """A template in a source, what it is instantiated with, and the registers a thread may take."""

    name: str
    file: str
    instances: tuple[tuple[str, ...], ...]
    registers: int = 64

    @property
    def names(self) -> list[str]:
        """The instantiations as C++ writes them."""
        return [f"{self.name}<{', '.join(instance)}>" for instance in self.instances]


def _windowed(types: dict[str, int], unrolled: tuple[int, ...]) -> tuple[tuple[str, ...], ...]:
    """(index, type, lanes, extent or readers): unrolled or in packs where an int can count them."""
    narrow = [
        ("int", name, str(lanes), str(number))
        for name, size in types.items()
        for lanes, number in product(
            (1, PACK // size), (0, *unrolled) if name in UNROLLED else (0,)
        )
    ]
    return (*narrow, *(("long long", name, "1", "0") for name in types))


def _grouped() -> tuple[tuple[str, ...], ...]:
    """(index, type, lanes, extent): packs are of groups of one channel, where 3x3 is depthwise."""
    ways = _windowed(NUMBERS, (3,))
    return tuple(way for way in ways if way[2] == "1" or way[3] == "0")


def _unrolled() -> tuple[tuple[str, ...], ...]:
    """(index, type, lanes, extent): 5x5 in packs would take too many registers."""
    return tuple(
        ("int", name, str(lanes), str(extent))
        for name, size in TRAINED.items()
        for lanes, extent in ((1, 3), (1, 5), (PACK // size, 3))
    )


def _depthwise() -> tuple[tuple[str, ...], ...]:
    """(index, type, strips, lanes, extent)"""
    ways = product(_unrolled(), ("false", "true"))
    return tuple((*kind[:2], strips, *kind[2:]) for kind, strips in ways)


def _parted() -> tuple[tuple[str, ...], ...]:
    """(index, type, extent, strips)"""
    kinds = list(product(("3", "5"), ("false", "true")))
    unrolled = [("int", name, *kind) for name in TRAINED for kind in kinds]
    return (*unrolled, *((index, name, "0", "false") for index in INDICES for name in NUMBERS))


def _each(*choices: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """One of each, in all ways."""
    return tuple(product(*choices))


def _by_channel() -> tuple[tuple[str, ...], ...]:
    """(type, lanes, last): packs along the channels where these are last, else along space."""
    packs = [(name, str(PACK // size)) for name, size in NUMBERS.items()]
    return (
        *((name, "1", "true") for name in NUMBERS),
        *((name, lanes, last) for name, lanes in packs for last in ("true", "false")),
    )


def _by_channel_to() -> tuple[tuple[str, ...], ...]:
    """(type, type of the sums, lanes, last): what is added, and to half precision, what was."""
    added = [(name, name if NUMBERS[name] > 2 else "float", *how) for name, *how in _by_channel()]
    halves = [name for name, size in NUMBERS.items() if size == 2]
    return (*added, *(("float", name, "1", "true") for name in halves))


KERNELS = (
    Kernel("im2col", "im2col.cu", _windowed(WORDS, (3,))),
    Kernel("col2im", "col2im.cu", _windowed(NUMBERS, (1, 2, 3))),
    Kernel("max_pool", "max_pool.cu", _windowed(NUMBERS, (2, 3))),
    Kernel("max_pool_places", "max_pool.cu", _windowed(NUMBERS, (2, 3))),
    Kernel("max_pool_gradient", "max_pool.cu", _windowed(NUMBERS, (1, 2, 3)), 88),
    Kernel("avg_pool", "avg_pool.cu", _windowed(NUMBERS, (2, 3))),
    Kernel("avg_pool_gradient", "avg_pool.cu", _windowed(NUMBERS, (1, 2, 3)), 72),
    Kernel("convolve", "direct.cu", _grouped(), 72),
    Kernel("depthwise", "direct.cu", _depthwise(), 96),
    Kernel("convolve_gradient", "direct.cu", _windowed(NUMBERS, (2,))),
    Kernel("weight_parts", "weight_gradient.cu", _parted(), 104),
    Kernel("weight_sums", "weight_gradient.cu", tuple((name,) for name in NUMBERS), 40),
    Kernel("clip", "clip.cu", _each(NUMBERS), 40),
    Kernel("clip_gradient", "clip.cu", _each(NUMBERS), 40),
    Kernel("activation", "activations.cu", _each(NUMBERS, ACTIVATIONS.values())),
    Kernel("activation_gradient", "activations.cu", _each(NUMBERS, ACTIVATIONS.values())),
    Kernel("dropout", "dropout.cu", _each(NUMBERS, ("false", "true")), 80),
    Kernel("sgd", "optimizers.cu", _each(NUMBERS), 40),
    Kernel("sgd_momentum", "optimizers.cu", _each(NUMBERS), 40),
    Kernel("adam", "optimizers.cu", _each(NUMBERS)),
    Kernel("channel_sums", "channel_sums.cu", _by_channel_to()),
    Kernel("batch_norm_moments", "batch_norm.cu", _by_channel(), 72),
    Kernel("batch_norm_merge", "batch_norm.cu", _each(("float", "double")), 72),
    Kernel("batch_norm", "batch_norm.cu", _by_channel(), 72),
    Kernel("batch_norm_sums", "batch_norm.cu", _by_channel(), 96),
    Kernel("batch_norm_gradient", "batch_norm.cu", _by_channel(), 96),
)

FILES = {name: kernel.file for kernel in KERNELS for name in kernel.names}
"""The source of each instantiation."""

OPTIONS = ("-std=c++17",)
"""For the compiler; CuPy adds the architecture and -ftz=true."""


@cache
def code(file: str) -> str:
    """A source with its headers in it, each once: CuPy's cache does not see what is included."""
    return "".join(_lines(file, set()))


def _lines(file: str, seen: set[str]) -> Iterator[str]:
    for line in source(file).splitlines(keepends=True):
        included = re.match(r'#include "(.+)"', line)
        if not included:
            yield line
        elif included[1] not in seen:
            seen.add(included[1])
            yield from _lines(included[1], seen)
