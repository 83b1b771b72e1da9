"""Merging with a proof: models of onebranch by a plan, any PyTorch module or ONNX model by its graph."""
