"""Initial weights by name, drawn from a generator that is handed in.

Parameters are visited in the order of their full names and drawn in float32 in plain layout, so the result depends on
the generator's state and the names alone: not on registration order, memory format, dtype or device of the module.

A parameter called `weight` with two or more axes is drawn; one with a single axis is a gain of a norm layer and becomes
1 (`normal`: about 1); a `bias` becomes 0. Parametrised weights (spectral norm) count under their plain name. Every
other parameter keeps what its module gave it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Generator, Tensor, nn

from ganengine.errors import UserError, nearest


def normal(module: nn.Module, generator: Generator, gain: float = 0.02) -> None:
    """Draw weights from N(0, gain^2) and norm gains from N(1, gain^2); biases are 0.

    Paper: 1511.06434, section 4 (DCGAN); 1611.07004, section 6.2 (pix2pix). The gains: their published code.
    """
    _fill(
        module,
        draw_weight=lambda w: nn.init.normal_(w, 0.0, gain, generator),
        draw_gain=lambda w: nn.init.normal_(w, 1.0, gain, generator),
    )


def glorot(module: nn.Module, generator: Generator, gain: float = 1.0) -> None:
    """Draw weights from U(-a, a), a = gain sqrt(6 / (fan_in + fan_out)); norm gains are 1, biases 0.

    Paper: Glorot and Bengio 2010, eq. 16.
    """
    _fill(module, lambda w: nn.init.xavier_uniform_(w, gain, generator))


def he(module: nn.Module, generator: Generator, gain: float = math.sqrt(2.0)) -> None:
    """Draw weights from N(0, gain^2 / fan_in), fan_in = values behind the first axis; norm gains are 1, biases 0.

    Paper: 1502.01852, eq. 10.
    """
    _fill(module, lambda w: nn.init.normal_(w, 0.0, gain / math.sqrt(w[0].numel()), generator))


def orthogonal(module: nn.Module, generator: Generator, gain: float = 1.0) -> None:
    """Draw weights, seen as matrices [first axis, rest], as gain times a random (semi-)orthogonal matrix.

    Norm gains are 1, biases 0. Paper: 1312.6120; used by 1809.11096 (BigGAN).
    """
    _fill(module, lambda w: nn.init.orthogonal_(w, gain, generator))


INITIALISERS: Mapping[str, Callable[..., None]] = {
    "normal": normal,
    "glorot": glorot,
    "he": he,
    "orthogonal": orthogonal,
}
"""Built-in initialisers by name: fn(module, generator, gain)."""


def initialise(module: nn.Module, name: str, generator: Generator, gain: float | None = None) -> None:
    """Initialise a module in place by the scheme `name`.

    Args:
        module: its parameters are overwritten, those of its children too.
        name: `normal`, `glorot`, `he` or `orthogonal`.
        generator: on the CPU; the only source of randomness.
        gain: the scheme's scale; None: 0.02 for `normal` (the standard deviation), 1 for `glorot` and `orthogonal`,
            sqrt 2 for `he`.

    Raises:
        UserError: unknown name.

    Determinism: same names, shapes and generator state give the same bits.
    """
    if name not in INITIALISERS:
        raise UserError(
            f'initialiser: expected one of {", ".join(INITIALISERS)}, got "{name}".' + nearest(name, INITIALISERS)
        )
    if gain is None:
        INITIALISERS[name](module, generator)
    else:
        INITIALISERS[name](module, generator, gain)


@torch.no_grad()
def _fill(
    module: nn.Module,
    draw_weight: Callable[[Tensor], Tensor],
    draw_gain: Callable[[Tensor], Tensor] = nn.init.ones_,
) -> None:
    for name, parameter in _named_once(module):
        if name == "bias":
            parameter.zero_()
        elif name == "weight":
            drawn = torch.empty(parameter.shape)
            parameter.copy_(draw_weight(drawn) if parameter.ndim >= 2 else draw_gain(drawn))


def _named_once(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Iterate over (plain last name, parameter) in the order of full names, a shared parameter once."""
    seen: set[int] = set()
    for name, parameter in sorted(module.named_parameters(remove_duplicate=False), key=lambda item: item[0]):
        if id(parameter) not in seen:
            seen.add(id(parameter))
            yield name.removesuffix(".original").rpartition(".")[2], parameter
