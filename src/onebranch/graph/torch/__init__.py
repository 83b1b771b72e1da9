"""PyTorch modules: traced, read as linear operations, and rewritten."""
