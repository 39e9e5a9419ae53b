"""What the engine's loop costs against a hand-written one that does the same arithmetic.

    python benches/bench_overhead.py [--size 64] [--batch 1] [--filters 8] [--rounds 60] [--threads 1]

All train pix2pix: the same networks, loader, autocast, fused Adam in memory order, shared fake picture, one pass of D
over real and fake, EMA and channels-last memory. There are two hand-written loops: a bare one, and a careful one that,
like the engine, looks whether every gradient is finite before it steps (by torch.nn.utils.get_total_norm). Steps
alternate in one process; after them the weights of all must be equal bit for bit, or no time is printed.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from ganengine import config, draws
from ganengine.data.dataset import Dataset
from ganengine.data.loader import Loader
from ganengine.display import Display
from ganengine.ema import decay_at
from ganengine.hardware import choose
from ganengine.nn.context import Context, draw_context
from ganengine.observers import Observers
from ganengine.ops import patchgan_loss
from ganengine.optimizers import step_in_memory_order
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


def by_hand(
    trainer: Trainer, settings: config.Settings, dataset: Dataset, *, careful: bool
) -> tuple[Callable[[], None], dict[str, nn.Module]]:
    """Return a plain step of the same game and the networks it trains, which start equal to the engine's."""
    options, hardware = settings.engine, trainer.hardware
    twin = engine(settings, dataset)
    G, D, loader = twin.players.networks["G"], twin.players.networks["D"], twin.loader
    g_params, d_params = list(G.parameters()), list(D.parameters())
    g_adam = torch.optim.Adam(g_params, lr=settings.config.lr, betas=settings.config.betas, fused=True)
    d_adam = torch.optim.Adam(d_params, lr=settings.config.lr, betas=settings.config.betas, fused=True)
    for adam in (g_adam, d_adam):
        step_in_memory_order(adam)  # what the loop costs is asked, not what torch's step does
    averaged = [p.detach().clone() for p in g_params]
    followed = [p.detach() for p in g_params]
    at = {"step": 0, "images": 0}

    def bce(logits: Tensor, target: float) -> Tensor:
        return patchgan_loss(logits, target, mode="bce", reduction="none")

    def update(adam: torch.optim.Optimizer, params: list[nn.Parameter]) -> None:
        if careful:
            norm = nn.utils.get_total_norm([p.grad for p in params if p.grad is not None])
            assert torch.isfinite(norm)
        adam.step()
        adam.zero_grad(set_to_none=True)

    def step() -> None:
        batch = loader.draw(at["images"], options.batch).to(hardware.device, channels_last=True)
        at["images"] += options.batch
        seed = draws.key(options.seed, "step", at["step"], 0)
        key = draws.key(draws.key(seed, "d"), "shared fake")
        with hardware.autocast():
            with draw_context(Context(seed=key)):
                fake = G(batch.A)
            pairs = [torch.cat((batch.A, image), 1) for image in (batch.B, fake.detach())]
            real_logits, fake_logits = D(torch.cat(pairs)).chunk(2)
            d_loss = (0.5 * (bce(real_logits, 1.0) + bce(fake_logits, 0.0))).mean()
        d_loss.backward(inputs=d_params)
        update(d_adam, d_params)
        with hardware.autocast():
            g_loss = bce(D(torch.cat((batch.A, fake), 1)), 1.0).mean()
            g_loss = g_loss + (batch.B - fake).abs().flatten(1).mean(1).mean() * settings.config.lambda_l1
        g_loss.backward(inputs=g_params)
        update(g_adam, g_params)
        decay = decay_at(at["images"], options.batch, options.ema_images, options.ema_rampup)
        torch._foreach_lerp_(averaged, followed, 1.0 - decay)
        at["step"] += 1

    return step, {"G": G, "D": D}


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
    bare, bare_networks = by_hand(trainer, settings, dataset, careful=False)
    careful, careful_networks = by_hand(trainer, settings, dataset, careful=True)
    ways = {"engine": trainer.round, "bare": bare, "careful": careful}
    times: dict[str, list[float]] = {name: [] for name in ways}
    gc.freeze()  # as a run does
    for index in range(args.rounds + 5):
        # Another order every round: what comes after the bigger program finds colder caches.
        for name in random.Random(index).sample(sorted(ways), len(ways)):
            began = time.perf_counter()
            ways[name]()
            if index >= 5:
                times[name].append(1e3 * (time.perf_counter() - began))
    for networks in (bare_networks, careful_networks):
        for name, network in networks.items():
            for mine, other in zip(trainer.players.networks[name].parameters(), network.parameters(), strict=True):
                assert torch.equal(mine, other), f"{name}: the loops do not compute the same"
    print(f"size {args.size}, batch {args.batch}, {args.filters} filters, {trainer.hardware.precision}")
    print(f"engine           {statistics.median(times['engine']):8.2f} ms per step")
    for name in ("bare", "careful"):
        gaps = [a - b for a, b in zip(times["engine"], times[name], strict=True)]
        low, middle, high = statistics.quantiles(gaps, n=4)
        median = statistics.median(times[name])
        print(
            f"hand, {name:<10} {median:8.2f} ms per step; engine minus this: median {middle:.2f} ms "
            f"(quartiles {low:.2f} .. {high:.2f}), {100 * middle / median:.2f} % of the step"
        )


if __name__ == "__main__":
    main()
