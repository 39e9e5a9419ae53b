"""Conditional batch norm GAN for ganengine: one generator for many classes, as in SNGAN, SAGAN and BigGAN."""
