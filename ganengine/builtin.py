"""What the engine itself brings, registered through the hooks that plugins use. This module imports no torch."""

from __future__ import annotations

from ganengine.data.sources import SOURCES
from ganengine.hookspecs import hookimpl
from ganengine.variant import Component, DataSource, Metric

GANENGINE_API = 1


@hookimpl
def ganengine_data_sources() -> list[DataSource]:
    """Return the folder layouts that are recognised."""
    return SOURCES


@hookimpl
def ganengine_commands() -> list[Component]:
    """fn(arguments) -> exit status."""
    where = "ganengine.commands"
    return [
        Component("run", "train a variant on a folder of pictures", f"{where}.run:run"),
        Component("resume", "go on with a run, exactly", f"{where}.run:resume"),
        Component("sample", "draw pictures from a trained run", f"{where}.sample:sample"),
        Component("translate", "translate pictures, any size", f"{where}.translate:translate"),
        Component("eval", "measure a run on held-out data", f"{where}.evaluate:evaluate"),
        Component(
            "diagnose",
            "d-optimum, modes: small games of known outcome",
            "ganengine.diagnose.command:diagnose",
        ),
        Component("import", "make a run of weights trained elsewhere", f"{where}.importing:import_weights"),
        Component("export", "write a trained run as a file for other programs", f"{where}.export:export"),
        Component("report", "one HTML page: curves, previews, figures", f"{where}.report:report"),
        Component("list", "what is installed", f"{where}.installed:show_list"),
        Component("info", "one variant: options, presets, fields", f"{where}.installed:show_info"),
        Component("plugins", "plugins new NAME, plugins test NAME, plugins doctor", f"{where}.plugins:plugins"),
        Component("data", "data inspect: what is in a folder", f"{where}.data:data"),
        Component("bench", "bench ops: fused against eager and torch.compile", f"{where}.bench:bench"),
        Component("doctor", "versions, kernels, devices, fast paths", f"{where}.doctor:doctor"),
    ]


@hookimpl
def ganengine_losses() -> list[Component]:
    """fn(**options) -> an object with d_real, d_fake, d, g and readout; see ganengine.losses.adversarial."""
    where = "ganengine.losses.adversarial"
    return [
        Component("nonsaturating", "binary cross-entropy, G minimises -log D(G(z))", f"{where}:NONSATURATING"),
        Component("saturating", "binary cross-entropy, G minimises log(1 - D(G(z)))", f"{where}:SATURATING"),
        Component("ls", "least squares with targets a, b, c", f"{where}:LS"),
        Component("hinge", "hinge for D, linear for G", f"{where}:HINGE"),
        Component("wasserstein", "critic scores, to be limited by clipping or a penalty", f"{where}:WASSERSTEIN"),
    ]


@hookimpl
def ganengine_penalties() -> list[Component]:
    """Functions that return one value per sample, without their weight; see ganengine.losses.penalties."""
    where = "ganengine.losses.penalties"
    return [
        Component("gp", "gradient penalty of WGAN-GP, between real and fake", f"{where}:gradient_penalty"),
        Component("r1", "squared gradient at real samples; weight gamma / 2", f"{where}:r1_penalty"),
        Component("r2", "squared gradient at fake samples; weight gamma / 2", f"{where}:r2_penalty"),
        Component("drift", "squared logits of real samples", f"{where}:drift_penalty"),
    ]


@hookimpl
def ganengine_initialisers() -> list[Component]:
    """fn(module, generator, gain=...); see ganengine.nn.init."""
    where = "ganengine.nn.init"
    return [
        Component("normal", "N(0, 0.02), norm gains N(1, 0.02): DCGAN, pix2pix", f"{where}:normal"),
        Component("glorot", "uniform, scaled by fan in and fan out", f"{where}:glorot"),
        Component("he", "normal, scaled by fan in", f"{where}:he"),
        Component("orthogonal", "random orthogonal matrices", f"{where}:orthogonal"),
    ]


@hookimpl
def ganengine_augmentations() -> list[Component]:
    """fn(options, device) -> an Augmentation; see ganengine.augment.augmentation."""
    where = "ganengine.augment"
    return [
        Component("diffaugment", "color, translation, cutout, always", f"{where}.diffaugment:DiffAugment"),
        Component("ada", "blit, geometry, color, as often as D needs", f"{where}.adaptive:AdaptiveAugment"),
    ]


@hookimpl
def ganengine_metrics() -> list[Metric]:
    """Of translations: see ganengine.metrics.pictures; of samples: samples; of forecasts: forecasts."""
    pictures, samples = "ganengine.metrics.pictures", "ganengine.metrics.samples"
    forecasts = "ganengine.metrics.forecasts"
    return [
        Metric("l1", "mean absolute difference on [0, 1]; lower is better", f"{pictures}:l1"),
        Metric("psnr", "peak signal-to-noise ratio in dB; higher is better", f"{pictures}:psnr"),
        Metric("ssim", "structural similarity; higher is better", f"{pictures}:ssim"),
        Metric("edge_ratio", "edge strength over that of the truth; blur is below 1", f"{pictures}:edge_ratio"),
        Metric("coverage", "classes that hold at least 2 % of the samples", f"{samples}:coverage", "sample"),
        Metric("class-accuracy", "share judged as the class asked for", f"{samples}:class_accuracy", "sample", True),
        Metric("label-swap", "share whose judged class follows the label", f"{samples}:label_swap", "sample", True),
        Metric("fd-judge", "Frechet distance of the judge's features; not FID", f"{samples}:fd_judge", "sample"),
        Metric("ade", "mean distance of the best future of a scene", f"{forecasts}:ade", "forecast"),
        Metric("fde", "last distance of the best future of a scene", f"{forecasts}:fde", "forecast"),
        Metric("ade-mean", "mean distance over all futures", f"{forecasts}:ade_mean", "forecast"),
        Metric("fde-mean", "last distance over all futures", f"{forecasts}:fde_mean", "forecast"),
        Metric("spread", "how far the ends of futures lie from their middle", f"{forecasts}:spread", "forecast"),
    ]


@hookimpl
def ganengine_exporters() -> list[Component]:
    """Objects like ganengine.export.formats.Exporter."""
    where = "ganengine.export.formats"
    return [
        Component("safetensors", "averaged weights alone", f"{where}:SAFETENSORS"),
        Component("torchscript", "torch.jit.trace, for C++ and mobile", f"{where}:TORCHSCRIPT"),
        Component("pt2", "torch.export", f"{where}:PT2"),
        Component("onnx", "ONNX, for other runtimes; needs the extra `export`", f"{where}:ONNX"),
    ]


@hookimpl
def ganengine_optimizers() -> list[Component]:
    """Return torch optimizer classes: cls(parameters, lr=..., **options)."""
    return [
        Component("adam", "Adam", "torch.optim:Adam"),
        Component("adamw", "Adam with decoupled weight decay", "torch.optim:AdamW"),
        Component("sgd", "gradient descent, with momentum if asked for", "torch.optim:SGD"),
        Component("rmsprop", "RMSProp", "torch.optim:RMSprop"),
    ]
