"""What trained runs can make: pictures for sentences, and fakes beside the real pictures of the same captions."""

from __future__ import annotations

from ganengine.step import Step
from ganengine.variant import Prior, View
from torch import Tensor
from torch.nn import functional as F

from ganengine_stackgan.config import IntClsConfig, StackConfig
from ganengine_stackgan.text import embedded

BESIDE = 4
"""Samples beside a real picture."""


def build_int_cls(config: IntClsConfig) -> dict[str, View]:
    """Return `samples` of any sentence, where there is an encoder, and `beside` of the data's captions."""

    def samples(step: Step, z: Tensor, ids: Tensor) -> Tensor:
        made: Tensor = step["G"](z, step["E"](ids))
        return made

    def beside(step: Step, n: int) -> dict[str, Tensor]:
        texts = embedded(step, config)[:n]
        made = {
            f"sample {number}": step["G"](step.randn(f"z.{number}", (config.latent,))[:n], texts)
            for number in range(BESIDE)
        }
        return {**made, "real": step.batch["real"][:n]}

    views = {"beside": View(beside, "samples of the data's captions beside their pictures")}
    if not config.learns_text:
        return views
    prior = Prior((config.latent,))
    return {"samples": View(samples, "what sentences say", "sample", prior, text="captions"), **views}


def build_stack(config: StackConfig) -> dict[str, View]:
    """Return `stages`, what both stages make of the data's captions, and `samples` and `sketches` of any sentence.

    A latent is z of stage I, then e of each stage.
    """
    low = config.latent + config.condition

    def sketch(step: Step, latents: Tensor, texts: Tensor) -> Tensor:
        made: Tensor = step["G0"](latents[:, :low], texts)[0]
        return made

    def refined(step: Step, latents: Tensor, texts: Tensor) -> Tensor:
        made = sketch(step, latents, texts)
        if "G" not in step.networks:  # stage II has not begun
            return made
        larger: Tensor = step["G"](made, latents[:, low:], texts)[0]
        return larger

    def stages(step: Step, n: int) -> dict[str, Tensor]:
        texts, real = embedded(step, config)[:n], step.batch["real"][:n]
        latents = step.randn("latents", (low + config.condition,))[:n]
        made = {"stage I": sketch(step, latents, texts), "stage II": refined(step, latents, texts), "real": real}
        return {name: F.interpolate(pictures, real.shape[2:]) for name, pictures in made.items()}

    views = {"stages": View(stages, "both stages for captions of the data, beside their pictures")}
    if not config.learns_text:
        return views
    prior = Prior((low + config.condition,))

    def samples(step: Step, latents: Tensor, ids: Tensor) -> Tensor:
        return refined(step, latents, step["E"](ids))

    def sketches(step: Step, latents: Tensor, ids: Tensor) -> Tensor:
        return sketch(step, latents, step["E"](ids))

    return {
        **views,
        "samples": View(samples, "what sentences say", "sample", prior, text="captions"),
        "sketches": View(sketches, "what stage I makes of sentences", "sample", prior, text="captions"),
    }
