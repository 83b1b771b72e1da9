"""Small files whose headers announce pictures that take gigabytes to decode, of every format."""

import io
import struct
import zlib
from collections.abc import Callable

from PIL import Image

from onebranch.images.containers.png import IEND, SIGNATURE, chunk_bytes

LARGE = 30_000
"""A side of pictures with 900 million pixels, fewer than the default limit of pixels."""


def png(width: int, height: int, bits: int = 8, colour_type: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    data = chunk_bytes(b"IDAT", zlib.compress(bytes(1000)))
    return SIGNATURE + chunk_bytes(b"IHDR", header) + data + IEND


def tiff(width: int, height: int, **tags: int) -> bytes:
    """A TIFF of one strip of 1000 bytes, grey, 8 bits, deflate, unless tags (t259=1) say otherwise."""
    values = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 273: 300, 277: 1, 279: 1000}
    values |= {int(name[1:]): value for name, value in tags.items()}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(values.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(values)) + entries + bytes(4) + b"x" * 4096


def ico_of(picture: bytes) -> bytes:
    """An ICO whose directory says 256x256."""
    return struct.pack("<3H", 0, 1, 1) + struct.pack("<4B2H2I", 0, 0, 0, 0, 1, 32, len(picture), 22) + picture


def dib(width: int, height: int) -> bytes:
    """A BMP without its file header, as an ICO holds it."""
    return struct.pack("<IiiHHIIiiII", 40, width, 2 * height, 1, 32, 0, 0, 0, 0, 0, 0) + bytes(4000)


def bmp(width: int, height: int) -> bytes:
    """A BMP in run-length encoding."""
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, 0, 0, 0, 0, 0)
    return struct.pack("<2sIHHI", b"BM", 100_000, 0, 0, 1078) + header + bytes(1024) + b"\x05\1" * 1000


def tga(width: int, height: int) -> bytes:
    """A TGA in run-length encoding."""
    header = struct.pack("<BBBHHBHHHHBB", 0, 0, 10, 0, 0, 0, 0, 0, width, height, 32, 8)
    return header + b"\xff\0\0\0\0" * 1000


def jpeg_2000(
    side: int, *, tile: int = 0, components: int = 3, block: int = 4, precinct: int | None = None
) -> bytes:
    """A codestream with one tile-part. block, precinct: powers of two, of blocks minus two."""
    size = struct.pack(">H8IH", 0, side, side, 0, 0, tile or side, tile or side, 0, 0, components)
    style = struct.pack(">BBHB5B", int(precinct is not None), 0, 1, 1, 5, block, block, 0, 1)
    style += bytes([precinct] * 6) if precinct is not None else b""
    segments = ((0x51, size + b"\7\1\1" * components), (0x52, style), (0x5C, b"\x40" * 17))
    header = b"".join(struct.pack(">BBH", 255, code, len(body) + 2) + body for code, body in segments)
    part = struct.pack(">HHHIBB", 0xFF90, 10, 0, 214, 0, 1) + b"\xff\x93" + b"\x80" * 200
    return b"\xff\x4f" + header + part + b"\xff\xd9"


def in_jp2(codestream: bytes, width: int, height: int) -> bytes:
    """A JP2 whose header box says this size."""

    def box(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content) + 8) + name + content

    header = box(b"ihdr", struct.pack(">IIHBBBB", height, width, 3, 7, 7, 0, 0))
    header += box(b"colr", b"\1\0\0" + struct.pack(">I", 16))
    start = b"\0\0\0\x0cjP  \r\n\x87\n" + box(b"ftyp", b"jp2 \0\0\0\0jp2 ")
    return start + box(b"jp2h", header) + box(b"jp2c", codestream)


def jpeg(side: int, leading: bytes = b"") -> bytes:
    """A progressive JPEG of 64x64 pixels whose frame header says another size. leading: segments before."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    frame = content.find(b"\xff\xc2") + 5
    sized = content[:frame] + struct.pack(">HH", side, side) + content[frame + 4 :]
    return sized[:2] + leading + sized[2:]


def gif(width: int, height: int, frames: int = 1) -> bytes:
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return (
        screen
        + (b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\2\2\x4c\1\0") * frames
        + b"\x3b"
    )


def webp(side: int) -> bytes:
    """An animation of two frames of 64x64 pixels on a canvas of another size."""
    file = io.BytesIO()
    frames = [Image.new("RGB", (64, 64), grey) for grey in ((0, 0, 0), (200, 90, 9))]
    frames[0].save(file, "WebP", save_all=True, append_images=frames[1:], lossless=True)
    content = file.getvalue()
    canvas = content.find(b"VP8X") + 12
    return content[:canvas] + 2 * (side - 1).to_bytes(3, "little") + content[canvas + 6 :]


def avif(side: int) -> bytes:
    """A sequence of 64x64 pixels whose boxes say another size."""
    file = io.BytesIO()
    frames = [Image.new("RGB", (64, 64), grey) for grey in ((0, 0, 0), (200, 90, 9))]
    frames[0].save(file, "AVIF", save_all=True, append_images=frames[1:], speed=10)
    content = file.getvalue().replace(struct.pack(">II", 64, 64), struct.pack(">II", side, side))
    return content.replace(struct.pack(">II", 64 << 16, 64 << 16), struct.pack(">II", side << 16, side << 16))


FILES: dict[str, Callable[[], bytes]] = {
    "PNG of wide rows": lambda: png(30_000_000, 30),
    "PNG of 16 bits": lambda: png(60_000_000, 12, 16, 6),
    "TIFF of wide strips": lambda: tiff(7_800_000, 128, t278=128),
    "TIFF of wide strips, not compressed": lambda: tiff(7_800_000, 120, t278=120, t259=1),
    "TIFF of wide strips of floats": lambda: tiff(7_800_000, 128, t278=128, t258=32, t339=3),
    "TIFF of planes": lambda: tiff(7_000_000, 128, t278=128, t262=2, t277=3, t284=2),
    "TIFF of large tiles": lambda: tiff(47, 33, t322=65536, t323=65536, t324=300, t325=1000),
    "TIFF of JPEG": lambda: tiff(LARGE, LARGE, t278=LARGE, t259=7, t262=6, t277=3),
    "TIFF of Lab": lambda: tiff(18_000, 18_000, t278=18_000, t262=8, t277=3),
    "JPEG progressive": lambda: jpeg(LARGE),
    "JPEG with many segments before its frame header": lambda: jpeg(LARGE, b"\xff\xee\0\2" * 10_001),
    "JPEG 2000": lambda: jpeg_2000(12_000),
    "JPEG 2000 of small precincts": lambda: jpeg_2000(5000, precinct=0x11),
    "JPEG 2000 of small blocks": lambda: jpeg_2000(6000, block=0),
    "JPEG 2000 of small tiles": lambda: jpeg_2000(6000, tile=24),
    "JPEG 2000 of many components": lambda: jpeg_2000(600, tile=3, components=16_000),
    "JPEG 2000 larger than its box says": lambda: in_jp2(jpeg_2000(12_000), 47, 33),
    "ICO of PNG": lambda: ico_of(png(13_000, 13_000, 8, 6)),
    "ICO of BMP": lambda: ico_of(dib(13_000, 13_000)),
    "BMP": lambda: bmp(LARGE, LARGE),
    "TGA": lambda: tga(LARGE, LARGE),
    "GIF": lambda: gif(LARGE, LARGE),
    "GIF of many frames": lambda: gif(1000, 1000, 900),
    "WebP of frames": lambda: webp(16_383),
    "AVIF of frames": lambda: avif(16_000),
    "PBM of text": lambda: b"P1\n30000 30000\n" + b"1 " * 1000,
}
"""Files of a few kilobytes, by what is large in them."""
