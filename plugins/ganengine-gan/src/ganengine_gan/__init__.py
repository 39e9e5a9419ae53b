"""Unconditional GANs for ganengine: gan, dcgan, lsgan, wgan, wgan-gp. They differ in networks, losses and schedule."""
