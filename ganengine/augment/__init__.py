"""Augmentation of what critics see in training: differentiable, keyed, the same for real and fake."""

from ganengine.augment.augmentation import Augmentation
from ganengine.augment.critics import Critics

__all__ = ["Augmentation", "Critics"]
