"""BEGAN for ganengine: an autoencoder as D, and a measured balance of both players."""
