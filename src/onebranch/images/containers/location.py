"""Names of properties that hold a geographic location."""

import re

_LOCATION = re.compile(
    r"gps|latitude|longitude|longtitude|\bgeo:l|^(lat|lon|lng|long|lat_long)$", re.IGNORECASE
)
"""Words in EXIF's GPS properties, W3C's geo vocabulary and drone metadata, with a common misspelling."""


def mentions_location(text: str) -> bool:
    """True if a property name or a text contains a word for a geographic location.

    >>> mentions_location("GPSLatitude"), mentions_location("lat"), mentions_location("Label")
    (True, True, False)
    """
    return _LOCATION.search(text) is not None
