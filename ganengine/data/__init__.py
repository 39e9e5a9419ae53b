"""Pictures in, batches out: data sources, data sets, and the loader that assembles batches ahead of the step.

Importing this package imports neither torch nor numpy; the names below are looked up when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganengine.data.batch import Batch
    from ganengine.data.dataset import BadPictureError, Dataset
    from ganengine.data.inspection import inspect
    from ganengine.data.loader import Loader
    from ganengine.data.options import DataOptions
    from ganengine.data.sources import SOURCES, open_data

__all__ = ["SOURCES", "BadPictureError", "Batch", "DataOptions", "Dataset", "Loader", "inspect", "open_data"]

_HOME = {
    "SOURCES": "sources",
    "BadPictureError": "dataset",
    "Batch": "batch",
    "DataOptions": "options",
    "Dataset": "dataset",
    "Loader": "loader",
    "inspect": "inspection",
    "open_data": "sources",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
