"""Weights of pytorch-CycleGAN-and-pix2pix: recognise the network by names and shapes, and put them into ours.

Ours compute the same. What has no place in them is without effect (the bias of a convolution in front of instance norm,
whose mean takes it away again; statistics that instance norm kept before PyTorch 0.4); what the file lacks is what its
network computes without (a bias of 0; scale 1 and shift 0 of instance norm).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal, cast

import torch
from ganengine.errors import UserError
from ganengine.nn import InstanceNorm2d
from ganengine.variant import DataSpec, FieldSpec, Imported
from torch import Tensor, nn

from ganengine_pix2pix.config import Norm, Pix2PixConfig, ReceptiveField
from ganengine_pix2pix.networks import STRIDED_LAYERS, PatchGAN, ResNet, UNet
from ganengine_pix2pix.plugin import PAPER

EXPECTED = "weights of a U-Net, a ResNet of 6 or 9 blocks or a PatchGAN of pytorch-CycleGAN-and-pix2pix"
WRAPPERS = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put in front of every name."""
BLOCK = re.compile(r"model\.(\d+)\.conv_block\.(\d+)\.weight")

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Network:
    """A network that was recognised, with tensors by our names."""

    role: Literal["G", "D"]
    summary: str
    channels: tuple[int, int]
    norm: Norm
    options: Mapping[str, Any]
    tensors: Weights


def build(files: Mapping[str, Any]) -> Imported:
    """Recognise G, and D where it is given, in files of one network each.

    Options that no tensor tells are the paper's: the dropout of a U-Net, learning rates, the terms of the loss.

    Args:
        files: what each holds, by its path: a state_dict.

    Raises:
        UserError: one of them is something else, G is missing, or the two are not of one game.
    """
    found: dict[str, Network] = {}
    for path, content in files.items():
        network = recognise(path, content)
        if network.role in found:
            raise UserError(f"{path}: expected one G and at most one D; this is a second {network.role}.")
        found[network.role] = network
    if "G" not in found:
        raise UserError(f"{', '.join(files)}: expected a generator; there is a D alone. Name the file of G too.")
    G, D = found["G"], found.get("D")
    source, target = G.channels
    side = 1 << G.options["levels"] if "levels" in G.options else 256
    options = {**PAPER, "batch": 1, "size": side, "load-size": side * 286 // 256, "norm": G.norm, **G.options}
    if D is not None:
        options |= {**D.options, "arm": _arm(G, D)}

    def data(config: Pix2PixConfig, size: int) -> DataSpec:
        sides = {config.source: source, config.target: target}
        return DataSpec({name: FieldSpec("image", (sides[name], size, size)) for name in sorted(sides)})

    found = {role: found[role] for role in ("G", "D") if role in found}
    return Imported(
        summary=", ".join(network.summary for network in found.values()),
        options=options,
        networks={f"{role}/{name}": t for role, network in found.items() for name, t in network.tensors.items()},
        data=data,
    )


def _arm(G: Network, D: Network) -> str:
    """Return the terms of the loss that this D judges for: those of pix2pix, or of an unconditional D."""
    if D.norm != G.norm:
        raise UserError(f"expected G and D of one run; G has {G.norm} norm, D has {D.norm}.")
    source, target = G.channels
    if D.channels[0] not in (source + target, target):
        raise UserError(
            f"expected a D that sees input and output ({source} + {target} channels) or the output alone; "
            f"this one sees {D.channels[0]} channels. Give the D of the same run, or G alone."
        )
    return "l1+cgan" if D.channels[0] == source + target else "l1+gan"


def recognise(path: str, content: Any) -> Network:
    """Return the network that a file holds.

    Raises:
        UserError: it holds something else; the message says what it seems to be.
    """
    theirs = _state_dict(path, content)
    if "model.model.0.weight" in theirs:
        return _unet(path, theirs)
    if any(BLOCK.fullmatch(name) for name in theirs):
        return _resnet(path, theirs)
    for stem in ("model", "net"):
        if f"{stem}.0.weight" in theirs:
            return _patchgan(path, theirs, stem)
    raise _refusal(path, f"a network of another kind: {_listed(theirs)}")


def _state_dict(path: str, content: Any) -> Weights:
    """Return tensors in float32 by name, without the prefixes of wrappers."""
    if not isinstance(content, Mapping):
        raise _refusal(path, f"a {type(content).__name__}")
    if not content:
        raise _refusal(path, "empty")
    others = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if others:
        inner = [str(name) for name, value in content.items() if isinstance(value, Mapping)]
        remedy = f' Where that is in "{inner[0]}", save it by itself.' if inner else ""
        raise _refusal(path, f"a dictionary that holds {', '.join(others[:6])}", remedy)
    strange = [name for name, t in content.items() if t.layout is not torch.strided or t.is_quantized or t.is_meta]
    if strange:
        raise _refusal(path, f"tensors that are not dense, such as {strange[0]}")
    names = [str(name) for name in content]
    while prefix := next((p for p in WRAPPERS if all(name.startswith(p) for name in names)), ""):
        names = [name.removeprefix(prefix) for name in names]
    tensors = zip(names, content.values(), strict=True)
    return {name: t.detach().float() if t.is_floating_point() else t.detach() for name, t in tensors}


# ----------------------------------------------------------------------------------------------------------------
# One function for each architecture: sizes from shapes, then our names beside theirs


def _unet(path: str, theirs: Weights) -> Network:
    # Sequentials in each other: the outermost has its inner one at 1, the others at 3; the innermost has none.
    stems = ["model.model."]
    for level in count():
        inner = stems[-1] + ("3.model." if level else "1.model.")
        if not any(name.startswith(inner) for name in theirs):
            break
        stems.append(inner)
    levels = len(stems)
    if not 5 <= levels <= 10:
        raise _refusal(path, f"a U-Net of {levels} levels; those have 7 or 8")
    places = {"down.0": "model.model.0", f"up.{levels - 1}": "model.model.3"}
    for level, stem in enumerate(stems[1:-1], 1):
        up = levels - 1 - level
        places |= {f"down.{level}.0": f"{stem}1", f"down.{level}.1": f"{stem}2"}
        places |= {f"up.{up}.0": f"{stem}5", f"up.{up}.1": f"{stem}6"}
    places |= {f"down.{levels - 1}": f"{stems[-1]}1", "up.0.0": f"{stems[-1]}3", "up.0.1": f"{stems[-1]}4"}
    filters, source = _sizes(path, theirs, "model.model.0")
    target = _sizes(path, theirs, "model.model.3")[1]
    norm = _norm(theirs, f"{stems[1]}1", f"{stems[1]}2")
    with torch.device("meta"):
        ours = UNet(source, target, filters, levels, norm, 0.0, skips=True, layout="pytorch")
    tensors = _renamed(path, theirs, ours, norm, places.__getitem__)
    for name, weight in tensors.items():
        if name.startswith("up.") and weight.dim() == 4 and not name.startswith("up.0."):
            # Theirs put the encoder's features in front of the decoder's, ours behind.
            tensors[name] = weight.roll(weight.shape[0] // 2, 0)
    return Network(
        "G",
        f"U-Net of {levels} levels, {_described(filters, norm, source, target)} (its dropout is not told)",
        (source, target),
        norm,
        {"generator": "unet", "unet-layout": "pytorch", "levels": levels, "g-filters": filters},
        tensors,
    )


def _resnet(path: str, theirs: Weights) -> Network:
    inside: dict[int, set[int]] = {}
    for match in filter(None, map(BLOCK.fullmatch, theirs)):
        inside.setdefault(int(match[1]), set()).add(int(match[2]))
    first, blocks = min(inside), len(inside)
    if blocks not in (6, 9) or sorted(inside) != list(range(10, 10 + blocks)):
        raise _refusal(path, f"a ResNet of {blocks} blocks from layer {first} on; those have 6 or 9 from layer 10 on")
    # Dropout has no tensors, but the layers after it count one more.
    dropout = 6 in inside[first] and 5 not in inside[first]
    filters, source = _sizes(path, theirs, "model.1")
    target = _sizes(path, theirs, f"model.{17 + blocks}")[0]
    norm = _norm(theirs, "model.1", "model.2")
    with torch.device("meta"):
        ours = ResNet(source, target, filters, blocks, norm, 0.0)

    def place(module: str) -> str:
        _, outer, *inner = module.split(".")
        if not inner:
            return f"model.{outer}"
        index = int(inner[-1])
        return f"model.{outer}.conv_block.{index - (index > 4 and not dropout)}"

    return Network(
        "G",
        f"ResNet of {blocks} blocks, {_described(filters, norm, source, target)}",
        (source, target),
        norm,
        {"generator": f"resnet-{blocks}", "g-filters": filters, "dropout": 0.5 if dropout else 0.0},
        _renamed(path, theirs, ours, norm, place),
    )


def _patchgan(path: str, theirs: Weights, stem: str) -> Network:
    filters, source = _sizes(path, theirs, f"{stem}.0")
    fields = {strided: field for field, strided in STRIDED_LAYERS.items()}
    # Convolutions at 0, 2, 5, 8 ...: all but the last two have stride 2.
    depth = sum(t.dim() == 4 for t in theirs.values())
    field = 1 if stem == "net" else fields.get(depth - 2)
    if field is None:
        raise _refusal(path, f"a network of another kind: {_listed(theirs)}")
    norm = _norm(theirs, f"{stem}.2", f"{stem}.3")
    with torch.device("meta"):
        ours = PatchGAN(source, filters, cast(ReceptiveField, field), norm)
    return Network(
        "D",
        f"PatchGAN of {field} x {field}, {_described(filters, norm, source, 1)}",
        (source, 1),
        norm,
        {"receptive-field": field, "d-filters": filters},
        _renamed(path, theirs, ours, norm, lambda module: module.replace("layers", stem)),
    )


# ----------------------------------------------------------------------------------------------------------------
# What they share


def _sizes(path: str, theirs: Weights, place: str) -> tuple[int, int]:
    """Return the first two sizes of a convolution's weight."""
    weight = theirs.get(f"{place}.weight")
    if weight is None or weight.dim() != 4 or not weight.numel():
        raise _refusal(path, f"a network of another kind: {_listed(theirs)}")
    return weight.shape[0], weight.shape[1]


def _norm(theirs: Weights, convolution: str, norm: str) -> Norm:
    """Return the norm behind a convolution: batch norm has a scale; there is a bias only in front of instance norm."""
    if f"{norm}.weight" in theirs:
        return "batch"
    return "instance" if f"{convolution}.bias" in theirs else "none"


def _renamed(path: str, theirs: Weights, ours: nn.Module, norm: Norm, place: Callable[[str], str]) -> Weights:
    """Return their tensors by the names of our network, on which its shapes are checked.

    Args:
        ours: the network without memory (device meta).
        place: our name of a layer -> theirs.
    """
    left, result, lacking = dict(theirs), Weights(), []
    for name, wanted in ours.state_dict().items():
        layer, _, leaf = name.rpartition(".")
        source = f"{place(layer)}.{leaf}"
        module = ours.get_submodule(layer)
        value = left.pop(source, None)
        if value is None and _may_lack(module, leaf):
            value = torch.full(wanted.shape, float(leaf == "weight"), dtype=wanted.dtype)
        if value is None:
            lacking.append(source)
        elif value.shape != wanted.shape:
            raise _refusal(path, f"of another form: {source} is {list(value.shape)}, {list(wanted.shape)} is needed")
        else:
            result[name] = value
    for layer, module in ours.named_modules():
        for leaf in _without_effect(module, norm):
            left.pop(f"{place(layer)}.{leaf}", None)
    if lacking or left:
        told = [f"without {lacking[0]}" if lacking else "", f"with {min(left)} besides" if left else ""]
        raise _refusal(path, f"a {type(ours).__name__} " + " and ".join(filter(None, told)))
    return result


def _may_lack(module: nn.Module, leaf: str) -> bool:
    if isinstance(module, CONVOLUTIONS):
        return leaf == "bias"
    return isinstance(module, InstanceNorm2d) or leaf == "num_batches_tracked"


def _without_effect(module: nn.Module, norm: Norm) -> tuple[str, ...]:
    if isinstance(module, InstanceNorm2d):
        return "running_mean", "running_var", "num_batches_tracked"
    return ("bias",) if norm == "instance" and isinstance(module, CONVOLUTIONS) else ()


def _described(filters: int, norm: Norm, source: int, target: int) -> str:
    return f"{filters} filters, {norm} norm, {source} -> {target} channels"


def _listed(theirs: Weights) -> str:
    names = list(theirs)
    shown = ", ".join(f"{name} {list(theirs[name].shape)}" for name in names[:3])
    return f"{len(names)} tensors ({shown}{' ...' if len(names) > 3 else ''})"


def _refusal(path: str, seems: str, remedy: str = "") -> UserError:
    return UserError(f"{path}: expected {EXPECTED}; it seems to be {seems}.{remedy}")
