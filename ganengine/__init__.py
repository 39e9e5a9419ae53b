"""ganengine: install a model plugin, point it at pictures, and train, judge, use and share a GAN."""

from importlib import metadata

from ganengine.hookspecs import hookimpl

try:
    __version__ = metadata.version("ganengine")
except metadata.PackageNotFoundError:  # a source tree on the path, not installed
    __version__ = "0+unknown"

__all__ = ["__version__", "hookimpl"]
