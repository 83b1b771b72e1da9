"""ONNX: files, models read as graphs or as linear operations, and written."""
