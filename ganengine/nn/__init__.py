"""Thin modules over `ganengine.ops` and keyed random numbers."""

from ganengine.nn.conditional_batch_norm import ConditionalBatchNorm2d
from ganengine.nn.dropout import Dropout
from ganengine.nn.maxout import Maxout
from ganengine.nn.norm import BatchNorm2d, InstanceNorm2d

__all__ = ["BatchNorm2d", "ConditionalBatchNorm2d", "Dropout", "InstanceNorm2d", "Maxout"]
