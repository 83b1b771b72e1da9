"""Decoders: files of each format become upright rows, in colours that a network processes."""
