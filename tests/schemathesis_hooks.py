"""Loaded by schemathesis: bodies that are small real pictures, so that requests are not all refused."""

import io
from functools import cache

import schemathesis
from hypothesis import strategies as st
from PIL import Image

FORMATS = {
    "image/png": "PNG",
    "image/jpeg": "JPEG",
    "image/webp": "WEBP",
    "image/tiff": "TIFF",
    "image/gif": "GIF",
    "image/avif": "AVIF",
    "image/bmp": "BMP",
    "image/x-portable-pixmap": "PPM",
    "application/octet-stream": "PNG",
}


@cache
def encoded(kind: str, width: int, height: int) -> bytes:
    """A picture of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), (40, 90, 160)).save(file, kind)
    return file.getvalue()


def pictures(kind: str) -> st.SearchStrategy[bytes]:
    """Pictures of up to 9x9 pixels; some are cut short."""
    sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))
    whole = sizes.map(lambda size: encoded(kind, *size))
    return whole | st.tuples(whole, st.integers(0, 60)).map(lambda pair: pair[0][: pair[1]])


for media_type, kind in FORMATS.items():
    schemathesis.openapi.media_type(media_type, pictures(kind))
