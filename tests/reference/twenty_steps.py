"""Twenty training steps by PyTorch, the reference of test_equality.py.

    python tests/reference/twenty_steps.py       # writes twenty_steps.npz beside this file

All is float64 and nothing is drawn at random: `weights` are the initial ones by name, `batches` are
pairs (images, labels).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

STEPS, BATCH, IMAGE, CLASSES = 20, 8, (2, 9, 8), 5
STORED = Path(__file__).with_suffix(".npz")
Arrays = dict[str, np.ndarray]


def network(nn: Any) -> Any:
    """Convolutions have no bias before BatchNorm: its gradient is zero, and Adam blows up noise."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(6, CLASSES),
    )


OPTIMIZERS = {
    "sgd": ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    "adam": ("Adam", {"lr": 0.01}),
}
"""Name and options, the same in torch.optim and xpcnn.optim."""


def batches() -> list[tuple[np.ndarray, np.ndarray]]:
    """Noise, brighter in the column that the label tells; no two pixels tie.

    The raw stream of a NumPy bit generator is promised to stay as it is.
    """
    shape = (STEPS, BATCH, *IMAGE)
    raw = np.random.PCG64(0).random_raw((int(np.prod(shape)),))
    images = ((raw >> np.uint64(11)) * 2.0**-53).reshape(shape)
    labels = np.mod(np.arange(STEPS * BATCH).reshape(STEPS, BATCH), CLASSES)
    bright = np.arange(IMAGE[2]) == labels[..., None] + 1
    return list(zip(images + bright[:, :, None, None, :], labels, strict=True))


def train(optimizer: str, weights: Arrays, data: Iterable[tuple]) -> Arrays:
    """Parameters and running statistics after the steps, and the losses on the way as "loss"."""
    import torch

    model = network(torch.nn).double()
    model.load_state_dict({k: torch.tensor(a) for k, a in weights.items()}, strict=False)
    name, options = OPTIMIZERS[optimizer]
    stepper = getattr(torch.optim, name)(model.parameters(), **options)
    losses = []
    for x, y in data:
        stepper.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(torch.tensor(x)), torch.tensor(y))
        loss.backward()
        stepper.step()
        losses.append(loss.item())
    state = {k: v.numpy() for k, v in model.state_dict().items() if not k.endswith("_tracked")}
    return state | {"loss": np.asarray(losses)}


def stored(part: str) -> Arrays:
    """One part of the file: "start", or an optimizer's name for what PyTorch made of it."""
    with np.load(STORED, allow_pickle=False) as file:
        return {k.partition("/")[2]: file[k] for k in file.files if k.startswith(f"{part}/")}


def write() -> None:
    """Draw the initial weights, train with each optimizer, and store it all."""
    import torch

    torch.manual_seed(0)
    state = network(torch.nn).double().state_dict()
    start = {k: v.numpy().copy() for k, v in state.items() if not k.endswith("_tracked")}
    parts = {"start": start} | {name: train(name, start, batches()) for name in OPTIMIZERS}
    flat = {f"{part}/{k}": a for part, arrays in parts.items() for k, a in arrays.items()}
    np.savez_compressed(STORED, **flat)


if __name__ == "__main__":
    write()
