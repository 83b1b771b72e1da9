"""The configuration of libvips: loaders for trusted files only are blocked, and warnings are not printed.

Other modules import `pyvips` from here, never directly.
"""

import logging
import os
from typing import Any

os.environ.setdefault("VIPS_WARNING", "0")  # if the variable is set, libvips prints no warnings

import pyvips

logging.getLogger("pyvips").addHandler(logging.NullHandler())  # the application configures logging
pyvips.block_untrusted_set(True)


def _decoded(text: Any) -> str:
    """A C string as a Python string. Messages may quote bytes of files, which need not be UTF-8."""
    content = b"NULL" if text == pyvips.ffi.NULL else pyvips.ffi.string(text)
    return content.decode(errors="backslashreplace") if isinstance(content, bytes) else str(content)


# pyvips decodes strictly. The exception would be raised in its logging callback and print a traceback.
pyvips._to_string = pyvips.error._to_string = _decoded

__all__ = ["BLOCKS", "VipsImage", "field", "pyvips", "reason"]

VipsImage = Any
"""A pyvips image. It is Any because pyvips has no type annotations."""

BLOCKS = {"icc": "icc-profile-data", "exif": "exif-data", "xmp": "xmp-data", "iptc": "iptc-data"}
"""The libvips metadata fields of the blocks in `Metadata`."""

UNINFORMATIVE = ("bad seek", "custom tag", "unable to", "load error")
"""Parts of lines in libvips' error log that are not useful to a user."""

TRUNCATION_MARK = "..."
"""The end of the line at which libvips truncates its error log."""

MAX_REASON_CHARACTERS = 200
"""Largest number of characters of a reason in an error message."""


def field(image: VipsImage, name: str, default: Any) -> Any:
    """The metadata field of that name of a libvips image; `default` if there is none."""
    return image.get(name) if image.get_typeof(name) else default


def reason(error: Exception) -> str:
    """The last informative line of a libvips error, without the failed operation; "" if there is none.

    A truncated last line is ignored. libvips' log has about ten thousand characters, so the text of such a
    line would depend on the length of the file's path.

    >>> reason(Exception("unable to call jpegload\\n  VipsJpeg: premature end of JPEG image\\n"))
    'premature end of JPEG image'
    """
    lines = [line.strip() for line in str(error).splitlines()]
    if len(lines) > 1 and lines[-1].endswith(TRUNCATION_MARK):
        lines.pop()
    informative = [line for line in lines if line and not any(words in line for words in UNINFORMATIVE)]
    return informative[-1].split(": ", 1)[-1][:MAX_REASON_CHARACTERS] if informative else ""
