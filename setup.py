"""How to compile csrc/; all metadata is in pyproject.toml. Nothing is compiled yet: the ops run as PyTorch references."""

from setuptools import setup

setup()
