"""Runtimes behind one protocol: the native engine, ONNX Runtime, OpenVINO, PyTorch."""
