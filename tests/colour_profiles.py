"""Colour spaces for tests in two independent forms: ICC profiles and plain formulas."""

import struct
from dataclasses import dataclass

import numpy as np

from onebranch.images.libvips import pyvips

D50 = np.array([0.9642, 1.0, 0.8249])
D65 = (0.3127, 0.3290)
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])

SRGB = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
BT709 = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
"""Transfer curves as ICC parametric curves of type 3: power, slope and offset; linear below a threshold."""


@dataclass(frozen=True)
class Space:
    """An RGB space: primaries and white point (x, y); transfer curve: an exponent or a curve of type 3."""

    primaries: tuple[tuple[float, float], ...]
    transfer: tuple[float, ...]
    white: tuple[float, float] = D65

    @property
    def matrix(self) -> np.ndarray:
        """The matrix from linear RGB to XYZ with the white point D50 (Bradford adaptation)."""
        columns = np.stack([xyz(*point) for point in self.primaries], axis=1)
        white = xyz(*self.white)
        cones = np.diag((BRADFORD @ D50) / (BRADFORD @ white))
        return np.linalg.inv(BRADFORD) @ cones @ BRADFORD @ columns * np.linalg.solve(columns, white)


BT709_PRIMARIES = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))

SPACES = {
    "sRGB": Space(BT709_PRIMARIES, SRGB),
    "Display P3": Space(((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), SRGB),
    "Adobe RGB": Space(((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), (563 / 256,)),
    "ProPhoto": Space(
        ((0.734699, 0.265301), (0.159597, 0.840403), (0.036598, 0.000105)), (1.8,), (0.345704, 0.358540)
    ),
    "Rec. 2020": Space(((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)), BT709),
    "permuting": Space((BT709_PRIMARIES[1], BT709_PRIMARIES[2], BT709_PRIMARIES[0]), SRGB),
    "linear": Space(BT709_PRIMARIES, (1.0,)),
}

GREY = {"grey gamma 1.8": (1.8,), "grey gamma 2.2": (2.2,), "grey linear": (1.0,)}


def xyz(x: float, y: float) -> np.ndarray:
    """XYZ of a chromaticity (x, y), with Y = 1."""
    return np.array([x / y, 1.0, (1 - x - y) / y])


def linear(values: np.ndarray, transfer: tuple[float, ...]) -> np.ndarray:
    """Linear values of encoded values."""
    if len(transfer) == 1:
        return np.sign(values) * np.abs(values) ** transfer[0]
    power, slope, offset, line, threshold = transfer
    return np.where(values >= threshold, np.maximum(slope * values + offset, 0) ** power, line * values)


def lab_of_rgb(rgb: np.ndarray, name: str, clipped: bool = False) -> np.ndarray:
    """CIE Lab of encoded RGB (..., 3) of a space. clipped: clip to the gamut of sRGB first."""
    space = SPACES[name]
    xyz = linear(rgb, space.transfer) @ space.matrix.T
    if clipped:
        srgb = SPACES["sRGB"].matrix
        xyz = np.clip(xyz @ np.linalg.inv(srgb).T, 0, 1) @ srgb.T
    return lab_of_xyz(xyz)


def lab_of_grey(grey: np.ndarray, name: str) -> np.ndarray:
    """CIE Lab of encoded grey (..., 1); without a name, with the transfer curve of sRGB."""
    return lab_of_xyz(linear(grey, GREY.get(name, SRGB)) * D50)


def lab_of_xyz(values: np.ndarray) -> np.ndarray:
    """CIE 15:2004, 8.2.1.1."""
    ratio = values / D50
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def profile(name: str) -> bytes:
    """An ICC profile of version 4 for a name in `SPACES` or `GREY`, or libvips' "srgb", "p3" or "cmyk"."""
    if name in SPACES:
        space = SPACES[name]
        curve = {tag: _curve(space.transfer) for tag in (b"rTRC", b"gTRC", b"bTRC")}
        columns = zip((b"rXYZ", b"gXYZ", b"bXYZ"), space.matrix.T, strict=True)
        return _icc(b"RGB ", {**curve, **{tag: _xyz(column) for tag, column in columns}})
    if name in GREY:
        return _icc(b"GRAY", {b"kTRC": _curve(GREY[name])})
    return bytes(pyvips.Operation.call("profile_load", name))


def _icc(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """ICC.1:2022, 7."""
    text = struct.pack(">4sIII2s2sII", b"mluc", 0, 1, 12, b"en", b"US", 8, 28) + "test".encode("utf-16-be")
    tags = {b"desc": text, b"cprt": text, b"wtpt": _xyz(D50), **tags}
    table, content = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for tag, value in tags.items():
        table += struct.pack(">4sII", tag, start + len(content), len(value))
        content += value + bytes(-len(value) % 4)
    size = start + len(content)
    head = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x04300000, b"mntr", space, b"XYZ ")
    head += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp")
    return (head + bytes(28) + _numbers(D50)).ljust(128, b"\0") + table + content


def _xyz(values: np.ndarray) -> bytes:
    return b"XYZ " + bytes(4) + _numbers(values)


def _curve(transfer: tuple[float, ...]) -> bytes:
    return struct.pack(">4sIHH", b"para", 0, 0 if len(transfer) == 1 else 3, 0) + _numbers(transfer)


def _numbers(values: "np.ndarray | tuple[float, ...]") -> bytes:
    return b"".join(struct.pack(">i", round(float(value) * 65536)) for value in values)


def delta_e(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """CIEDE2000 of two pictures in Lab (H, W, 3), as (H, W)."""
    images = []
    for values in (one, other):
        values = np.ascontiguousarray(values, np.float32)
        image = pyvips.Image.new_from_memory(values.tobytes(), values.shape[1], values.shape[0], 3, "float")
        images.append(image.copy(interpretation="lab"))
    return np.asarray(images[0].dE00(images[1]).numpy(), np.float64).reshape(one.shape[:2])
