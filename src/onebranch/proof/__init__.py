"""Proofs that a convolution equals the branches that it replaces. A merge without proof is refused."""
