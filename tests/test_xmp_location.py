"""Removing the location from XMP removes every such property, in any notation, and nothing else."""

import time

import pytest

from onebranch.images.containers.xmp import remove_location
from onebranch.images.metadata import Metadata, without_thumbnail

TEMPLATE = '<x:xmpmeta xmlns:x="x"><r:D xmlns:r="r" xmlns:dc="d" {}>{}<dc:t>kept</dc:t></r:D></x:xmpmeta>'


@pytest.mark.parametrize(
    ("attributes", "elements"),
    [
        ('geo:lat="SECRET" geo:long="SECRET"', ""),
        ('a:latitude="SECRET" b:HomeLongitude = "SECRET"', ""),
        ("", "<exif:GPSLatitude>SECRET</exif:GPSLatitude\n >"),
        ("", "<exif:GPSAreaInformation><r:Seq><r:li>SECRET</r:li></r:Seq></exif:GPSAreaInformation>"),
        ('a:Latitude=">SECRET"', '<b:GPS a:x="SECRET>"/>'),
        ("", "<GPSLatitude xmlns='e'>SECRET</GPSLatitude>"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_every_location_is_removed(attributes: str, elements: str, encoding: str) -> None:
    cleaned = remove_location(TEMPLATE.format(attributes, elements).encode(encoding))
    assert cleaned is not None
    assert b"SECRET" not in cleaned.replace(b"\0", b"")
    assert b"<dc:t>kept</dc:t></r:D></x:xmpmeta>" in cleaned


def test_other_metadata_stays_byte_for_byte() -> None:
    text = (
        TEMPLATE.format('a:lens="long"', "<a:Label>latitude</a:Label>").encode()
        + b"\n" * 9
        + b"<?xpacket end='w'?>"
    )
    assert remove_location(text) == text


@pytest.mark.parametrize(
    "broken", [b"<a:GPSLatitude>SECRET", b"\xff\xfe<", b"<a/>\0<GPS/>", b"<!DOCTYPE a><a/>", b"", b"\xe9<a/>"]
)
def test_xmp_that_cannot_be_parsed_is_dropped(broken: bytes) -> None:
    assert remove_location(broken) is None


def test_time_grows_linearly_with_the_number_of_tags() -> None:
    def seconds(count: int) -> float:
        text = ("<a>" + "<GPS>" * count + " " * 5 * count).encode()
        begin = time.process_time()
        assert remove_location(text) is None
        return time.process_time() - begin

    assert seconds(40_000) < 40 * max(seconds(4_000), 0.001)


def test_thumbnails_that_never_end_take_little_time() -> None:
    closed = b"<xmp:Thumbnails>a</xmp:Thumbnails>b<xmp:Thumbnails c='d'>e</xmp:Thumbnails>"
    many = closed + b"<xmp:Thumbnails>" * 8_000
    begin = time.process_time()
    dict.fromkeys(range(1_000_000))
    usual, begin = time.process_time() - begin, time.process_time()
    assert without_thumbnail(Metadata(xmp=many)).xmp == b"b" + b"<xmp:Thumbnails>" * 8_000
    assert time.process_time() - begin < 10 * usual
