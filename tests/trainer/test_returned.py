"""What builders and views return in another form than the contract's is told of by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from ganengine.data.batch import Batch
from ganengine.errors import PluginError
from ganengine.hardware import Hardware
from ganengine.returned import named
from ganengine.sampling import Sampler
from ganengine.variant import Prior, Progress, View

from .lab import MakeLab, one_stage, sgd
from .test_schedule import ONES, P, slope_one

PICTURES = torch.zeros(2, 3, 8, 8)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ([torch.nn.Linear(1, 1)], r"returned a list; expected {name: Module or Parameter}, such as "),
        ({1: torch.nn.Linear(1, 1)}, r"returned a dict; expected {name: Module"),
        ({"G": torch.relu}, r'returned builtin_function_or_method as "G"; expected a torch Module or Parameter'),
    ],
)
def test_networks(lab: MakeLab, made: Any, message: str) -> None:
    bench = lab(lambda *_: made, {"p": slope_one}, one_stage(P, optimizers={"p": sgd(1.0)}), data=ONES)
    with pytest.raises(PluginError, match=r'^The networks builder of ".+" ' + message):
        bench.run(1)


def test_builders_of_losses_and_views() -> None:
    for made, kind in ((slope_one, "function"), ([slope_one], "list"), ({0: slope_one}, "dict")):
        with pytest.raises(PluginError, match=f"^The losses builder returned a {kind}; expected {{name: function}}"):
            named(made, "The losses builder", "{name: function}")


@pytest.mark.parametrize(
    ("kind", "made", "message"),
    [
        (
            "sample",
            torch.zeros(2, 8, 8),
            r'View "shown" returned a Tensor \[2, 8, 8\]; expected a Tensor \[2, C, H, W\]',
        ),
        ("sample", torch.zeros(3, 3, 8, 8), r"a Tensor \[3, 3, 8, 8\]; expected a Tensor \[2, C, H, W\] or \[2, 2\]"),
        ("sample", [PICTURES], r"a list; expected a Tensor \[2, C, H, W\]"),
        ("sample", PICTURES.numpy(), r"a ndarray; expected a Tensor"),
        ("grid", PICTURES, r"a Tensor \[2, 3, 8, 8\]; expected {name: Tensor}, the columns of the picture"),
        (
            "grid",
            {"x": PICTURES[0]},
            r'View "shown", column "x", returned a Tensor \[3, 8, 8\]; expected a Tensor \[N, C',
        ),
        ("translate", PICTURES[:1], r"a Tensor \[1, 3, 8, 8\]; expected a Tensor \[2, C, H, W\]"),
        ("translate", None, r"a NoneType; expected a Tensor \[2, C, H, W\]"),
        ("forecast", torch.zeros(4, 9, 2), r"a Tensor \[4, 9, 2\]; expected a Tensor \[rows, 5, steps, 2\]"),
    ],
)
def test_views(kind: Any, made: Any, message: str) -> None:
    view = View(lambda *_: made, "", kind=kind, prior=Prior((3,)))
    sampler = Sampler(
        {}, {"shown": view}, Hardware(torch.device("cpu"), 1, "fp32", False), 0, Progress(1, 4, 100, 0, 4)
    )
    batch = Batch({"A": PICTURES}, torch.arange(2))
    show: dict[str, Callable[[], object]] = {
        "sample": lambda: sampler.sample(view, torch.zeros(2, 3)),
        "grid": lambda: sampler.grid(view, batch, 2),
        "translate": lambda: sampler.translate(view, PICTURES, ["a", "b"]),
        "forecast": lambda: sampler.forecast(view, batch, ["a", "b"], 5),
    }
    with pytest.raises(PluginError, match=message):
        show[kind]()
