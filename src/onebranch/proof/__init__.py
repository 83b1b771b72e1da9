"""Evidence that a convolution equals the branches it replaces, as values; what is not shown is refused."""
