"""Several processes train as one: by MPI, which `nox -s parallel` installs."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import parallel_run
import pytest
from parallel_run import HELD, NORMED, X, Y, net

from xpcnn.layers import tree
from xpcnn.optim import SGD
from xpcnn.report import Record
from xpcnn.training import Checkpoints, MpiRanks, parallel
from xpcnn.training.ranks import ALONE
from xpcnn.training.trainer import AUGMENT, MIXING, NOISE, ORDER

SCRIPT = Path(parallel_run.__file__)
LIMIT = 120
"""Seconds: who waits for a rank that is gone waits for ever."""


@pytest.fixture(scope="module")
def mpiexec():
    pytest.importorskip("mpi4py")
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        pytest.skip("mpiexec: there is none")

    def run(ranks, *command, stop=None):
        """`stop` is a folder: when its second checkpoint is there, mpiexec gets a SIGINT."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
        words = [found, "-n", str(ranks), sys.executable, *map(str, command)]
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        with process:
            deadline = time.monotonic() + LIMIT
            while stop and len(Checkpoints(stop).paths()) < 2 and time.monotonic() < deadline:
                time.sleep(0.02)
            if stop:
                process.send_signal(signal.SIGINT)
            try:
                out, err = process.communicate(timeout=LIMIT)
            finally:
                process.kill()  # or leaving the block would wait for it
        return SimpleNamespace(returncode=process.returncode, stdout=out, stderr=err)

    return run


def ended(done, folder, ranks):
    """The figures and the parameters, the same bits on all ranks."""
    assert done.returncode == 0, done.stderr
    files = [dict(np.load(folder / f"{rank}.npz")) for rank in range(ranks)]
    for other in files[1:]:
        for name, array in files[0].items():
            np.testing.assert_array_equal(array, other[name])
    return files[0].pop("figures"), files[0]


def params_of(fitted):
    return {name: np.asarray(array) for name, array in tree.flatten(fitted.params_).items()}


def figures_of(fitted):
    return np.asarray([epoch[1:5] for epoch in fitted.history_], np.float64)


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("case, tolerance", [("plain", 1e-6), ("exact", 1e-12)])
def test_ranks_train_as_one_process_on_the_whole_batch(mpiexec, tmp_path, ranks, case, tolerance):
    """One batch has fewer images than there are ranks."""
    figures, params = ended(mpiexec(ranks, SCRIPT, case, tmp_path), tmp_path, ranks)
    alone = getattr(parallel_run, case)(ALONE, tmp_path)
    np.testing.assert_allclose(figures, figures_of(alone), rtol=10 * tolerance)
    for name, array in params_of(alone).items():
        scale = np.abs(array).max()
        np.testing.assert_allclose(params[name], array, rtol=0, atol=tolerance * scale)


def test_another_library_is_summed_on_the_host(mpiexec, tmp_path):
    pytest.importorskip("array_api_strict")
    _, params = ended(mpiexec(2, SCRIPT, "strict", tmp_path), tmp_path, 2)
    alone = net().fit(X[:128], Y[:128], 1)
    for name, array in params_of(alone).items():
        np.testing.assert_allclose(params[name], array, atol=1e-5)


def test_running_statistics_are_averaged(mpiexec, tmp_path):
    """The mean of the means is that of the whole batch; of the variances, that of the parts'."""
    _, params = ended(mpiexec(2, SCRIPT, "normed", tmp_path), tmp_path, 2)
    whole = params_of(net(NORMED, optimizer=SGD(0.0), batch_size=96).fit(X[:96], Y[:96], 1))
    mean, var = "1.running_mean", "1.running_var"
    np.testing.assert_allclose(params[mean], whole[mean], rtol=1e-5)
    np.testing.assert_allclose(params[var], whole[var], rtol=0.05)
    assert not np.array_equal(params[var], whole[var])


def test_callbacks_are_called_once_and_heeded_by_all(mpiexec, tmp_path):
    figures, _ = ended(mpiexec(3, SCRIPT, "stopped", tmp_path), tmp_path, 3)
    assert len(figures) == 2
    with open(tmp_path / "log.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 2


@pytest.mark.parametrize("case, batches", [("failing", 2), ("killed", 6)])
def test_a_rank_that_dies_ends_the_others(mpiexec, tmp_path, case, batches):
    """Soon, with an error, and what was written stands: the run goes on from there."""
    began = time.monotonic()
    done = mpiexec(3, SCRIPT, case, tmp_path)
    assert done.returncode != 0
    assert time.monotonic() - began < LIMIT / 2
    if case == "failing":
        assert "RuntimeError: this rank fails" in done.stderr
    assert Checkpoints(tmp_path / "run").paths()
    assert not list(tmp_path.glob("*.npz"))
    _, params = ended(mpiexec(3, SCRIPT, "resumed", tmp_path), tmp_path, 3)
    shutil.rmtree(tmp_path / "run")
    _, unbroken = ended(mpiexec(3, SCRIPT, "resumed", tmp_path), tmp_path, 3)
    for name, array in unbroken.items():
        np.testing.assert_array_equal(params[name], array)


def test_a_signal_to_one_rank_ends_all_between_two_batches(mpiexec, tmp_path):
    done = mpiexec(2, SCRIPT, "interrupted", tmp_path)
    assert done.returncode != 0
    told = "xpcnn.training.interrupt.Interrupted: interrupted in epoch 1, after 4 batches of it"
    assert done.stderr.count(told) == 2
    assert [path.name for path in Checkpoints(tmp_path / "run").paths()][-1] == (
        "epoch-00000-batch-0000004.safetensors"
    )


def test_the_command(mpiexec, tmp_path):
    options = ["train", "--model", "classic", "--epochs", 1, "--device", "cpu", "--parallel"]
    done = mpiexec(2, "-m", "xpcnn.cli", *options, "--out", tmp_path / "a.safetensors")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 5  # of one rank alone
    assert Record.read(tmp_path / "a.json").processes == 2
    assert (tmp_path / "a.html").exists()
    assert re.search(r"test accuracy \d\d", done.stdout)
    wrong = mpiexec(2, "-m", "xpcnn.cli", *options, "--out", tmp_path / "absent" / "a")
    assert wrong.returncode != 0
    assert "error: --out" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_the_command_is_stopped_and_goes_on(mpiexec, tmp_path):
    """The signal reaches mpiexec, as from a terminal."""
    options = ["train", "--model", "convnet", "--epochs", 200, "--device", "cpu", "--parallel"]
    files = ["--checkpoints", tmp_path / "run", "--out", tmp_path / "a.safetensors"]
    done = mpiexec(2, "-m", "xpcnn.cli", *options, *files, stop=tmp_path / "run")
    assert done.returncode != 0
    assert re.search(r"interrupted (in|after) epoch \d+", done.stderr), done.stderr
    assert re.search(r"^  mpiexec -n 2 xpcnn train .* --parallel .*--resume$", done.stderr, re.M)
    assert "Abort(1)" not in done.stderr
    last = Checkpoints(tmp_path / "run").paths()[-1].name
    assert last > "epoch-00001-batch-0000000.safetensors"


def test_what_is_drawn_differs_from_rank_to_rank_and_the_order_does_not():
    trainers = []
    for rank in range(2):
        trainer, _ = net().prepare(X, Y)
        feed = replace(trainer.feed, ranks=MpiRanks(OneOf(rank, 2)))
        trainers.append(replace(trainer, feed=feed))
    one, other = (trainer._keys for trainer in trainers)
    assert {use for use in one if one[use] != other[use]} == {NOISE, MIXING, AUGMENT}
    assert one[ORDER] == net().prepare(X, Y)[0]._keys[ORDER]


def test_a_checkpoint_is_of_so_many_ranks(mpiexec, tmp_path):
    net().fit(X, Y, 1, validation=HELD, checkpoints=Checkpoints(tmp_path / "run", every=1))
    done = mpiexec(2, SCRIPT, "resumed", tmp_path)
    assert done.returncode != 0
    assert "its number of ranks was 1 and is 2 now" in done.stderr


# Without MPI


class OneOf:
    """A communicator that is asked for nothing but who this is."""

    def __init__(self, rank, size):
        self.Get_rank, self.Get_size = lambda: rank, lambda: size


@pytest.mark.parametrize("size, count", [(1, 5), (2, 5), (3, 7), (4, 2), (5, 0)])
def test_the_parts_are_the_batch(size, count):
    indices = np.arange(count) * 3
    parts = [MpiRanks(OneOf(rank, size)).part(indices) for rank in range(size)]
    np.testing.assert_array_equal(np.concatenate(parts), indices)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_buckets_hold_all_by_dtype_and_size(monkeypatch):
    monkeypatch.setattr(parallel, "BUCKET", 10)
    flat = {
        "a": np.zeros((3, 3), np.float32), "b": np.zeros(4, np.float32),
        "c": np.zeros(30, np.float32), "d": np.zeros(1, np.float32), "e": np.zeros(2),
        "n": np.zeros((), np.int32),
    }  # fmt: skip
    buckets = list(parallel._buckets(flat))
    assert sorted(name for names in buckets for name in names) == sorted(flat)
    assert list(parallel._buckets(dict(reversed(flat.items())))) == buckets
    for names in buckets:
        assert len({flat[name].dtype for name in names}) == 1
        assert sum(flat[name].size for name in names[1:]) < 10


def test_without_mpi4py_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ImportError, match=r"needs mpi4py and MPI .*pip install \"xpcnn\[mpi\]\""):
        parallel.mpi_ranks().__enter__()
