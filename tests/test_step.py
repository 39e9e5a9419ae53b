"""What a loss reads: networks, keyed draws that do not depend on how a batch is cut, shared forward passes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ganengine.data import Batch
from ganengine.errors import StaleForwardError, UserError
from ganengine.losses.adversarial import adversarial
from ganengine.nn import Dropout
from ganengine.nn.context import Context, draw_context, name_modules
from ganengine.step import Step
from ganengine.variant import Part, Prior, Progress


def step_of(n: int = 4, networks: dict[str, Any] | None = None, seed: int = 3, **options: Any) -> Step:
    batch = Batch({"real": torch.arange(n, dtype=torch.float32)[:, None]}, torch.arange(n))
    return Step(networks or {}, batch, Progress(), seed, **options)


# -- draws ----------------------------------------------------------------------------------------------------------


def test_draws_have_the_stated_form() -> None:
    step = step_of(1000)
    normal, uniform, whole = step.randn("z", (3, 2)), step.rand("u"), step.randint("k", 5, (2,))
    assert normal.shape == (1000, 3, 2)
    assert (normal.mean().abs() < 0.05, (normal.std() - 1).abs() < 0.05) == (True, True)
    assert uniform.shape == (1000,)
    assert (uniform.min() >= 0, uniform.max() < 1) == (True, True)
    assert whole.shape == (1000, 2)
    assert sorted(whole.unique().tolist()) == [0, 1, 2, 3, 4]


def test_latents_follow_their_prior_however_a_batch_is_cut() -> None:
    prior = Prior.of(Part("noise", 2), Part("category", 3, "categorical"))
    whole = step_of(6).latent("z", prior)
    assert torch.equal(step_of(2, rows=(4, 6)).latent("z", prior), whole[4:])
    assert torch.equal(whole[:, 2:].sum(1), torch.ones(6))
    assert torch.equal(step_of().latent("z", Prior((2, 2))), step_of().randn("z", (2, 2)))
    assert torch.equal(step_of().latent("z", Prior((2,), "uniform")), step_of().rand("z", (2,)) * 2 - 1)


def test_a_name_stands_for_the_same_numbers() -> None:
    a, b = step_of(), step_of()
    assert torch.equal(a.randn("z", (2,)), a.randn("z", (2,)))
    assert torch.equal(a.randn("z", (2,)), b.randn("z", (2,)))
    assert not torch.equal(a.randn("z", (2,)), a.randn("w", (2,)))
    assert not torch.equal(a.randn("z", (2,)), step_of(seed=4).randn("z", (2,)))


@given(cuts=st.lists(st.integers(0, 12), max_size=4), name=st.text(min_size=1, max_size=5))
@settings(deadline=None)
def test_parts_of_a_batch_draw_what_the_whole_draws(cuts: list[int], name: str) -> None:
    edges = sorted({0, 12, *cuts})
    whole = step_of(12)
    parts = [step_of(b - a, rows=(a, 12)) for a, b in pairwise(edges)]
    for draw in (
        lambda s: s.randn(name, (2,)),
        lambda s: s.rand(name, (3, 1)),
        lambda s: s.randint(name, 100),
    ):
        assert torch.equal(torch.cat([draw(part) for part in parts]), draw(whole))


@given(n=st.integers(2, 40), seed=st.integers(0, 10**6))
@settings(deadline=None)
def test_a_derangement_leaves_no_sample_in_place(n: int, seed: int) -> None:
    order = step_of(n, seed=seed).derangement("wrong")
    assert sorted(order.tolist()) == list(range(n))
    assert bool((order != torch.arange(n)).all())


def test_one_sample_has_no_other_to_be_paired_with() -> None:
    with pytest.raises(UserError, match="--batch: expected more than one sample at once, to pair each with another"):
        step_of(1).derangement("wrong")


def test_derangements_differ_by_name_and_part() -> None:
    step = step_of(30)
    assert torch.equal(step.derangement("a"), step.derangement("a"))
    assert not torch.equal(step.derangement("a"), step.derangement("b"))
    assert not torch.equal(step.derangement("a"), step_of(30, rows=(30, 60)).derangement("a"))


# -- names ----------------------------------------------------------------------------------------------------------


def test_networks_are_read_by_name() -> None:
    G, z = nn.Linear(1, 1), nn.Parameter(torch.zeros(2))
    step = step_of(networks={"G": G, "z": z})
    assert step["G"] is G
    assert step.G is G
    assert step.z is z
    with pytest.raises(AttributeError, match='no network "D"; it has G, z'):
        _ = step.D
    assert not hasattr(step, "__deepcopy__")


def test_what_is_told_is_detached() -> None:
    step = step_of()
    weight = torch.ones((), requires_grad=True)
    step.report("real", weight * 2)
    step.measure("real", weight * 3)
    assert not step.reports["real"].requires_grad
    assert not step.measures["real"].requires_grad
    assert (float(step.reports["real"]), float(step.measures["real"])) == (2.0, 3.0)


def test_logits_that_d_judged_by_are_logged_and_their_signs_kept() -> None:
    step, game = step_of(), adversarial("hinge")
    step.judged(game, real=torch.tensor([1.0, 2.0]), fake=torch.tensor([-4.0]))
    step.judged(game, real=torch.tensor([-3.0, -1.0]), of="_B")
    assert {name: float(value) for name, value in step.reports.items()} == {"real": 1.5, "fake": -4.0, "real_B": -2.0}
    assert [float(signs) for signs in step.signs] == [1.0, -1.0]
    step.judged(adversarial("wasserstein"), real=torch.tensor([5.0]))
    assert float(step.reports["real"]) == 5.0
    assert len(step.signs) == 2
    step = Step({}, step.batch, step.progress, 0, signs=False)
    step.judged(game, real=torch.tensor([1.0]))
    assert list(step.reports) == ["real"]
    assert not step.signs, "nobody wants them"


# -- shared forward passes ------------------------------------------------------------------------------------------


def test_a_shared_value_is_made_once_and_dropped_when_asked_for() -> None:
    calls: list[int] = []
    step = step_of()

    def make() -> Tensor:
        calls.append(1)
        return torch.ones(1)

    assert not step.holds_graphs
    first = step.shared("x", make, of=("G",))
    assert step.shared("x", make, of=("G",)) is first
    assert step.holds_graphs
    step.forget_shared()
    assert not step.holds_graphs
    assert step.shared("x", make, of=("G",)) is not first
    assert len(calls) == 2


def test_a_shared_value_is_stale_once_a_network_inside_has_stepped() -> None:
    steps = {"G": 0, "D": 0}
    step = step_of(steps=steps)
    step.shared("fake", lambda: torch.ones(1), of=("G",))
    step.shared("judged", lambda: torch.ones(1), of=("G", "D"))
    steps["D"] += 1
    step.shared("fake", lambda: torch.ones(1), of=("G",))
    with pytest.raises(StaleForwardError, match=r'shared\("judged"\): D has stepped since'):
        step.shared("judged", lambda: torch.ones(1), of=("G", "D"))
    steps["G"] += 1
    with pytest.raises(StaleForwardError, match=r'shared\("fake"\): G has stepped since'):
        step.shared("fake", lambda: torch.ones(1), of=("G",))
    step.shared("fake again", lambda: torch.ones(1), of=("G",))


def test_draws_inside_a_shared_pass_do_not_depend_on_which_phase_asks_first() -> None:
    drop = Dropout(0.5)
    name_modules({"G": drop})

    def under(phase: int, name: str = "fake") -> Tensor:
        step = step_of()
        with draw_context(Context(seed=phase)):
            made: Tensor = step.shared(name, lambda: drop(torch.ones(4, 64)), of=("G",))
        return made

    assert torch.equal(under(1), under(2))
    assert not torch.equal(under(1), under(1, "another"))


def test_draws_after_a_shared_pass_are_those_without_it() -> None:
    drop = Dropout(0.5)
    name_modules({"G": drop})

    def after(shared: bool) -> Tensor:
        step = step_of()
        with draw_context(Context(seed=1)):
            if shared:
                step.shared("fake", lambda: drop(torch.ones(4, 64)), of=("G",))
            dropped: Tensor = drop(torch.ones(4, 64))
        return dropped

    assert torch.equal(after(True), after(False))
