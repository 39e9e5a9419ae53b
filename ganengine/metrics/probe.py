"""How much a network knows of classes it was never told: a linear classifier on its features, from few labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganengine.errors import UserError

GRID = 4
"""Side that each layer's maps are pooled to by their maximum (1511.06434, section 5.1)."""
CHUNK = 256
"""Pictures that go through the network at once."""
DECAYS = (1e-3, 1e-2, 1e-1)
"""Weights of the L2 penalty that are tried."""
ITERATIONS = 50
"""Of L-BFGS at most."""
KEPT_BACK = 5
"""Every fifth of the labelled pictures chooses among them."""


@torch.no_grad()
def conv_features(network: nn.Module, pictures: Tensor) -> Tensor:
    """Return what all convolutions of a network say of pictures, in eval mode.

    Each output [N, C, H, W] is pooled to 4 x 4 by its maximum and flattened; all layers are concatenated.

    Args:
        network: takes pictures alone.
        pictures: [N, C, H, W] in [-1, 1].

    Returns:
        [N, 16 * channels of all layers], float32.

    Raises:
        UserError: there is no convolution.

    Paper: 1511.06434, section 5.1.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    if not layers:
        raise UserError("The network has no convolution to tap. Use a convolutional variant.")
    found: list[Tensor] = []

    def tap(module: nn.Module, inputs: Any, output: Tensor) -> None:
        found.append(F.adaptive_max_pool2d(output.float(), GRID).flatten(1).cpu())

    device = next(network.parameters()).device
    modes = [(module, module.training) for module in network.modules()]
    hooks = [layer.register_forward_hook(tap) for layer in layers]
    rows = []
    try:
        network.eval()
        for part in torch.split(pictures, CHUNK):
            network(part.to(device))
            rows.append(torch.cat(found, 1))
            found.clear()
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes:
            module.training = mode
    return torch.cat(rows)


def linear_probe(features: Tensor, labels: Tensor, test_features: Tensor, test_labels: Tensor, classes: int) -> float:
    """Return the accuracy of multinomial logistic regression with an L2 penalty.

    Features are standardised by those of training. The penalty's weight is the best of `DECAYS` on every fifth training
    sample; with it the classifier is fitted again on all.

    Args:
        features, labels: [N, F] and [N], to train on.
        test_features, test_labels: [M, F] and [M].
        classes: K.

    Determinism: no random numbers.
    """
    mean, spread = features.mean(0), features.std(0).clamp(min=1e-6)
    x, test = (features - mean) / spread, (test_features - mean) / spread
    back = torch.arange(len(x)) % KEPT_BACK == 0

    def score(decay: float) -> float:
        return _accuracy(_fit(x[~back], labels[~back], classes, decay), x[back], labels[back])

    best = max(DECAYS, key=score)
    return _accuracy(_fit(x, labels, classes, best), test, test_labels)


def _fit(x: Tensor, y: Tensor, classes: int, decay: float) -> Callable[[Tensor], Tensor]:
    weight = torch.zeros(x.shape[1], classes, requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(x @ weight + bias, y) + decay / 2 * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return lambda rows: rows @ weight.detach() + bias.detach()


def _accuracy(classify: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> float:
    return float((classify(x).argmax(1) == y).double().mean())
