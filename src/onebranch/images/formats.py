"""Tables of the picture formats: their signatures, suffixes and limits. No codec is imported here."""

from dataclasses import dataclass
from pathlib import Path

from onebranch.errors import OnebranchError, nearest


@dataclass(frozen=True)
class Format:
    """A file format and what it can hold. depths: types of samples, the deepest last.

    max_side: largest height or width in pixels. For JPEG and AVIF, it is the limit of the encoder, which is
    smaller than that of the file header.
    """

    name: str
    suffixes: tuple[str, ...]
    depths: tuple[str, ...] = ("uint8",)
    alpha: bool = False
    max_side: int = 2**31 - 1


FORMATS = {
    "PNG": Format("PNG", (".png",), ("uint8", "uint16"), alpha=True),
    "JPEG": Format("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), max_side=65500),
    "WebP": Format("WebP", (".webp",), alpha=True, max_side=16383),
    "TIFF": Format("TIFF", (".tif", ".tiff"), ("uint8", "uint16", "float32"), alpha=True),
    "GIF": Format("GIF", (".gif",), alpha=True, max_side=65535),
    "AVIF": Format("AVIF", (".avif",), alpha=True, max_side=16384),
    "BMP": Format("BMP", (".bmp", ".dib"), max_side=32767),
    "PPM": Format("PPM", (".ppm", ".pgm", ".pnm"), ("uint8", "uint16")),
}
"""The formats that can be read and written, by name."""

READ_ONLY_FORMATS = {
    "JPEG 2000": Format("JPEG 2000", (".jp2", ".jpx", ".jpf", ".j2k"), ("uint8", "uint16"), alpha=True),
    "ICO": Format("ICO", (".ico",), alpha=True),
    "TGA": Format("TGA", (".tga",), alpha=True),
}
"""The formats that can be read but not written, by name."""

READ_ONLY_SUFFIXES = frozenset((".mpo", ".apng", ".pbm"))
"""Suffixes of files that are read as JPEG, PNG and PPM, but not written."""

UNREAD_SUFFIXES = frozenset(
    (
        *(".heic", ".heif", ".hif", ".jxl", ".psd", ".psb", ".svg", ".exr", ".hdr", ".qoi", ".dds", ".pcx"),
        *(".pfm", ".pam", ".xcf", ".kra", ".fits", ".dcm", ".wmf", ".emf", ".jpm", ".jls", ".bpg", ".jxr"),
        *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw", ".3fr", ".raw"),
    )
)
"""Suffixes of picture formats that cannot be read."""

FORMAT_BY_SUFFIX = {suffix: each for each in FORMATS.values() for suffix in each.suffixes}
"""The formats that can be written, by suffix."""

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
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\1\0": "ICO",
}
"""The formats that can be read, by the first bytes of their files."""

AVIF_BRANDS = (b"avif", b"avis")
HEIF_BRANDS = (b"heic", b"heix", b"mif1", b"msf1", b"heim", b"heis", b"hevc")

FOREIGN_SIGNATURES = {
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
"""Names of formats that cannot be read, by the first bytes of their files; used in error messages."""


def format_of_content(head: bytes) -> Format | None:
    """The format of a file that begins with these bytes (64 are enough); None if it cannot be read.

    >>> format_of_content(b"GIF89a...").name
    'GIF'
    """
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return FORMATS["WebP"]
    if _is_avif(head):
        return FORMATS["AVIF"]
    name = next((name for signature, name in SIGNATURES.items() if head.startswith(signature)), None)
    return None if name is None else FORMATS.get(name) or READ_ONLY_FORMATS[name]


def _is_avif(head: bytes) -> bool:
    """True if the major ISOBMFF brand is AVIF, or is the general mif1 with avif as a compatible brand."""
    if head[4:8] != b"ftyp":
        return False
    return head[8:12] in AVIF_BRANDS or (head[8:12] == b"mif1" and b"avif" in head[16:48])


def foreign_format(head: bytes) -> str:
    """The name of the format that cannot be read and whose files begin with these bytes; "" if unknown.

    >>> foreign_format(b"%PDF-1.7")
    'a PDF document'
    """
    if head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS:
        return "a HEIC picture"
    start = head.lstrip(b"\xef\xbb\xbf \n")
    return next((name for signature, name in FOREIGN_SIGNATURES.items() if start.startswith(signature)), "")


def format_of_name(path: Path) -> Format:
    """The format of a file to be written, by the suffix of its name.

    Raises OnebranchError, which suggests the most similar suffix, if the suffix is unknown.
    """
    suffix = path.suffix.lower()
    if suffix in FORMAT_BY_SUFFIX:
        return FORMAT_BY_SUFFIX[suffix]
    problem = f"has the unknown suffix '{suffix}'" if suffix else "has no suffix that states its format"
    raise OnebranchError(f"cannot write '{path}': it {problem}; {nearest(suffix, FORMAT_BY_SUFFIX)}")


def format_names() -> str:
    """The names of all formats that can be written, for messages.

    >>> format_names()
    'PNG, JPEG, WebP, TIFF, GIF, AVIF, BMP or PPM'
    """
    *names, last = FORMATS
    return f"{', '.join(names)} or {last}"
