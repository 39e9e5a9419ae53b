"""The games by hand in float64: three kinds for D, texts between for G; what is frozen stays so; exact resuming."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ganengine.config import Budget
from ganengine.data.batch import Batch
from ganengine.plugins import add_path
from ganengine.step import Step
from ganengine.testing.repeat import difference, trained
from ganengine.testing.subject import Subject, machine_kept
from ganengine.variant import Progress
from torch import Tensor, nn
from torch.nn.functional import softplus

from ganengine_stackgan import losses, plugin, schedule
from ganengine_stackgan.config import IntClsConfig, StackConfig, TextConfig
from ganengine_stackgan.text import embedded

ROOT = Path(__file__).parents[1]
N, SIDE = 4, 2


@pytest.fixture(autouse=True)
def _variants() -> Iterator[None]:
    add_path(ROOT)
    with machine_kept():
        yield


class Reader(nn.Module):
    """E: the mean and the largest of a caption's codes, for formulas that can be followed."""

    def forward(self, ids: Tensor) -> Tensor:
        x = ids.double() / 97
        return torch.stack((x.mean(1), x.amax(1)), 1)


class Painter(nn.Module):
    """G: pictures linear in z and the text."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.out = nn.Linear(latent + 2, SIDE**2, dtype=torch.float64)

    def forward(self, z: Tensor, texts: Tensor) -> Tensor:
        made: Tensor = self.out(torch.cat((z.double(), texts), 1)).reshape(-1, 1, SIDE, SIDE)
        return made


class Critic(nn.Module):
    """D: a logit, linear in the picture's squares and in its products with the text."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(3 * SIDE**2, 1, dtype=torch.float64)

    def forward(self, pictures: Tensor, texts: Tensor) -> Tensor:
        if texts.ndim == 3:
            return torch.stack([self(pictures, each) for each in texts])
        x = pictures.flatten(1)
        logits: Tensor = self.out(torch.cat((x.square(), x * texts[:, :1], x * texts[:, 1:]), 1)).flatten()
        return logits


def step_of(**networks: nn.Module) -> Step:
    source = torch.Generator().manual_seed(3)
    real = torch.randn(N, 1, SIDE, SIDE, generator=source, dtype=torch.float64)
    captions = torch.randint(1, 97, (N, 3, 8), generator=source)
    captions[1, 2] = 0
    batch = Batch({"real": real, "captions": captions}, torch.arange(N))
    return Step({"E": Reader(), **networks}, batch, Progress(0, 0, 100), 11)


def texts_by_hand(step: Step, times: int) -> Tensor:
    draws, found = step.rand("captions", (times,)), []
    for n in range(N):
        there = [row for row in step.batch["captions"][n] if row.any()]
        rows = torch.stack([there[int(draws[n, k] * len(there))] for k in range(times)])
        found.append(Reader()(rows).mean(0))
    return torch.stack(found)


@pytest.mark.parametrize("times", [1, 3])
def test_a_text_is_the_mean_of_some_captions(times: int) -> None:
    step = step_of()
    torch.testing.assert_close(embedded(step, TextConfig(averaged_captions=times)), texts_by_hand(step, times))


def test_precomputed_texts_are_rows_of_unit_mean_square() -> None:
    rows = torch.tensor([[[3.0, 4.0], [0.0, 0.0]]]).expand(N, -1, -1)
    step = Step({}, Batch({"embedding": rows}, torch.arange(N)), Progress(0, 0, 1), 0)
    found = embedded(step, TextConfig(text_encoder="precomputed"))
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.8]]).mul(2**0.5).expand(N, -1))


@pytest.mark.parametrize("cls", [False, True])
@pytest.mark.parametrize("int_texts", [False, True])
def test_gan_int_cls_by_hand(cls: bool, int_texts: bool) -> None:
    torch.manual_seed(0)
    config = IntClsConfig(latent=3, cls=cls, int_texts=int_texts, int_share=0.25)
    G, D = Painter(3), Critic()
    step, built = step_of(G=G, D=D), losses.build_int_cls(config)
    x, t = step.batch["real"], texts_by_hand(step, 1)
    fake = G(step.randn("z", (3,)), t)
    found = built["d"](step)
    wanted = {"real": softplus(-D(x, t)), "fake": softplus(D(fake, t))}
    if cls:
        order = step.derangement("wrong")
        assert not (order == torch.arange(N)).any()
        wanted["wrong"] = softplus(D(x, t[order]))
    torch.testing.assert_close(found, wanted)
    # The weights make these -log s_r - 1/2 [log(1 - s_w) + log(1 - s_f)], and -log s_r - log(1 - s_f) without cls.
    (phase, penalty, _) = schedule.build_int_cls(config).stages[-1].phases
    assert phase.weights == ({"wrong": 0.5, "fake": 0.5} if cls else {})  # type: ignore[union-attr]
    assert (penalty.weights, penalty.every, penalty.optimizer) == ({"r1": 0.5}, 4, "d")  # type: ignore[union-attr]
    # d/dx of w1 x^2 + w2 x t1 + w3 x t2 is 2 w1 x + w2 t1 + w3 t2.
    w1, w2, w3 = D.out.weight.detach().chunk(3, 1)
    rise = 2 * w1 * x.flatten(1) + w2 * t[:, :1] + w3 * t[:, 1:]
    torch.testing.assert_close(built["penalty"](step), {"r1": rise.square().sum(1)})
    (slope,) = torch.autograd.grad(sum(term.sum() for term in found.values()), D.out.weight, retain_graph=True)
    assert slope.abs().sum() > 0
    terms = built["g"](step)
    wanted = {"g": softplus(-D(fake, t))}
    if int_texts:
        u = 0.25 * t + 0.75 * t[step.derangement("mixed")]
        wanted["int"] = softplus(-D(G(step.randn("z.int", (3,)), u), u))
    torch.testing.assert_close(terms, wanted)


class Augmented(nn.Module):
    """G0 and G: a painter, and a KL term that is a number of the text."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.paint = Painter(latent)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        *sketch, z, texts = inputs
        made = self.paint(z, texts)
        return (made + sketch[0] if sketch else made), texts.sum(1)


def test_stackgan_by_hand() -> None:
    torch.manual_seed(0)
    config = StackConfig(latent=3, condition=2)
    G0, G, D0, D = Augmented(5), Augmented(2), Critic(), Critic()
    G0.requires_grad_(False)
    step, built = step_of(G0=G0, G=G, D0=D0, D=D), losses.build_stack(config)
    x, t = step.batch["real"], texts_by_hand(step, 1)
    sketch = G0(step.randn("z", (5,)), t)[0]
    made = G(sketch, step.randn("e", (2,)), t)[0]
    for fake, critic, d, g in ((sketch, D0, "d0", "g0"), (made, D, "d", "g")):
        told = built[d](step)
        wanted = {
            "real": softplus(-critic(x, t)),
            "fake": softplus(critic(fake, t)),
            "wrong": softplus(critic(x, t[step.derangement("wrong")])),
        }
        torch.testing.assert_close(told, wanted)
        torch.testing.assert_close(built[g](step), {"g": softplus(-critic(fake, t)), "kl": t.sum(1)})
    plan = schedule.build_stack(config)
    assert [(stage.name, stage.size) for stage in plan.stages] == [("text", 16), ("stage-1", 16), ("stage-2", None)]
    assert [phase.weights for phase in plan.phases(2)] == [{"wrong": 0.5, "fake": 0.5}, {"r1": 0.5}, {"kl": 0.002}]
    assert [(phase.params, phase.loss) for phase in plan.phases(1)] == [
        (("D0",), "d0"), (("D0",), "penalty0"), (("G0",), "g0")
    ]  # fmt: skip
    assert all(phase.hold == ("G0",) for phase in plan.phases(2) if phase.loss in ("d", "g"))


def test_without_a_weight_there_is_no_penalty() -> None:
    plan = schedule.build_stack(StackConfig(penalty_weight=0.0))
    assert [phase.loss for stage in (1, 2) for phase in plan.phases(stage)] == ["d0", "g0", "d", "g"]


@pytest.mark.parametrize(
    ("option", "stage_images", "rate"), [({}, 0, 5e-4), ({}, 100, 5e-4), ({}, 150, 2.5e-4), ({}, 200, 0.0),
        ({"settle": False, "halve_every": 60}, 130, 1.25e-4), ({"settle": False}, 199, 5e-4)]
)  # fmt: skip
def test_stage_one_comes_to_rest(option: dict[str, Any], stage_images: int, rate: float) -> None:
    plan = schedule.build_stack(StackConfig(low_images=200, **option))
    for round_ in plan.at(Progress(9, 500 + stage_images, 1000, 1, stage_images), {}):
        assert [due.lr for due in round_] == pytest.approx([rate])


def test_without_an_own_encoder_there_is_no_stage_of_text() -> None:
    config = IntClsConfig(text_encoder="precomputed")
    assert [stage.name for stage in schedule.build_int_cls(config).stages] == ["main"]


# -- stages ------------------------------------------------------------------------------------------------------------


def test_what_is_frozen_is_the_same_to_the_byte_after_the_last_stage() -> None:
    """E from the end of its stage on; G0 with its running statistics from the end of stage I on."""
    subject = Subject("stackgan", None)
    ends: dict[int, dict[str, Tensor]] = {}
    with subject.trainer() as trainer:
        while len(ends) < 2 or trainer.position.images < 40:
            stage = trainer.position.stage
            if trainer._stage_is_over():
                trainer._grow()
            trainer.round()
            names = {0: "E/", 1: "G0/"}
            ends[stage] = {
                name: tensor.detach().clone()
                for name, tensor in trainer.players.tensors().items()
                if stage in names and name.startswith(names[stage])
            } if trainer.position.stage == stage and stage in names else ends.get(stage, {})  # fmt: skip
        assert trainer.position.stage == 2
        now = trainer.players.tensors()
    frozen = {**ends[0], **ends[1]}
    assert sum(name.endswith("running_mean") for name in frozen) == 2
    assert all(torch.equal(now[name], tensor) for name, tensor in frozen.items())


@pytest.mark.parametrize("name", ["gan-int-cls", "stackgan"])
def test_a_run_goes_on_exactly_from_every_stage(name: str, tmp_path: Path) -> None:
    """Cut before, at and after each change of stage, with everything read back from disk in between."""
    subject = Subject(name, None)
    unbroken = trained(subject, tmp_path / "unbroken", 7, foreign=1)
    broken = trained(subject, tmp_path / "broken", 1, 2, 3, 4, 5, 7, foreign=2)
    assert not difference(unbroken, broken)
    assert Budget(max_steps=7).stated()


def test_the_record_names_both() -> None:
    assert [variant.name for variant in plugin.ganengine_variants()] == ["gan-int-cls", "stackgan"]
