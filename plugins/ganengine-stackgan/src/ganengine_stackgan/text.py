"""From sentences to embeddings: an encoder of characters and how it is trained, or embeddings that are given."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from ganengine.data.text import CODES
from ganengine.step import Step
from torch import Tensor, nn
from torch.nn import functional as F

from ganengine_stackgan.config import TextConfig

LETTER = 32
"""Numbers in the embedding of a character."""
WARMEST = 100.0
"""Largest factor on similarities."""


class TextEncoder(Protocol):
    """What turns captions into embeddings; the rest of this plugin knows no more of one."""

    def __call__(self, ids: Tensor) -> Tensor:
        """Return embeddings [N, E] of character codes [N, L], 0 where a caption has ended."""
        ...


class CharEncoder(nn.Module):
    """Characters -> C5, ReLU, max of 2 -> C5, ReLU, max of 2 -> GRU, mean over what is no padding; unit mean square.

    An embedding does not depend on how far a row is padded.

    Args:
        width: channels of the first convolution; the second has twice as many.
        embedding: E.

    Paper: after the char-CNN-RNN of 1605.05395, smaller.
    """

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.letters = nn.Embedding(CODES, LETTER, padding_idx=0)
        self.convolutions = nn.ModuleList(
            (nn.Conv1d(LETTER, width, 5, padding=2), nn.Conv1d(width, 2 * width, 5, padding=2))
        )
        self.gru = nn.GRU(2 * width, embedding, batch_first=True)

    def forward(self, ids: Tensor) -> Tensor:
        """Return embeddings [N, E] of character codes [N, L], L at least 4."""
        x = self.letters(ids).transpose(1, 2)
        told = (ids > 0).unsqueeze(1).to(x.dtype)
        for convolution in self.convolutions:
            x = F.max_pool1d(convolution(x).relu() * told, 2)
            told = F.max_pool1d(told, 2)
        states, _ = self.gru(x.transpose(1, 2))
        told = told.transpose(1, 2).to(states.dtype)
        return unit((states * told).sum(1) / told.sum(1).clamp_min(1))


class PictureEncoder(nn.Module):
    """Pictures -> C4s2 LR.2 to 4 x 4, FC; the own text encoder learns to match it. Unused afterwards.

    Args:
        channels: of a picture.
        side: of a picture.
        width: channels of the first layer; twice as many in each layer after it.
        embedding: E.
    """

    def __init__(self, channels: int, side: int, width: int, embedding: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for power in range(int(math.log2(side // 4))):
            outputs = width << min(power, 3)
            layers += [nn.Conv2d(channels, outputs, 4, 2, 1), nn.LeakyReLU(0.2)]
            channels = outputs
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * 16, embedding))
        self.warmth = nn.Parameter(torch.tensor(math.log(10.0)))

    def forward(self, pictures: Tensor) -> Tensor:
        """Return embeddings [N, E]."""
        return unit(self.layers(pictures))


def unit(x: Tensor) -> Tensor:
    """Return rows scaled to a mean square of 1."""
    return F.normalize(x, dim=1) * math.sqrt(x.shape[1])


def matching_loss(pictures: Tensor, texts: Tensor, warmth: Tensor) -> Tensor:
    """Return how badly pictures find their texts among those of the batch, and texts their pictures.

        s_ij = min(exp(warmth), 100) <v_i, t_j> / E
        (mean_i -log softmax_j(s_ij)_i + mean_j -log softmax_i(s_ij)_j) / 2

    Args:
        pictures, texts: [N, E], of unit mean square; row i of both belongs together.
        warmth: 0-d.

    Returns:
        0-d: it belongs to the batch.

    Paper: the symmetric joint embedding of 1605.05395, equation 2, with the softmax of 1807.03748 for its margin.
    """
    similar = warmth.exp().clamp_max(WARMEST) * pictures @ texts.T / pictures.shape[1]
    truth = torch.arange(len(similar), device=similar.device)
    return (F.cross_entropy(similar, truth) + F.cross_entropy(similar.T, truth)) / 2


def chosen(rows: Tensor, draws: Tensor) -> Tensor:
    """Return some of each picture's rows [N, M, ...] that are not all zero; these stand last.

    Args:
        draws: [N, K], uniform on [0, 1).

    Returns:
        [N, K, ...].
    """
    count = rows.ne(0).any(2).sum(1, keepdim=True).clamp_min(1)
    places = (draws * count).long()
    return rows[torch.arange(len(rows), device=rows.device).unsqueeze(1), places]


def embedded(step: Step, config: TextConfig) -> Tensor:
    """Return the embeddings [N, E] of the batch's texts: of captions drawn for each picture, averaged.

    The same in all phases on this batch; without gradients.
    """

    def found() -> Tensor:
        draws = step.rand("captions", (config.averaged_captions,))
        if not config.learns_text:
            return unit(chosen(step.batch["embedding"], draws).mean(1))
        ids = chosen(step.batch["captions"], draws)
        with torch.no_grad():
            every: Tensor = step["E"](ids.flatten(0, 1))
        return every.reshape(*ids.shape[:2], -1).mean(1)

    texts: Tensor = step.shared("texts", found, of=("E",) if config.learns_text else ())
    return texts


def match(step: Step) -> dict[str, Tensor]:
    """Return the loss of the stage that trains the own encoder."""
    ids = chosen(step.batch["captions"], step.rand("captions", (1,)))[:, 0]
    pictures = step["V"]
    return {"matching": matching_loss(pictures(step.batch["real"]), step["E"](ids), pictures.warmth)}
