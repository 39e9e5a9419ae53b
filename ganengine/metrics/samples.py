"""How good samples are as a whole, by what a judge says of them and of real pictures: one value for all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ganengine.errors import UserError
from ganengine.metrics.frechet import fit_gaussian, frechet_distance
from ganengine.metrics.judge import Verdict


@dataclass(frozen=True)
class Evidence:
    """What metrics of samples read."""

    made: Verdict
    """Of the samples."""
    real: Verdict
    """Of as many real training pictures, or all where there are fewer."""
    num_classes: int
    """K."""
    asked: Tensor | None = None
    """[N]: the class that each sample was asked for; None: the variant takes no label."""
    swapped: Callable[[], Verdict] | None = None
    """Of the same latents with the next class asked for, which costs as many samples again."""


def class_shares(evidence: Evidence) -> Tensor:
    """Return the share of samples judged to be of each class, [K]."""
    counts = torch.bincount(evidence.made.classes, minlength=evidence.num_classes)
    return counts.double() / len(evidence.made.classes)


def class_accuracies(evidence: Evidence) -> Tensor:
    """Return for each class the share of the samples asked for it that are judged to be of it, [K].

    Raises:
        UserError: no class was asked for.
    """
    asked = _asked(evidence)
    right = (evidence.made.classes == asked).double()
    wanted = torch.bincount(asked, minlength=evidence.num_classes)
    return torch.bincount(asked, right, minlength=evidence.num_classes) / wanted


def coverage(evidence: Evidence) -> float:
    """Return how many classes hold at least 2 % of the samples; of more than 10 classes a fifth of an even share."""
    return float((class_shares(evidence) >= min(0.02, 0.2 / evidence.num_classes)).sum())


def class_accuracy(evidence: Evidence) -> float:
    """Return the share of samples that are judged to be of the class that they were asked for.

    Raises:
        UserError: no class was asked for.
    """
    return float((evidence.made.classes == _asked(evidence)).double().mean())


def label_swap(evidence: Evidence) -> float:
    """Return the share of latents whose sample is judged another class when the next class is asked for.

    Raises:
        UserError: no class can be asked for.
    """
    _asked(evidence)
    assert evidence.swapped is not None
    return float((evidence.swapped().classes != evidence.made.classes).double().mean())


def fd_judge(evidence: Evidence) -> float:
    """Return the Frechet distance of the judge's features of samples and of real pictures; this is not FID."""
    return frechet_distance(fit_gaussian(evidence.made.features), fit_gaussian(evidence.real.features))


def _asked(evidence: Evidence) -> Tensor:
    if evidence.asked is None:
        raise UserError(
            "class-accuracy and label-swap ask for classes; this variant takes no label. Use coverage and fd-judge."
        )
    return evidence.asked
