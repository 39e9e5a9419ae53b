"""What the engine's loop costs against a hand-written one that does the same arithmetic.

    python benches/bench_overhead.py [--size 64] [--batch 1] [--filters 8] [--rounds 60] [--threads 1]

Both train pix2pix: the same networks, loader, autocast, fused Adam, shared fake picture, EMA and channels-last memory.
Steps alternate in one process; after them the weights of both must be equal bit for bit, or no time is printed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ganengine import config, draws
from ganengine.data.dataset import Dataset
from ganengine.data.loader import Loader
from ganengine.display import Display
from ganengine.ema import Average, decay_at
from ganengine.hardware import choose
from ganengine.nn.context import Context, draw_context
from ganengine.observers import Observers
from ganengine.ops import patchgan_loss
from ganengine.plugins import registry
from ganengine.session import data_options
from ganengine.trainer import Trainer
from ganengine.variant import DataSpec, FieldSpec


class Noise(Dataset):
    """Pairs of random pictures."""

    def __init__(self, size: int, count: int = 64) -> None:
        image = FieldSpec("image", (3, size, size))
        self.spec = DataSpec({"A": image, "B": image}, count)
        self._pixels = np.random.default_rng(0).integers(0, 256, (count, 2, size, size, 3), dtype=np.uint8)

    def read(self, split: str, index: int, size: int | None) -> dict[str, np.ndarray]:
        return {"A": self._pixels[index, 0], "B": self._pixels[index, 1]}


def engine(settings: config.Settings, dataset: Dataset) -> Trainer:
    """Return a trainer that needs no folder."""
    hardware = choose(settings.engine)
    loader = Loader(dataset, data_options(settings.engine))
    trainer = Trainer(settings, dataset, loader, hardware, registry(), Display(quiet=True))
    trainer.observers = Observers(registry().manager)
    return trainer


def by_hand(trainer: Trainer, settings: config.Settings, dataset: Dataset) -> Callable[[], None]:
    """Return a plain step of the same game, on networks of its own that start equal."""
    options, hardware = settings.engine, trainer.hardware
    twin = engine(settings, dataset)
    G, D, loader = twin.players.networks["G"], twin.players.networks["D"], twin.loader
    g_params, d_params = list(G.parameters()), list(D.parameters())
    g_adam = torch.optim.Adam(g_params, lr=settings.config.lr, betas=settings.config.betas, fused=True)
    d_adam = torch.optim.Adam(d_params, lr=settings.config.lr, betas=settings.config.betas, fused=True)
    average = Average(G)
    at = {"step": 0, "images": 0}

    def bce(logits: Tensor, target: float) -> Tensor:
        return patchgan_loss(logits, target, mode="bce", reduction="none")

    def step() -> None:
        batch = loader.draw(at["images"], options.batch).to(hardware.device, channels_last=True)
        at["images"] += options.batch
        seed = draws.key(options.seed, "step", at["step"], 0)
        key = draws.key(draws.key(seed, "d"), "shared fake")
        with hardware.autocast():
            with draw_context(Context(seed=key)):
                fake = G(batch.A)
            real_logits, fake_logits = D(torch.cat((batch.A, batch.B), 1)), D(torch.cat((batch.A, fake.detach()), 1))
            d_loss = (0.5 * (bce(real_logits, 1.0) + bce(fake_logits, 0.0))).mean()
        d_loss.backward(inputs=d_params)
        d_adam.step()
        d_adam.zero_grad(set_to_none=True)
        with hardware.autocast():
            g_loss = bce(D(torch.cat((batch.A, fake), 1)), 1.0).mean()
            g_loss = g_loss + (batch.B - fake).abs().flatten(1).mean(1).mean() * settings.config.lambda_l1
        g_loss.backward(inputs=g_params)
        g_adam.step()
        g_adam.zero_grad(set_to_none=True)
        average.update(G, decay_at(at["images"], options.batch, options.ema_images, options.ema_rampup))
        at["step"] += 1

    step.networks = twin.players.networks  # type: ignore[attr-defined]
    return step


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("size", 64), ("batch", 1), ("filters", 8), ("rounds", 60), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    argv = [
        f"--size={args.size}",
        f"--batch={args.batch}",
        f"--g-filters={args.filters}",
        "--lr-ramp=constant",
        "--d-lr=5e-4",
        "--preview=0",
    ]
    argv += [f"--d-filters={args.filters}", f"--threads={args.threads}"]
    settings = config.parse(registry().variant("pix2pix"), argv, "bench_overhead")
    dataset = Noise(args.size)
    trainer = engine(settings, dataset)
    hand = by_hand(trainer, settings, dataset)
    ours: list[float] = []
    theirs: list[float] = []
    for index in range(args.rounds + 5):
        for times, run in ((ours, trainer.round), (theirs, hand)):
            began = time.perf_counter()
            run()
            if index >= 5:
                times.append(1e3 * (time.perf_counter() - began))
    for name, network in hand.networks.items():  # type: ignore[attr-defined]
        for mine, other in zip(trainer.players.networks[name].parameters(), network.parameters(), strict=True):
            assert torch.equal(mine, other), f"{name}: the two loops do not compute the same"
    gaps = [a - b for a, b in zip(ours, theirs, strict=True)]
    low, middle, high = statistics.quantiles(gaps, n=4)
    print(f"size {args.size}, batch {args.batch}, {args.filters} filters, {trainer.hardware.precision}")
    print(f"hand-written {statistics.median(theirs):.2f} ms, engine {statistics.median(ours):.2f} ms per step")
    print(f"engine minus hand-written: median {middle:.2f} ms (quartiles {low:.2f} .. {high:.2f})")
    print(f"share of the step: {100 * middle / statistics.median(theirs):.2f} %")


if __name__ == "__main__":
    main()
