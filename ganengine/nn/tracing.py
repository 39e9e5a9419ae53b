"""What torch.fx sees of layers and functions that look at their input, which it cannot do: one node for each."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from torch import Tensor
from torch.fx import Proxy

Function = TypeVar("Function", bound=Callable[..., Any])


def leaf_module(forward: Function) -> Function:
    """Have torch.fx take a module as it takes torch's own, without a look inside. Decorates its forward method."""

    @wraps(forward)
    def taken(self: Any, x: Any, *others: Any, **options: Any) -> Any:
        tracer: Any = x.tracer if not isinstance(x, Tensor) and isinstance(x, Proxy) else None
        if tracer is None or tracer.root is self:
            return forward(self, x, *others, **options)
        return tracer.create_proxy("call_module", tracer.path_of_module(self), (x, *others), options)

    return taken  # type: ignore[return-value]


def leaf(function: Function) -> Function:
    """Have torch.fx take a function, of a tensor and what else there is, as one call."""

    @wraps(function)
    def taken(x: Any, *others: Any, **options: Any) -> Any:
        if isinstance(x, Tensor) or not isinstance(x, Proxy):
            return function(x, *others, **options)
        return x.tracer.create_proxy("call_function", taken, (x, *others), options)

    return taken  # type: ignore[return-value]
