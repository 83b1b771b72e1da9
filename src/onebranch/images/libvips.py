"""libvips, set up once: loaders meant only for trusted files are blocked, its warnings stay off the console.

Other modules take `pyvips` from here, never directly.
"""

import logging
import os

os.environ.setdefault("VIPS_WARNING", "0")  # whatever its value: libvips then prints no warnings

import pyvips

logging.getLogger("pyvips").addHandler(
    logging.NullHandler()
)  # the application decides what becomes of its log
pyvips.block_untrusted_set(True)

__all__ = ["BLOCKS", "pyvips", "reason"]

BLOCKS = {"icc": "icc-profile-data", "exif": "exif-data", "xmp": "xmp-data", "iptc": "iptc-data"}
"""Where libvips keeps the blocks of our `Metadata`."""

NOISE = ("bad seek", "custom tag", "unable to", "load error")
"""Lines of libvips' error log that explain nothing."""

CUT = "..."
"""How libvips ends the line in which its error log was full."""


def reason(error: Exception) -> str:
    """The last telling line of a libvips error, without the operation that met it; "" if there is none.

    libvips keeps about ten thousand characters and cuts the line that they end in, so that what is left
    of it depends on the length of the file's path: such a line is not told.

    >>> reason(Exception("unable to call jpegload\\n  VipsJpeg: premature end of JPEG image\\n"))
    'premature end of JPEG image'
    """
    lines = [line.strip() for line in str(error).splitlines()]
    if len(lines) > 1 and lines[-1].endswith(CUT):
        lines.pop()
    telling = [line for line in lines if line and not any(noise in line for noise in NOISE)]
    return telling[-1].split(": ", 1)[-1][:200] if telling else ""
