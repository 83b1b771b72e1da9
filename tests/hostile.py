"""Damaged pictures: small valid files of every format, each damaged as a function of a number."""

import io
import random
import struct
import zlib
from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image

from onebranch.images.libvips import pyvips

EXTREMES = (
    *(b"\0", b"\xff", b"\x7f", b"\x80"),
    *(b"\0\0", b"\xff\xff", b"\x7f\xff", b"\xff\x7f", b"\0\1", b"\1\0"),
    *(b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\1\0", b"\0\1\0\0"),
    *(b"\0" * 8, b"\xff" * 8),
)
"""Values that overwrite header fields: extremes and their neighbours, in both byte orders."""


def case(number: int) -> tuple[str, bytes]:
    """The name of the valid file and the damaged file of that number; the same on every run."""
    chance = random.Random(number)
    name = _name(number)
    content = seeds()[name]
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        content = chance.choice(DAMAGES)(content, chance)
    if name.startswith("PNG") and chance.random() < 0.7:
        content = checksums_mended(content)
    return name, content


def _name(number: int) -> str:
    """The seeds in turn, but of every four rounds only one with CMYK, which takes ten times as long."""
    names = sorted(seeds())
    if number // len(names) % 4:
        names = [name for name in names if "CMYK" not in name]
    return names[number % len(names)]


def flipped(content: bytes, chance: random.Random) -> bytes:
    """The file with one bit or some bytes changed at a random position."""
    result = bytearray(content)
    for _ in range(chance.choice((1, 3, 20)) if result else 0):
        result[chance.randrange(len(result))] ^= 1 << chance.randrange(8)
    return bytes(result)


def cut(content: bytes, chance: random.Random) -> bytes:
    """The file without its end, or without a piece in the middle."""
    start = chance.randrange(len(content) + 1)
    return content[:start] + (content[start + chance.randrange(1, 200) :] if chance.random() < 0.5 else b"")


def spliced(content: bytes, chance: random.Random) -> bytes:
    """The file with a piece of another or the same file inserted, or written over it."""
    other = chance.choice((content, seeds()[chance.choice(sorted(seeds()))]))
    offset, start = chance.randrange(len(content) + 1), chance.randrange(len(other) + 1)
    piece = other[start : start + chance.randrange(1, 2000)]
    return content[:offset] + piece + content[offset + chance.choice((0, len(piece))) :]


def overwritten(content: bytes, chance: random.Random) -> bytes:
    """The file with a field near the start, or near the end (TIFF's directory), set to an extreme value."""
    field = chance.choice(EXTREMES)
    offset = chance.randrange(min(len(content), 300) + 1)
    if chance.random() < 0.3:
        offset = len(content) - offset
    return content[:offset] + field + content[offset + len(field) :]


def resized(content: bytes, chance: random.Random) -> bytes:
    """The file with some occurrences of its width or height replaced by another number."""
    old = struct.pack(chance.choice((">H", "<H", ">I", "<I")), chance.choice(SIZE))
    new = chance.choice((0, 1, 7, 255, 1000, 65535, 2**31 - 1, 2**32 - 1)) % 256 ** len(old)
    order = "big" if old[-1] else "little"
    return content.replace(old, new.to_bytes(len(old), order), chance.choice((1, 1, 4)))


DAMAGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (flipped, cut, spliced, overwritten, resized)

SIZE = (47, 33)
"""Width and height of the valid files."""


def checksums_mended(content: bytes) -> bytes:
    """A PNG whose checksums are corrected, up to the first chunk that cannot be parsed."""
    result, offset = bytearray(content), 8
    while offset + 12 <= len(result):
        (length,) = struct.unpack_from(">I", result, offset)
        end = offset + 8 + length
        if end + 4 > len(result):
            break
        struct.pack_into(">I", result, end, zlib.crc32(result[offset + 4 : end]))
        offset = end + 4
    return bytes(result)


@cache
def seeds() -> dict[str, bytes]:
    """Valid files of each format, and of each variant that the decoders handle differently."""
    return {**_by_libvips(), **_by_pillow()}


def _by_libvips() -> dict[str, bytes]:
    colour, grey = _pixels(), _pixels()[:, :, :1]
    rgb = _vips(colour)
    turned, deep = rgb.copy(), _vips(colour.astype(np.uint16) * 257)
    turned.set_type(pyvips.GValue.gint_type, "orientation", 6)
    alpha = rgb.bandjoin(_vips(grey))
    profiled = rgb.icc_transform("p3", input_profile="srgb")
    cmyk = rgb.icc_transform("cmyk", input_profile="srgb")
    lab = rgb.colourspace("lab")
    floats = rgb.colourspace("scrgb")
    frames = pyvips.Image.arrayjoin([rgb, rgb.invert(), rgb], across=1).copy()
    frames.set_type(pyvips.GValue.gint_type, "page-height", rgb.height)
    made = {
        "PNG": (rgb, ".png", {}),
        "PNG 16 bits, alpha, interlaced": (deep.bandjoin(deep[0]), ".png", {"interlace": True}),
        "PNG with a profile, turned": (profiled, ".png", {"compression": 0}),
        "PNG palette": (alpha, ".png", {"palette": True, "bitdepth": 4}),
        "JPEG": (turned, ".jpg", {}),
        "JPEG progressive": (profiled, ".jpg", {"interlace": True}),
        "JPEG grey": (_vips(grey), ".jpg", {"restart_interval": 3}),
        "JPEG CMYK": (cmyk, ".jpg", {}),
        "WebP": (alpha, ".webp", {}),
        "WebP lossless": (turned, ".webp", {"lossless": True}),
        "WebP of frames": (frames, ".webp", {}),
        "GIF of frames": (frames, ".gif", {}),
        "AVIF": (alpha, ".avif", {"effort": 0}),
        "AVIF of 12 bits": (deep, ".avif", {"effort": 0, "bitdepth": 12}),
        "TIFF": (rgb, ".tif", {}),
        "TIFF deflate, tiled, alpha": (alpha, ".tif", {"compression": "deflate", "tile": True}),
        "TIFF JPEG": (turned, ".tif", {"compression": "jpeg"}),
        "TIFF LZW of 16 bits": (deep, ".tif", {"compression": "lzw", "predictor": "horizontal"}),
        "TIFF float": (floats, ".tif", {"compression": "deflate", "predictor": "float"}),
        "TIFF CMYK": (cmyk, ".tif", {"compression": "packbits"}),
        "TIFF Lab": (lab, ".tif", {}),
        "TIFF fax": (_vips(grey) > 128, ".tif", {"compression": "ccittfax4", "bitdepth": 1}),
        "TIFF big, of pages": (frames, ".tif", {"bigtiff": True, "page_height": rgb.height}),
    }
    return {name: image.write_to_buffer(suffix, **options) for name, (image, suffix, options) in made.items()}


def _by_pillow() -> dict[str, bytes]:
    rgb = Image.fromarray(_pixels())
    grey, alpha = rgb.convert("L"), rgb.copy()
    alpha.putalpha(grey)
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    return {
        "BMP": _saved(rgb, "BMP"),
        "BMP palette": _saved(rgb.quantize(16), "BMP"),
        "BMP alpha": _saved(alpha, "BMP"),
        "BMP 1 bit": _saved(grey.convert("1"), "BMP"),
        "PPM": _saved(rgb, "PPM"),
        "PGM of 16 bits": _saved(deep, "PPM"),
        "PBM": _saved(grey.convert("1"), "PPM"),
        "PPM in words": f"P3\n47 33\n255\n{' '.join(map(str, _pixels().ravel()))}\n".encode(),
        "JPEG 2000": _saved(rgb, "JPEG2000"),
        "JPEG 2000 alpha": _saved(alpha, "JPEG2000"),
        "JPEG 2000 tiled, of precincts": _saved(
            rgb, "JPEG2000", tile_size=(16, 16), precinct_size=(64, 64), codeblock_size=(16, 16)
        ),
        "ICO": _saved(alpha, "ICO", sizes=[(16, 16), (32, 32)]),
        "ICO of BMP": _saved(alpha, "ICO", sizes=[(16, 16)], bitmap_format="bmp"),
        "AVIF sequence": _saved(rgb, "AVIF", save_all=True, append_images=[rgb.rotate(180)], speed=10),
        "PNG of frames": _saved(rgb, "PNG", save_all=True, append_images=[rgb.rotate(180)]),
    }


def _saved(image: Image.Image, file_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def _vips(samples: np.ndarray) -> pyvips.Image:
    return pyvips.Image.new_from_array(samples)


def _pixels() -> np.ndarray:
    """Ramps with a little noise, which every encoder handles."""
    width, height = SIZE
    ramps = np.add.outer(np.arange(height) * 3, np.arange(width) * 2)[..., None] + np.arange(0, 120, 40)
    return (ramps + np.random.default_rng(0).integers(0, 12, ramps.shape)).astype(np.uint8)
