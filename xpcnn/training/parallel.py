"""Training on several processes at once, each with its part of every batch, by MPI.

    with mpi_ranks() as ranks:  # mpiexec -n 4 python train.py
        net.fit(x, y, ranks=ranks)

Every process runs the same program on the same data. Gradients, running statistics, loss and
correct answers are added up over the processes in each step, weighed by their images, so that all
hold the same parameters, those that one process would have, to rounding. (Batch normalisation
normalises each process's part by its own statistics; masks of dropout and mixtures of images are
drawn for each.)
NumPy's arrays are summed by MPI, CuPy's by NCCL, those of other libraries on the host.

Source: MPI, https://www.mpi-forum.org, by mpi4py; Goyal et al., "Accurate, large minibatch SGD",
2017.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import accumulate, groupby
from typing import Any

import numpy as np

from .._xp import Array, Device, device_of, library, namespace, product, to_numpy
from .._xp import device as find_device
from ..layers import tree
from ..layers.tree import Tree
from .interrupt import Interrupted
from .ranks import Ranks

BUCKET = 1 << 22
"""Numbers that are summed at once: few messages, and little memory beside the gradients."""


class MpiRanks(Ranks):
    """The processes of an MPI communicator, `comm`; `local` is the number on its own machine."""

    def __init__(self, comm: Any, local: int = 0) -> None:
        self._comm, self._local = comm, local
        self.rank, self.size = comm.Get_rank(), comm.Get_size()

    def device(self, spec: str | Device) -> Device:
        """Find this rank's device by name; a machine's GPUs are dealt out to the ranks on it.

        Raises RuntimeError where some ranks have a GPU and others none.
        """
        found = find_device(spec)
        if self.any(found.library == "cupy") and found.library != "cupy":
            raise RuntimeError(
                f"rank {self.rank} has no GPU, and others have; give a device for all"
            )
        if found.library != "cupy":
            return found
        if spec in ("auto", "cuda"):
            from cupy.cuda.runtime import getDeviceCount

            found = find_device(f"cuda:{self._local % getDeviceCount()}")
        found.handle.use()  # where NCCL, too, allocates
        return found

    def part(self, indices: np.ndarray) -> np.ndarray:
        count = len(indices)
        return indices[count * self.rank // self.size : count * (self.rank + 1) // self.size]

    def sum(self, arrays: Tree) -> Tree:
        flat = tree.flatten(arrays)
        added: dict[str, Array] = {}
        for names in _buckets(flat):
            shapes = [tuple(flat[name].shape) for name in names]
            bucket = self._sum_of(_joined([flat[name] for name in names]))
            added.update(zip(names, _parted(bucket, shapes), strict=True))
        return tree.unflatten({name: added[name] for name in flat})

    def any(self, flag: bool) -> bool:
        return bool(self._on_host(np.asarray([flag], np.int32))[0])

    def _sum_of(self, bucket: Array) -> Array:
        kind = library(bucket)
        if kind == "cupy":
            total = namespace(bucket).empty_like(bucket)
            self._nccl.all_reduce(bucket, total)
            return total
        total = self._on_host(to_numpy(bucket))
        if kind == "numpy":
            return total
        return namespace(bucket).asarray(total, device=device_of(bucket))

    def _on_host(self, bucket: np.ndarray) -> np.ndarray:
        total = np.empty_like(bucket)
        self._comm.Allreduce(np.ascontiguousarray(bucket), total)
        return total

    @cached_property
    def _nccl(self) -> Any:
        """NCCL among the processes' GPUs: made when it is first needed, for it takes memory."""
        from cupyx.distributed import init_process_group

        return init_process_group(self.size, self.rank, use_mpi=True)


@contextmanager
def mpi_ranks(tell: Callable[[Any], None] = traceback.print_exception) -> Iterator[MpiRanks]:
    """The processes that mpiexec started, for `Classifier.fit(..., ranks=...)`.

    An error in one, for which the others would wait in vain, is told and ends all of them with exit
    status 1. Raises ImportError where mpi4py (the extra `mpi`) or an MPI library is missing.

    Source: mpi4py, https://mpi4py.readthedocs.io.
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: there is no MPI library
        raise ImportError(
            f'training in parallel needs mpi4py and MPI ({error}): pip install "xpcnn[mpi]" mpich'
        ) from error
    try:
        local = MPI.COMM_WORLD.Split_type(MPI.COMM_TYPE_SHARED).Get_rank()
        yield MpiRanks(MPI.COMM_WORLD, local)
    except Interrupted:  # which all ranks raise
        raise
    except BaseException as error:
        tell(error)
        sys.stderr.flush()
        time.sleep(0.2)  # mpiexec passes on what was said, and then ends all
        MPI.COMM_WORLD.Abort(1)
        raise


def _buckets(flat: dict[str, Array]) -> Iterator[list[str]]:
    """Names of arrays to sum at once: of one dtype, and of about `BUCKET` numbers."""
    by_dtype: dict[str, list[str]] = {}
    for name in sorted(flat):  # the same order on all ranks
        by_dtype.setdefault(str(flat[name].dtype), []).append(name)
    for names in by_dtype.values():
        ends = accumulate(product(flat[name].shape) for name in names)
        for _, bucket in groupby(zip(names, ends, strict=True), lambda pair: pair[1] // BUCKET):
            yield [name for name, _ in bucket]


def _joined(arrays: list[Array]) -> Array:
    xp = namespace(arrays[0])
    return xp.concat([xp.reshape(array, (-1,)) for array in arrays])


def _parted(bucket: Array, shapes: list[tuple[int, ...]]) -> Iterator[Array]:
    xp, stop = namespace(bucket), 0
    for shape in shapes:
        start, stop = stop, stop + product(shape)
        yield xp.reshape(bucket[start:stop], shape)
