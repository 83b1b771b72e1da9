"""What runs a network on arrays: ONNX Runtime or PyTorch, behind one protocol."""
