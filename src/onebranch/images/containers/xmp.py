"""XMP metadata (ISO 16684-1), which is RDF in XML. Edits change nothing but the properties they concern."""

import re
from collections.abc import Callable
from xml.parsers import expat

from onebranch.images.containers.location import mentions_location

_DECLARATION = re.compile(rb"<!\s*(DOCTYPE|ENTITY)", re.IGNORECASE)
"""XML declarations, which could hide text from a search. XMP has none (ISO 16684-1, 7.2)."""

_ORIENTATION = re.compile(rb"(tiff:Orientation\s*(?:=\s*[\"']|>)\s*)[2-8]")

_COMPANION_PREFIXES = frozenset(
    ("hdrgm", "HDRGainMap", "apdi", "Container", "GContainer", "Item", "GImage", "GDepth", "GAudio")
)
"""Usual prefixes of properties for gain maps (Adobe, Apple) and of Google's picture containers."""

_COMPANION_WORDS = re.compile(
    rb"hdrgm|HDRGainMap|apdi:|Container|GImage|GDepth|GAudio|MotionPhoto|MicroVideo|HasExtendedXMP"
)

_THUMBNAILS_END = b"</xmp:Thumbnails>"

_BYTE_ORDER_MARKS = (
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


def declares_rotation(xmp: bytes) -> bool:
    """True if tiff:Orientation declares that the picture is stored rotated or mirrored."""
    return _ORIENTATION.search(xmp) is not None


def set_upright(xmp: bytes) -> bytes:
    """The XMP with tiff:Orientation, if present, set to 1 (upright).

    >>> set_upright(b'tiff:Orientation="6"')
    b'tiff:Orientation="1"'
    """
    return _ORIENTATION.sub(rb"\g<1>1", xmp)


def remove_thumbnails(xmp: bytes) -> bytes:
    """The XMP without its xmp:Thumbnails elements.

    It is searched in one pass, so that a hostile file with many opening tags and no closing tag is fast, too.
    """
    kept, position = [], 0
    for begin in re.finditer(rb"<xmp:Thumbnails\b", xmp):
        if begin.start() < position:
            continue
        end = xmp.find(_THUMBNAILS_END, begin.end())
        if end < 0:
            break
        kept.append(xmp[position : begin.start()])
        position = end + len(_THUMBNAILS_END)
    return b"".join((*kept, xmp[position:]))


def is_location_property(name: str) -> bool:
    """True if a property of that name, with or without prefix, holds a geographic location.

    >>> is_location_property("exif:GPSLatitude"), is_location_property("geo:lat")
    (True, True)
    >>> is_location_property("xmp:Label")
    False
    """
    return mentions_location(name.rpartition(":")[2])


def remove_location(xmp: bytes) -> bytes | None:
    """The XMP without GPS metadata; None if it cannot be parsed, because it may then still hold a location.

    >>> remove_location(b'<a exif:GPSLatitude="51,28N" dc:title="London"/>')
    b'<a dc:title="London"/>'
    """
    return _remove_properties(xmp, is_location_property)


def is_companion_property(name: str) -> bool:
    """True if a property describes a gain map, a video or a depth map that is stored with the picture.

    >>> is_companion_property("hdrgm:Version"), is_companion_property("GCamera:MotionPhoto")
    (True, True)
    >>> is_companion_property("GCamera:BurstID")
    False
    """
    prefix, _, local = name.rpartition(":")
    return (
        prefix in _COMPANION_PREFIXES
        or name == "xmpNote:HasExtendedXMP"
        or local.startswith(("MotionPhoto", "MicroVideo"))
    )


def remove_companions(xmp: bytes) -> bytes:
    """The XMP without the properties that describe a gain map, a video or other pictures in the file.

    XMP that cannot be parsed is returned unchanged.
    """
    if not _COMPANION_WORDS.search(xmp):
        return xmp
    return _remove_properties(xmp, is_companion_property) or xmp


def _remove_properties(xmp: bytes, is_removed: Callable[[str], bool]) -> bytes | None:
    """The XMP without the properties whose names satisfy `is_removed`; None if it cannot be parsed."""
    text = _as_utf8(xmp)
    if text is None or _DECLARATION.search(text):
        return None
    parser = _PropertyParser(text, is_removed)
    try:
        parser.parse()
    except (expat.ExpatError, ValueError):
        return None
    kept, position = [], 0
    for begin, end in parser.spans:
        kept.append(text[position:begin])
        position = end
    return b"".join((*kept, text[position:])) if parser.spans else xmp


def _as_utf8(xmp: bytes) -> bytes | None:
    """The text in UTF-8, from UTF-8, UTF-16 or UTF-32; None if it is none of these."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if xmp.startswith(mark):
            try:
                return xmp.decode(encoding).encode()
            except UnicodeError:
                return None
    plain = xmp.removeprefix(b"\xef\xbb\xbf").strip(b"\0")
    return None if b"\0" in plain else plain


class _PropertyParser:
    """Finds the byte ranges [begin, end), in order, of the attributes and elements that are to be removed.

    Expat reports the byte at which a tag begins; the end of the tag is found by scanning for its `>`.
    Example: if locations are removed from `<a exif:GPSLatitude="5"><GPS>x</GPS></a>`, the ranges are (2, 23),
    which is the attribute with the space before it, and (24, 36), which is the element.
    """

    def __init__(self, text: bytes, is_removed: Callable[[str], bool]) -> None:
        self._is_removed = is_removed
        self._text, self._depth, self._begin, self._tag_end = text, 0, 0, 0
        self.spans: list[tuple[int, int]] = []
        self._parser = expat.ParserCreate("UTF-8")
        self._parser.ordered_attributes = True
        self._parser.StartElementHandler = self._start_element
        self._parser.EndElementHandler = self._end_element

    def parse(self) -> None:
        """Fill `spans`. Raises ExpatError or ValueError if the text is not XML."""
        self._parser.Parse(self._text.rstrip(b"\0 \t\r\n"), True)

    def _start_element(self, name: str, attributes: list[str]) -> None:
        if self._depth:
            self._depth += 1
        elif self._is_removed(name):
            self._depth, self._begin = 1, self._parser.CurrentByteIndex
            self._tag_end = self._end_of_tag(self._begin)
        else:
            self._add_attributes([name for name in attributes[::2] if self._is_removed(name)])

    def _end_element(self, _: str) -> None:
        if not self._depth:
            return
        self._depth -= 1
        if not self._depth:
            empty = self._text[self._tag_end - 2 : self._tag_end] == b"/>"
            end = self._tag_end if empty else self._end_of_tag(self._parser.CurrentByteIndex)
            self.spans.append((self._begin, end))

    def _end_of_tag(self, position: int) -> int:
        """The offset after the tag that begins at `position`; a `>` in quotes does not end the tag."""
        quote = 0
        while position < len(self._text):
            byte = self._text[position]
            position += 1
            if quote:
                quote = 0 if byte == quote else quote
            elif byte in b"\"'":
                quote = byte
            elif byte == 0x3E:
                break
        return position

    def _add_attributes(self, names: list[str]) -> None:
        begin = self._parser.CurrentByteIndex
        end = self._end_of_tag(begin) if names else begin
        spans = []
        for name in names:
            attribute = rb"\s" + re.escape(name.encode()) + rb"\s*=\s*(?:\"[^\"]*\"|'[^']*')"
            spans += [match.span() for match in re.compile(attribute).finditer(self._text, begin, end)]
        self.spans += sorted(spans)
