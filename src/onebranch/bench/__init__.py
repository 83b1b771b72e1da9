"""Timings on this machine: interleaved runs, medians and ratios. Commands, never tests."""
