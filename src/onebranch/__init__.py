"""Train an image-enhancement network with many branches, merge it, provably, into one convolution per block."""

__version__ = "0.1.0"
