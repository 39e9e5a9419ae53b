"""Keyed dropout, and norms that know whose statistics hold."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from ganengine.nn import BatchNorm2d, ConditionalBatchNorm2d, Dropout, InstanceNorm2d
from ganengine.nn.context import Context, current, draw_context, dropout_key, hold, name_modules, sample_keys
from ganengine.nn.sequential import Sequential


def dropped(x: Tensor, module: Dropout | None = None, **options: Any) -> Tensor:
    module = module or named(Dropout(0.5))
    with draw_context(Context(**{"seed": 1, **options})):
        result: Tensor = module(x)
    return result


def named(module: Dropout, name: str = "G") -> Dropout:
    name_modules({name: module})
    return module


# -- dropout --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_kept_elements_are_scaled_and_the_share_is_right(p: float) -> None:
    kept = dropped(torch.ones(100, 1000), named(Dropout(p)))
    assert kept.unique().tolist() == pytest.approx([0.0, 1 / (1 - p)], rel=1e-6)
    assert float((kept == 0).double().mean()) == pytest.approx(p, abs=0.01)


def test_nothing_is_dropped_where_nothing_should_be() -> None:
    x = torch.randn(3, 5)
    assert dropped(x, named(Dropout(0.0))) is x
    assert Dropout(0.5).eval()(x) is x
    assert not torch.equal(dropped(x, named(Dropout(0.5, always=True).eval())), x)  # type: ignore[arg-type]


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_a_probability_is_checked(p: float) -> None:
    with pytest.raises(ValueError, match=r"p in \[0, 1\)"):
        Dropout(p)


def test_masks_depend_on_seed_module_and_call_and_on_nothing_else() -> None:
    x = torch.ones(4, 256)
    first = dropped(x)
    torch.manual_seed(99)
    assert torch.equal(dropped(x), first)
    assert not torch.equal(dropped(x, seed=2), first)
    assert not torch.equal(dropped(x, named(Dropout(0.5), "D")), first)
    module = named(Dropout(0.5))
    with draw_context(Context(seed=1)):
        again, twice = module(x), module(x)
    assert torch.equal(again, first)
    assert not torch.equal(twice, first)


def test_two_layers_of_a_network_draw_for_themselves() -> None:
    network = nn.Sequential(Dropout(0.5), Dropout(0.5))
    name_modules({"G": network})
    with draw_context(Context(seed=1)):
        one, two = (layer(torch.ones(4, 256)) for layer in network)
    assert not torch.equal(one, two)


@given(cut=st.integers(0, 9), tail=st.sampled_from([(7,), (3, 2, 2), (1,), ()]))
@settings(deadline=None)
def test_a_part_of_a_batch_has_its_part_of_the_mask(cut: int, tail: tuple[int, ...]) -> None:
    x = torch.ones(9, *tail)
    whole = dropped(x)
    head, rest = dropped(x[:cut]), dropped(x[cut:], first_sample=cut)
    assert torch.equal(torch.cat((head, rest)), whole)


def test_the_memory_format_does_not_change_the_mask() -> None:
    x = torch.ones(2, 3, 5, 4)
    assert torch.equal(dropped(x.contiguous(memory_format=torch.channels_last)), dropped(x))


def test_a_samples_own_seed_makes_it_independent_of_its_batch_mates() -> None:
    x = torch.ones(3, 2, 8, 8)
    together = dropped(x, sample_seeds=[5, 6, 7])
    for i, seed in enumerate([5, 6, 7]):
        assert torch.equal(dropped(x[:1], sample_seeds=[seed])[0], together[i])
    assert not torch.equal(together[0], together[1])
    module = named(Dropout(0.5))
    with draw_context(Context(seed=1, sample_seeds=[5, 6, 7])):
        assert not torch.equal(module(x), module(x)), "a second call draws anew"
    assert dropped(x[:0], sample_seeds=[]).shape == (0, 2, 8, 8)


def test_gradients_flow_through_what_is_kept() -> None:
    x = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    y = dropped(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(slope, torch.where(y == 0, 0.0, 2.0).double())
    module = named(Dropout(0.5))

    def same_mask(t: Tensor) -> Tensor:
        return dropped(t, module) ** 2

    assert torch.autograd.gradcheck(same_mask, (x,))
    assert torch.autograd.gradgradcheck(same_mask, (x,))


def test_outside_a_context_the_global_generator_decides() -> None:
    assert current() is None
    x, module = torch.ones(4, 64), Dropout(0.5)
    torch.manual_seed(1)
    a = module(x)
    b = module(x)
    torch.manual_seed(1)
    assert torch.equal(module(x), a)
    assert not torch.equal(a, b)


def test_contexts_nest_and_end() -> None:
    outer, inner = Context(seed=1), Context(seed=2)
    with draw_context(outer):
        with draw_context(inner):
            assert current() is inner
        assert current() is outer
        with pytest.raises(ZeroDivisionError), draw_context(inner):
            _ = 1 / 0
        assert current() is outer
    assert current() is None


def test_keys_outside_and_inside() -> None:
    module = named(Dropout(0.5))
    assert sample_keys(module) is None
    with draw_context(Context(seed=1, first_sample=8)):
        assert sample_keys(module) is None
        (a, first), (b, _) = dropout_key(module), dropout_key(module)
    assert first == 8
    assert a != b


# -- norms ----------------------------------------------------------------------------------------------------------


def trained_norm() -> BatchNorm2d:
    norm = BatchNorm2d(3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, -0.5]))
        norm.bias.copy_(torch.tensor([0.0, 1.0, 0.25]))
    norm(torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 + 1)
    return norm.eval()


def test_own_statistics_are_those_of_a_batch_of_one() -> None:
    norm = trained_norm()
    x = torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(2)) * 3
    with draw_context(Context(seed=0, statistics="own")):
        own = norm(x)
        assert torch.equal(norm(x[1:2]), own[1:2]), "no picture depends on its batch mates"
    for i in range(4):
        single = F.batch_norm(x[i : i + 1], None, None, norm.weight, norm.bias, training=True, eps=norm.eps)
        torch.testing.assert_close(own[i : i + 1], single)


@pytest.mark.parametrize("context", [None, Context(seed=0, statistics="running")])
def test_running_statistics_are_torchs(context: Context | None) -> None:
    norm, x = trained_norm(), torch.randn(4, 3, 5, 6)
    expected = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
    if context is None:
        assert torch.equal(norm(x), expected)
    else:
        with draw_context(context):
            assert torch.equal(norm(x), expected)


def test_using_a_norm_never_changes_it() -> None:
    norm = trained_norm()
    before = [buffer.clone() for buffer in norm.buffers()]
    with draw_context(Context(seed=0, statistics="own")):
        norm(torch.randn(4, 3, 5, 6))
    assert all(torch.equal(a, b) for a, b in zip(before, norm.buffers(), strict=True))


def test_in_training_statistics_are_those_of_the_batch_whatever_the_context_says() -> None:
    x = torch.randn(4, 3, 5, 6)
    norm, plain = BatchNorm2d(3), nn.BatchNorm2d(3)
    with draw_context(Context(seed=0, statistics="own")):
        assert torch.equal(norm(x), plain(x))
    assert torch.equal(norm.running_var, plain.running_var)


def test_a_map_of_one_value_has_no_statistics_of_its_own() -> None:
    norm, x = trained_norm(), torch.randn(2, 3, 1, 1)
    with draw_context(Context(seed=0, statistics="own")):
        assert torch.equal(norm(x), F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias))
    instance = InstanceNorm2d(3, affine=True)
    assert instance(x) is x
    wide = torch.randn(2, 3, 2, 2)
    assert torch.equal(instance(wide), nn.InstanceNorm2d(3, affine=True)(wide))


@pytest.mark.parametrize("activation", [None, nn.ReLU()], ids=["alone", "joined"])
@pytest.mark.parametrize("side", [2, 8, 32])
def test_instance_norm_gives_a_picture_the_same_bits_whatever_its_batch_mates(
    side: int, activation: nn.Module | None
) -> None:
    """Outside of training; a small map by itself is faster by torch's batch norm, which rounds otherwise."""
    norm = InstanceNorm2d(256, affine=True)
    network = Sequential(norm, *([] if activation is None else [activation])).eval()
    pictures = torch.randn(8, 256, side, side, generator=torch.Generator().manual_seed(3))
    pictures = pictures.contiguous(memory_format=torch.channels_last)
    together = network(pictures)
    assert all(torch.equal(network(pictures[n : n + 1]), together[n : n + 1]) for n in range(8))


# -- hold -----------------------------------------------------------------------------------------------------------


def test_held_statistics_stand_still_and_outputs_are_the_same() -> None:
    net = nn.Sequential(BatchNorm2d(3), nn.BatchNorm2d(3), InstanceNorm2d(3, track_running_stats=True))
    x = torch.randn(4, 3, 5, 5)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with hold([net, nn.Parameter(x)]):
        held = net(x)
        with hold([net]):
            net(x)
        net(x)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert torch.equal(net(x), held)
    assert not torch.equal(before["0.running_mean"], net[0].running_mean)
    assert int(net[1].num_batches_tracked) == 1


def test_held_conditional_norms_stand_still_and_go_on_after_an_error() -> None:
    norm = ConditionalBatchNorm2d(2, 3)
    x, y = torch.randn(4, 2, 3, 3), torch.tensor([0, 1, 2, 0])
    held = []

    def fail() -> None:
        with hold([norm]):
            held.append(norm(x, y))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert (norm.running_mean.tolist(), int(norm.num_batches_tracked)) == ([0.0, 0.0], 0)
    assert torch.equal(norm(x, y), held[0])
    assert int(norm.num_batches_tracked) == 1


def test_holding_does_not_change_a_network_in_eval_mode() -> None:
    net = nn.Sequential(BatchNorm2d(3), nn.InstanceNorm2d(3, track_running_stats=True)).eval()
    x = torch.randn(2, 3, 4, 4)
    expected = net(x)
    with hold([net]):
        assert torch.equal(net(x), expected)
