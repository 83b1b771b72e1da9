"""The picture formats: how each is recognized, and what it can hold. A table; no codec is imported here."""

from dataclasses import dataclass
from pathlib import Path

from onebranch.errors import OnebranchError, nearest


@dataclass(frozen=True)
class Format:
    """What a format can hold. depths: in the order of preference, the deepest last; side: the largest.

    The sides of JPEG and AVIF are those of the encoders, below what the formats' headers can say.
    """

    name: str
    suffixes: tuple[str, ...]
    depths: tuple[str, ...] = ("uint8",)
    alpha: bool = False
    side: int = 2**31 - 1


FORMATS = {
    "PNG": Format("PNG", (".png",), ("uint8", "uint16"), alpha=True),
    "JPEG": Format("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), side=65500),
    "WebP": Format("WebP", (".webp",), alpha=True, side=16383),
    "TIFF": Format("TIFF", (".tif", ".tiff"), ("uint8", "uint16", "float32"), alpha=True),
    "GIF": Format("GIF", (".gif",), alpha=True, side=65535),
    "AVIF": Format("AVIF", (".avif",), alpha=True, side=16384),
    "BMP": Format("BMP", (".bmp", ".dib"), side=32767),
    "PPM": Format("PPM", (".ppm", ".pgm", ".pnm"), ("uint8", "uint16")),
}

ONLY_READ = {
    "JPEG 2000": Format("JPEG 2000", (".jp2", ".jpx", ".jpf", ".j2k"), ("uint8", "uint16"), alpha=True),
    "ICO": Format("ICO", (".ico",), alpha=True),
}
"""Formats that are read and not written."""

BY_SUFFIX = {suffix: form for form in FORMATS.values() for suffix in form.suffixes}

SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"BM": "BMP",
    **{b"P%d" % kind + space: "PPM" for kind in range(1, 7) for space in (b" ", b"\t", b"\n", b"\r")},
}

AVIF_BRANDS = (b"avif", b"avis")
HEIF_BRANDS = (b"heic", b"heix", b"mif1", b"msf1", b"heim", b"heis", b"hevc")

ONLY_READ_SIGNATURES = {
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\1\0": "ICO",
}

FOREIGN = {
    b"\x76\x2f\x31\x01": "an OpenEXR picture",
    b"#?RADIANCE": "a Radiance HDR picture",
    b"#?RGBE": "a Radiance HDR picture",
    b"\xff\x0a": "a JPEG XL picture",
    b"\0\0\0\x0cJXL ": "a JPEG XL picture",
    b"8BPS": "a Photoshop document",
    b"%PDF": "a PDF document",
    b"<svg": "an SVG drawing",
    b"<?xml": "an SVG drawing or another XML file",
}
"""What is refused by its name."""


def format_of_content(head: bytes) -> Format | None:
    """The format of a file that begins with these bytes (64 are enough), whatever its name says.

    >>> format_of_content(b"GIF89a...").name
    'GIF'
    """
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return FORMATS["WebP"]
    if head[4:8] == b"ftyp" and head[8:12] in AVIF_BRANDS:
        return FORMATS["AVIF"]
    if head[4:8] == b"ftyp" and head[8:12] == b"mif1" and b"avif" in head[16:48]:
        return FORMATS["AVIF"]
    for start, name in SIGNATURES.items():
        if head.startswith(start):
            return FORMATS[name]
    return next(
        (ONLY_READ[name] for start, name in ONLY_READ_SIGNATURES.items() if head.startswith(start)), None
    )


def foreign_format(head: bytes) -> str:
    """What a file that begins with these bytes is, if it is known and not read; "" otherwise.

    >>> foreign_format(b"%PDF-1.7")
    'a PDF document'
    """
    if head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS:
        return "a HEIC picture"
    return next(
        (name for start, name in FOREIGN.items() if head.lstrip(b"\xef\xbb\xbf \n").startswith(start)), ""
    )


def format_of_name(path: Path) -> Format:
    """The format to write under this name; OnebranchError naming the nearest suffix if it is unknown."""
    suffix = path.suffix.lower()
    if suffix in BY_SUFFIX:
        return BY_SUFFIX[suffix]
    told = f"has the unknown suffix '{suffix}'" if suffix else "has no suffix that says its format"
    raise OnebranchError(f"cannot write '{path}': it {told}; {nearest(suffix, BY_SUFFIX)}")


def format_names() -> str:
    """All formats in words.

    >>> format_names()
    'PNG, JPEG, WebP, TIFF, GIF, AVIF, BMP or PPM'
    """
    *names, last = FORMATS
    return f"{', '.join(names)} or {last}"
