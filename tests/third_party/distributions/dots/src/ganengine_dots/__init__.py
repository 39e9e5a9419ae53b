"""A tiny GAN that learns to draw dots, as a plugin of ganengine."""
