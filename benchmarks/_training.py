"""PyTorch's twins of our networks, and their training beside ours."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from _networks import NETWORKS, RATE, Network, OurLearner
from _rows import Case, Draw, Row
from torch import nn

from xpcnn import layers
from xpcnn.layers import tree

CLOSE = 0.02
"""Of the largest entry: through many layers rounding grows, and moves values across ReLU's kink."""


def twin(model: layers.Layer, params: tree.Tree, x: torch.Tensor) -> nn.Module:
    """The same model by PyTorch, with the same parameters; x is an input of the shape it is for."""
    network = _twin(model).eval()
    with torch.no_grad():
        network(x)  # lazy layers take their shapes
    tensors = {name: torch.tensor(array) for name, array in tree.flatten(params).items()}
    network.load_state_dict(network.state_dict() | tensors)
    return network


def _twin(layer: layers.Layer) -> nn.Module:
    match layer:
        case layers.Sequential():
            return nn.Sequential(*map(_twin, layer.layers))
        case layers.Residual():
            return Sum(*map(_twin, layer.layers))
        case layers.Conv2d(out, kernel, stride, padding, dilation, groups, bias):
            return nn.LazyConv2d(out, kernel, stride, padding, dilation, groups, bias)
        case layers.BatchNorm():
            return nn.LazyBatchNorm2d()
        case layers.MaxPool2d(kernel, stride, padding):
            # "same" pads nothing where the size is even
            return nn.MaxPool2d(kernel, stride, 0 if padding == "same" else padding)
        case layers.Linear(out):
            return nn.LazyLinear(out)
        case layers.GlobalAvgPool():
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        case layers.Dropout(p):
            return nn.Dropout(p)
        case layers.ReLU():
            return nn.ReLU(inplace=True)
        case layers.ReLU6():
            return nn.ReLU6(inplace=True)
    return getattr(nn, type(layer).__name__)()  # Flatten and Identity


class Sum(nn.Module):
    """A residual block."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Body and shortcut, added."""
        return self.body(x) + self.shortcut(x)


class TheirLearner:
    """PyTorch's training of a network, from the weights that ours starts with."""

    def __init__(self, network: Network, layout: torch.memory_format) -> None:
        x, y = network.data()
        self.x, self.y = torch.from_numpy(x).to(memory_format=layout), torch.from_numpy(y)
        self.network = twin(network.model, OurLearner(network).params, self.x[:1])
        self.network.train().to(memory_format=layout)
        weights = self.network.parameters()
        self.optimizer = (
            torch.optim.Adam(weights, RATE)
            if network.optimizer == "Adam"
            else torch.optim.SGD(weights, RATE, momentum=0.9)
        )

    @torch.enable_grad()
    def step(self) -> None:
        """Take a step, always on the same batch."""
        self.optimizer.zero_grad()
        self._loss().backward()
        self.optimizer.step()

    @torch.enable_grad()
    def gradients(self) -> tuple[np.ndarray, np.ndarray]:
        """The loss, and the gradients of all weights by name as one vector, without dropout."""
        dropouts = [m for m in self.network.modules() if isinstance(m, nn.Dropout)]
        shares = [dropout.p for dropout in dropouts]
        for dropout in dropouts:
            dropout.p = 0.0
        loss = self._loss()
        named = sorted(self.network.named_parameters())
        grads = torch.autograd.grad(loss, [weight for _, weight in named])
        for dropout, share in zip(dropouts, shares, strict=True):
            dropout.p = share
        return loss.detach().numpy(), torch.cat([grad.flatten() for grad in grads]).numpy()

    def _loss(self) -> torch.Tensor:
        return nn.functional.cross_entropy(self.network(self.x), self.y)


@dataclass(frozen=True)
class Training(Row):
    """A whole step: forward, backward, and the optimizer."""

    network: Network
    quick: bool = True

    families = ("training step",)

    @property
    def name(self) -> str:
        """Such as "training ResNet-18"."""
        return f"training {self.network.name}"

    def batches(self, asked: Collection[int]) -> list[int]:
        """The network's own, whatever is asked for."""
        return [self.network.batch]

    def cases(self, batch: int, tasks: Collection[str], draw: Draw) -> Iterator[Case]:
        """One, compared by its loss and gradients."""
        ours, theirs = OurLearner(self.network), TheirLearner(self.network, draw.format)
        compared = ours.gradients, theirs.gradients
        yield Case("training", ours.step, theirs.step, compared, CLOSE)


TRAININGS = [Training(network) for network in NETWORKS.values()]
