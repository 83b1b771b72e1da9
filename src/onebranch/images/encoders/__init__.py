"""Encoders: they write rows of samples to picture files, in colours and a depth that the format can hold."""
