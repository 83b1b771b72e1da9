"""Quantization of merged networks to 8 bits: calibration, equalization, ranges, rounding, measured loss."""
