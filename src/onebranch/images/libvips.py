"""libvips, set up once: loaders meant only for trusted files are blocked, and its warnings are not printed.

Other modules import `pyvips` from here, never directly.
"""

import logging
import os
from typing import Any

os.environ.setdefault("VIPS_WARNING", "0")  # whatever its value: libvips then prints no warnings

import pyvips

logging.getLogger("pyvips").addHandler(logging.NullHandler())  # the application configures its own log
pyvips.block_untrusted_set(True)


def _decoded(text: Any) -> str:
    """A string of C in Python. Messages quote bytes of files, which need not be UTF-8."""
    content = b"NULL" if text == pyvips.ffi.NULL else pyvips.ffi.string(text)
    return content.decode(errors="backslashreplace") if isinstance(content, bytes) else str(content)


# pyvips decodes strictly: the exception of its log's callback would be printed with a traceback.
pyvips._to_string = pyvips.error._to_string = _decoded

__all__ = ["BLOCKS", "VipsImage", "field", "pyvips", "reason"]

VipsImage = Any
"""A pyvips image: pyvips has no types."""

BLOCKS = {"icc": "icc-profile-data", "exif": "exif-data", "xmp": "xmp-data", "iptc": "iptc-data"}
"""The fields in which libvips keeps the blocks of our `Metadata`."""

UNINFORMATIVE = ("bad seek", "custom tag", "unable to", "load error")
"""Lines of libvips' error log that explain nothing."""

TRUNCATION_MARK = "..."
"""How libvips ends the line in which its error log was full."""

MAX_REASON_CHARACTERS = 200
"""Largest number of characters of a reason in an error message."""


def field(image: VipsImage, name: str, default: Any) -> Any:
    """The metadata field of that name of a libvips image, else the default."""
    return image.get(name) if image.get_typeof(name) else default


def reason(error: Exception) -> str:
    """The last informative line of a libvips error, without the failed operation; "" if there is none.

    libvips keeps about ten thousand characters and truncates the last line, so that its text depends on the
    length of the file's path: such a line is left out.

    >>> reason(Exception("unable to call jpegload\\n  VipsJpeg: premature end of JPEG image\\n"))
    'premature end of JPEG image'
    """
    lines = [line.strip() for line in str(error).splitlines()]
    if len(lines) > 1 and lines[-1].endswith(TRUNCATION_MARK):
        lines.pop()
    informative = [line for line in lines if line and not any(words in line for words in UNINFORMATIVE)]
    return informative[-1].split(": ", 1)[-1][:MAX_REASON_CHARACTERS] if informative else ""
