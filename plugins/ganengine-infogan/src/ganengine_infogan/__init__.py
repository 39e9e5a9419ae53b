"""InfoGAN for ganengine: codes that come to mean something, without labels."""
