"""Reference and virtual batch norm: a batch that is chosen once gives the statistics, and no sample sees its mates."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ganengine import ranks
from ganengine.nn.tracing import leaf_module


class ReferenceNorm(nn.Module):
    """Normalise every sample by the statistics of the reference batch, or of that batch and the sample itself.

        mean = (1 - s) mean_R + s mean_x,   var = E[(value - mean)^2] over the same mixture,
        y = (x - mean) / sqrt(var + eps) * weight + bias

    over all axes but that of the channels. R, the reference batch, are the first rows of x, and it is normalised by
    its own statistics alone; s = 1 / (|R| + 1) (virtual batch norm), or 0 (reference batch norm). `WithReference`
    puts the rows there and says how many they are; without any, a sample is normalised by its own statistics.

    Args:
        num_features: channels C of x [N, C, ...].
        virtual: take the sample itself into account.
        eps: added to the variance.

    Gradients: any order, also through the statistics. Paper: arXiv:1606.03498, section 3.5; the weight s is that of
    the published code.
    """

    def __init__(self, num_features: int, *, virtual: bool = True, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_features, self.virtual, self.eps = num_features, virtual, eps
        self.rows = 0
        """How many of the first rows are the reference batch; set by `WithReference`."""
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))

    @leaf_module
    def forward(self, x: Tensor) -> Tensor:
        if x.dim() < 2 or x.shape[1] != self.num_features:
            raise ValueError(f"ReferenceNorm: expected x [N, {self.num_features}, ...], got {list(x.shape)}.")
        inner = tuple(range(2, x.dim()))
        reference, samples = x[: self.rows], x[self.rows :]
        mean, var = _moments(samples, inner)
        parts = []
        if self.rows:
            share = 1 / (self.rows + 1) if self.virtual else 0.0
            own_mean, own_var = _moments(reference, (0, *inner))
            middle = own_mean + share * (mean - own_mean)
            # Of a mixture: the parts' variances and how far their means lie from the common one.
            var = (1 - share) * (own_var + (own_mean - middle) ** 2) + share * (var + (mean - middle) ** 2)
            mean = middle
            parts = [(reference - own_mean) / (own_var + self.eps).sqrt()]
        parts.append((samples - mean) / (var + self.eps).sqrt())
        shape = (1, -1, *(1,) * len(inner))
        return torch.cat(parts) * self.weight.view(shape) + self.bias.view(shape)

    def extra_repr(self) -> str:
        return f"{self.num_features}, virtual={self.virtual}, eps={self.eps}"


class WithReference(nn.Module):
    """Run a network on the reference batch and the samples together, and return what belongs to the samples.

    The reference batch is the first `rows` samples that come in training mode (those of a smaller batch, over and
    over; none while `ganengine.nn.context.hold` holds); from then on it is part of the state. Until then there is
    none, and every sample has its own statistics.

    Args:
        network: takes tensors [N, ...] and returns one; its `ReferenceNorm` layers are told where the batch is.
        rows: size of the reference batch.
        examples: one sample of each tensor that the network takes, without the batch axis; shape and dtype count.
    """

    filled: Tensor

    def __init__(self, network: nn.Module, rows: int, *examples: Tensor) -> None:
        super().__init__()
        if rows < 1 or not examples:
            raise ValueError(f"WithReference: expected a row and an example or more, got {rows} and {len(examples)}.")
        self.network, self.rows = network, rows
        self._names = [f"reference_{number}" for number in range(len(examples))]
        for name, example in zip(self._names, examples, strict=True):
            self.register_buffer(name, example.new_zeros((rows, *example.shape)))
        self.register_buffer("filled", torch.tensor(False))
        self._seen_filled = False
        self.track_running_stats = True

    def forward(self, *inputs: Tensor) -> Tensor:
        if len(inputs) != len(self._names):
            raise ValueError(f"WithReference: expected {len(self._names)} inputs, got {len(inputs)}.")
        # sync: until it is filled, once
        self._seen_filled = self._seen_filled or bool(self.filled)
        if self.training and self.track_running_stats and not self._seen_filled:
            self._fill(inputs)
        rows = self.rows if self._seen_filled else 0
        for module in self.network.modules():
            if isinstance(module, ReferenceNorm):
                module.rows = rows
        if not rows:
            alone: Tensor = self.network(*inputs)
            return alone
        references = (getattr(self, name) for name in self._names)
        both: Tensor = self.network(*(torch.cat((r.to(x.dtype), x)) for r, x in zip(references, inputs, strict=True)))
        return both[rows:]

    @torch.no_grad()
    def _fill(self, inputs: tuple[Tensor, ...]) -> None:
        for name, given in zip(self._names, inputs, strict=True):
            given = ranks.whole(given)
            getattr(self, name).copy_(given[torch.arange(self.rows, device=given.device) % len(given)])
        self.filled.fill_(True)
        self._seen_filled = True


def _moments(x: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance over `axes`, which stay as axes of one."""
    if not axes:
        return x, torch.zeros_like(x)
    mean = x.mean(axes, keepdim=True)
    return mean, ((x - mean) ** 2).mean(axes, keepdim=True)
