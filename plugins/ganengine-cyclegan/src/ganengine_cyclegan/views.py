"""What a trained cyclegan can make: strips there and back, identity strips, translations either way and round trips."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ganengine.errors import UserError
from ganengine.variant import View
from torch import Tensor

from ganengine_cyclegan.config import CycleGANConfig

if TYPE_CHECKING:
    from ganengine.step import Step


def build(config: CycleGANConfig) -> dict[str, View]:
    """Return `strips` (the preview), `identity`, `AtoB`, `BtoA`, and the round trips `AtoBtoA` and `BtoAtoB`.

    A round trip gives back what it takes, so `eval --view AtoBtoA --metrics l1` measures the cycle on held-out
    pictures. The generators pad and crop by themselves.
    """

    def strips(step: Step, n: int) -> dict[str, Tensor]:
        a, b = step.batch.A[:n], step.batch.B[:n]
        there, back = step["G"](a), step["F"](b)
        return {"A": a, "G(A)": there, "F(G(A))": step["F"](there), "B": b, "F(B)": back, "G(F(B))": step["G"](back)}

    def identity(step: Step, n: int) -> dict[str, Tensor]:
        a, b = step.batch.A[:n], step.batch.B[:n]
        if a.shape[1] != b.shape[1]:
            raise UserError(
                f"view identity: expected A and B of equally many channels, got {a.shape[1]} and {b.shape[1]}: G takes "
                "A and cannot be shown a B. Use the view strips."
            )
        return {"A": a, "F(A)": step["F"](a), "B": b, "G(B)": step["G"](b)}

    def through(*names: str) -> Callable[[Step, Tensor], Tensor]:
        def make(step: Step, images: Tensor) -> Tensor:
            for name in names:
                images = step[name](images)
            return images

        return make

    def translation(summary: str, source: str, target: str, *names: str) -> View:
        return View(through(*names), summary, kind="translate", source=source, target=target)

    return {
        "strips": View(strips, "rows of A, G(A), F(G(A)), B, F(B), G(F(B))"),
        "identity": View(identity, "rows of A, F(A), B, G(B): pictures that are already as they should become"),
        "AtoB": translation("A -> B", "A", "B", "G"),
        "BtoA": translation("B -> A", "B", "A", "F"),
        "AtoBtoA": translation("A -> B -> A: what survives the cycle", "A", "A", "G", "F"),
        "BtoAtoB": translation("B -> A -> B: what survives the cycle", "B", "B", "F", "G"),
    }
