"""Decoders: they turn picture files into upright rows of samples, in colours that a network can process."""
