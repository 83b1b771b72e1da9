"""The formats that a client accepts, by its Accept header (RFC 9110, 12.5.1)."""

from onebranch.serve.problems import Problem

MEDIA_TYPES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WebP": "image/webp",
    "TIFF": "image/tiff",
    "GIF": "image/gif",
    "AVIF": "image/avif",
    "BMP": "image/bmp",
    "PPM": "image/x-portable-pixmap",
}
"""The media type of every format that is written."""

MAX_RANGES = 50
"""Number of media ranges that are read."""


def accepted_formats(accept: str) -> tuple[str, ...]:
    """The names of the formats that the client prefers; empty if it has no preference.

    Raises `Problem` (406) if no format that is written is accepted.

    >>> accepted_formats("image/webp, image/jpeg;q=0.9, text/html"), accepted_formats("*/*")
    (('WebP',), ())
    >>> accepted_formats("image/avif;q=0, image/png;q=0.5, image/jpeg;q=0.5, */*;q=0.1")
    ('PNG', 'JPEG')
    """
    if not accept.strip():
        return ()
    qualities = dict(_parsed(part) for part in accept.split(",")[:MAX_RANGES])
    by_format = {name: _quality(media_type, qualities) for name, media_type in MEDIA_TYPES.items()}
    best = max(by_format.values())
    if best == 0:
        raise Problem(406, "accept", f"Accept must name one of {', '.join(MEDIA_TYPES.values())}, or image/*")
    accepted = tuple(name for name, quality in by_format.items() if quality == best)
    return () if len(accepted) == len(MEDIA_TYPES) else accepted


def _quality(media_type: str, qualities: dict[str, float]) -> float:
    for media_range in (media_type, "image/*", "*/*"):
        if media_range in qualities:
            return qualities[media_range]
    return 0.0


def _parsed(part: str) -> tuple[str, float]:
    """A media range and its quality.

    >>> _parsed(" image/png ; q=0.5"), _parsed("image/png;q=x")
    (('image/png', 0.5), ('image/png', 0.0))
    """
    media_range, *parameters = (text.strip().lower() for text in part.split(";"))
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                quality = min(1.0, max(0.0, float(value)))
            except ValueError:
                quality = 0.0
    return media_range, quality
