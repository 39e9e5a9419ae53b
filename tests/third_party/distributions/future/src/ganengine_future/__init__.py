"""A plugin that is written for a later contract."""

GANENGINE_API = 2
