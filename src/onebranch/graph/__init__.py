"""Networks as graphs of operations: analysis, merging, and the readers and writers of ONNX and PyTorch."""
