"""Fused Adam in memory order: the numbers of torch's own step, whatever the layout, and its state where it was."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ganengine.optimizers import make_optimizer
from ganengine.variant import Optimizer

CLASSES = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
SHAPES = ((6, 4, 3, 3), (5, 7), (3,), (4, 1, 2, 2), (2, 3, 1, 1))


def parameters(layout: torch.memory_format) -> list[nn.Parameter]:
    draw = torch.Generator().manual_seed(1)
    drawn = [torch.randn(shape, generator=draw, dtype=torch.float64) for shape in SHAPES]
    return [nn.Parameter(t.contiguous(memory_format=layout) if t.dim() == 4 else t) for t in drawn]


def trained(name: str, layout: torch.memory_format, options: dict[str, Any], steps: int) -> tuple[Any, list[Any]]:
    own = parameters(layout)
    optimizer = make_optimizer(Optimizer(0.01, name, options), own, CLASSES)
    draw = torch.Generator().manual_seed(2)
    for _ in range(steps):
        for parameter in own:
            parameter.grad = torch.empty_like(parameter).copy_(torch.randn(parameter.shape, generator=draw))
        optimizer.param_groups[0]["lr"] = 0.01
        optimizer.step()
    return optimizer, own


def by_formula(name: str, options: dict[str, Any], steps: int) -> list[Tensor]:
    """Adam's formulas written out (arXiv:1412.6980, algorithm 1; decay as in arXiv:1711.05101)."""
    values = [p.detach().contiguous() for p in parameters(torch.contiguous_format)]
    (b1, b2), decay = options.get("betas", (0.9, 0.999)), options.get("weight_decay", 0.0)
    m, v = [torch.zeros_like(t) for t in values], [torch.zeros_like(t) for t in values]
    draw = torch.Generator().manual_seed(2)
    for step in range(1, steps + 1):
        for i, value in enumerate(values):
            grad = torch.randn(value.shape, generator=draw).double()
            if name == "adamw":
                value = value * (1 - 0.01 * decay)
            else:
                grad = grad + decay * value
            m[i] = b1 * m[i] + (1 - b1) * grad
            v[i] = b2 * v[i] + (1 - b2) * grad**2
            values[i] = value - 0.01 * m[i] / (1 - b1**step) / ((v[i] / (1 - b2**step)).sqrt() + 1e-8)
    return values


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("name", "options"),
    [("adam", {"betas": (0.5, 0.9)}), ("adam", {"weight_decay": 0.1}), ("adamw", {"weight_decay": 0.1})],
)
def test_steps_are_the_papers(name: str, options: dict[str, Any], layout: torch.memory_format) -> None:
    optimizer, own = trained(name, layout, options, 4)
    assert optimizer.defaults["fused"]
    for found, expected in zip(own, by_formula(name, options, 4), strict=True):
        torch.testing.assert_close(found.detach(), expected, rtol=1e-12, atol=1e-12)


def test_amsgrad_is_torchs() -> None:
    _, own = trained("adam", torch.channels_last, {"amsgrad": True}, 3)
    _, plain = trained("adam", torch.channels_last, {"amsgrad": True, "fused": False}, 3)
    for found, expected in zip(own, plain, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_state_stays_with_the_parameters_in_their_layout() -> None:
    optimizer, own = trained("adam", torch.channels_last, {}, 2)
    assert set(optimizer.state) == set(own)
    for parameter in own:
        for moment in ("exp_avg", "exp_avg_sq"):
            assert optimizer.state[parameter][moment].stride() == parameter.stride()
    other, _ = trained("adam", torch.channels_last, {}, 1)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert [s["step"] for s in other.state_dict()["state"].values()] == [2.0] * len(own)


def test_no_gradient_is_copied() -> None:
    optimizer, _ = trained("adam", torch.channels_last, {}, 1)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as profile:
        optimizer.step()
    events = profile.events() or []
    assert "aten::_fused_adam_" in {event.name for event in events}
    assert not [event.input_shapes for event in events if event.name == "aten::clone"]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    "event",
    [
        "a gradient is missing",
        "a parameter lies elsewhere",
        "state is loaded",
        "state is cleared",
        "a moment is replaced",
        "a parameter is replaced",
        "one more group",
    ],
)
def test_what_is_looked_up_once_is_looked_up_anew_when_it_changes(event: str, layout: torch.memory_format) -> None:
    """Step by step beside torch's own, which looks everything up in every step."""
    mine, plain = parameters(layout), parameters(layout)
    both = [(mine, make_optimizer(Optimizer(0.1), mine, CLASSES)), (plain, torch.optim.Adam(plain, foreach=False))]
    saved = None
    for number in range(6):
        for own, optimizer in both:
            optimizer.param_groups[0]["lr"] = 0.1
            for place, parameter in enumerate(own):
                parameter.grad = torch.full_like(parameter, 0.5 + number - place)
            if number == 3:
                if event == "a gradient is missing":
                    own[0].grad = None
                elif event == "a parameter lies elsewhere":
                    own[0].data = own[0].data.clone() + 1
                elif event == "state is loaded":
                    optimizer.load_state_dict(copy.deepcopy(saved[id(optimizer)]))  # type: ignore[index]
                elif event == "state is cleared":
                    optimizer.state.clear()
                elif event == "a moment is replaced":
                    optimizer.state[own[1]]["exp_avg"] = torch.ones_like(own[1])
                elif event == "a parameter is replaced":
                    gradient, own[1] = own[1].grad, nn.Parameter(own[1].detach())
                    own[1].grad = gradient
                    optimizer.param_groups[0]["params"][1] = own[1]
                else:
                    own.append(nn.Parameter(torch.ones(2, dtype=torch.float64)))
                    own[-1].grad = torch.ones(2, dtype=torch.float64)
                    optimizer.add_param_group({"params": [own[-1]], "lr": 0.2})
            optimizer.step()
        if number == 1:
            saved = {id(optimizer): copy.deepcopy(optimizer.state_dict()) for _, optimizer in both}
        for found, expected in zip(mine, plain, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
