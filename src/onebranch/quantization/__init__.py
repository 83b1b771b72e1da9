"""Merged networks into 8-bit integers: calibration, equalization, ranges, rounding, and what it costs."""
