"""Networks that other programs stored as PyTorch or safetensors weights: read, and converted to ONNX."""
