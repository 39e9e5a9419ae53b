"""Conditional GAN for ganengine: perceptrons with maxout that draw the class one asks for (arXiv:1411.1784)."""
