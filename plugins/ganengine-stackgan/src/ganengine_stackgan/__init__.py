"""Text to image for ganengine: gan-int-cls (Reed and others) and StackGAN."""
