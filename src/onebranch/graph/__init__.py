"""A network as a graph of operations: values, their halo, and ONNX as the one format they are written in."""
