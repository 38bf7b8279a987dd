"""Checkpoints: all that going on with a training run takes, as safetensors files in a folder.

A file holds the parameters, the optimizer's state and the figures of the epoch under way, bit for
bit; its text holds the history and the settings of the run. Random numbers need no state: they
follow from the seed, the step and the epoch.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from .._check import require_count
from .._xp import Device, to_numpy
from ..io.tensors import read_tensors, write_tensors
from ..layers import tree
from .history import Epoch, History
from .loop import Figures, Run
from .ranks import Ranks

FORMAT = 1
NAME = "epoch-{:05d}-batch-{:07d}.safetensors"
NUMBERS = re.compile(r"\d+")
OURS = re.compile(r"epoch-\d+-batch-\d+\.safetensors")
LEFT_OVER = re.compile(r"\.[0-9a-f]{16}\.tmp")  # of a run that was killed while it wrote


@dataclass(frozen=True)
class Checkpoints:
    """A folder with the checkpoints of one run, of which the last `keep` stay.

    One is written after each epoch and, with `every`, after each so many batches.

    >>> import tempfile, xpcnn
    >>> x, y = xpcnn.data.digits().train
    >>> def net(): return xpcnn.Classifier(xpcnn.models.classic(), device="cpu")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = net().fit(x, y, epochs=1, checkpoints=Checkpoints(folder))
    ...     more = net().fit(x, y, epochs=2, checkpoints=Checkpoints(folder), resume=True)
    >>> bool((more.predict(x) == net().fit(x, y, epochs=2).predict(x)).all())
    True
    """

    folder: str | os.PathLike[str]
    keep: int = 3
    every: int | None = None

    def __post_init__(self) -> None:
        require_count("Checkpoints", "keep", self.keep)
        if self.every is not None:
            require_count("Checkpoints", "every", self.every)

    def due(self, run: Run) -> bool:
        """Whether the run has come to where one is written."""
        batches = run.figures.batches
        return not batches or (self.every is not None and batches % self.every == 0)

    def paths(self) -> list[Path]:
        """The checkpoints that are there, the latest last."""
        ours = (path for path in self._files() if OURS.fullmatch(path.name))
        return sorted(ours, key=lambda path: [int(number) for number in NUMBERS.findall(path.name)])

    def prepare(self) -> None:
        """Make the folder if need be, and clear away what a killed run left half-written.

        Raises OSError where no file can be written there.
        """
        folder = Path(self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(f"checkpoints: {folder} is no folder that one can write to")
        for path in self._files():
            if LEFT_OVER.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def write(self, run: Run, settings: Mapping[str, str]) -> Path:
        """Write a checkpoint, whole or not at all, and then delete all but the last ones.

        Raises OSError where it cannot be written and FloatingPointError for parameters that are not
        finite, with which no run can go on; those before it then stand.
        """
        path = Path(self.folder) / NAME.format(run.epoch - 1, run.figures.batches)
        parts = {"params": run.params, "state": run.state, "best": run.best}
        flat = tree.flatten(parts | {"figures": asdict(run.figures)})
        arrays = {name: to_numpy(leaf) for name, leaf in flat.items() if hasattr(leaf, "dtype")}
        for name, array in arrays.items():
            if name.startswith("params.") and not np.isfinite(array).all():
                raise FloatingPointError(
                    f"checkpoint {path}: {name} holds NaN or infinity, so it is not written; lower "
                    "the learning rate, and go on from those before it"
                )
        about = {
            "checkpoint": FORMAT,
            "xpcnn": __version__,
            "settings": dict(settings),
            "history": [list(epoch) for epoch in run.history],
            "numbers": {name: leaf for name, leaf in flat.items() if name not in arrays},
        }
        try:
            write_tensors(path, arrays, json.dumps(about))
        except OSError as error:
            raise OSError(
                error.errno, f"checkpoint {path}: {error.strerror}; those before it stand"
            ) from error
        for old in self.paths()[: -self.keep]:
            old.unlink(missing_ok=True)
        return path

    def begin(
        self, place: Device, settings: Mapping[str, str], resume: bool, ranks: Ranks
    ) -> Run | None:
        """Make ready for a run: the one to go on with, or None to begin anew.

        Raises ValueError where checkpoints would be mixed up with those of an earlier run.
        """
        if self.paths() and not resume:
            raise ValueError(
                f"checkpoints: {self.folder} holds those of an earlier run; go on with "
                "resume=True (--resume), or give another folder"
            )
        if ranks.rank == 0:
            self.prepare()
        run = self.read(self.paths()[-1], place, settings) if self.paths() else None
        here = np.asarray([run.epoch, run.figures.batches] if run else [0, 0])
        if ranks.any(bool((ranks.sum({"here": here})["here"] != ranks.size * here).any())):
            raise ValueError(
                f"checkpoints: the ranks see different ones in {self.folder}; give a folder that "
                "all of them share"
            )
        return run

    def read(self, path: Path, place: Device, settings: Mapping[str, str]) -> Run:
        """The run that a checkpoint tells of, its arrays on a device.

        Raises ValueError for a damaged file, one of another format, or of a run with other
        settings, telling which they are.
        """
        arrays, text = read_tensors(path, "checkpoint")
        about = _parse(path, text)
        _require_same_run(path, about["settings"], settings)
        moved = {name: place.asarray(array, array.dtype.name) for name, array in arrays.items()}
        whole = tree.unflatten(about["numbers"] | moved)
        history = History(tuple(Epoch(*epoch) for epoch in about["history"]))
        figures = Figures(**whole["figures"])
        return Run(whole["params"], whole["state"], history, figures, whole.get("best", {}))

    def _files(self) -> list[Path]:
        folder = Path(self.folder)
        return list(folder.iterdir()) if folder.is_dir() else []


def _parse(path: Path, text: str | None) -> dict[str, Any]:
    about = json.loads(text or "{}")
    if about.get("checkpoint", FORMAT) != FORMAT:
        raise ValueError(
            f"{path}: its format is {about['checkpoint']}, and this version of xpcnn reads "
            f"{FORMAT}; go on with xpcnn {about.get('xpcnn')}, or give another folder"
        )
    if missing := {"checkpoint", "settings", "history", "numbers"} - about.keys():
        raise ValueError(f"{path}: is no checkpoint, or damaged: it lacks {min(missing)!r}")
    return about


def _require_same_run(path: Path, there: Mapping[str, str], here: Mapping[str, str]) -> None:
    differing = [name for name in here if there.get(name) != here[name]]
    if differing:
        name = differing[0]
        more = f" (as do {', '.join(differing[1:])})" if differing[1:] else ""
        was, now = _parting(there.get(name, "not told"), here[name])
        raise ValueError(
            f"{path} is of another run: its {name} was {was} and is {now} now{more}; go on as it "
            "began, or give another folder"
        )


def _parting(was: str, now: str) -> tuple[str, str]:
    """Where two texts part: the first lines that differ."""
    lines = zip_longest(was.splitlines(), now.splitlines(), fillvalue="shorter")
    one, other = next(pair for pair in lines if pair[0] != pair[1])
    return one.strip(), other.strip()
