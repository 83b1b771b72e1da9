"""Parsers and editors of the bytes of picture files (chunks, directories, segments), one module per format.

All knowledge about the byte layout of a container is here. `images.metadata` decides what is kept, changed or
dropped; `images.decoders` decodes the samples.
"""
