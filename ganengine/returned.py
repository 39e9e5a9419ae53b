"""What functions of a plugin return, held against the contract before anything is made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ganengine.errors import PluginError


def named(made: Any, origin: str, expected: str) -> dict[str, Any]:
    """Return what must be a mapping of names.

    Args:
        made: what was returned.
        origin: by whom, as the message begins: 'The networks builder of "mine"'.
        expected: as one writes it: "{name: Module}".

    Raises:
        PluginError: it is something else.
    """
    if not isinstance(made, Mapping) or not all(isinstance(name, str) for name in made):
        raise PluginError(f"{origin} returned {_kind(made)}; expected {expected}.")
    return dict(made)


def shaped(made: Any, origin: str, *expected: Sequence[int | str]) -> Tensor:
    """Return what must be a tensor of one of these shapes, in which a word stands for any size."""
    if not isinstance(made, Tensor) or not any(fits(made.shape, shape) for shape in expected):
        shapes = " or ".join(f"[{', '.join(map(str, shape))}]" for shape in expected)
        raise PluginError(f"{origin} returned {_kind(made)}; expected a Tensor {shapes}.")
    tensor: Tensor = made
    return tensor


def fits(shape: Sequence[int], expected: Sequence[int | str]) -> bool:
    """Return whether a shape is the expected one, in which a word stands for any size."""
    return len(shape) == len(expected) and all(
        isinstance(b, str) or a == b for a, b in zip(shape, expected, strict=True)
    )


def _kind(made: Any) -> str:
    return f"a Tensor {list(made.shape)}" if isinstance(made, Tensor) else f"a {type(made).__name__}"
