"""Train one network by xpcnn and by PyTorch from the same weights, batches and dropout masks.

    python benchmarks/against_pytorch.py --epochs 1 --device cpu

Both train `xpcnn.models.convnet` on Fashion-MNIST with Adam, one after the other. Prints the test
accuracy and the training time of each; the exit status is 1 if the accuracies differ by more than
half a point.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

import xpcnn
from xpcnn import ops, random
from xpcnn.layers import tree
from xpcnn.optim import Adam
from xpcnn.training import init_state, train_step

MODEL = xpcnn.models.convnet()
DROPOUT = 9  # its place in the model: Sequential folds that into a step's key
LEARNING_RATE, BATCH, HIDDEN = 0.001, 64, 512
TOLERANCE = 0.5  # points of test accuracy
WEIGHTS, ORDER, NOISE = (random.fold_in(random.key(0), i) for i in range(3))

Images = np.ndarray
Labels = np.ndarray


def main() -> bool:
    """Whether the two agree."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--images", type=int, default=60_000, help="how many to train on")
    parser.add_argument("--device", default="cpu", help="where xpcnn computes")
    options = parser.parse_args()

    data = xpcnn.data.fashion_mnist()
    train = scaled(data.train[0][: options.images]), data.train[1][: options.images]
    test = scaled(data.test[0]), data.test[1]
    accuracies = []
    for learner in (OurLearner(options.device), TheirLearner()):
        start = time.perf_counter()
        for x, y, key in steps(*train, options.epochs):
            learner.learn(x, y, key)
        seconds = time.perf_counter() - start
        parts = [learner.predict(test[0][i]) for i in xpcnn.data.batches(len(test[0]), BATCH)]
        accuracies.append(100 * float(np.mean(np.concatenate(parts) == test[1])))
        print(
            f"{learner.name}: test accuracy {accuracies[-1]:.2f}%, trained in {seconds:.1f} s,"
            f" {options.epochs * len(train[0]) / seconds:,.0f} images/s",
            flush=True,
        )
    difference = accuracies[0] - accuracies[1]
    print(f"difference: {difference:+.2f} points (at most {TOLERANCE} is right)")
    return abs(difference) <= TOLERANCE


def scaled(images: Images) -> Images:
    """uint8 to float32 in [0, 1]."""
    return images / np.float32(255)


def steps(images: Images, labels: Labels, epochs: int) -> Iterator[tuple]:
    """Images, labels and the key of each step, the same for both."""
    count = 0
    for epoch in range(epochs):
        for indices in xpcnn.data.batches(len(images), BATCH, random.fold_in(ORDER, epoch)):
            yield images[indices], labels[indices], random.fold_in(NOISE, count)
            count += 1


class OurLearner:
    """xpcnn's step, eager, on any device."""

    def __init__(self, device: str) -> None:
        self.device = xpcnn.device(device)
        self.name = f"xpcnn on {self.device.name}"
        self.optimizer = Adam(LEARNING_RATE)
        self.params, _ = MODEL.init(WEIGHTS, (1, 28, 28), device=self.device)
        self.state = init_state(MODEL, self.optimizer, self.params)

    def learn(self, x: Images, y: Labels, key: random.Key) -> None:
        """Take a step."""
        move = self.device.asarray
        done = train_step(
            MODEL, self.optimizer, self.params, self.state, move(x), move(y), key=key
        )  # fmt: skip
        self.params, self.state = done.params, done.state

    def predict(self, x: Images) -> Labels:
        """The labels thought most probable."""
        logits = MODEL(self.params, self.device.asarray(x))
        return np.argmax(self.device.to_numpy(logits), axis=1)


class TheirLearner:
    """The same network as PyTorch's own modules; our parameters load by their names."""

    name = f"PyTorch {torch.__version__}"

    def __init__(self) -> None:
        self.network = nn.Sequential(
            nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(64 * 7 * 7, HIDDEN), nn.ReLU(),
            GivenDropout(), nn.Linear(HIDDEN, 10),
        )  # fmt: skip
        params, _ = MODEL.init(WEIGHTS, (1, 28, 28), device="torch")
        self.network.load_state_dict(tree.flatten(params))
        self.optimizer = torch.optim.Adam(self.network.parameters(), LEARNING_RATE)

    def learn(self, x: Images, y: Labels, key: random.Key) -> None:
        """Take a step."""
        ones = np.ones((len(x), HIDDEN), np.float32)
        mask = ops.dropout(ones, 0.5, key=random.fold_in(key, DROPOUT))
        self.network[DROPOUT].mask = torch.from_numpy(mask)
        self.optimizer.zero_grad()
        logits = self.network(torch.from_numpy(x))
        nn.functional.cross_entropy(logits, torch.from_numpy(y)).backward()
        self.optimizer.step()

    def predict(self, x: Images) -> Labels:
        """The labels thought most probable."""
        self.network[DROPOUT].mask = 1.0
        with torch.no_grad():
            return self.network(torch.from_numpy(x)).argmax(dim=1).numpy()


class GivenDropout(nn.Module):
    """Dropout by a mask that is set from outside."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x times the mask."""
        return x * self.mask


if __name__ == "__main__":
    raise SystemExit(not main())
