"""What the engine registers through its own hooks."""

from __future__ import annotations

import pluggy
import pytest
import torch

from ganengine import builtin, hookspecs
from ganengine.export.formats import Exporter
from ganengine.losses.adversarial import FAMILIES
from ganengine.nn.init import INITIALISERS


def components(hook: str):
    manager = pluggy.PluginManager("ganengine")
    manager.add_hookspecs(hookspecs)
    manager.register(builtin)
    manager.check_pending()
    return {component.name: component for group in getattr(manager.hook, hook)() for component in group}


@pytest.mark.parametrize(
    ("hook", "names"),
    [
        ("ganengine_losses", set(FAMILIES)),
        ("ganengine_penalties", {"gp", "r1", "r2", "drift"}),
        ("ganengine_initialisers", set(INITIALISERS)),
        ("ganengine_augmentations", {"diffaugment", "ada"}),
        (
            "ganengine_metrics",
            {
                *("l1", "psnr", "ssim", "edge_ratio", "coverage", "class-accuracy", "label-swap", "fd-judge"),
                *("ade", "fde", "ade-mean", "fde-mean", "spread"),
            },
        ),
        ("ganengine_optimizers", {"adam", "adamw", "sgd", "rmsprop"}),
    ],
)
def test_names(hook, names):
    assert set(components(hook)) == names
    for component in components(hook).values():
        assert callable(component.load())


def test_losses_and_initialisers_are_the_tables_own():
    for name, component in components("ganengine_losses").items():
        assert component.load() is FAMILIES[name]
    for name, component in components("ganengine_initialisers").items():
        assert component.load() is INITIALISERS[name]


def test_exporters_have_suffixes_of_their_own() -> None:
    exporters = {name: component.load() for name, component in components("ganengine_exporters").items()}
    assert set(exporters) == {"safetensors", "torchscript", "pt2", "onnx"}
    assert all(isinstance(exporter, Exporter) for exporter in exporters.values())
    assert len({exporter.suffix for exporter in exporters.values()}) == len(exporters)


def test_optimizers_are_torch_classes():
    for component in components("ganengine_optimizers").values():
        optimizer = component.load()([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        assert isinstance(optimizer, torch.optim.Optimizer)
