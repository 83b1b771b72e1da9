"""Lowering: a spec and its weights become a graph of operations, in floats and in 8-bit integers."""
