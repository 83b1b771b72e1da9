"""Encoders: rows become files of each format, in the colours and the depth that it holds."""
