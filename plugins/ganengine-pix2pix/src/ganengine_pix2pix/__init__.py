"""pix2pix for ganengine: paired image-to-image translation (arXiv:1611.07004)."""
