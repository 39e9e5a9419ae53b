"""Networks of cgan against the documents' table, and against the same layers written by hand."""

from __future__ import annotations

import pytest
import torch
from ganengine.variant import DataSpec, FieldSpec, Stage
from torch import Tensor
from torch.nn import functional as F

from ganengine_cgan.config import CGANConfig
from ganengine_cgan.networks import Discriminator, Generator, build

SPEC = DataSpec({"real": FieldSpec("image", (1, 28, 28)), "label": FieldSpec("label", (), 10)})


def networks(**options: object) -> tuple[Generator, Discriminator]:
    torch.manual_seed(0)
    built = build(CGANConfig(**options), SPEC, Stage(()))  # type: ignore[arg-type]
    G, D = built["G"], built["D"]
    assert isinstance(G, Generator)
    assert isinstance(D, Discriminator)
    return G, D


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters_of_the_documents_table() -> None:
    G, D = networks()
    assert count(G) == 693_520
    assert [count(part) for part in (D.picture, D.label, D.joint, D.out)] == [942_000, 2_750, 279_360, 241]
    assert count(D) == 1_224_351


def test_parameters_of_the_paper() -> None:
    """Section 4.1: 200 units of the noise, 1000 of the label, 1200 of both."""
    G, D = networks(architecture="paper")
    assert count(G) == 100 * 200 + 200 + 10 * 1000 + 1000 + 1200 * 1200 + 1200 + 1200 * 784 + 784
    assert count(D) == 1_224_351


def maxout(x: Tensor, weight: Tensor, bias: Tensor, pieces: int, inner: bool) -> Tensor:
    h = F.linear(x, weight, bias)
    h = h.relu() if inner else h
    return h.reshape(len(x), pieces, -1).amax(1)


@pytest.mark.parametrize("architecture", ["inner-relu", "paper"])
@torch.no_grad()
def test_d_is_its_formula(architecture: str) -> None:
    _, D = networks(architecture=architecture)
    D.eval().double()
    x, y = torch.randn(4, 1, 28, 28, dtype=torch.float64), torch.tensor([0, 3, 9, 3])
    inner = architecture == "inner-relu"
    one_hot = F.one_hot(y, 10).double()
    parts = [
        maxout(x.flatten(1), D.picture.weight, D.picture.bias, 5, inner),
        maxout(one_hot, D.label.weight, D.label.bias, 5, inner),
    ]
    joint = maxout(torch.cat(parts, 1), D.joint.weight, D.joint.bias, 4, inner)
    assert torch.allclose(D(x, y), F.linear(joint, D.out.weight, D.out.bias).flatten(), rtol=1e-10, atol=1e-12)


@torch.no_grad()
def test_weights_of_classes_are_labels_where_they_are_one_hot() -> None:
    G, D = networks()
    z, y = torch.randn(3, 100), torch.tensor([1, 0, 7])
    weights = F.one_hot(y, 10).float()
    assert torch.equal(G(z, y), G(z, weights))
    D.eval()
    x = G(z, y)
    assert torch.equal(D(x, y), D(x, weights))
    assert not torch.allclose(G(z, y), G(z, y.roll(1)))
    assert x.shape == (3, 1, 28, 28)
    assert x.abs().max() <= 1
