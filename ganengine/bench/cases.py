"""The case table: every op that is measured, in the order of the report."""

from __future__ import annotations

from collections.abc import Sequence

from ganengine.bench import (
    conditional_batch_norm,
    convolution,
    im2col,
    instance_norm,
    maxout,
    merged_kernels,
    null,
    patchgan_loss,
    skinny_product,
    spectral_norm,
)
from ganengine.bench.case import Case

MODULES = {
    module.OP: module
    for module in (
        conditional_batch_norm,
        patchgan_loss,
        maxout,
        instance_norm,
        im2col,
        convolution,
        spectral_norm,
        merged_kernels,
        skinny_product,
        null,
    )
}


def cases(ops: Sequence[str] = tuple(MODULES), *, quick: bool = False) -> list[Case]:
    """Return the cases of the named ops; quick: one each."""
    modules = [MODULES[op] for op in ops]
    return [case for module in modules for case in (module.quick_cases() if quick else module.cases())]
