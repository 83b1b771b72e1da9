"""Merging, with a proof: our own models by a plan, anybody's PyTorch modules and ONNX files by their
graph."""
