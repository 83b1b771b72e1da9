"""Clips: decoded with PyAV, enhanced plane by plane, encoded, and joined with the streams that are copied."""
