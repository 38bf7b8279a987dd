"""Training steps on a GPU: ResNet-50, VGG-16 and the convnet, by us and by PyTorch."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from _networks import RATE, Network, resnet50, vgg16, without_dropout
from _rows import Case, Draw
from _training import CLOSE, Training, twin
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from xpcnn import models, ops, random
from xpcnn.layers import tree
from xpcnn.optim import SGD
from xpcnn.training import init_state, train_step

GRADIENTS = 0.2
"""Of the largest entry. ResNet-50's first gradients hang on which side of ReLU's kink values lie.

They moved by 2e-2 when weights moved by 5e-7, their rounding in float32, and by more than half when
they were rounded to float16. So with fewer digits they are no measure.
"""


@dataclass(frozen=True)
class DeviceTraining(Training):
    """A whole step, on arrays of any device, layout and precision."""

    def cases(self, batch: int, tasks: Collection[str], draw: Draw) -> Iterator[Case]:
        """One, compared by its loss, and in float32 by its gradients too."""
        x, their_x = draw.images(batch, *self.network.in_shape)
        y, their_y = draw.labels(batch)
        theirs = TheirSteps(self._start(draw, their_x), their_x, their_y)
        ours = OurSteps(self.network.model, draw, theirs.network, x, y)
        if draw.precision == "float32":
            compared, tolerance = (ours.gradients, theirs.gradients), GRADIENTS
        else:
            compared, tolerance = (ours.loss, theirs.loss), CLOSE
        yield Case("training", ours.step, theirs.step, compared, tolerance)

    def _start(self, draw: Any, x: torch.Tensor) -> nn.Module:
        """PyTorch's network, always with the same weights, drawn where it computes."""
        torch.manual_seed(0)
        with torch.device(x.device):
            network = twin(self.network.model, {}, x[:1].float())
        network.to(draw.rounded).to(draw.dtype).to(memory_format=draw.format)
        return network.train()

    @cached_property
    def operations(self) -> int:
        """Of the convolutions and products in a step on one image, as PyTorch counts them."""
        with torch.device("meta"):  # shapes alone: nothing is computed
            x = torch.empty(2, *self.network.in_shape)
            network = twin(self.network.model, {}, x).train()
            y = torch.zeros(2, dtype=torch.int64)
            with FlopCounterMode(display=False) as counter, torch.enable_grad():
                nn.functional.cross_entropy(network(x), y).backward()
        return counter.get_total_flops() // 2


class OurSteps:
    """xpcnn's training, from the weights that a network of PyTorch's has."""

    def __init__(self, model: Any, draw: Any, network: nn.Module, x: Any, y: Any) -> None:
        self.model, self.device, self.x, self.y = model, draw.device, x, y
        self.optimizer = SGD(RATE, momentum=0.9)
        # copied, for PyTorch changes its own, and in C order, as our layers have their weights
        self.params = tree.unflatten(
            {
                name: draw.device.ours(tensor.clone(memory_format=torch.contiguous_format))
                for name, tensor in network.state_dict().items()
                if not name.endswith("num_batches_tracked")
            }
        )
        self.state = init_state(model, self.optimizer, self.params)

    def step(self) -> Any:
        """Take a step, always the first one: what it leaves is as good for timing as the next."""
        return train_step(
            self.model, self.optimizer, self.params, self.state, self.x, self.y, key=random.key(1)
        )

    def loss(self) -> Any:
        """Without dropout."""
        logits, _ = without_dropout(self.model).vjp(self.params, self.x)
        return ops.cross_entropy(logits, self.y)

    def gradients(self) -> tuple[Any, torch.Tensor]:
        """The loss, and the gradients of all weights by name as one vector, without dropout."""
        logits, pull = without_dropout(self.model).vjp(self.params, self.x)
        loss, loss_pull = ops.cross_entropy.vjp(logits, self.y)
        grads, _ = tree.partition(pull(loss_pull(1.0)[0])[0])
        tensors = (self.device.tensor(grad) for grad in tree.leaves(grads))
        return loss, torch.cat([tensor.flatten() for tensor in tensors])


class TheirSteps:
    """PyTorch's training."""

    def __init__(self, network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
        self.network, self.x, self.y = network, x, y
        self.dropouts = [m for m in network.modules() if isinstance(m, nn.Dropout)]
        self.optimizer = torch.optim.SGD(network.parameters(), RATE, momentum=0.9)

    @torch.enable_grad()
    def step(self) -> None:
        """Take a step."""
        self.optimizer.zero_grad()
        nn.functional.cross_entropy(self.network(self.x), self.y).backward()
        self.optimizer.step()

    def loss(self) -> torch.Tensor:
        """Without dropout."""
        for dropout in self.dropouts:
            dropout.eval()
        loss = nn.functional.cross_entropy(self.network(self.x), self.y)
        for dropout in self.dropouts:
            dropout.train()
        return loss

    @torch.enable_grad()
    def gradients(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss, and the gradients of all weights by name as one vector, without dropout."""
        loss = self.loss()
        named = sorted(self.network.named_parameters())
        grads = torch.autograd.grad(loss, [weight for _, weight in named])
        return loss.detach(), torch.cat([grad.flatten() for grad in grads])


TRAININGS = [
    DeviceTraining(network)
    for network in (
        Network("convnet", models.convnet(), (1, 28, 28), 64, "SGD"),
        Network("ResNet-50", resnet50(), (3, 224, 224), 64, "SGD"),
        Network("VGG-16", vgg16(), (3, 224, 224), 64, "SGD"),
    )
]
"""The convnet takes SGD here, as its source did: Adam's epsilon is 0 in float16."""
