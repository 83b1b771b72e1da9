"""A model: spec and weights as one file, and the models that ship with the package."""
