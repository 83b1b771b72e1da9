"""File containers, one module each: their chunks, directories and segments, read and edited byte by byte.

Everything that is known about a container's bytes is here. What is kept, changed or dropped is decided in
`images.metadata`; samples are decoded in `images.decoders`.
"""
