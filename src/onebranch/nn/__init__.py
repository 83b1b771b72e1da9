"""Torch modules: a spec as a network that can be trained, in branches or merged on every step."""
