"""The usual game, ready to be taken whole: one G, one D, images or points, with or without a label.

A variant whose networks are called as G(z), D(x), or with a label as G(z, y), D(x, y), names these builders and adds
its networks and a config of its own:

    Variant(..., config=MyConfig, networks="my_plugin.networks:build", losses="ganengine.two_player.losses:build",
            schedule="ganengine.two_player.schedule:build", views="ganengine.two_player.views:build",
            equilibrium="ganengine.two_player.equilibrium:build")

This module imports no torch.
"""

from ganengine.two_player.config import ConditionalConfig, TwoPlayerConfig

__all__ = ["ConditionalConfig", "TwoPlayerConfig"]
