"""Places on earth taken out of XMP (ISO 16684-1), an RDF text in XML: everything else stays byte for byte."""

import re
from xml.parsers import expat

PLACE = re.compile(r"gps|latitude|longitude|longtitude|^(lat|lon|lng|long|lat_long)$", re.IGNORECASE)
"""Local names of properties that tell a place: exif's, W3C's geo, and of drones, one misspelt by them."""

HIDDEN = re.compile(rb"<!\s*(DOCTYPE|ENTITY)", re.IGNORECASE)


def tells_place(name: str) -> bool:
    """Whether a property of that name, with or without prefix, tells a place.

    >>> tells_place("exif:GPSLatitude"), tells_place("geo:lat"), tells_place("xmp:Label")
    (True, True, False)
    """
    return PLACE.search(name.rpartition(":")[2]) is not None


def without_places(xmp: bytes) -> bytes | None:
    """XMP without the properties that tell a place; None if it cannot be followed."""
    text = _in_utf8(xmp)
    if text is None or HIDDEN.search(text):
        return None
    cuts = _Cuts(text)
    try:
        cuts.parser.Parse(text.rstrip(b"\0 \t\r\n"), True)
    except (expat.ExpatError, ValueError):
        return None
    found, at = [], 0
    for begin, end in cuts.found:
        found.append(text[at:begin])
        at = end
    return b"".join((*found, text[at:])) if cuts.found else xmp


def _in_utf8(xmp: bytes) -> bytes | None:
    """The text; UTF-16 and -32 as UTF-8, None if it is neither."""
    for mark, name in ((b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16")):
        if xmp.startswith(mark):
            return _recoded(xmp, name)
    if xmp.startswith(b"\xfe\xff"):
        return _recoded(xmp, "utf-16")
    plain = xmp.removeprefix(b"\xef\xbb\xbf").strip(b"\0")
    return None if b"\0" in plain else plain


def _recoded(xmp: bytes, name: str) -> bytes | None:
    try:
        return xmp.decode(name).encode()
    except UnicodeError:
        return None


class _Cuts:
    """Pieces of a text, (begin, end) in bytes and in order, in which places are told."""

    def __init__(self, text: bytes) -> None:
        self._text, self._depth, self._begin, self._behind = text, 0, 0, 0
        self.found: list[tuple[int, int]] = []
        self.parser = expat.ParserCreate("UTF-8")
        self.parser.ordered_attributes = True
        self.parser.StartElementHandler = self._starts
        self.parser.EndElementHandler = self._ends

    def _starts(self, name: str, attributes: list[str]) -> None:
        if self._depth:
            self._depth += 1
        elif tells_place(name):
            self._depth, self._begin = 1, self.parser.CurrentByteIndex
            self._behind = self._end_of_tag(self._begin)
        else:
            self._cut_attributes([name for name in attributes[::2] if tells_place(name)])

    def _ends(self, _: str) -> None:
        if not self._depth:
            return
        self._depth -= 1
        if not self._depth:
            empty = self._text[self._behind - 2 : self._behind] == b"/>"
            end = self._behind if empty else self._end_of_tag(self.parser.CurrentByteIndex)
            self.found.append((self._begin, end))

    def _end_of_tag(self, at: int) -> int:
        """Behind the tag that begins here; a `>` may stand in quotes."""
        quote = 0
        while at < len(self._text):
            byte = self._text[at]
            at += 1
            if quote:
                quote = 0 if byte == quote else quote
            elif byte in b"\"'":
                quote = byte
            elif byte == 0x3E:
                break
        return at

    def _cut_attributes(self, names: list[str]) -> None:
        begin = self.parser.CurrentByteIndex
        end = self._end_of_tag(begin) if names else begin
        pieces = []
        for name in names:
            form = rb"\s" + re.escape(name.encode()) + rb"\s*=\s*(?:\"[^\"]*\"|'[^']*')"
            pieces += [piece.span() for piece in re.compile(form).finditer(self._text, begin, end)]
        self.found += sorted(pieces)
