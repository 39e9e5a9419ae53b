"""Progressive growing of GANs for ganengine: both networks begin at 4 x 4 pixels and grow level by level."""
