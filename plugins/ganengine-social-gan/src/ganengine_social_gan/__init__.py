"""Social GAN for ganengine: where the people of a scene will walk, as many futures as one asks for."""
