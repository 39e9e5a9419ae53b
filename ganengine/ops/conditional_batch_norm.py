"""Conditional batch norm: batch statistics, scale and shift by class or by sample, optional activation.

With n over samples, c over channels, i over positions, and (gamma, beta)_n the rows gamma[labels[n]], beta[labels[n]]:

    mean_c = mean over (n, i) of x,   var_c = mean over (n, i) of (x - mean_c)^2,   rstd_c = 1 / sqrt(var_c + eps)
    z = gamma_nc (x - mean_c) rstd_c + beta_nc,   y = activation(z)

and backwards, with xn = (x - mean_c) rstd_c, M the elements per channel and gz = grad_y activation'(z):

    grad_beta_nc = sum over i of gz,   grad_gamma_nc = sum over i of gz xn     (added up by label)
    grad_x = rstd_c (gamma_nc gz - 1/M sum over n of gamma_nc (grad_beta_nc + xn grad_gamma_nc))

The last two sums are absent where the statistics are given (eval).

Where a batch is shared by ranks, the same is cut at what they tell each other: mean, var and M of each share, which are
put together (`reference_pooled`), and two sums over each share, which are added up,

    sums_0c = sum over (n, i) of gamma_nc gz,   sums_1c = sum over (n, i) of gamma_nc gz (x - mean_c)
    grad_x = rstd_c (gamma_nc gz - 1/M (sums_0c + (x - mean_c) rstd_c^2 sums_1c))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ganengine.errors import UserError
from ganengine.ops import dispatch
from ganengine.ops.activation import SLOPES, activate, activation_gradient
from ganengine.ops.checks import accumulation_dtype, check_choice, check_device, check_float, describe, widened
from ganengine.ops.registration import LIBRARY, define, differentiate, set_gradient

OP = "conditional_batch_norm"


def conditional_batch_norm(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    labels: Tensor | None = None,
    *,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    activation: Literal["relu", "leaky_relu"] | None = None,
) -> Tensor:
    """Normalise by statistics of the whole batch, never per class; scale and shift each sample by rows of its own.

    y = activation(gamma_n (x - mean) / sqrt(var + eps) + beta_n)

    Args:
        x: [N, C, *spatial], float32, bfloat16, float16 or float64; any strides, channels-last stays channels-last.
        gamma: scale, [K, C] (a row per class) with labels, [N, C] (a row per sample) without; any float dtype.
        beta: shift, like gamma.
        labels: [N], int32 or int64, in [0, K); None: gamma and beta are per sample.
        running_mean: [C]; in training it is moved in place by `momentum` towards the batch's mean.
        running_var: [C]; the same, towards the batch's unbiased variance (biased where a channel has one element).
        training: use the batch's statistics; False: use running_mean and running_var.
        momentum: weight of the new value in the running ones, in [0, 1].
        eps: added to the variance.
        activation: None, "relu" or "leaky_relu" (slope 0.2).

    Returns:
        Like x. Statistics and sums are float32 inside (float64 for float64), under autocast too. A channel of one
        element normalises to 0, so that y = activation(beta_n); an empty batch leaves the running values alone.

    Raises:
        UserError: dtypes, shapes, devices or options do not fit; a label is out of range (on the CPU; on a GPU PyTorch
            stops with a device-side assertion).

    Gradients: any order, with respect to x, gamma and beta. Saved for backward: x, gamma, beta, labels, mean, var.
    Determinism: the same bits each time, but for the reference's sum over labels on CUDA, which uses atomics.
    Paper: arXiv:1610.07629, eq. 5; arXiv:1707.00683, section 3; batch statistics arXiv:1502.03167, algorithm 1.
    """
    _check(x, gamma, beta, labels, running_mean, running_var, training, momentum, activation)
    wide = accumulation_dtype(x.dtype)
    given = (None, None) if training else (running_mean, running_var)
    mean, var = (None if s is None else s.to(wide) for s in given)
    arguments = (x, widened(gamma, wide), widened(beta, wide), labels, mean, var, eps, SLOPES[activation])
    op = call_forward if dispatch.takes_op(OP, x.device.type) else reference
    try:
        y, mean, var = op(*arguments)
    except RuntimeError:
        if labels is not None:
            _check_range(labels, gamma.shape[0])  # the kernel has looked too, but has no UserError to raise
        raise
    count = x.shape[0] * math.prod(x.shape[2:])
    if training and running_mean is not None and running_var is not None and count > 0:
        with torch.no_grad():
            move(running_mean, running_var, mean, var * (count / max(count - 1, 1)), momentum)
    result: Tensor = y
    return result


def move(running_mean: Tensor, running_var: Tensor, mean: Tensor, unbiased: Tensor, momentum: float) -> None:
    """Move running statistics by `momentum` towards a batch's mean and unbiased variance, in place."""
    if running_mean.dtype == running_var.dtype == mean.dtype:
        torch._foreach_lerp_([running_mean, running_var], [mean, unbiased], momentum)
    else:
        running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        running_var.lerp_(unbiased.to(running_var.dtype), momentum)


def reference(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    labels: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    eps: float,
    slope: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (y, mean, var): the formula of this module's head in plain PyTorch.

    Args:
        x: [N, C, *spatial].
        gamma: [K, C] or [N, C], in the dtype of the statistics: float32, or float64 for float64 x.
        beta: like gamma.
        labels: [N], or None.
        mean: [C], like gamma in dtype, statistics to use; None: those of x.
        var: [C], biased; None together with mean.
        eps: added to var.
        slope: of the activation below zero; 1: no activation.
    """
    if labels is not None:
        _check_range(labels, gamma.shape[0])
    flat = _flat(x).to(gamma.dtype)
    if mean is None or var is None:
        mean, var = statistics(flat)
    else:
        mean, var = mean.clone(), var.clone()
    rstd = torch.rsqrt(var + eps)
    scale = _rows(gamma, labels) * rstd
    z = torch.addcmul(_rows(beta, labels).unsqueeze(2), flat - mean.unsqueeze(1), scale.unsqueeze(2))
    return _like(activate(z, slope), x), mean, var


def reference_backward(
    grad_y: Tensor,
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    labels: Tensor | None,
    mean: Tensor,
    var: Tensor,
    batch_statistics: bool,
    eps: float,
    slope: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (grad_x, grad_gamma, grad_beta): the backward formula of this module's head in plain PyTorch.

    Args:
        grad_y: like x.
        mean: the statistics that forward used, as it returned them; so for var.
        batch_statistics: they were those of x and so depend on it.
        x, gamma, beta, labels, eps, slope: as in `reference`.
    """
    grad_z, centred, gamma_n, rstd = _grad_z(grad_y, x, gamma, beta, labels, mean, var, eps, slope)
    xn = centred * rstd.unsqueeze(1)
    grad_beta = grad_z.sum(2)
    grad_gamma = (grad_z * xn).sum(2)
    grad_x = grad_z * (gamma_n * rstd).unsqueeze(2)
    if batch_statistics:
        count = centred.shape[0] * centred.shape[2]
        mean_grad = (gamma_n * grad_beta).sum(0) / count
        mean_grad_xn = (gamma_n * grad_gamma).sum(0) / count
        grad_x = grad_x - torch.addcmul(mean_grad.unsqueeze(1), xn, mean_grad_xn.unsqueeze(1)) * rstd.unsqueeze(1)
    return _like(grad_x, x), _table(grad_gamma, gamma, labels), _table(grad_beta, beta, labels)


def reference_sums(
    grad_y: Tensor,
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    labels: Tensor | None,
    mean: Tensor,
    var: Tensor,
    eps: float,
    slope: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (grad_gamma, grad_beta, sums): what takes one pass over x and grad_y.

    Args:
        grad_y, x, gamma, beta, labels, mean, var, eps, slope: as in `reference_backward`; var is biased.

    Returns:
        grad_gamma, grad_beta: like gamma.
        sums: [2, C], float64, as ranks add them up: of gamma_nc gz and of gamma_nc gz (x - mean_c).
    """
    grad_z, centred, gamma_n, rstd = _grad_z(grad_y, x, gamma, beta, labels, mean, var, eps, slope)
    grad_beta = grad_z.sum(2)
    grad_scale = (grad_z * centred).sum(2)
    sums = torch.stack((grad_beta, grad_scale)).mul(gamma_n).sum(1, dtype=torch.float64)
    return _table(grad_scale * rstd, gamma, labels), _table(grad_beta, beta, labels), sums


def reference_input(
    grad_y: Tensor,
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    labels: Tensor | None,
    mean: Tensor,
    var: Tensor,
    sums: Tensor,
    count: Tensor,
    eps: float,
    slope: float,
) -> Tensor:
    """Return grad_x, where the statistics are those of a batch of which x is a part: the other pass.

    Args:
        grad_y, x, gamma, beta, labels, mean, var, eps, slope: as in `reference_sums`.
        sums: [2, C], float64, those of the whole batch.
        count: 0-d, like gamma in dtype, values per channel of the whole batch.
    """
    grad_z, centred, gamma_n, rstd = _grad_z(grad_y, x, gamma, beta, labels, mean, var, eps, slope)
    offset, pull = _pull(sums, count, rstd)
    pulled = torch.addcmul(offset.unsqueeze(1), centred, pull.unsqueeze(1))
    return _like(grad_z * (gamma_n * rstd).unsqueeze(2) - pulled, x)


# ----------------------------------------------------------------------------------------------------------------
# Parts of the reference


def _flat(x: Tensor) -> Tensor:
    return x.reshape(x.shape[0], x.shape[1], math.prod(x.shape[2:]))  # no copy in either memory format


def _like(flat: Tensor, x: Tensor) -> Tensor:
    return flat.to(x.dtype).view(x.shape).contiguous(memory_format=memory_format(x))


def memory_format(x: Tensor) -> torch.memory_format:
    """Return the layout of results: channels-last where x is, else contiguous."""
    if torch._C._are_functorch_transforms_active():  # vmap knows no memory formats
        return torch.contiguous_format
    channels_last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.dim())
    if channels_last is not None and not x.is_contiguous() and x.is_contiguous(memory_format=channels_last):
        return channels_last
    return torch.contiguous_format


def _rows(table: Tensor, labels: Tensor | None) -> Tensor:
    return table if labels is None else table.index_select(0, labels)


def one_class(x: Tensor) -> Tensor:
    """Return the labels [N] of a norm of one class: 0 of each sample."""
    return torch.zeros(x.shape[0], dtype=torch.int64, device=x.device)


def _pull(sums: Tensor, count: Tensor, rstd: Tensor) -> Tensor:
    """Return how the statistics pull at grad_x, [2, C]: by so much, and by so much for each unit of x - mean."""
    return (sums / count).to(rstd.dtype) * torch.stack((rstd, rstd.pow(3)))


def _table(rows: Tensor, table: Tensor, labels: Tensor | None) -> Tensor:
    return rows if labels is None else torch.zeros_like(table).index_add(0, labels, rows)


def _grad_z(
    grad_y: Tensor,
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    labels: Tensor | None,
    mean: Tensor,
    var: Tensor,
    eps: float,
    slope: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return gz and x - mean [N, C, M], gamma by sample [N, C] and rstd [C]."""
    flat, grad = _flat(x).to(gamma.dtype), _flat(grad_y).to(gamma.dtype)
    rstd = torch.rsqrt(var + eps)
    gamma_n, beta_n = _rows(gamma, labels), _rows(beta, labels)
    centred, scale = flat - mean.unsqueeze(1), gamma_n * rstd
    z = torch.addcmul(beta_n.unsqueeze(2), centred, scale.unsqueeze(2))  # the same roundings as forward: one sign
    return activation_gradient(grad, z, slope), centred, gamma_n, rstd


def statistics(flat: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance [C] of x as [N, C, M]; those of nothing are 0."""
    if flat.numel() == 0:
        return flat.new_zeros(flat.shape[1]), flat.new_zeros(flat.shape[1])
    # Several plain passes are still much faster than var_mean over these axes, and the second mean takes the rounding
    # out of the first, which counts where the mean is many deviations from 0.
    rough = flat.mean((0, 2))
    mean = rough + (flat - rough.unsqueeze(1)).mean((0, 2))
    return mean, (flat - mean.unsqueeze(1)).square().mean((0, 2))


def reference_statistics(x: Tensor) -> Tensor:
    """Return mean, biased variance and count of x [N, C, *spatial], as [3, C] in the dtype of the statistics."""
    mean, var = statistics(widened(_flat(x), accumulation_dtype(x.dtype)))
    return torch.stack((mean, var, torch.full_like(mean, x.shape[0] * math.prod(x.shape[2:]))))


def reference_pooled(everywhere: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return (mean, var, unbiased, count) of the ranks' batch, from what each rank has of its share.

        mean = sum_r w_r mean_r,   var = sum_r w_r (var_r + (mean_r - mean)^2),   w_r = count_r / sum of counts

    Args:
        everywhere: [ranks, 3, C], float32 or float64: mean, biased variance and count.

    Returns:
        mean, var, unbiased: [C]; the unbiased variance is the biased one where a channel has one value.
        count: 0-d.
    """
    means, variances, counts = everywhere.unbind(1)
    total = counts.sum(0)
    shares = counts / total.clamp(min=1)
    mean = (shares * means).sum(0)
    var = (shares * (variances + (means - mean).square())).sum(0)
    return mean, var, var * (total / (total - 1).clamp(min=1)), everywhere[:, 2, :1].sum()


# ----------------------------------------------------------------------------------------------------------------
# Fake kernels and gradients


def _fake(x: Tensor, gamma: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    statistic = gamma.new_empty(x.shape[1])
    return torch.empty_like(x, memory_format=memory_format(x)), statistic, torch.empty_like(statistic)


def _fake_backward(grad_y: Tensor, x: Tensor, gamma: Tensor, beta: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    grad_x = torch.empty_like(x, memory_format=memory_format(x))
    return grad_x, gamma.new_empty(gamma.shape), beta.new_empty(beta.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, gamma, beta, labels, given_mean, _, ctx.eps, ctx.slope = inputs
    _, mean, var = output
    ctx.batch_statistics = given_mean is None
    # The statistics count as constants: the gradients below know how they depend on x.
    ctx.mark_non_differentiable(mean, var)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, gamma, beta, labels, mean, var)


def _gradient(ctx: Any, grad_y: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    if grad_y is None:
        return (None,) * 8
    grads = call_backward(grad_y, *ctx.saved_tensors, ctx.batch_statistics, ctx.eps, ctx.slope)
    needed = (grad if n else None for grad, n in zip(grads, ctx.needs_input_grad, strict=False))
    return (*needed, None, None, None, None, None)


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.batch_statistics, ctx.eps, ctx.slope = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors)


def _gradient_backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    grad_y, x, gamma, beta, labels, mean, var = ctx.saved_tensors

    def formula(grad_y: Tensor, x: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, ...]:
        m, v = statistics(_flat(x).to(gamma.dtype)) if ctx.batch_statistics else (mean, var)
        return reference_backward(grad_y, x, gamma, beta, labels, m, v, ctx.batch_statistics, ctx.eps, ctx.slope)

    found = differentiate(formula, (grad_y, x, gamma, beta), ctx.needs_input_grad[:4], grads)
    return (*found, None, None, None, None, None, None)


def _fake_statistics(x: Tensor) -> Tensor:
    return x.new_empty((3, x.shape[1]), dtype=accumulation_dtype(x.dtype))


def _fake_pooled(everywhere: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    mean, var, unbiased = (everywhere.new_empty(everywhere.shape[2]) for _ in range(3))
    return mean, var, unbiased, everywhere.new_empty(())


def _fake_sums(grad_y: Tensor, x: Tensor, gamma: Tensor, beta: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    sums = gamma.new_empty((2, x.shape[1]), dtype=torch.float64)
    return gamma.new_empty(gamma.shape), beta.new_empty(beta.shape), sums


def _fake_input(grad_y: Tensor, x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x, memory_format=memory_format(x))


def _save_inputs(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs)


def _gradient_statistics(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    return tuple(differentiate(lambda x: (reference_statistics(x),), ctx.saved_tensors, ctx.needs_input_grad, grads))


def _gradient_pooled(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    return tuple(differentiate(reference_pooled, ctx.saved_tensors, ctx.needs_input_grad, grads))


def _save_pass(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.eps, ctx.slope = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors)


def _gradient_sums(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    return _around_labels(ctx, reference_sums, grads)


def _gradient_input(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    return _around_labels(ctx, lambda *inputs: (reference_input(*inputs),), grads)


def _around_labels(
    ctx: Any, formula: Callable[..., Sequence[Tensor]], grads: Sequence[Tensor | None]
) -> tuple[Tensor | None, ...]:
    """Return the gradients of a pass: those of its tensors, none of labels, eps and slope."""
    tensors, needed = list(ctx.saved_tensors), list(ctx.needs_input_grad[:-2])
    at = 4  # where the labels are
    labels = tensors.pop(at)
    del needed[at]

    def of_tensors(*inputs: Tensor) -> Sequence[Tensor]:
        return formula(*inputs[:at], labels, *inputs[at:], ctx.eps, ctx.slope)

    found = differentiate(of_tensors, tensors, needed, grads)
    return (*found[:at], None, *found[at:], None, None)


FORWARD = define(
    f"{OP}(Tensor x, Tensor gamma, Tensor beta, Tensor? labels, Tensor? mean, Tensor? var, float eps, float slope)"
    " -> (Tensor y, Tensor mean, Tensor var)",
    reference=reference,
    fake=_fake,
)
BACKWARD = define(
    f"{OP}_backward(Tensor grad_y, Tensor x, Tensor gamma, Tensor beta, Tensor? labels, Tensor mean, Tensor var,"
    " bool batch_statistics, float eps, float slope) -> (Tensor grad_x, Tensor grad_gamma, Tensor grad_beta)",
    reference=reference_backward,
    fake=_fake_backward,
)
STATISTICS = define(f"{OP}_statistics(Tensor x) -> Tensor", reference=reference_statistics, fake=_fake_statistics)
POOLED = define(
    f"{OP}_pooled(Tensor everywhere) -> (Tensor mean, Tensor var, Tensor unbiased, Tensor count)",
    reference=reference_pooled,
    fake=_fake_pooled,
)
SUMS = define(
    f"{OP}_sums(Tensor grad_y, Tensor x, Tensor gamma, Tensor beta, Tensor? labels, Tensor mean, Tensor var, float eps,"
    " float slope) -> (Tensor grad_gamma, Tensor grad_beta, Tensor sums)",
    reference=reference_sums,
    fake=_fake_sums,
)
INPUT = define(
    f"{OP}_input(Tensor grad_y, Tensor x, Tensor gamma, Tensor beta, Tensor? labels, Tensor mean, Tensor var,"
    " Tensor sums, Tensor count, float eps, float slope) -> Tensor",
    reference=reference_input,
    fake=_fake_input,
)


def sums_by_backward(
    grad_y: Tensor,
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    labels: Tensor | None,
    mean: Tensor,
    var: Tensor,
    eps: float,
    slope: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what `reference_sums` does, by the op's whole gradient: its sums by row of the tables hold these."""
    _, grad_gamma, grad_beta = BACKWARD(grad_y, x, gamma, beta, labels, mean, var, False, eps, slope)
    by_row = torch.stack((grad_beta, grad_gamma * torch.sqrt(var + eps)))
    return grad_gamma, grad_beta, by_row.mul_(gamma).sum(1, dtype=torch.float64)


def input_by_backward(
    grad_y: Tensor,
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    labels: Tensor | None,
    mean: Tensor,
    var: Tensor,
    sums: Tensor,
    count: Tensor,
    eps: float,
    slope: float,
) -> Tensor:
    """Return what `reference_input` does, by the op's whole gradient and one more pass that applies the sums."""
    grad_x, _, _ = BACKWARD(grad_y, x, gamma, beta, labels, mean, var, False, eps, slope)
    shift, scale = _pull(sums, count, torch.rsqrt(var + eps)).unsqueeze(1)
    pulled, _, _ = FORWARD(x, scale, shift, one_class(x), mean, torch.ones_like(var), 0.0, 1.0)
    made: Tensor = grad_x.sub_(pulled)
    return made


# A GPU has no kernels of the two passes by themselves, but those of the op and of its gradient.
LIBRARY.impl(f"{OP}_sums", sums_by_backward, "CUDA")  # type: ignore[no-untyped-call]
LIBRARY.impl(f"{OP}_input", input_by_backward, "CUDA")  # type: ignore[no-untyped-call]
call_forward = set_gradient(FORWARD, save=_save, gradient=_gradient)
call_backward = set_gradient(BACKWARD, save=_save_backward, gradient=_gradient_backward)
call_statistics = set_gradient(STATISTICS, save=_save_inputs, gradient=_gradient_statistics)
call_pooled = set_gradient(POOLED, save=_save_inputs, gradient=_gradient_pooled)
call_sums = set_gradient(SUMS, save=_save_pass, gradient=_gradient_sums)
call_input = set_gradient(INPUT, save=_save_pass, gradient=_gradient_input)


# ----------------------------------------------------------------------------------------------------------------
# Checks


def _check(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    labels: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    activation: str | None,
) -> None:
    check_choice(OP, "activation", activation, SLOPES)
    check_float(OP, "x", x)
    if x.dim() < 2:
        raise UserError(f"{OP}: expected x [N, C, ...], got {describe(x)}.")
    n, c = x.shape[:2]
    for name, table in (("gamma", gamma), ("beta", beta)):
        check_float(OP, name, table)
        check_device(OP, name, table, "x", x.device)
        if labels is None and table.shape != (n, c):
            raise UserError(
                f"{OP}: expected {name} [N, C] = [{n}, {c}], a row per sample, as labels is None; "
                f"got {describe(table)}. Pass labels if it has a row per class."
            )
        if table.dim() != 2 or table.shape[1] != c:
            raise UserError(f"{OP}: expected {name} [K, C] with C = {c} as in x {describe(x)}, got {describe(table)}.")
    if gamma.shape != beta.shape:
        raise UserError(f"{OP}: expected gamma and beta of one shape, got {describe(gamma)} and {describe(beta)}.")
    if labels is not None:
        check_device(OP, "labels", labels, "x", x.device)
        if labels.shape != (n,) or labels.dtype not in (torch.int32, torch.int64):
            raise UserError(
                f"{OP}: expected labels [N] = [{n}], int32 or int64, as x is {describe(x)}; got {describe(labels)}."
            )
    if (running_mean is None) != (running_var is None):
        raise UserError(f"{OP}: expected both running_mean and running_var, or neither; got one of them.")
    for name, statistic in (("running_mean", running_mean), ("running_var", running_var)):
        if statistic is not None:
            check_device(OP, name, statistic, "x", x.device)
            if statistic.shape != (c,):
                raise UserError(f"{OP}: expected {name} [C] = [{c}], got {describe(statistic)}.")
    if not training and running_mean is None:
        raise UserError(f"{OP}: expected running_mean and running_var with training=False, got none.")
    if not 0 <= momentum <= 1:
        raise UserError(f"{OP}: expected momentum in [0, 1], got {momentum}.")


def _check_range(labels: Tensor, classes: int) -> None:
    # Elsewhere than on the CPU looking at the values would make the host wait; in a trace there are none.
    if labels.device.type != "cpu" or labels.numel() == 0 or torch.compiler.is_compiling():
        return
    low, high = (int(v) for v in torch.aminmax(labels))
    if low < 0 or high >= classes:
        raise UserError(
            f"{OP}: expected labels in [0, {classes}), as gamma has {classes} rows; got values from {low} to {high}."
        )
