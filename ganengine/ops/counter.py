"""Random numbers that are a pure function of (seed, index): the same bits in PyTorch, C++ and CUDA.

Word w of seed s is output w of splitmix64 started at s:

    z = s + (w + 1) * 0x9E3779B97F4A7C15                (all arithmetic modulo 2^64)
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB
    word = z ^ (z >> 31)

Element e is the low half (e even) or the high half (e odd) of word e >> 1: 32 bits, uniform. A kernel makes two
elements from one word and needs no state.

Paper: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014; the constants are
those of variant 13 of Stafford's mixers, as in java.util.SplittableRandom.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ganengine.errors import UserError
from ganengine.ops.registration import traced

_GAMMA = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


def signed64(number: int) -> int:
    """Return the int64 whose 64 bits are the low 64 bits of `number`."""
    if -(2**63) <= number < 2**63:  # also keeps a symbolic int of torch.compile as it is
        return number
    return (number & (2**64 - 1) ^ 2**63) - 2**63


def uniform_bits(seed: int, offset: int, numel: int, device: torch.device | str | None = None) -> Tensor:
    """Return elements offset ... offset + numel - 1 of the stream of `seed`.

    Args:
        seed: any int; its low 64 bits count.
        offset: index of the first element; its low 64 bits count, and the elements after it go on without a wrap.
        numel: how many elements.
        device: where the result is made; None: the default device.

    Returns:
        [numel], int64, each in [0, 2^32).
    """
    return _bits(seed, offset, numel, device).to(torch.int64).bitwise_and_(2**32 - 1)


def keep_mask(
    seed: int, offset: int, shape: Sequence[int], p: float, device: torch.device | str | None = None
) -> Tensor:
    """Return which elements dropout keeps: element i is dropped where bits(seed, offset + i) < floor(p * 2^32).

    Rows a..b of a mask are the mask of those rows with `offset` moved by a times the elements per row.

    Args:
        seed: any int; its low 64 bits count.
        offset: index in the stream of the mask's first element, e.g. first sample * elements per sample.
        shape: shape of the mask; elements are counted in row-major order.
        p: probability of an element to be dropped, in [0, 1).
        device: where the mask is made; None: the default device.

    Returns:
        Tensor of `shape`, bool, true where the element is kept.

    Raises:
        UserError: p is not in [0, 1).
    """
    if not 0 <= p < 1:
        raise UserError(f"keep_mask: expected a dropout probability p in [0, 1), got {p}.")
    # int32 stands for uint32: with the sign bit flipped on both sides the order is the same.
    bits = _bits(seed, offset, math.prod(shape), device).bitwise_xor_(-(2**31))
    return (bits >= int(p * 2**32) - 2**31).view(tuple(shape))


def uniform(seed: int, offset: int, shape: Sequence[int], device: torch.device | str | None = None) -> Tensor:
    """Return numbers uniform on [0, 1): bits(seed, offset + i) >> 8, times 2^-24; arguments as in `keep_mask`.

    Returns:
        Tensor of `shape`, float32; every value is exact.
    """
    return _high_bits(seed, offset, shape, device).mul_(2.0**-24)


def normal(seed: int, offset: int, shape: Sequence[int], device: torch.device | str | None = None) -> Tensor:
    """Return standard normal numbers, one of each element's high 24 bits b; arguments as in `keep_mask`.

        x = sqrt(2) erfinv((2 b + 1) / 2^24 - 1)

    Returns:
        Tensor of `shape`, float32, within +-5.42.
    """
    middles = _high_bits(seed, offset, shape, device).mul_(2.0).sub_(2.0**24 - 1).mul_(2.0**-24)
    return middles.erfinv_().mul_(math.sqrt(2.0))


def _high_bits(seed: int, offset: int, shape: Sequence[int], device: torch.device | str | None) -> Tensor:
    """Return the high 24 bits of elements as float32, which holds them exactly."""
    bits = _bits(seed, offset, math.prod(shape), device)
    return (bits >> 8).bitwise_and_(2**24 - 1).to(torch.float32).view(tuple(shape))


def _bits(seed: int, offset: int, numel: int, device: torch.device | str | None) -> Tensor:
    """Return elements of the stream as int32, bit for bit."""
    seed, offset = signed64(seed), signed64(offset)
    skip = offset & 1
    first = (offset >> 1) & (2**63 - 1)
    words = (numel + skip + 1) >> 1
    # int64 stands for uint64: sums and products are the same modulo 2^64, shifts need the sign bits masked away.
    z = torch.arange(1, words + 1, dtype=torch.int64, device=device)
    z.add_(first).mul_(signed64(_GAMMA)).add_(seed)
    z.bitwise_xor_(_shift(z, 30)).mul_(signed64(_MIX_1))
    z.bitwise_xor_(_shift(z, 27)).mul_(signed64(_MIX_2))
    z.bitwise_xor_(_shift(z, 31))
    if traced():  # torch.jit and ONNX know no views as another dtype
        return torch.stack((z, z >> 32), 1).flatten().to(torch.int32)[skip : skip + numel]
    return z.view(torch.int32)[
        skip : skip + numel
    ]  # little-endian, as all that PyTorch is released for: low half first


def _shift(z: Tensor, bits: int) -> Tensor:
    return (z >> bits).bitwise_and_(2 ** (64 - bits) - 1)
